import Domain
import EventLoop
import QUIC
import Testing

@Suite struct LifecycleTests {
    @Test(arguments: [true, false]) func aCloseCarriesCodeAndReason(byClient: Bool) throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        let flow = try #require(client.open())
        flow.stream.write([1])
        try #require(pair.run { server.flows.count == 1 })
        let (closer, other) = byClient ? (client, server) : (server, client)
        closer.connection?.close(code: 0x102, reason: "replaced")
        #expect(closer.connection?.isClosed == true)
        // Never from within the call.
        #expect(closer.closeReasons.isEmpty)
        #expect(pair.run { !client.closeReasons.isEmpty && !server.closeReasons.isEmpty })
        #expect(closer.closeReasons == [.local(code: 0x102)])
        #expect(other.closeReasons == [.peerApplication(code: 0x102, reason: "replaced")])
        #expect(client.closedFlowsAtClose == 1 && server.closedFlowsAtClose == 1)
        #expect(closer.connection?.openStream() == nil)
    }

    @Test func anEndedConnectionLeavesTheTableInTheEnd() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        client.connection?.close(code: 0)
        #expect(pair.run { !server.closeReasons.isEmpty })
        #expect(pair.run { pair.server.metrics.connections == 0 && pair.client.metrics.connections == 0 })
        #expect(pair.server.metrics.handshakesInProgress == 0)
    }

    @Test func silenceEndsAConnection() throws {
        let pair = try Pair(server: { $0.maxIdleTimeout = .milliseconds(300) })
        let (client, server) = try pair.connected()
        #expect(pair.run { !client.closeReasons.isEmpty && !server.closeReasons.isEmpty })
        #expect(client.closeReasons == [.idleTimeout])
        #expect(server.closeReasons == [.idleTimeout])
        #expect(pair.server.metrics.connections == 0)
    }

    @Test func pingsKeepAnIdleConnection() throws {
        let pair = try Pair(
            server: { $0.maxIdleTimeout = .milliseconds(400) },
            client: { $0.keepAliveInterval = .milliseconds(100) })
        let (client, server) = try pair.connected()
        let longestPause = pair.run(milliseconds: 1_200)
        // A machine that stood still for as long as the timeout sent no pings.
        let isAlive = client.closeReasons.isEmpty && server.closeReasons.isEmpty
        #expect(isAlive || longestPause >= .milliseconds(250))
    }

    @Test func aServerThatDoesNotAnswerFailsTheHandshake() throws {
        let pair = try Pair(client: { $0.handshakeTimeout = .milliseconds(300) })
        let hole = try UDPSocket(loop: pair.loop)
        let client = try pair.connect(to: hole.address)
        #expect(pair.run { !client.closeReasons.isEmpty })
        #expect(client.closeReasons == [.handshakeTimedOut])
        #expect(pair.client.metrics.handshakesInProgress == 0)
        hole.close()
    }

    @Test func aRetryProvesTheAddress() throws {
        let pair = try Pair(server: { $0.alwaysRetry = true })
        let (client, server) = try pair.connected()
        #expect(pair.server.metrics.retriesSent == 1)
        let flow = try #require(client.open())
        flow.stream.write([1])
        #expect(pair.run { server.flows.first?.received == [1] })
    }

    @Test func aForgottenConnectionIsReset() throws {
        let pair = try Pair()
        let (client, _) = try pair.connected()
        let relay = try Relay(loop: pair.loop, server: pair.server.localAddress, seed: 1)
        let address = pair.server.localAddress
        let secret = pair.server.configuration.secret
        // The server goes without a word, and another one takes its port, with the same secret.
        let flow = try #require(client.open())
        flow.stream.write([1])
        try #require(pair.run { flow.stream.unacknowledgedBytes == 0 })
        relay.close()
        let muted = try Muted(pair)
        muted.kill()
        let acceptor = Acceptor()
        let second = try QUICEndpoint(
            loop: pair.loop, address: address, configuration: QUICConfiguration(secret: secret),
            serverCredentials: QUICServerCredentials(
                certificatePEM: TestCertificates.oneCertificate, keyPEM: TestCertificates.oneKey),
            delegate: acceptor)
        flow.stream.write([UInt8](repeating: 1, count: 100))
        #expect(pair.run { !client.closeReasons.isEmpty })
        #expect(client.closeReasons == [.statelessReset])
        #expect(second.metrics.statelessResetsSent >= 1)
        second.close()
    }

    /// Ends a server without a packet reaching its clients: they are moved off the socket meanwhile.
    private struct Muted {
        let pair: Pair

        init(_ pair: Pair) throws { self.pair = pair }

        func kill() {
            // A server without a socket can't say goodbye; rebinding takes it away from its port first.
            try? pair.server.rebind(to: Pair.loopback)
            pair.acceptor.peers = []
        }
    }

    @Test func anotherVersionIsAnsweredWithOurs() throws {
        let pair = try Pair()
        let socket = try UDPSocket(loop: pair.loop)
        var answers: [[UInt8]] = []
        socket.received = { bytes, _ in answers.append(bytes) }
        var packet: [UInt8] = [0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]
        packet += [1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9]
        packet += [UInt8](repeating: 0, count: 1_200 - packet.count)
        socket.send(packet, to: pair.server.localAddress)
        #expect(pair.run { answers.count == 1 })
        let answer = try #require(answers.first)
        // Version 0, the ids exchanged, and 1 among the versions (RFC 8999 section 6).
        #expect(Array(answer[1..<5]) == [0, 0, 0, 0])
        #expect(Array(answer[5..<19]) == [4, 9, 9, 9, 9, 8, 1, 2, 3, 4, 5, 6, 7, 8])
        #expect(
            stride(from: 19, to: answer.count, by: 4).contains { Array(answer[$0..<$0 + 4]) == [0, 0, 0, 1] })
        // A short one is not worth an answer.
        socket.send(Array(packet.prefix(1_100)), to: pair.server.localAddress)
        pair.run(milliseconds: 50)
        #expect(answers.count == 1)
        socket.close()
    }

    @Test func closingAnEndpointEndsItsConnections() throws {
        let pair = try Pair()
        let (client, server) = try pair.connected()
        pair.client.close(code: 0x100)
        #expect(pair.run { !server.closeReasons.isEmpty })
        #expect(client.closeReasons == [.endpointClosed])
        #expect(server.closeReasons == [.peerApplication(code: 0x100, reason: "")])
        #expect(throws: QUICError.endpointClosed) { try pair.connect() }
    }

    /// The faster encryption where the machine has it, and the default; each against either.
    @Test(arguments: [true, false], [true, false])
    func keysCanBeUpdatedInFlight(_ isServerFast: Bool, _ isClientFast: Bool) throws {
        try updateKeys(
            Pair(
                server: { $0.usesFastEncryption = isServerFast },
                client: { $0.usesFastEncryption = isClientFast }))
    }

    /// The faster encryption knows AES-128-GCM alone: another AEAD must stay what it is, with new keys too.
    @Test(arguments: [true, false]) func keysOfAnotherCipherCanBeUpdatedBesideTheFasterEncryption(
        isServer: Bool
    ) throws {
        try updateKeys(
            Pair(
                server: { $0.usesChaCha20Only = isServer }, client: { $0.usesChaCha20Only = !isServer }))
    }

    private func updateKeys(_ pair: Pair) throws {
        let (client, server) = try pair.connected()
        let flow = try #require(client.open())
        for round in 1...3 {
            flow.stream.write([UInt8](repeating: UInt8(round), count: 5_000))
            try #require(pair.run { server.flows.first?.receivedCount == round * 5_000 })
            try #require(pair.run { client.connection?.initiateKeyUpdate() == true })
            flow.stream.write([])
        }
        flow.stream.finish()
        #expect(pair.run { server.flows.first?.isFinished == true })
        server.flows[0].stream.write([1])
        #expect(pair.run { flow.received == [1] })
    }

    @Test func manyConnectionsShareTwoSockets() throws {
        let pair = try Pair()
        pair.acceptor.prepare = { $0.prepare = { $0.echoes = true } }
        let peers = try (0..<100).map { _ in try pair.connect() }
        #expect(pair.run { peers.allSatisfy { $0.isConnected } })
        for (index, peer) in peers.enumerated() {
            let flow = try #require(peer.open())
            flow.stream.write(Array("\(index)".utf8))
            flow.stream.finish()
        }
        #expect(pair.run { peers.allSatisfy { $0.flows[0].isClosed } })
        #expect(peers.enumerated().allSatisfy { $1.flows[0].received == Array("\($0)".utf8) })
        #expect(pair.server.metrics.connections == 100)
        // More than the threshold began at once.
        #expect(pair.server.metrics.retriesSent > 0)
    }
}
