import Domain
import EventLoop
import QUIC
import Testing

@Suite struct HandshakeTests {
    @Test func bothSidesAreToldOnce() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        #expect(server.connection?.isServer == true)
        #expect(client.connection?.isEstablished == true)
        #expect(server.connection?.peerAddress == pair.client.localAddress)
        #expect(pair.server.metrics.handshakesCompleted == 1)
        #expect(pair.server.metrics.handshakesInProgress == 0)
    }

    @Test func anEchoComesBackWhole() throws {
        let pair = try Pair()
        pair.acceptor.prepare = { $0.prepare = { $0.echoes = true } }
        let (client, _) = try pair.connected()
        let flow = try #require(client.open())
        let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var left = bytes[...]
        func push() {
            left.removeFirst(flow.stream.write(Array(left)))
            if left.isEmpty { flow.stream.finish() }
        }
        flow.onWritable = { _ in push() }
        push()
        #expect(pair.run { flow.isFinished })
        #expect(flow.received == bytes)
        #expect(pair.run { flow.closes == 1 })
    }

    @Test func anotherApplicationProtocolIsRefused() throws {
        let pair = try Pair(client: { $0.applicationProtocol = "pop-data/2" })
        let client = try pair.connect()
        #expect(pair.run { !client.closeReasons.isEmpty })
        #expect(!client.isConnected)
        guard case .peerTransport(let code, _) = client.closeReasons.first else {
            Issue.record("\(client.closeReasons)")
            return
        }
        #expect(code == 0x178)
        #expect(pair.acceptor.peers.isEmpty)
        #expect(pair.server.metrics.handshakesInProgress == 0)
    }
}
