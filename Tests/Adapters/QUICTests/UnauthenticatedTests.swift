import Domain
import EventLoop
import QUIC
import Testing

@Suite struct UnauthenticatedTests {
    private static let window: UInt64 = 4_096

    private func pair(
        most: Int, configure: (inout QUICConfiguration) -> Void = { _ in }
    ) throws -> Pair {
        try Pair(server: {
            $0.unauthenticated = QUICUnauthenticatedLimits(windowBytes: Self.window, maxConnections: most)
            configure(&$0)
        })
    }

    private static let bytes = [UInt8](repeating: 0x5a, count: 200_000)

    /// Nothing is consumed, so what has come is what the peer could make this side hold.
    @Test func aPeerThatIsNotKnownMaySendLittle() throws {
        let pair = try pair(most: 100)
        pair.acceptor.prepare = { $0.prepare = { $0.consumes = false } }
        let (client, server) = try pair.connected()
        let flow = try #require(client.open())
        #expect(flow.stream.write(Self.bytes) == Self.bytes.count)
        #expect(pair.run { (server.flows.first?.receivedCount ?? 0) >= Int(Self.window) })
        pair.run(milliseconds: 100)
        #expect(server.flows.first?.receivedCount == Int(Self.window))
        server.connection?.authenticated()
        #expect(pair.run { server.flows.first?.receivedCount == Self.bytes.count })
    }

    @Test func aKnownPeerHasTheUsualWindowAndNoMore() throws {
        let pair = try pair(most: 100) {
            $0.initialConnectionWindowBytes = 60_000
            $0.maxConnectionWindowBytes = 60_000
        }
        pair.acceptor.prepare = { $0.prepare = { $0.consumes = false } }
        let (client, server) = try pair.connected()
        server.connection?.authenticated()
        let flow = try #require(client.open())
        flow.stream.write(Self.bytes)
        #expect(pair.run { server.flows.first?.receivedCount == 60_000 })
        pair.run(milliseconds: 100)
        #expect(server.flows.first?.receivedCount == 60_000)
        // Credit is worth a frame from an eighth of the window on, and none is lost.
        server.flows.first?.stream.consumed(60_000)
        #expect(pair.run { server.flows.first?.receivedCount == 120_000 })
    }

    @Test func anAddressMayHaveAsManyAsThereIsRoomLeft() throws {
        let pair = try pair(most: 6)
        let known = try pair.connected()
        known.server.connection?.authenticated()
        #expect(pair.server.metrics.connectionsUnauthenticated == 0)
        let first = try (0..<3).map { _ in try pair.connected() }
        #expect(pair.server.metrics.connectionsUnauthenticated == 3)
        let refused = try pair.connect()
        #expect(pair.run { !refused.closeReasons.isEmpty })
        #expect(refused.closeReasons.map(\.kind) == [.peerTransport])
        #expect(pair.server.metrics.connectionsRefused[.addressLimit] == 1)
        #expect(pair.server.metrics.handshakesStarted == 4)

        // Another address still comes in: as often as there is room left then.
        let elsewhere = try QUICEndpoint(
            loop: pair.loop, address: SocketAddress(ip: .v4(IPv4Address(0x7f00_0002)), port: 0),
            configuration: QUICConfiguration())
        defer { elsewhere.close() }
        let newcomer = Peer()
        let verification = QUICPeerVerification(trust: pair.trust, hostName: "pop.test")
        newcomer.connection = try elsewhere.connect(
            to: pair.server.localAddress, verification: verification, delegate: newcomer)
        #expect(pair.run { newcomer.isConnected })

        // Who becomes known, and who goes, gives its place to the next one.
        first[0].server.connection?.authenticated()
        first[1].client.connection?.close(code: 0)
        #expect(pair.run { pair.server.metrics.connectionsUnauthenticated == 2 })
        let next = try pair.connect()
        #expect(pair.run { next.isConnected })
    }

    @Test func thereIsAnEndToAllOfThem() throws {
        let pair = try pair(most: 1)
        let first = try pair.connected()
        let refused = try pair.connect()
        #expect(pair.run { refused.closeReasons.map(\.kind) == [.peerTransport] })
        #expect(pair.server.metrics.connectionsRefused[.totalLimit] == 1)
        first.client.connection?.close(code: 0)
        #expect(pair.run { pair.server.metrics.connectionsUnauthenticated == 0 })
        _ = try pair.connected()
    }

    /// Packets whose source is made up must not use up what an address may have.
    @Test func whoHasManyMustShowItsAddress() throws {
        let pair = try pair(most: 100) { $0.retryThreshold = 2 }
        let before = try (0..<2).map { _ in try pair.connected() }
        #expect(pair.server.metrics.retriesSent == 0)
        let after = try pair.connected()
        #expect(pair.server.metrics.retriesSent == 1)
        #expect(after.client.closeReasons.isEmpty && before.allSatisfy { $0.client.closeReasons.isEmpty })
    }
}
