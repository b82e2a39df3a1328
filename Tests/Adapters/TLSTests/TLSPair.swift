import Domain
import EventLoop
import TLS
import TestKit
import Testing

/// A client's and a server's stream of one loop over loopback TCP, handshake not awaited.
struct TLSPair {
    let loop: EventLoop
    let client: TLSStream
    let server: TLSStream
    let clientEvents = StreamRecorder()
    let serverEvents = StreamRecorder()

    init(server serverContext: TLSContext, client clientContext: TLSContext, host: String = "node.test")
        throws
    {
        let loop = try EventLoop()
        var accepted: TLSStream?
        let serverEvents = serverEvents
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            accepted = try? TLSStream.accept(
                on: loop, descriptor, peer: peer, context: serverContext, handler: serverEvents)
        }
        client = TLSStream.connect(
            on: loop, to: listener.address, host: host, context: clientContext, handler: clientEvents)
        loop.run { accepted != nil }
        listener.close()
        self.loop = loop
        server = try #require(accepted)
    }

    /// With a certificate for node.test that the client trusts.
    static func trusting() throws -> TLSPair {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let pair = try TLSPair(
            server: .server(identity: identity),
            client: .client(trust: .certificates(pem: identity.certificateChainPEM)))
        #expect(pair.runUntilOpen())
        return pair
    }

    func runUntilOpen() -> Bool {
        loop.run { clientEvents.isOpen && serverEvents.isOpen }
    }

    func runUntilEnded() -> Bool {
        loop.run { clientEvents.isEnded && serverEvents.isEnded }
    }

    var isInOrder: Bool { clientEvents.faults.isEmpty && serverEvents.faults.isEmpty }
}

func reason(_ events: StreamRecorder) -> TLSError.Reason? {
    (events.error as? TLSError)?.reason
}
