import Domain
import EventLoop
import Testing

@Suite struct NameResolverTests {
    private func rounds(_ loop: EventLoop, until condition: () -> Bool) {
        for _ in 0..<1_200 where !condition() { loop.runOnce(waitingAtMost: .milliseconds(50)) }
    }

    @Test func localhostResolvesToLoopback() throws {
        let loop = try EventLoop()
        let resolver = try NameResolver(on: loop, threads: 1)
        var result: Result<[IPAddress], ResolveError>?
        _ = resolver.resolve("localhost") { result = $0 }
        #expect(result == nil)
        rounds(loop) { result != nil }
        let addresses = try #require(result).get()
        #expect(addresses.allSatisfy { $0.isPrivate })
        #expect(Set(addresses).count == addresses.count)
        resolver.close()
    }

    @Test func nameThatIsNoneFailsWithItsCause() throws {
        let loop = try EventLoop()
        let resolver = try NameResolver(on: loop, threads: 1)
        var result: Result<[IPAddress], ResolveError>?
        _ = resolver.resolve("..") { result = $0 }
        rounds(loop) { result != nil }
        guard case .failure(let error)? = result else {
            Issue.record("resolved")
            return
        }
        #expect(error.name == "..")
        #expect(!error.cause.isEmpty)
        resolver.close()
    }

    @Test func cancelledRequestIsNotAnsweredAndTheNextOneIs() throws {
        let loop = try EventLoop()
        let resolver = try NameResolver(on: loop, threads: 1)
        var answered: [Int] = []
        let tickets = (0..<3).map { index in resolver.resolve("localhost") { _ in answered.append(index) } }
        resolver.cancel(tickets[0])
        resolver.cancel(tickets[1])
        rounds(loop) { answered == [2] }
        #expect(answered == [2])
        resolver.close()
    }
}
