import Domain
import EventLoop
import TestKit
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

    @Test func whatTheProcessAsksForWaitsForNoClient() throws {
        let loop = try EventLoop()
        let names = try BlockedNames()
        let resolver = try NameResolver(on: loop, threads: 1, lookUp: names.lookUp)
        for number in 0..<100 { _ = resolver.resolve("slow\(number).test", for: .client) { _ in } }
        var found: Result<[IPAddress], ResolveError>?
        _ = resolver.resolve("pop.example") { found = $0 }
        rounds(loop) { found != nil }
        #expect(try found?.get() == [BlockedNames.address])
        names.unblock()
        resolver.close()
    }

    @Test func namesThatCanNotWaitAreRefused() throws {
        let loop = try EventLoop()
        let names = try BlockedNames()
        let resolver = try NameResolver(on: loop, threads: 4, lookUp: names.lookUp)
        var refused = 0
        for number in 0..<300 {
            _ = resolver.resolve("host\(number).slow.test", for: .client) { result in
                if case .failure(let error) = result, error.isRefusal { refused += 1 }
            }
        }
        // Two threads have the one zone, and as many names of it wait as may.
        rounds(loop) { refused > 0 }
        #expect(refused > 0)
        names.unblock()
        resolver.close()
    }

    @Test func namesOfOneZoneDoNotHoldUpAnother() throws {
        let loop = try EventLoop()
        let names = try BlockedNames()
        let resolver = try NameResolver(on: loop, threads: 4, lookUp: names.lookUp)
        for number in 0..<100 { _ = resolver.resolve("host\(number).slow.test", for: .client) { _ in } }
        var found: Result<[IPAddress], ResolveError>?
        _ = resolver.resolve("www.example", for: .client) { found = $0 }
        rounds(loop) { found != nil }
        #expect(try found?.get() == [BlockedNames.address])
        names.unblock()
        resolver.close()
    }

    @Test func aCancelledNameGivesItsPlaceAway() throws {
        let loop = try EventLoop()
        let names = try BlockedNames()
        let resolver = try NameResolver(on: loop, threads: 1, lookUp: names.lookUp)
        var refused = 0
        func ask(_ number: Int) -> NameResolver.Ticket {
            resolver.resolve("host\(number).slow.test", for: .client) { result in
                if case .failure(let error) = result, error.isRefusal { refused += 1 }
            }
        }
        // One is looked up, the others wait.
        let tickets = (0...LookupQueue.zoneLimit).map { ask($0) }
        _ = ask(-1)
        rounds(loop) { refused == 1 }
        resolver.cancel(tickets[1])
        var isAnswered = false
        _ = ask(-2)
        _ = resolver.resolve("www.example", for: .client) { _ in isAnswered = true }
        names.unblock()
        rounds(loop) { isAnswered }
        #expect(isAnswered)
        #expect(refused == 1)
        resolver.close()
    }
}
