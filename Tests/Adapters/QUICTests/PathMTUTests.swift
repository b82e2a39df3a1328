import Domain
import EventLoop
import QUIC
import Testing

/// How large packets become: as large as the path takes, and smaller again when it takes them no longer.
@Suite(.enabled(if: QUICEndpoint.findsJumboFrames, "ngtcp2 before 1.4 looks for no jumbo frames"))
struct PathMTUTests {
    /// A client and a server with a path between them whose MTU may change.
    private final class Link {
        let pair: Pair
        let relay: Relay
        let client: Peer
        let server: Peer

        init(isCommon: Bool = false) throws {
            pair = try Pair()
            relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
            if isCommon { relay.largestPayload = PathMTUTests.ethernet }
            let client = try pair.connect(to: relay.address)
            let acceptor = pair.acceptor
            try #require(pair.run { client.isConnected && !acceptor.peers.isEmpty })
            (self.client, server) = (client, acceptor.peers[0])
        }

        deinit { relay.close() }

        func becomeCommon() { relay.largestPayload = PathMTUTests.ethernet }

        var clientLimit: Int { client.connection?.datagramLimitBytes ?? 0 }
        var serverLimit: Int { server.connection?.datagramLimitBytes ?? 0 }

        func transfer(_ total: Int) throws {
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
        func warmUp() throws {
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

        /// How much is in flight is up to the machine: what is not looked for with the first bytes is with later
        /// ones.
        func findJumboFrames() throws {
            for _ in 0..<1_000 where min(clientLimit, serverLimit) < 8_800 { try warmUp() }
            try #require(min(clientLimit, serverLimit) > 8_800)
        }

        /// Sends a datagram, once those before it have left.
        func send(_ datagram: [UInt8]) {
            guard let connection = client.connection, connection.queuedDatagrams == 0 else { return }
            _ = datagram.withUnsafeBytes { connection.sendDatagram($0) }
        }
    }

    /// Less the headers of IPv6 and UDP.
    private static let ethernet = 1_452

    @Test func jumboFramesAreUsedWhereThePathTakesThem() throws {
        let link = try Link()
        try link.findJumboFrames()
        let before = try #require(link.client.connection?.statistics)
        try link.transfer(4 << 20)
        let after = try #require(link.client.connection?.statistics)
        #expect((after.bytesSent - before.bytesSent) / (after.packetsSent - before.packetsSent) > 4_000)
    }

    /// Whoever has received one keeps a larger buffer, and most devices are idle.
    @Test func aConnectionThatMovesLittleDoesNotLookForThem() throws {
        let link = try Link()
        link.becomeCommon()
        for _ in 0..<50 { try link.transfer(1_000) }
        #expect(link.pair.run { link.clientLimit > 1_400 })
        #expect(link.relay.dropped == 0)
    }

    @Test func aCommonPathIsNeverGivenMoreThanItTakes() throws {
        let link = try Link(isCommon: true)
        #expect(link.pair.run { link.clientLimit > 1_400 })
        try link.warmUp()
        try link.transfer(4 << 20)
        #expect(link.clientLimit < Self.ethernet)
        #expect(link.pair.client.metrics.payloadsReduced == 0)
        // Some probes, and nothing else.
        #expect(link.relay.dropped <= 20)
    }

    @Test func aPathThatTakesLessGoesOnWithSmallerPackets() throws {
        let link = try Link()
        try link.findJumboFrames()
        try link.transfer(1 << 20)
        link.becomeCommon()
        try link.transfer(1 << 20)
        #expect(link.pair.client.metrics.payloadsReduced == 1)
        #expect(link.clientLimit < Self.ethernet)
    }

    @Test func smallPacketsThatArriveDoNotHideLargeOnesThatDoNot() throws {
        let link = try Link()
        try link.findJumboFrames()
        link.becomeCommon()
        link.server.prepare = { $0.keepsBytes = false }
        // One stream asks again and again in small packets, as a busy device's do, while the other one sends much.
        let small = try #require(link.client.open())
        let large = try #require(link.client.open())
        small.stream.write([1])
        large.stream.write([UInt8](repeating: 3, count: 60_000))
        large.stream.finish()
        let total = 60_000
        var echoes = 0
        #expect(
            link.pair.run(seconds: 60) {
                let asked = link.server.flows.first { $0.stream.id == small.stream.id }
                if let asked, asked.receivedCount > echoes {
                    echoes = asked.receivedCount
                    small.stream.write([1])
                }
                return link.server.flows.contains { $0.receivedCount == total && $0.isFinished }
            })
        #expect(link.pair.client.metrics.payloadsReduced == 1)
    }

    /// Both need a larger packet than a common path takes, the smaller one only by what a packet adds to it.
    @Test(arguments: [4_000, 1_440]) func datagramsThatAreAllLostBecomeSmaller(count: Int) throws {
        let link = try Link()
        try link.findJumboFrames()
        link.becomeCommon()
        let large = [UInt8](repeating: 3, count: count)
        #expect(
            link.pair.run(seconds: 60) {
                link.send(large)
                return link.clientLimit < Self.ethernet
            })
    }

    @Test func smallDatagramsAreNotLostInLargePackets() throws {
        let link = try Link()
        try link.findJumboFrames()
        link.becomeCommon()
        let small = [UInt8](repeating: 3, count: 200)
        for _ in 0..<100 { _ = small.withUnsafeBytes { link.client.connection?.sendDatagram($0) } }
        #expect(link.pair.run { link.server.datagrams.count == 100 })
    }

    @Test func anotherPathIsProbedAnew() throws {
        let link = try Link()
        try link.findJumboFrames()
        link.becomeCommon()
        let flow = try #require(link.client.open())
        link.server.prepare = { $0.stream.write([UInt8](repeating: 3, count: 200_000)) }
        flow.stream.write([1])
        try #require(link.pair.run(seconds: 60) { flow.receivedCount == 200_000 })
        #expect(link.pair.server.metrics.payloadsReduced == 1)
        link.relay.largestPayload = .max
        try link.relay.changeSourcePort()
        flow.stream.write([1])
        #expect(link.pair.run { link.server.pathChanges == 1 })
        #expect(link.pair.run { link.serverLimit > 8_800 })
    }
}
