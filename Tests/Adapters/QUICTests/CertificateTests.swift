import Domain
import EventLoop
import QUIC
import Testing

@Suite struct CertificateTests {
    private static let onePin = QUICServerCredentials.pin(certificatePEM: TestCertificates.oneCertificate)
    private static let twoPin = QUICServerCredentials.pin(certificatePEM: TestCertificates.twoCertificate)

    /// Connects and tells whether the client accepted.
    private func accepts(
        host: String?, pin: [UInt8]? = nil, skip: Bool = false, trust: QUICTrust? = nil
    ) throws -> Bool {
        let pair = try Pair()
        let client = try pair.connect(host: host, pin: pin, skip: skip, trust: trust)
        #expect(pair.run { client.isConnected || !client.closeReasons.isEmpty })
        if !client.isConnected {
            guard case .handshakeFailed(let text) = client.closeReasons.first else {
                Issue.record("\(client.closeReasons)")
                return false
            }
            #expect(!text.isEmpty)
            // The server learns that it was not accepted, and keeps nothing.
            #expect(pair.run { pair.server.metrics.connections == 0 })
            #expect(pair.acceptor.peers.isEmpty)
        }
        return client.isConnected
    }

    @Test func aNameThatTheCertificateHasIsAccepted() throws {
        #expect(try accepts(host: "pop.test"))
    }

    @Test func anAddressThatTheCertificateHasIsAccepted() throws {
        #expect(try accepts(host: "127.0.0.1"))
    }

    @Test func anotherNameIsRefused() throws {
        #expect(try !accepts(host: "other.test"))
    }

    @Test func anUntrustedCertificateIsRefused() throws {
        #expect(try !accepts(host: "pop.test", trust: QUICTrust(.pem(TestCertificates.twoCertificate))))
        #expect(try !accepts(host: "pop.test", trust: QUICTrust(.none)))
    }

    @Test func thePinnedCertificateIsAcceptedWithoutTrust() throws {
        #expect(try accepts(host: "other.test", pin: Self.onePin, trust: QUICTrust(.none)))
        #expect(try accepts(host: nil, pin: Self.onePin, trust: QUICTrust(.none)))
    }

    @Test func aVerifiedCertificateIsAcceptedWhateverThePin() throws {
        #expect(try accepts(host: "pop.test", pin: Self.twoPin))
    }

    @Test func neitherPinNorNameIsRefused() throws {
        #expect(try !accepts(host: "other.test", pin: Self.twoPin))
        #expect(try !accepts(host: nil, pin: Self.twoPin))
    }

    @Test func verificationCanBeSkipped() throws {
        #expect(try accepts(host: "other.test", skip: true, trust: QUICTrust(.none)))
    }

    @Test func newHandshakesUseNewCredentials() throws {
        let pair = try Pair()
        let (old, _) = try pair.connected()
        pair.server.serverCredentials = try QUICServerCredentials(
            certificatePEM: TestCertificates.twoCertificate, keyPEM: TestCertificates.twoKey)
        let client = try pair.connect(host: nil, pin: Self.twoPin, trust: QUICTrust(.none))
        #expect(pair.run { client.isConnected })
        #expect(old.connection?.isEstablished == true)
    }

    @Test func whatIsNoCertificateIsAnError() {
        #expect(throws: QUICError.self) {
            try QUICServerCredentials(certificatePEM: [1, 2, 3], keyPEM: TestCertificates.oneKey)
        }
        #expect(throws: QUICError.self) {
            try QUICServerCredentials(
                certificatePEM: TestCertificates.oneCertificate, keyPEM: TestCertificates.twoKey)
        }
        #expect(throws: QUICError.self) { try QUICTrust(.pem([])) }
        #expect(QUICServerCredentials.pin(certificatePEM: []) == nil)
    }
}
