import Domain
import EventLoop
import QUIC
import Testing

@Suite struct StreamTests {
    @Test func theClientMayFinishFirst() throws {
        let pair = try Pair()
        let (client, server) = try pair.stream()
        client.stream.write([1, 2, 3])
        client.stream.finish()
        #expect(pair.run { server.isFinished })
        #expect(server.received == [1, 2, 3])
        #expect(client.stream.write([4]) == 0)
        server.stream.write([9])
        #expect(pair.run { client.received == [9] })
        #expect(!client.isClosed)
        server.stream.finish()
        #expect(pair.run { client.isClosed && server.isClosed })
        #expect(client.isFinished)
    }

    @Test func theServerMayFinishFirst() throws {
        let pair = try Pair()
        let (client, server) = try pair.stream()
        server.stream.finish()
        #expect(pair.run { client.isFinished })
        client.stream.write([7])
        #expect(pair.run { server.received == [7] })
        client.stream.finish()
        #expect(pair.run { client.isClosed && server.isClosed })
    }

    @Test(arguments: [true, false]) func aResetArrivesWithItsCode(byClient: Bool) throws {
        let pair = try Pair()
        let flows = try pair.stream()
        let (sender, receiver) = byClient ? (flows.client, flows.server) : (flows.server, flows.client)
        sender.stream.reset(code: 0x201)
        #expect(pair.run { receiver.resets == [0x201] })
        #expect(sender.stream.write([1]) == 0)
        // The other direction goes on.
        receiver.stream.write([5])
        #expect(pair.run { sender.received == [5] })
        receiver.stream.finish()
        #expect(pair.run { sender.isClosed && receiver.isClosed })
    }

    @Test(arguments: [true, false]) func stoppingToReadResetsThePeersDirection(byClient: Bool) throws {
        let pair = try Pair()
        let flows = try pair.stream()
        let (reader, writer) = byClient ? (flows.client, flows.server) : (flows.server, flows.client)
        reader.stream.stopReading(code: 0x200)
        #expect(pair.run { writer.stops == [0x200] })
        #expect(writer.stream.write([1]) == 0)
        reader.stream.write([5])
        reader.stream.finish()
        #expect(pair.run { writer.received == [5] && writer.isFinished })
        #expect(pair.run { reader.isClosed && writer.isClosed })
        // The answer to STOP_SENDING is no event of its own for who asked for it.
        #expect(reader.resets.isEmpty)
    }

    @Test func aTCPResetIsBothAtOnce() throws {
        let pair = try Pair()
        let (client, server) = try pair.stream()
        client.stream.reset(code: 0x201)
        client.stream.stopReading(code: 0x201)
        #expect(pair.run { server.resets == [0x201] && server.stops == [0x201] })
        #expect(pair.run { client.isClosed && server.isClosed })
        #expect(client.closes == 1 && server.closes == 1)
    }

    @Test func aReaderThatTakesNothingStallsTheWriter() throws {
        let window: UInt64 = 256 << 10
        let pair = try Pair(
            server: {
                $0.initialStreamWindowBytes = window
                $0.maxStreamWindowBytes = window
            }, client: { $0.transmitRingBytes = 128 << 10 })
        let (client, server) = try pair.stream()
        server.consumes = false
        server.keepsBytes = false
        var written = 0
        let chunk = [UInt8](repeating: 3, count: 64 << 10)
        func push() {
            while written < 8 << 20 {
                let taken = client.stream.write(chunk)
                if taken == 0 { break }
                written += taken
            }
        }
        client.onWritable = { _ in push() }
        push()
        pair.run(milliseconds: 300)
        #expect(server.receivedCount <= Int(window))
        #expect(written <= Int(window) + 128 << 10)
        #expect(client.stream.unacknowledgedBytes <= 128 << 10)
        server.consumes = true
        server.stream.consumed(server.stream.unconsumedBytes)
        #expect(pair.run { written >= 8 << 20 && server.receivedCount >= 8 << 20 })
        #expect(pair.run { client.stream.unacknowledgedBytes == 0 })
    }

