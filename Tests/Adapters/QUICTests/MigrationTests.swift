import Domain
import EventLoop
import QUIC
import Testing

@Suite struct MigrationTests {
    @Test func aClientMovesToAnotherSocket() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        let flow = try #require(client.open())
        flow.stream.write([1])
        try #require(pair.run { server.flows.first?.received == [1] })
        // Confirmation of the handshake and spare ids have arrived.
        pair.run(milliseconds: 100)
        let old = pair.client.localAddress
        try pair.client.rebind(to: Pair.loopback)
        #expect(pair.client.localAddress != old)
        flow.stream.write([2])
        #expect(pair.run { server.flows[0].received == [1, 2] })
        server.flows[0].stream.write([3])
        #expect(pair.run { flow.received == [3] })
        #expect(pair.run { server.pathChanges == 1 && client.pathChanges == 1 })
        #expect(server.connection?.peerAddress == pair.client.localAddress)
        #expect(server.connection?.statistics.migrations == 1)
        #expect(pair.server.metrics.migrations == 1)
    }

    @Test func aClientMovesTimeAndAgainUnderLoad() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        server.prepare = { $0.keepsBytes = false }
        let flow = try #require(client.open())
        flow.onWritable = { $0.stream.write([UInt8](repeating: 1, count: 1 << 20)) }
        flow.stream.write([UInt8](repeating: 1, count: 1 << 20))
        for round in 1...4 {
            let before = server.flows.first?.receivedCount ?? 0
            try #require(pair.run { (server.flows.first?.receivedCount ?? 0) > before + 1 << 20 })
            try pair.client.rebind(to: Pair.loopback)
            try #require(pair.run { server.pathChanges == round })
        }
        #expect(client.closeReasons.isEmpty)
    }

    @Test func aNATThatForgetsIsFollowed() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected && !pair.acceptor.peers.isEmpty })
        let server = pair.acceptor.peers[0]
        let flow = try #require(client.open())
        flow.stream.write([1])
        try #require(pair.run { server.flows.first?.received == [1] })
        pair.run(milliseconds: 100)
        try relay.changeSourcePort()
        flow.stream.write([2])
        #expect(pair.run { server.pathChanges == 1 })
        #expect(server.connection?.peerAddress == relay.serverSideAddress)
        server.flows[0].stream.write([3])
        #expect(pair.run { flow.received == [3] })
        #expect(client.pathChanges == 0)
        relay.close()
    }

    @Test func movingDuringTheHandshakeFailsItAtOnce() throws {
        let pair = try Pair()
        let client = try pair.connect()
        try pair.client.rebind(to: Pair.loopback)
        #expect(pair.run { !client.closeReasons.isEmpty })
        guard case .handshakeFailed = client.closeReasons.first else {
            Issue.record("\(client.closeReasons)")
            return
        }
        // The endpoint itself goes on.
        let next = try pair.connect()
        #expect(pair.run { next.isConnected })
    }
}
