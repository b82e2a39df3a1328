import Domain
import EventLoop
import QUIC
import Testing

/// How large packets become: as large as the path takes, and smaller again when it takes them no longer.
@Suite(.enabled(if: QUICEndpoint.findsJumboFrames, "ngtcp2 before 1.4 looks for no jumbo frames"))
struct PathMTUTests {
    /// Less the headers of IPv4 and UDP.
    private static let ethernet = 1_472

    private func connect(_ pair: Pair, _ relay: Relay) throws -> (client: Peer, server: Peer) {
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected && !pair.acceptor.peers.isEmpty })
        return (client, pair.acceptor.peers[0])
    }

    private func transfer(_ total: Int, _ pair: Pair, _ client: Peer, _ server: Peer) throws {
        server.prepare = { $0.keepsBytes = false }
        let flow = try #require(client.open())
        let index = server.flows.count
        var sent = 0
        let chunk = [UInt8](repeating: 9, count: 64 << 10)
        func push() {
            while sent < total {
                let taken = flow.stream.write(Array(chunk.prefix(total - sent)))
                if taken == 0 { return }
                sent += taken
            }
            flow.stream.finish()
        }
        flow.onWritable = { _ in push() }
        push()
        #expect(pair.run(seconds: 60) { server.flows.count > index && server.flows[index].isFinished })
        #expect(server.flows.last?.receivedCount == total)
    }

    /// Sends enough, both ways, for jumbo frames to be looked for.
    private func warmUp(_ pair: Pair, _ client: Peer, _ server: Peer) throws {
        server.prepare = {
            $0.keepsBytes = false
            $0.stream.write([UInt8](repeating: 3, count: 300_000))
            $0.stream.finish()
        }
        let flow = try #require(client.open())
        flow.stream.write([UInt8](repeating: 3, count: 300_000))
        flow.stream.finish()
        try #require(pair.run { flow.isFinished && server.flows.last?.isFinished == true })
    }

    /// How much is in flight is up to the machine: what is not looked for with the first bytes is with later ones.
    private func findJumboFrames(_ pair: Pair, _ client: Peer, _ server: Peer) throws {
        func areFound() -> Bool {
            [client, server].allSatisfy { $0.connection?.datagramLimitBytes ?? 0 > 8_800 }
        }
        for _ in 0..<1_000 where !areFound() { try warmUp(pair, client, server) }
        try #require(areFound())
    }

    @Test func jumboFramesAreUsedWhereThePathTakesThem() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        let (client, server) = try connect(pair, relay)
        try findJumboFrames(pair, client, server)
        let before = try #require(client.connection?.statistics)
        try transfer(4 << 20, pair, client, server)
        let after = try #require(client.connection?.statistics)
        #expect((after.bytesSent - before.bytesSent) / (after.packetsSent - before.packetsSent) > 4_000)
    }

    /// Whoever has received one keeps a larger buffer, and most devices are idle.
    @Test func aConnectionThatMovesLittleDoesNotLookForThem() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        let (client, server) = try connect(pair, relay)
        relay.largestPayload = Self.ethernet
        for _ in 0..<50 { try transfer(1_000, pair, client, server) }
        #expect(pair.run { client.connection?.datagramLimitBytes ?? 0 > 1_400 })
        #expect(relay.dropped == 0)
    }

    @Test func aCommonPathIsNeverGivenMoreThanItTakes() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        relay.largestPayload = Self.ethernet
        defer { relay.close() }
        let (client, server) = try connect(pair, relay)
        #expect(pair.run { client.connection?.datagramLimitBytes ?? 0 > 1_400 })
        try warmUp(pair, client, server)
        try transfer(4 << 20, pair, client, server)
        #expect(client.connection?.datagramLimitBytes ?? 0 < Self.ethernet)
        #expect(pair.client.metrics.payloadsReduced == 0)
        // Some probes, and nothing else.
        #expect(relay.dropped <= 20)
    }

    @Test func aPathThatTakesLessGoesOnWithSmallerPackets() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        let (client, server) = try connect(pair, relay)
        try findJumboFrames(pair, client, server)
        try transfer(1 << 20, pair, client, server)
        relay.largestPayload = Self.ethernet
        try transfer(1 << 20, pair, client, server)
        #expect(pair.client.metrics.payloadsReduced == 1)
        #expect(client.connection?.datagramLimitBytes ?? 0 < Self.ethernet)
    }

    @Test func smallPacketsThatArriveDoNotHideLargeOnesThatDoNot() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        let (client, server) = try connect(pair, relay)
        try findJumboFrames(pair, client, server)
        relay.largestPayload = Self.ethernet
        server.prepare = { $0.keepsBytes = false }
        // One stream asks again and again in small packets, as a busy device's do, while the other one sends much.
        let small = try #require(client.open())
        let large = try #require(client.open())
        small.stream.write([1])
        large.stream.write([UInt8](repeating: 3, count: 60_000))
        large.stream.finish()
        let total = 60_000
        var echoes = 0
        #expect(
            pair.run(seconds: 60) {
                let asked = server.flows.first { $0.stream.id == small.stream.id }
                if let asked, asked.receivedCount > echoes {
                    echoes = asked.receivedCount
                    small.stream.write([1])
                }
                return server.flows.contains { $0.receivedCount == total && $0.isFinished }
            })
        #expect(pair.client.metrics.payloadsReduced == 1)
    }

    @Test func datagramsThatAreAllLostBecomeSmaller() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        let (client, server) = try connect(pair, relay)
        try findJumboFrames(pair, client, server)
        relay.largestPayload = Self.ethernet
        let large = [UInt8](repeating: 3, count: 4_000)
        #expect(
            pair.run(seconds: 60) {
                guard let connection = client.connection else { return false }
                if connection.queuedDatagrams == 0 {
                    _ = large.withUnsafeBytes { connection.sendDatagram($0) }
                }
                return connection.datagramLimitBytes < Self.ethernet
            })
    }

    @Test func anotherPathIsProbedAnew() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        let (client, server) = try connect(pair, relay)
        try findJumboFrames(pair, client, server)
        relay.largestPayload = Self.ethernet
        let flow = try #require(client.open())
        server.prepare = { $0.stream.write([UInt8](repeating: 3, count: 200_000)) }
        flow.stream.write([1])
        try #require(pair.run(seconds: 60) { flow.receivedCount == 200_000 })
        #expect(pair.server.metrics.payloadsReduced == 1)
        relay.largestPayload = .max
        try relay.changeSourcePort()
        flow.stream.write([1])
        #expect(pair.run { server.pathChanges == 1 })
        #expect(pair.run { server.connection?.datagramLimitBytes ?? 0 > 8_800 })
    }
}
