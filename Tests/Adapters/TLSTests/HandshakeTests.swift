import Domain
import EventLoop
import TLS
import TestKit
import Testing

@Suite struct HandshakeTests {
    @Test func `a certificate for the host opens both sides with TLS 1.3`() throws {
        let pair = try TLSPair.trusting()
        #expect(pair.client.version == "TLSv1.3" && pair.server.version == "TLSv1.3")
        #expect(pair.client.peerCertificate?.commonName == "node.test")
        #expect(pair.server.peerCertificate == nil)
        #expect(pair.client.applicationProtocol == nil)
        #expect(pair.isInOrder)
    }

    @Test func `an IP literal is verified against the certificate's addresses`() throws {
        for host in ["127.0.0.1", "::1"] {
            let identity = try SelfSignedCertificate.make(hosts: ["node.test", host])
            let pair = try TLSPair(
                server: .server(identity: identity),
                client: .client(trust: .certificates(pem: identity.certificateChainPEM)), host: host)
            #expect(pair.runUntilOpen())
        }
    }

    @Test(arguments: ["other.test", "127.0.0.2", "sub.node.test", "::2"])
    func `a certificate for another host is refused`(host: String) throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test", "127.0.0.1", "::1"])
        let pair = try TLSPair(
            server: .server(identity: identity),
            client: .client(trust: .certificates(pem: identity.certificateChainPEM)), host: host)
        #expect(pair.runUntilEnded())
        guard case .certificateRefused = reason(pair.clientEvents) else {
            Issue.record("ended with \(String(describing: pair.clientEvents.error))")
            return
        }
        #expect(!pair.clientEvents.isOpen && pair.clientEvents.faults.isEmpty)
        #expect(pair.serverEvents.error is TLSError)
    }

    @Test func `a wildcard covers one label`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["*.pop.test"])
        let context = try TLSContext.client(trust: .certificates(pem: identity.certificateChainPEM))
        let server = try TLSContext.server(identity: identity)
        #expect(try TLSPair(server: server, client: context, host: "a.pop.test").runUntilOpen())
        #expect(try TLSPair(server: server, client: context, host: "a.pop.test.").runUntilOpen())
        let pair = try TLSPair(server: server, client: context, host: "a.b.pop.test")
        #expect(pair.runUntilEnded())
    }

    @Test func `an unknown authority is refused and the server learns it by alert`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let other = try SelfSignedCertificate.make(hosts: ["node.test"])
        let pair = try TLSPair(
            server: .server(identity: identity),
            client: .client(trust: .certificates(pem: other.certificateChainPEM)))
        #expect(pair.runUntilEnded())
        guard case .certificateRefused = reason(pair.clientEvents) else {
            Issue.record("ended with \(String(describing: pair.clientEvents.error))")
            return
        }
        let told = try #require(pair.serverEvents.error as? TLSError)
        #expect(told.description.contains("alert"), "\(told)")
    }

    @Test func `the system's trust does not cover a self-signed certificate`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let pair = try TLSPair(server: .server(identity: identity), client: .client())
        #expect(pair.runUntilEnded())
        #expect(!pair.clientEvents.isOpen)
    }

    @Test func `an expired certificate is refused and so is one not valid yet`() throws {
        let now = SystemClock.wall
        let day: Int64 = 86_400_000
        for begins in [now.milliseconds - 3 * day, now.milliseconds + day] {
            let identity = try SelfSignedCertificate.make(
                hosts: ["node.test"], validFor: .seconds(86_400), from: WallTime(milliseconds: begins))
            let pair = try TLSPair(
                server: .server(identity: identity),
                client: .client(trust: .certificates(pem: identity.certificateChainPEM)))
            #expect(pair.runUntilEnded())
            guard case .certificateRefused = reason(pair.clientEvents) else {
                Issue.record("ended with \(String(describing: pair.clientEvents.error))")
                return
            }
        }
    }

    @Test func `a client that verifies nobody connects to anybody`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["other.test"])
        for host in ["node.test", "127.0.0.1"] {
            let pair = try TLSPair(
                server: .server(identity: identity), client: .client(trust: .nobodyVerified), host: host)
            #expect(pair.runUntilOpen())
        }
    }

    @Test func `a name that can't be a host ends the client`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let pair = try TLSPair(
            server: .server(identity: identity), client: .client(trust: .nobodyVerified), host: "no host")
        #expect(pair.loop.run { pair.clientEvents.isEnded })
        #expect(reason(pair.clientEvents) == .configuration)
    }

    @Test func `the server's first protocol that is offered is chosen`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let server = try TLSContext.server(identity: identity, applicationProtocols: ["b", "http/1.1"])
        let client = try TLSContext.client(
            trust: .nobodyVerified, applicationProtocols: ["h2", "http/1.1", "b"])
        let pair = try TLSPair(server: server, client: client)
        #expect(pair.runUntilOpen())
        #expect(pair.client.applicationProtocol == "b" && pair.server.applicationProtocol == "b")
        let silent = try TLSPair(server: server, client: .client(trust: .nobodyVerified))
        #expect(silent.runUntilOpen())
        #expect(silent.server.applicationProtocol == nil)
    }

    @Test func `a client that offers only other protocols is refused`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let pair = try TLSPair(
            server: .server(identity: identity, applicationProtocols: ["http/1.1"]),
            client: .client(trust: .nobodyVerified, applicationProtocols: ["h2"]))
        #expect(pair.runUntilEnded())
        #expect(reason(pair.serverEvents) == .handshakeFailed)
        #expect(reason(pair.clientEvents) == .handshakeFailed)
    }

    @Test func `a client's certificate is verified and tells who it is`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let device = try SelfSignedCertificate.make(hosts: ["device-7", "10.0.0.7"])
        let server = try TLSContext.server(
            identity: identity, clientAuthoritiesPEM: device.certificateChainPEM)
        let pair = try TLSPair(
            server: server, client: .client(trust: .nobodyVerified, identity: device))
        #expect(pair.runUntilOpen())
        let shown = try #require(pair.server.peerCertificate)
        #expect(shown.commonName == "device-7" && shown.subject == "CN=device-7")
        #expect(shown.alternativeNames == [.dns("device-7"), .ip(.v4(IPv4Address(0x0a00_0007)))])
        #expect(
            try pair.server.peerCertificateSHA256 == X509Certificate(pem: device.certificateChainPEM).sha256)
    }

    @Test func `a server that wants certificates refuses a client without one and with a foreign one`() throws
    {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let device = try SelfSignedCertificate.make(hosts: ["device-7"])
        let foreign = try SelfSignedCertificate.make(hosts: ["device-7"])
        let server = try TLSContext.server(
            identity: identity, clientAuthoritiesPEM: device.certificateChainPEM)
        for shown in [nil, foreign] {
            let pair = try TLSPair(server: server, client: .client(trust: .nobodyVerified, identity: shown))
            #expect(pair.runUntilEnded())
            #expect(!pair.serverEvents.isOpen)
            // In TLS 1.3 the client's handshake is over before the server has looked at its certificate.
            let told = try #require(pair.clientEvents.error as? TLSError)
            #expect(told.description.contains("alert"), "\(told)")
        }
    }

    @Test func `new connections take a renewed certificate and open ones live on`() throws {
        let old = try SelfSignedCertificate.make(hosts: ["node.test"])
        let renewed = try SelfSignedCertificate.make(hosts: ["node.test"])
        let trust = TLSContext.Trust.certificates(pem: old.certificateChainPEM + renewed.certificateChainPEM)
        let client = try TLSContext.client(trust: trust)
        let first = try TLSPair(server: .server(identity: old), client: client)
        #expect(first.runUntilOpen())
        let second = try TLSPair(server: .server(identity: renewed), client: client)
        #expect(second.runUntilOpen())
        #expect(first.client.peerCertificate != second.client.peerCertificate)
        first.client.write([1, 2, 3])
        #expect(first.loop.run { first.serverEvents.received == [1, 2, 3] })
    }

    @Test(arguments: [
        Array("GET / HTTP/1.1\r\n\r\n".utf8), [0x16, 0x03, 0x01, 0xff, 0xff, 0x01], [0], pattern(70_000),
        [0x15, 0x03, 0x03, 0, 2, 2, 40],
    ])
    func `bytes that are no handshake end the connection`(bytes: [UInt8]) throws {
        let loop = try EventLoop()
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let context = try TLSContext.server(identity: identity)
        let server = StreamRecorder()
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            _ = try? TLSStream.accept(on: loop, descriptor, peer: peer, context: context, handler: server)
        }
        let client = StreamRecorder()
        let stream = TCPStream.connect(on: loop, to: listener.address, timeout: .seconds(5), handler: client)
        stream.write(bytes)
        stream.finishWriting()
        #expect(loop.run { server.isEnded && (client.hasPeerFinished || client.isEnded) })
        #expect(reason(server) == .handshakeFailed && !server.isOpen)
        listener.close()
    }

    @Test func `a silent peer is given up after the handshake's time`() throws {
        let loop = try EventLoop()
        let context = try TLSContext.server(identity: SelfSignedCertificate.make(hosts: ["node.test"]))
        let server = StreamRecorder()
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            _ = try? TLSStream.accept(
                on: loop, descriptor, peer: peer, context: context, handshakeTimeout: .milliseconds(30),
                handler: server)
        }
        let client = StreamRecorder()
        _ = TCPStream.connect(on: loop, to: listener.address, timeout: .seconds(5), handler: client)
        #expect(loop.run { server.isEnded && client.hasPeerFinished })
        #expect(reason(server) == .handshakeTimedOut)
    }

    @Test func `a refused connection ends with the error of connect`() throws {
        let loop = try EventLoop()
        let listener = try Listener(on: loop, loopback) { descriptor, _ in Sockets.close(descriptor) }
        let address = listener.address
        listener.close()
        let events = StreamRecorder()
        _ = TLSStream.connect(
            on: loop, to: address, host: "node.test", context: try .client(trust: .nobodyVerified),
            handler: events)
        #expect(loop.run { events.isEnded })
        guard case .connectFailed(let cause) = events.error as? StreamError else {
            Issue.record("ended with \(String(describing: events.error))")
            return
        }
        #expect(cause.errorNumber == Errno.connectionRefused)
    }

    @Test func `unusable material is told with OpenSSL's reasons`() throws {
        let first = try SelfSignedCertificate.make(hosts: ["node.test"])
        let second = try SelfSignedCertificate.make(hosts: ["node.test"])
        let mixed = TLSIdentity(
            certificateChainPEM: first.certificateChainPEM, privateKeyPEM: second.privateKeyPEM)
        let broken = TLSIdentity(certificateChainPEM: Array("nonsense".utf8), privateKeyPEM: [])
        for identity in [mixed, broken] {
            do {
                _ = try TLSContext.server(identity: identity)
                Issue.record("was accepted")
            } catch {
                #expect(error.reason == .configuration && !error.stack.isEmpty)
            }
        }
        do {
            _ = try TLSIdentity(certificateFile: "/nonexistent/cert.pem", keyFile: "/nonexistent/key.pem")
            Issue.record("was read")
        } catch {
            #expect(error.description.contains("/nonexistent/cert.pem"))
        }
        #expect(throws: TLSError.self) { try TLSContext.client(trust: .certificates(pem: [])) }
        #expect(throws: TLSError.self) { try SelfSignedCertificate.make(hosts: ["a,DNS:b"]) }
        #expect(throws: TLSError.self) { try SelfSignedCertificate.make(hosts: []) }
    }

    @Test func `a made certificate says what was asked for`() throws {
        let begins = WallTime(milliseconds: 1_700_000_000_000)
        let identity = try SelfSignedCertificate.make(
            hosts: ["node.test", "::1", "127.0.0.1"], validFor: .seconds(1_000), from: begins)
        let certificate = try X509Certificate(pem: identity.certificateChainPEM)
        #expect(certificate.validity?.begins == begins)
        #expect(certificate.validity?.ends == WallTime(milliseconds: 1_700_001_000_000))
        #expect(
            certificate.alternativeNames == [
                .dns("node.test"), .ip(.v6(IPv6Address(high: 0, low: 1))), .ip(.v4(IPv4Address(0x7f00_0001))),
            ])
        #expect(certificate.sha256.count == 32)
        let long = String(repeating: "a", count: 63) + "." + String(repeating: "b", count: 63)
        #expect(
            try X509Certificate(pem: SelfSignedCertificate.make(hosts: [long]).certificateChainPEM)
                .alternativeNames == [.dns(long)])
    }
}
