import DeviceAgent
import Domain
import EventLoop
import TestKit
import Testing

@Suite struct TargetDialTests {
    private let loop: EventLoop
    private let resolver: NameResolver

    init() throws {
        loop = try EventLoop()
        resolver = try NameResolver(on: loop, threads: 1)
    }

    /// Dials and drives the loop until there is an answer.
    private func dial(
        _ target: String, allow: [String] = ["127.0.0.0/8", "::1"], deny: [String] = [],
        timeoutMilliseconds: UInt32 = 5_000
    ) -> Result<ReachedTarget, DialFailure>? {
        let policy = TargetPolicy(
            allowed: allow.compactMap { TargetRule($0) }, denied: deny.compactMap { TargetRule($0) })
        var result: Result<ReachedTarget, DialFailure>?
        let dial = TargetDial(
            target, timeoutMilliseconds: timeoutMilliseconds,
            DialContext(loop: loop, resolver: resolver, policy: policy)
        ) { result = $0 }
        #expect(result == nil)
        for _ in 0..<1_200 where result == nil { loop.runOnce(waitingAtMost: .milliseconds(50)) }
        dial.cancel()
        resolver.close()
        return result
    }

    private func failure(_ result: Result<ReachedTarget, DialFailure>?) -> OpenError? {
        guard case .failure(let failure)? = result else { return nil }
        return failure.error
    }

    private func listener() throws -> Listener {
        let address = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        return try Listener(on: loop, address) { descriptor, _ in Sockets.close(descriptor) }
    }

    @Test func addressThatListensIsReached() throws {
        let listener = try listener()
        let reached = try #require(dial("127.0.0.1:\(listener.address.port)")).get()
        #expect(reached.address == listener.address)
        #expect(Sockets.peerAddress(reached.descriptor) == listener.address)
        Sockets.close(reached.descriptor)
        listener.close()
    }

    @Test func nameIsTriedAddressByAddress() throws {
        let listener = try listener()
        let reached = try #require(dial("localhost:\(listener.address.port)", allow: ["localhost"])).get()
        #expect(reached.address == listener.address)
        Sockets.close(reached.descriptor)
        listener.close()
    }

    @Test func portWhereNobodyListensIsRefused() throws {
        let listener = try listener()
        let port = listener.address.port
        listener.close()
        guard case .failure(let failure)? = dial("127.0.0.1:\(port)") else {
            Issue.record("reached")
            return
        }
        #expect(failure.error == .connectionRefused)
        #expect(failure.address?.port == port)
    }

    @Test(arguments: ["127.0.0.1:80", "localhost:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80"])
    func privateTargetsAreDeniedUnlessOpened(target: String) {
        #expect(failure(dial(target, allow: [])) == .deniedByPolicy)
    }

    @Test func deniedNameIsNotLookedUp() {
        #expect(failure(dial("nowhere.invalid:80", deny: ["nowhere.invalid"])) == .deniedByPolicy)
    }

    @Test func nameThatDoesNotResolveIsADNSFailure() {
        #expect(failure(dial("..:80")) == .dnsFailure)
    }

    /// Another device may have room for it.
    @Test func nameThatCanNotWaitIsCapacity() throws {
        let names = try BlockedNames()
        let resolver = try NameResolver(on: loop, threads: 1, lookUp: names.lookUp)
        let context = DialContext(loop: loop, resolver: resolver, policy: TargetPolicy())
        var failures: [OpenError] = []
        // One is looked up, a zone's fill waits, and there is one too many.
        let dials = (0...LookupQueue.zoneLimit + 1).map { number in
            TargetDial("host\(number).slow.test:80", timeoutMilliseconds: 60_000, context) { result in
                if case .failure(let failure) = result { failures.append(failure.error) }
            }
        }
        for _ in 0..<200 where failures.isEmpty { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        #expect(failures == [.capacity])
        for dial in dials { dial.cancel() }
        names.unblock()
        resolver.close()
    }

    @Test(arguments: ["", "host", "host:0", "::1:80", "[::1]", "host:99999", "a b:1"])
    func targetThatIsNoHostAndPortIsInternal(target: String) {
        #expect(failure(dial(target)) == .internal)
    }

    @Test(
        arguments: [
            (111, .connectionRefused), (113, .hostUnreachable), (101, .networkUnreachable), (110, .timeout),
            (24, .capacity), (23, .capacity), (105, .capacity), (99, .capacity), (13, .internal),
        ] as [(Int32, OpenError)])
    func errnoHasItsWordOnTheWire(number: Int32, expected: OpenError) {
        #expect(OpenError(errorNumber: number) == expected)
    }
}
