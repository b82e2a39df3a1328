import Domain
import EventLoop
import QUIC
import Testing

@Suite struct DatagramTests {
    private func send(_ peer: Peer, _ bytes: [UInt8]) -> QUICDatagramResult? {
        bytes.withUnsafeBytes { peer.connection?.sendDatagram($0) }
    }

    @Test func datagramsGoBothWays() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        #expect(send(client, [1, 2, 3]) == .queued)
        #expect(send(server, [4]) == .queued)
        #expect(send(client, []) == .queued)
        #expect(pair.run { server.datagrams.count == 2 && client.datagrams.count == 1 })
        #expect(server.datagrams == [[1, 2, 3], []])
        #expect(client.datagrams == [[4]])
    }

    @Test func theLargestOneArrivesAndALargerOneIsRefused() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        // The path's limit grows while it is being probed.
        pair.run(milliseconds: 200)
        let limit = try #require(client.connection?.datagramLimitBytes)
        #expect(limit > 1_100)
        #expect(send(client, [UInt8](repeating: 7, count: limit + 1)) == .tooLarge(limitBytes: limit))
        #expect(send(client, [UInt8](repeating: 7, count: limit)) == .queued)
        #expect(send(client, [1]) == .queued)
        #expect(pair.run { server.datagrams.count == 2 })
        #expect(server.datagrams.first?.count == limit)
    }

    @Test func theOldestGiveWayWhenTheQueueIsFull() throws {
        let pair = try Pair(client: { $0.datagramQueueBytes = 16 << 10 })
        let (client, server) = try pair.connected()
        var dropped = 0
        for index in 0..<100 {
            var bytes = [UInt8](repeating: 0, count: 1_000)
            bytes[0] = UInt8(index)
            if case .queuedDroppingOldest(let count) = send(client, bytes) { dropped += count }
        }
        // A third of them at most is in the queue and in the first congestion window.
        #expect(dropped > 60)
        #expect(pair.run { server.datagrams.last?.first == 99 })
        #expect(server.datagrams.count == 100 - dropped)
        #expect(server.datagrams.map { $0[0] } == server.datagrams.map { $0[0] }.sorted())
    }

    @Test func aBurstOfManyTimesTheQueueLeavesAsItIsHandedOn() throws {
        let pair = try Pair(client: { $0.datagramQueueBytes = 64 << 10 })
        let (client, server) = try pair.connected()
        // The congestion window has grown by then.
        let flow = try #require(client.open())
        flow.onWritable = { $0.stream.write([UInt8](repeating: 1, count: 1 << 20)) }
        flow.stream.write([UInt8](repeating: 1, count: 1 << 20))
        server.prepare = { $0.keepsBytes = false }
        #expect(pair.run { server.flows.first.map { $0.receivedCount > 8 << 20 } == true })
        flow.stream.reset(code: 1)
        #expect(pair.run { server.flows.first?.resets == [1] })
        let room = client.connection?.datagramRoomBytes
        #expect(room == 64 << 10)
        for index in 0..<120 {
            #expect(send(client, [UInt8](repeating: UInt8(index), count: 1_000)) == .queued)
        }
        #expect(try #require(client.connection?.datagramRoomBytes) <= 64 << 10)
        #expect(pair.run { server.datagrams.count == 120 })
        #expect(client.connection?.datagramRoomBytes == room)
    }

    @Test func thousandsArriveNextToAStream() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        let flow = try #require(client.open())
        flow.onWritable = { $0.stream.write([UInt8](repeating: 1, count: 1 << 20)) }
        flow.stream.write([UInt8](repeating: 1, count: 1 << 20))
        var sent = 0
        #expect(
            pair.run {
                for _ in 0..<20 where sent < 3_000 {
                    if send(client, [UInt8](repeating: UInt8(truncatingIfNeeded: sent), count: 300))
                        == .queued
                    {
                        sent += 1
                    }
                }
                return server.datagrams.count > 2_900
            })
        #expect(server.flows.first.map { $0.receivedCount > 0 } == true)
    }

    @Test func afterTheEndThereAreNone() throws {
        let pair = try Pair()
        let (client, _) = try pair.connected()
        client.connection?.close(code: 0)
        #expect(send(client, [1]) == .unavailable)
        #expect(pair.run { !client.closeReasons.isEmpty })
        #expect(send(client, [1]) == .unavailable)
    }
}