    @Test func aThousandStreamsAtOnceEachGetTheirOwn() throws {
        let pair = try Pair()
        pair.acceptor.prepare = { $0.prepare = { $0.echoes = true } }
        let (client, _) = try pair.connected()
        for index in 0..<1_000 {
            let flow = try #require(client.open())
            flow.stream.write(Array("stream number \(index)".utf8))
            flow.stream.finish()
        }
        #expect(pair.run { client.flows.allSatisfy { $0.isClosed } })
        for (index, flow) in client.flows.enumerated() {
            #expect(flow.received == Array("stream number \(index)".utf8))
        }
    }

    @Test func withoutCreditOpeningWaitsForIt() throws {
        let pair = try Pair(server: { $0.maxIncomingStreams = 10 })
        let (client, server) = try pair.connected()
        let before = client.creditGrowths
        for _ in 0..<10 { #expect(client.open() != nil) }
        #expect(client.open() == nil)
        for flow in client.flows { flow.stream.write([1]) }
        #expect(pair.run { server.flows.count == 10 })
        #expect(client.open() == nil)
        for (near, far) in zip(client.flows, server.flows) {
            near.stream.finish()
            far.stream.finish()
        }
        #expect(pair.run { client.creditGrowths > before && client.flows.allSatisfy { $0.isClosed } })
        #expect(client.open() != nil)
    }

    @Test func unreadBytesOfDeadStreamsGiveTheirCreditBack() throws {
        // Far more is left unread in all than the connection's window holds.
        let pair = try Pair(server: {
            $0.initialConnectionWindowBytes = 256 << 10
            $0.maxConnectionWindowBytes = 256 << 10
        })
        pair.acceptor.prepare = { $0.prepare = { $0.consumes = false } }
        let (client, server) = try pair.connected()
        for round in 0..<12 {
            let flow = try #require(client.open())
            flow.stream.write([UInt8](repeating: 1, count: 60_000))
            try #require(
                pair.run { server.flows.count == round + 1 && server.flows[round].receivedCount == 60_000 })
            let far = server.flows[round]
            switch round % 3 {
            case 0:
                far.stream.stopReading(code: 1)
                far.stream.reset(code: 1)
                flow.stream.reset(code: 1)
            case 1:
                flow.stream.reset(code: 1)
                far.stream.finish()
            default:
                flow.stream.finish()
                far.stream.finish()
            }
            try #require(pair.run { flow.isClosed && far.isClosed })
        }
    }

    @Test func manyStreamsShareTheConnection() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        pair.acceptor.peers[0].prepare = { $0.keepsBytes = false }
        for _ in 0..<4 {
            let flow = try #require(client.open())
            flow.onWritable = { $0.stream.write([UInt8](repeating: 1, count: 1 << 20)) }
            flow.stream.write([UInt8](repeating: 1, count: 1 << 20))
        }
        #expect(pair.run { server.flows.reduce(0) { $0 + $1.receivedCount } > 24 << 20 })
        let counts = server.flows.map(\.receivedCount)
        #expect((counts.min() ?? 0) * 4 > (counts.max() ?? 0))
    }

    @Test func everyCallAfterTheEndDoesNothing() throws {
        let pair = try Pair()
        let (client, server) = try pair.stream()
        client.stream.finish()
        server.stream.finish()
        try #require(pair.run { client.isClosed && server.isClosed })
        for flow in [client, server] {
            #expect(flow.stream.isClosed)
            #expect(flow.stream.connection == nil)
            #expect(flow.stream.write([1]) == 0)
            #expect(flow.stream.writableBytes == 0)
            flow.stream.finish()
            flow.stream.reset(code: 1)
            flow.stream.stopReading(code: 1)
            flow.stream.consumed(100)
        }
        pair.run(milliseconds: 20)
        #expect(client.closes == 1)
    }

    @Test func anIdleStreamHoldsNoMemory() throws {
        let pair = try Pair()
        let (client, _) = try pair.stream()
        #expect(pair.run { client.stream.unacknowledgedBytes == 0 })
        #expect(client.stream.writableBytes == 64 << 10)
    }
}
