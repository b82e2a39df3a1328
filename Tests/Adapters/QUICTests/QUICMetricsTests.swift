import Domain
import EventLoop
import QUIC
import Testing

@Suite struct QUICMetricsTests {
    @Test func streamsAreCountedFromTheirOpeningToTheirEnd() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        let flows = try (0..<3).map { _ in try #require(client.open()) }
        for flow in flows { flow.stream.write([1]) }
        try #require(pair.run { server.flows.count == 3 })
        #expect(pair.server.metrics.streamsOpened == 3)
        #expect(pair.server.metrics.streams == 3)
        #expect(pair.client.metrics.streams == 3)
        flows[0].stream.finish()
        try #require(pair.run { server.flows.contains { $0.isFinished } })
        for flow in server.flows where flow.isFinished { flow.stream.finish() }
        #expect(pair.run { pair.server.metrics.streams == 2 && pair.client.metrics.streams == 2 })
        client.connection?.close(code: 0x100)
        #expect(pair.run { pair.server.metrics.streams == 0 && pair.client.metrics.streams == 0 })
        #expect(pair.server.metrics.streamsOpened == 3)
    }

    @Test func resetsAreCountedByTheCodesThatAreKnown() throws {
        let pair = try Pair(server: { $0.countedCodes = [0x200, 0x201] })
        let (client, server) = try pair.connected()
        let flows = try (0..<3).map { _ in try #require(client.open()) }
        for flow in flows { flow.stream.write([1]) }
        try #require(pair.run { server.flows.count == 3 })
        for (flow, code) in zip(flows, [0x201, 0x666, 0x777] as [UInt64]) { flow.stream.reset(code: code) }
        try #require(pair.run { server.flows.count { !$0.resets.isEmpty } == 3 })
        #expect(pair.server.metrics.resetsReceived.known == [0x201: 1])
        #expect(pair.server.metrics.resetsReceived.other == 2)
        server.flows[0].stream.reset(code: 0x200)
        #expect(pair.server.metrics.resetsSent.known == [0x200: 1])
    }

    @Test func endsAreCountedByTheirKind() throws {
        let pair = try Pair()
        let (client, _) = try pair.connected()
        client.connection?.close(code: 0x100)
        #expect(pair.run { pair.server.metrics.connectionsClosed[.peerApplication] == 1 })
        #expect(pair.client.metrics.connectionsClosed[.local] == 1)
        let stranger = try pair.connect(host: "pop.other")
        #expect(pair.run { !stranger.closeReasons.isEmpty })
        #expect(pair.client.metrics.handshakesFailed[.handshakeFailed] == 1)
        #expect(pair.client.metrics.handshakesCompleted == 1)
        #expect(pair.run { pair.server.metrics.handshakesInProgress == 0 })
    }

    @Test func packetsThatNoConnectionTakesAreCountedByTheirFault() throws {
        let pair = try Pair()
        let stranger = try UDPSocket(loop: pair.loop)
        defer { stranger.close() }
        let before = pair.server.metrics.packetsDropped
        // A short header of nobody's, a packet too short to be one, and a long header cut off.
        stranger.send([0x40] + [UInt8](repeating: 7, count: 60), to: pair.server.localAddress)
        stranger.send([0x40, 1, 2], to: pair.server.localAddress)
        stranger.send([0xc0, 0, 0], to: pair.server.localAddress)
        #expect(pair.run { pair.server.metrics.packetsReceived == 3 })
        #expect(before[.malformed] == 0)
        #expect(pair.server.metrics.packetsDropped[.unknownConnection] == 1)
        #expect(pair.server.metrics.packetsDropped[.malformed] == 2)
    }

    @Test func datagramsAreCountedOnBothSides() throws {
        let pair = try Pair(client: { $0.datagramQueueBytes = 16 << 10 })
        let (client, server) = try pair.connected()
        let connection = try #require(client.connection)
        func send(_ count: Int) {
            let bytes = [UInt8](repeating: 1, count: count)
            _ = bytes.withUnsafeBytes { connection.sendDatagram($0) }
        }
        send(connection.datagramLimitBytes + 1)
        for _ in 0..<50 { send(1_000) }
        let dropped = pair.client.metrics.datagramsDropped
        #expect(dropped[.tooLarge] == 1)
        #expect(dropped[.queueFull] > 0)
        #expect(pair.run { UInt64(server.datagrams.count) == 50 - dropped[.queueFull] })
        #expect(pair.client.metrics.datagramsSent == UInt64(server.datagrams.count))
        #expect(pair.server.metrics.datagramsReceived == UInt64(server.datagrams.count))
    }

    @Test func whoSendsIsMeasuredNowAndThen() throws {
        let pair = try Pair()
        let (client, _) = try pair.stream()
        for _ in 0..<50 {
            client.stream.write([1])
            pair.run(milliseconds: 1)
        }
        // Once each, whatever was sent: nothing here takes ten seconds.
        #expect(pair.server.metrics.roundTrips.count == 1)
        #expect(pair.server.metrics.congestionWindows.count == 1)
        #expect(pair.client.metrics.congestionWindows.sum > 1_200)
    }

    @Test func countersOfEndpointsAddUp() {
        var first = QUICMetrics()
        first.packetsSent = 3
        first.connections = 2
        first.handshakesFailed.note(.idleTimeout)
        first.roundTrips.note(5_000_000 as UInt64)
        var second = first
        second.packetsLost = 7
        first.add(second)
        #expect(first.packetsSent == 6)
        #expect(first.packetsLost == 7)
        #expect(first.connections == 4)
        #expect(first.handshakesFailed[.idleTimeout] == 2)
        #expect(first.roundTrips.count == 2)
    }
}
