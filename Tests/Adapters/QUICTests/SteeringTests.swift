import Domain
import EventLoop
import QUIC
import Testing

@Suite struct SteeringTests {
    /// Two servers behind one port, as two loops of a node are.
    @Test func packetsReachTheLoopOfTheirConnection() throws {
        let loop = try EventLoop()
        let secret = SystemRandom.bytes(32)
        var acceptors: [Acceptor] = []
        var servers: [QUICEndpoint] = []
        var address = Pair.loopback
        for index in 0..<2 {
            var configuration = QUICConfiguration(secret: secret)
            configuration.loopIndex = index
            configuration.loopCount = 2
            configuration.reusePort = true
            configuration.alwaysRetry = true
            let acceptor = Acceptor()
            acceptor.prepare = { $0.prepare = { $0.echoes = true } }
            let server = try QUICEndpoint(
                loop: loop, address: address, configuration: configuration,
                serverCredentials: QUICServerCredentials(
                    certificatePEM: TestCertificates.oneCertificate, keyPEM: TestCertificates.oneKey),
                delegate: acceptor)
            address = server.localAddress
            acceptors.append(acceptor)
            servers.append(server)
        }
        try servers[0].steerPackets()
        let pair = try Pair(loop: loop)
        let clients = try (0..<40).map { _ in try pair.connect(to: address) }
        #expect(pair.run { clients.allSatisfy { $0.isConnected } })
        #expect(pair.run { acceptors.reduce(0) { $0 + $1.peers.count } == 40 })
        #expect(acceptors.allSatisfy { $0.peers.count > 4 })
        pair.run(milliseconds: 100)
        // From another port every packet still finds its loop.
        try pair.client.rebind(to: Pair.loopback)
        for client in clients {
            let flow = try #require(client.open())
            flow.stream.write([1, 2, 3])
            flow.stream.finish()
        }
        #expect(pair.run { clients.allSatisfy { $0.flows[0].isClosed } })
        #expect(clients.allSatisfy { $0.flows[0].received == [1, 2, 3] })
        #expect(servers.allSatisfy { $0.metrics.statelessResetsSent == 0 })
        for server in servers { server.close() }
    }

    @Test func aPeerOfAnotherFamilyIsAnError() throws {
        let pair = try Pair()
        let other = SocketAddress(ip: .v6(IPv6Address(high: 0, low: 1)), port: 1)
        #expect(throws: QUICError.otherAddressFamily) { try pair.connect(to: other) }
    }

    @Test func aServerOnAllAddressesAnswersFromTheOneAsked() throws {
        let loop = try EventLoop()
        let acceptor = Acceptor()
        let server = try QUICEndpoint(
            loop: loop, address: SocketAddress(ip: .v4(IPv4Address(0)), port: 0),
            configuration: QUICConfiguration(),
            serverCredentials: QUICServerCredentials(
                certificatePEM: TestCertificates.oneCertificate, keyPEM: TestCertificates.oneKey),
            delegate: acceptor)
        let pair = try Pair(loop: loop)
        let other = SocketAddress(ip: .v4(IPv4Address(0x7f00_0002)), port: server.localAddress.port)
        let client = try pair.connect(to: other)
        #expect(pair.run { client.isConnected })
        server.close()
    }
}
