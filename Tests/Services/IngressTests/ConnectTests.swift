import DevicePlane
import DevicePlaneKit
import DeviceProtocol
import Domain
import Fleet
import Ingress
import Testing

@Suite struct ConnectTests {
    @Test func aConnFromClientToDevice() throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send(Array((request("example.com:443") + "early").utf8))
        world.run { device.opens.count == 1 }
        #expect(device.opens.first?.target == "example.com:443")
        #expect(client.received.isEmpty, "the answer waits for the device")
        let id = try #require(device.opens.first?.connID)
        world.run { world.harness.dataLoops[0].pending[id] != nil }
        try world.harness.dataLoops[0].streamArrives(for: id)
        world.run { client.text.hasSuffix("\r\n\r\n") }
        #expect(client.text.hasPrefix("HTTP/1.1 200 OK\r\nDate: "))
        #expect(client.text.contains("\r\nPop-Device: d\r\n"))
        #expect(client.text.contains("\r\nPop-Conn-Id: \(id)\r\n"))
        #expect(!client.text.contains("Content-Length"), "a tunnel has no length (RFC 9110 section 9.3.6)")
        #expect(world.harness.dataLoops[0].early[id] == Array("early".utf8))
        #expect(world.harness.plane.conn(id)?.clientProtocol == .http)
        #expect(world.metric(#"pop_ingress_requests_total{protocol="http",outcome="succeeded"}"#) == 1)
    }

    @Test func aRequestByteByByte() throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        for byte in request("example.com:443").utf8 {
            client.send([byte])
            world.harness.settle()
        }
        world.run { device.opens.count == 1 }
    }

    @Test(arguments: OpenError.allCases)
    func aDevicesFailureIsAnAnswer(_ error: OpenError) throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send(Array(request("example.com:443").utf8))
        world.run { device.opens.count == 1 }
        let id = try #require(device.opens.first?.connID)
        device.send(.commandResponse(CommandResponse(connID: id, success: false, errorCode: error)))
        world.run { client.hasPeerFinished }
        let statuses = [502, 502, 502, 502, 502, 504, 403, 503, 502, 502]
        let errors = [
            "proxy_internal_error", "dns_error", "connection_refused", "destination_ip_unroutable",
            "destination_ip_unroutable", "connection_timeout", "destination_ip_prohibited",
            "connection_limit_reached", "proxy_internal_error", "proxy_internal_error",
        ]
        let index = Int(error.rawValue)
        #expect(client.text.hasPrefix("HTTP/1.1 \(statuses[index]) "))
        #expect(client.text.contains("\r\nProxy-Status: pop-node; error=\(errors[index]); details="))
        #expect(client.text.contains("\r\nContent-Type: application/problem+json\r\n"))
        #expect(client.text.contains("\r\nConnection: close\r\n"))
        #expect(client.text.contains(#""status":\#(statuses[index])"#))
    }

    @Test func noDevice() throws {
        let world = try IngressWorld()
        let client = try world.connect()
        client.send(Array(request("example.com:443").utf8))
        world.run { client.text.hasSuffix("}") }
        #expect(client.text.hasPrefix("HTTP/1.1 503 Service Unavailable\r\n"))
        #expect(client.text.contains(#""code":"no_device""#))
        #expect(client.text.contains("Proxy-Status: pop-node; error=destination_unavailable;"))
        #expect(world.metric(#"pop_ingress_requests_total{protocol="http",outcome="no_device"}"#) == 1)
        // The connection is still good, for when a device is there.
        let device = try world.joinDevice("d", dataLoop: 0)
        client.send(Array(request("example.com:443").utf8))
        world.run { device.opens.count == 1 }
    }

    @Test(arguments: ["10.0.0.1:80", "[::1]:80", "169.254.169.254:80"])
    func privateTargetsAreRefused(_ target: String) throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send(Array(request(target).utf8))
        world.run { client.text.hasSuffix("}") }
        #expect(client.text.hasPrefix("HTTP/1.1 403 Forbidden\r\n"))
        #expect(device.opens.isEmpty)
    }

    @Test func withoutCredentialsTheClientIsAskedForThem() throws {
        let world = try IngressWorld(authenticator: OneUserAuthenticator())
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send(Array(request("example.com:443").utf8))
        world.run { client.text.hasSuffix("}") }
        #expect(client.text.hasPrefix("HTTP/1.1 407 Proxy Authentication Required\r\n"))
        #expect(client.text.contains("\r\nProxy-Authenticate: Basic realm=\"pop\""))
        #expect(!client.text.contains("Connection: close"))
        client.received = []
        client.send(Array(request("example.com:443", basic("alice:wrong")).utf8))
        world.run { client.text.hasSuffix("}") }
        #expect(client.text.hasPrefix("HTTP/1.1 407 "))
        #expect(world.metric("pop_ingress_failed_logins_total") == 1)
        client.send(Array(request("example.com:443", basic("alice:right")).utf8))
        world.run { device.opens.count == 1 }
        let id = try #require(device.opens.first?.connID)
        #expect(world.harness.plane.conn(id)?.user == "alice")
    }

    @Test(arguments: [
        ("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 405),
        ("CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n\r\n", 400),
        ("CONNECT / HTTP/1.1\r\nHost: example.com\r\n\r\n", 400),
        ("CONNECT example.com:443 HTTP/1.1\r\n\r\n", 400),
        ("CONNECT example.com:443 HTTP/3.0\r\n\r\n", 505),
    ])
    func whatIsNoTunnelIsToldSo(_ text: String, _ status: Int) throws {
        let world = try IngressWorld()
        _ = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send(Array(text.utf8))
        world.run { client.text.hasSuffix("}") }
        #expect(client.text.hasPrefix("HTTP/1.1 \(status) "))
        #expect(client.text.contains("Proxy-Status: pop-node; error=http_request_error;"))
        #expect(client.text.contains("\r\nAllow: CONNECT\r\n") == (status == 405))
    }

    @Test func aClientThatStopsInItsRequestIsTold() throws {
        let world = try IngressWorld { $0.handshakeTimeout = .milliseconds(20) }
        let client = try world.connect()
        client.send(Array("CONNECT exam".utf8))
        world.run { client.hasPeerFinished }
        #expect(client.text.hasPrefix("HTTP/1.1 408 Request Timeout\r\n"))
        #expect(world.metric(#"pop_ingress_failed_handshakes_total{cause="timed_out"}"#) == 1)
    }

    @Test func aClientThatIsTurnedAwayLearnsWhyInBothProtocols() throws {
        for (refusal, code, status) in [
            (IngressRefusal.heldUp(.seconds(3)), UInt8(2), 429), (.unavailable, 1, 503),
        ] {
            let world = try IngressWorld(authenticator: RefusingAuthenticator(refusal))
            _ = try world.joinDevice("d", dataLoop: 0)
            let socks = try world.connect()
            socks.send([5, 1, 2, 1, 1, 0x61, 1, 0x78, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80])
            world.run { socks.hasPeerFinished }
            #expect(socks.received == [5, 2, 1, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0])
            let http = try world.connect()
            http.send(Array(request("example.com:443", basic("a:x")).utf8))
            world.run { http.text.hasSuffix("}") }
            #expect(http.text.hasPrefix("HTTP/1.1 \(status) "))
            #expect(http.text.contains("\r\nRetry-After: "))
        }
    }
}

private func request(_ target: String, _ fields: String = "") -> String {
    "CONNECT \(target) HTTP/1.1\r\nHost: \(target)\r\n\(fields)\r\n"
}

private func basic(_ credentials: String) -> String {
    "Proxy-Authorization: Basic \(Base64.encode(Array(credentials.utf8)))\r\n"
}

private final class OneUserAuthenticator: IngressAuthenticator {
    let requiresPassword = true

    func authenticate(_ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void) {
        let isRight = credential.username == "alice" && credential.password == Array("right".utf8)
        answer(isRight ? .admitted(IngressGrant(user: "alice")) : .refused)
    }
}

private final class RefusingAuthenticator: IngressAuthenticator {
    let requiresPassword = true
    private let refusal: IngressRefusal

    init(_ refusal: IngressRefusal) { self.refusal = refusal }

    func authenticate(_ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void) {
        answer(.turnedAway(refusal))
    }
}
