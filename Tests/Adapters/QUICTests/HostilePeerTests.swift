import Domain
import EventLoop
import Glibc
import QUIC
import Testing

@Suite struct HostilePeerTests {
    @Test func garbageIsDropped() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        let socket = try UDPSocket(loop: pair.loop)
        var random = SeededRandom(seed: SeededRandom.seed("garbage"))
        for _ in 0..<4_000 {
            var bytes = [UInt8](repeating: 0, count: 1 + Int(random.next() % 1_500))
            for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
            if random.next() % 2 == 0, bytes.count > 5 {
                bytes[0] |= 0xc0
                bytes.replaceSubrange(1..<5, with: [0, 0, 0, 1])
            }
            socket.send(bytes, to: pair.server.localAddress)
            if random.next() % 16 == 0 { pair.loop.runOnce(waitingAtMost: .zero) }
        }
        pair.run(milliseconds: 100)
        #expect(pair.server.metrics.connections < 200)
        #expect(pair.server.metrics.statelessResetsSent <= 300)
        // Those who behave don't notice.
        let flow = try #require(client.open())
        flow.stream.write([1])
        #expect(pair.run { server.flows.first?.received == [1] })
        socket.close()
    }

    @Test func spoofedInitialsTakeBoundedMemory() throws {
        let pair = try Pair(server: {
            $0.maxHandshakes = 50
            $0.retryThreshold = 20
            $0.handshakeTimeout = .milliseconds(500)
        })
        // A true first packet, sent again and again under other connection ids, from many ports.
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        relay.recordsPackets = true
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected })
        let initial = try #require(relay.recorded.first)
        #expect(initial.count >= 1_200)
        var random = SeededRandom(seed: SeededRandom.seed("spoofed initials"))
        let sockets = try (0..<8).map { _ in try UDPSocket(loop: pair.loop) }
        for round in 0..<3_000 {
            var packet = initial
            for index in 6..<14 { packet[index] = UInt8(truncatingIfNeeded: random.next()) }
            sockets[round % 8].send(packet, to: pair.server.localAddress)
            if round % 8 == 0 { pair.loop.runOnce(waitingAtMost: .zero) }
            #expect(pair.server.metrics.handshakesInProgress <= 50)
        }
        pair.run(milliseconds: 50)
        // Every one ends by itself, and a newcomer is served, by way of a Retry if need be.
        let newcomer = try pair.connect()
        #expect(pair.run { newcomer.isConnected })
        #expect(pair.run { pair.server.metrics.handshakesInProgress == 0 })
        for socket in sockets { socket.close() }
        relay.close()
    }

    /// A raw socket can say what no other may; only root may have one.
    @Test(.enabled(if: geteuid() == 0)) func nobodyComesFromPortZero() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        relay.recordsPackets = true
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected })
        var initial = try #require(relay.recorded.first)
        for index in 6..<14 { initial[index] ^= 0x5a }
        let before = pair.server.metrics
        func malformed() -> UInt64 { pair.server.metrics.packetsDropped[.malformed] }
        let port = pair.server.localAddress.port
        let length = UInt16(8 + initial.count)
        let header = [0, port, length, 0].flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
        let raw = socket(AF_INET, Int32(SOCK_RAW.rawValue), Int32(IPPROTO_UDP))
        try #require(raw >= 0)
        defer { close(raw) }
        // A sockaddr_in of 127.0.0.1.
        let address = [UInt8(AF_INET), 0, 0, 0, 127, 0, 0, 1] + [UInt8](repeating: 0, count: 8)
        let packet = header + initial
        let sent = packet.withUnsafeBytes { bytes in
            address.withUnsafeBytes { name in
                let name = name.assumingMemoryBound(to: sockaddr.self)
                return sendto(raw, bytes.baseAddress, bytes.count, 0, name.baseAddress, socklen_t(16))
            }
        }
        #expect(sent == packet.count)
        #expect(pair.run { malformed() > before.packetsDropped[.malformed] })
        #expect(pair.server.metrics.connections == before.connections)
        relay.close()
    }

    @Test func truncatedInitialsAreDropped() throws {
        let pair = try Pair()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        relay.recordsPackets = true
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected })
        let initial = try #require(relay.recorded.first)
        let before = pair.server.metrics.connections
        let socket = try UDPSocket(loop: pair.loop)
        for count in stride(from: 1, to: initial.count, by: 3) {
            socket.send(Array(initial.prefix(count)), to: pair.server.localAddress)
            pair.loop.runOnce(waitingAtMost: .zero)
        }
        pair.run(milliseconds: 50)
        #expect(pair.server.metrics.connections == before)
        socket.close()
        relay.close()
    }

    @Test func changedPacketsDoNoMoreThanLostOnes() throws {
        let pair = try Pair(
            server: { $0.handshakeTimeout = .seconds(15) }, client: { $0.handshakeTimeout = .seconds(15) })
        pair.acceptor.prepare = { $0.prepare = { $0.echoes = true } }
        let seed = SeededRandom.seed("changed packets")
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: seed)
        let client = try pair.connect(to: relay.address)
        try #require(pair.run { client.isConnected })
        relay.mutationPercent = 5
        let flow = try #require(client.open())
        let bytes = (0..<400_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var left = bytes[...]
        func push() {
            left.removeFirst(flow.stream.write(Array(left)))
            if left.isEmpty { flow.stream.finish() }
        }
        flow.onWritable = { _ in push() }
        push()
        #expect(pair.run(seconds: 40) { flow.isFinished || !client.closeReasons.isEmpty })
        #expect(flow.received == bytes)
        relay.close()
    }

    @Test func handshakesOfChangedPacketsEndOneWayOrTheOther() throws {
        let seed = SeededRandom.seed("changed handshakes")
        var random = SeededRandom(seed: seed)
        let pair = try Pair(
            server: { $0.handshakeTimeout = .milliseconds(400) },
            client: { $0.handshakeTimeout = .milliseconds(400) })
        var peers: [Peer] = []
        var relays: [Relay] = []
        for _ in 0..<30 {
            let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: random.next())
            relay.mutationPercent = 40
            relays.append(relay)
            peers.append(try pair.connect(to: relay.address))
        }
        #expect(pair.run { peers.allSatisfy { $0.isConnected || !$0.closeReasons.isEmpty } })
        #expect(peers.allSatisfy { $0.closeReasons.count <= 1 })
        #expect(pair.run { pair.server.metrics.handshakesInProgress == 0 })
        for relay in relays { relay.close() }
    }
}
