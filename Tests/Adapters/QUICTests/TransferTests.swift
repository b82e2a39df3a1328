import Domain
import EventLoop
import QUIC
import Testing

@Suite struct TransferTests {
    /// Sends `total` bytes of a known sequence and compares the checksums of both ends.
    private func transfer(_ total: Int, _ pair: Pair, _ client: Peer, seconds: Int) throws {
        let server = pair.acceptor.peers[0]
        server.prepare = { $0.keepsBytes = false }
        let flow = try #require(client.open())
        var sent = 0
        var checksum: UInt64 = 14_695_981_039_346_656_037
        func fill(_ piece: UnsafeMutableRawBufferPointer) -> Int {
            let count = min(piece.count, total - sent)
            for index in 0..<count {
                let byte = UInt8(truncatingIfNeeded: (sent + index) &* 2_654_435_761 >> 13)
                piece[index] = byte
                checksum = (checksum ^ UInt64(byte)) &* 1_099_511_628_211
            }
            sent += count
            return count
        }
        func push() {
            while sent < total {
                let added = flow.stream.withFreeSpace { first, second in
                    let count = fill(first)
                    return count < first.count ? count : count + fill(second)
                }
                if added == 0 { return }
            }
            flow.stream.finish()
        }
        flow.onWritable = { _ in push() }
        push()
        #expect(pair.run(seconds: seconds) { server.flows.first?.isFinished == true })
        #expect(server.flows.first?.receivedCount == total)
        #expect(server.flows.first?.checksum == checksum)
    }

    /// More than have tables of their keys at once; and all packets of an endpoint are decrypted in one place.
    @Test func manyConnectionsTalkInTurn() throws {
        let pair = try Pair()
        let clients = try (0..<140).map { _ in try pair.connect() }
        try #require(pair.run { clients.allSatisfy(\.isConnected) && pair.acceptor.peers.count == 140 })
        for server in pair.acceptor.peers { server.prepare = { $0.echoes = true } }
        let flows = try clients.map { try #require($0.open()) }
        for round in 0..<3 {
            for (number, flow) in flows.enumerated() {
                flow.received = []
                flow.stream.write([UInt8](repeating: UInt8(truncatingIfNeeded: number + round), count: 3_000))
            }
            #expect(pair.run { flows.allSatisfy { $0.received.count == 3_000 } })
            for (number, flow) in flows.enumerated() {
                let byte = UInt8(truncatingIfNeeded: number + round)
                #expect(flow.received.allSatisfy { $0 == byte }, "connection \(number)")
            }
        }
        #expect(clients.allSatisfy { $0.connection?.isEstablished == true })
    }

    /// A connection that ends leaves its keys' tables to those that stay and those that come.
    @Test func connectionsComeAndGoAmongOthers() throws {
        let pair = try Pair()
        let stays = try pair.stream()
        stays.server.echoes = true
        for round: UInt8 in 1...20 {
            let (client, server) = try pair.connected()
            server.prepare = { $0.echoes = true }
            let flow = try #require(client.open())
            flow.stream.write([round])
            stays.client.received = []
            stays.client.stream.write([round, round])
            #expect(pair.run { flow.received == [round] && stays.client.received == [round, round] })
            client.connection?.close(code: 0)
            #expect(pair.run { !server.closeReasons.isEmpty && !client.closeReasons.isEmpty })
        }
    }

    /// What is in flight for 400 ms is more than a stream holds on a short path, also on a slow machine.
    @Test func aLongPathIsFilled() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        relay.delay = .milliseconds(200)
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected && !pair.acceptor.peers.isEmpty })
        let flow = try #require(client.open())
        pair.acceptor.peers[0].prepare = { $0.keepsBytes = false }
        let chunk = [UInt8](repeating: 5, count: 256 << 10)
        func push() { while flow.stream.write(chunk) == chunk.count {} }
        flow.onWritable = { _ in push() }
        push()
        #expect(pair.run(seconds: 60) { flow.stream.unacknowledgedBytes > 2 << 20 })
    }

    /// A peer that takes nothing holds no more of what is to be sent than on a short path.
    @Test func aSlowReaderOnALongPathLeavesBytesWhereTheyAre() throws {
        let pair = try Pair(server: {
            $0.initialStreamWindowBytes = 256 << 10
            $0.maxStreamWindowBytes = 256 << 10
        })
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        defer { relay.close() }
        relay.delay = .milliseconds(5)
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected && !pair.acceptor.peers.isEmpty })
        let flow = try #require(client.open())
        let server = pair.acceptor.peers[0]
        server.prepare = { $0.consumes = false }
        let chunk = [UInt8](repeating: 5, count: 64 << 10)
        func push() { while flow.stream.write(chunk) > 0 {} }
        flow.onWritable = { _ in push() }
        push()
        #expect(pair.run { server.flows.first?.receivedCount == 256 << 10 })
        pair.run(milliseconds: 100)
        push()
        #expect(flow.stream.unacknowledgedBytes <= 1 << 20)
    }

    @Test func sixtyFourMebibytesArriveUnchanged() throws {
        let pair = try Pair()
        let (client, _) = try pair.connected()
        try transfer(64 << 20, pair, client, seconds: 120)
    }

    @Test func cubicWithoutPacingWorksToo() throws {
        let pair = try Pair(client: {
            $0.congestionControl = .cubic
            $0.isPaced = false
        })
        let (client, _) = try pair.connected()
        try transfer(16 << 20, pair, client, seconds: 60)
    }

    @Test func lossAndReorderingAreRepaired() throws {
        let seed = SeededRandom.seed("loss")
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: seed)
        relay.lossPercent = 2
        relay.reorderPercent = 5
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected && !pair.acceptor.peers.isEmpty })
        try transfer(8 << 20, pair, client, seconds: 120)
        #expect(relay.dropped > 0)
        #expect((client.connection?.statistics.packetsLost ?? 0) > 0)
        relay.close()
    }

    /// A short path is not paced. What was sent over it may not be made up for when the path turns longer.
    @Test func aPathThatTurnsLongerDoesNotStandStill() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected && !pair.acceptor.peers.isEmpty })
        let start = SystemClock.now
        try transfer(96 << 20, pair, client, seconds: 120)
        let transferTime = SystemClock.now - start
        relay.delay = .milliseconds(2)
        let server = pair.acceptor.peers[0]
        server.prepare = { $0.echoes = true }
        let flow = try #require(client.open())
        let later = SystemClock.now
        for count in 1...24 {
            flow.stream.write([7])
            try #require(pair.run { flow.receivedCount == count })
        }
        #expect(SystemClock.now - later < max(transferTime / 2, .seconds(1)))
        relay.close()
    }

    @Test func aPathThatComesBackIsUsedAgain() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected && !pair.acceptor.peers.isEmpty })
        let flow = try #require(client.open())
        flow.stream.write([1])
        try #require(pair.run { pair.acceptor.peers[0].flows.first?.received == [1] })
        relay.isCut = true
        flow.stream.write([2])
        pair.run(milliseconds: 300)
        relay.isCut = false
        #expect(pair.run { pair.acceptor.peers[0].flows[0].received == [1, 2] })
        relay.close()
    }
}
