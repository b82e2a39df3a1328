internal import Domain
package import EventLoop
package import QUIC
package import TLS

/// Two QUIC endpoints of one loop that are connected over loopback UDP.
package final class QUICPair {
    package let loop: EventLoop
    package let serverEndpoint: QUICEndpoint
    package let clientEndpoint: QUICEndpoint
    package let client = QUICPeer()
    package private(set) var server = QUICPeer()
    private let acceptor = QUICAcceptor()

    /// The certificate of all tests of a process.
    package static let identity = try? SelfSignedCertificate.make(hosts: ["pop.test"])

    /// - Parameter configure: changes what both endpoints are made with.
    package init(_ configure: (inout QUICConfiguration) -> Void = { _ in }) throws {
        guard let identity = Self.identity else { throw Failure.noCertificate }
        loop = try EventLoop()
        var configuration = QUICConfiguration()
        configure(&configuration)
        let any = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        let credentials = try QUICServerCredentials(
            certificatePEM: identity.certificateChainPEM, keyPEM: identity.privateKeyPEM)
        serverEndpoint = try QUICEndpoint(
            loop: loop, address: any, configuration: configuration, serverCredentials: credentials,
            delegate: acceptor)
        clientEndpoint = try QUICEndpoint(loop: loop, address: any, configuration: configuration)
        let verification = QUICPeerVerification(
            trust: try QUICTrust(.pem(identity.certificateChainPEM)), hostName: "pop.test")
        client.connection = try clientEndpoint.connect(
            to: serverEndpoint.localAddress, verification: verification, delegate: client)
        guard run(until: { client.isConnected && acceptor.peers.count == 1 }) else {
            throw Failure.notConnected
        }
        server = acceptor.peers[0]
    }

    deinit {
        serverEndpoint.close()
        clientEndpoint.close()
        loop.runOnce(waitingAtMost: .zero)
    }

    package enum Failure: Error {
        case noCertificate
        case notConnected
    }

    /// Runs the loop until `condition` holds; false after `seconds`.
    @discardableResult
    package func run(seconds: Int = 60, until condition: () -> Bool) -> Bool {
        loop.run(seconds: seconds, until: condition)
    }
}

extension EventLoop {
    /// Runs batches until `condition` holds; false after `seconds`.
    @discardableResult
    package func run(seconds: Int, until condition: () -> Bool) -> Bool {
        let deadline = SystemClock.now + .seconds(seconds)
        while !condition() {
            if SystemClock.now >= deadline { return false }
            runOnce(waitingAtMost: .milliseconds(2))
        }
        return true
    }

    /// Runs batches for a while, for things that must not happen.
    package func run(milliseconds: Int) {
        let deadline = SystemClock.now + .milliseconds(milliseconds)
        while SystemClock.now < deadline { runOnce(waitingAtMost: .milliseconds(2)) }
    }
}
