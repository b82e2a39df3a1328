import Domain
import EventLoop
import QUIC
import Testing

/// Calls into the API from inside the library's callbacks.
@Suite struct ReentrancyTests {
    @Test func closingTheConnectionWhenBytesArrive() throws {
        let pair = try Pair()
        pair.acceptor.prepare = { peer in
            peer.prepare = { $0.onReceived = { _ in peer.connection?.close(code: 0x104, reason: "enough") } }
        }
        let (client, server) = try pair.connected()
        let flow = try #require(client.open())
        flow.stream.write([UInt8](repeating: 1, count: 60_000))
        #expect(pair.run { !client.closeReasons.isEmpty && !server.closeReasons.isEmpty })
        #expect(client.closeReasons == [.peerApplication(code: 0x104, reason: "enough")])
        #expect(server.closeReasons == [.local(code: 0x104)])
        #expect(server.flows.allSatisfy { $0.closes == 1 })
        #expect(server.closedFlowsAtClose == server.flows.count)
        #expect(flow.closes == 1)
    }

    @Test func closingTheEndpointWhenBytesArrive() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        server.prepare = { $0.onReceived = { _ in pair.server.close(code: 0x100) } }
        let flow = try #require(client.open())
        flow.stream.write([UInt8](repeating: 1, count: 60_000))
        #expect(pair.run { !client.closeReasons.isEmpty })
        #expect(client.closeReasons == [.peerApplication(code: 0x100, reason: "")])
        #expect(server.closeReasons == [.endpointClosed])
        #expect(pair.server.metrics.connections == 0)
    }

    @Test func resettingAndOpeningWhenBytesArrive() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        server.prepare = { flow in
            flow.onReceived = { flow in
                flow.stream.stopReading(code: 5)
                flow.stream.reset(code: 6)
                let other = server.open()
                other?.stream.write([1])
                other?.stream.finish()
            }
        }
        client.prepare = { $0.stream.finish() }
        let flow = try #require(client.open())
        flow.stream.write([UInt8](repeating: 1, count: 200_000))
        #expect(pair.run { flow.stops == [5] && flow.resets == [6] && flow.isClosed })
        #expect(pair.run { server.flows.allSatisfy { $0.isClosed } })
        // Nothing is delivered after `stopReading`.
        #expect(server.flows.count == 2)
    }

    @Test func closingInEveryEventIsSafe() throws {
        for step in 0..<5 {
            let pair = try Pair()
            let (client, server) = try pair.stream()
            let connection = try #require(pair.acceptor.peers.first?.connection)
            switch step {
            case 0: server.onReceived = { _ in connection.close(code: 1) }
            case 1:
                server.onWritable = { _ in connection.close(code: 1) }
                server.stream.write([UInt8](repeating: 0, count: 2 << 20))
            case 2:
                pair.acceptor.peers[0].prepare = { _ in connection.close(code: 1) }
                _ = client.stream.connection?.openStream()?.write([1])
            case 3:
                server.onReceived = { flow in
                    flow.stream.reset(code: 1)
                    connection.close(code: 1)
                    flow.stream.stopReading(code: 1)
                    flow.stream.write([1])
                    _ = connection.openStream()
                    connection.close(code: 2)
                }
            default: connection.close(code: 1)
            }
            client.stream.write([1, 2, 3])
            #expect(pair.run { pair.acceptor.peers[0].closeReasons.count == 1 && client.isClosed })
            #expect(pair.acceptor.peers[0].closeReasons == [.local(code: 1)])
        }
    }
}
