import DevicePlane
import DevicePlaneKit
import DeviceProtocol
import Domain
import EventLoop
import Fleet
import Ingress
import Testing

@Suite struct IngressTests {
    @Test func aConnFromClientToDevice() throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0] + connect("example.com", 443) + Array("early".utf8))
        world.run { device.opens.count == 1 }
        #expect(device.opens.first?.target == "example.com:443")
        world.run { !client.received.isEmpty }
        #expect(client.received == [5, 0], "the reply waits for the device")
        let id = try #require(device.opens.first?.connID)
        world.run { world.harness.dataLoops[0].pending[id] != nil }
        try world.harness.dataLoops[0].streamArrives(for: id)
        world.run { client.received.count == 12 }
        #expect(client.received == [5, 0] + reply(0))
        #expect(world.harness.dataLoops[0].early[id] == Array("early".utf8))
        let conn = try #require(world.harness.plane.conn(id))
        #expect(conn.state == .open)
        #expect(conn.target.description == "example.com:443")
        #expect(conn.resolvedAddress == "192.0.2.9:80")
        #expect(conn.user == nil)
        #expect(world.harness.plane.closeConn(id))
        world.run { client.isEnded }
        #expect(world.harness.observer.endedConns.map(\.reason) == [.admin])
        #expect(world.harness.observer.endedConns.first?.conn.bytesSent == 11)
        #expect(world.ingress.waitingClients == 0)
        #expect(world.metric(#"pop_ingress_requests_total{protocol="socks5",outcome="succeeded"}"#) == 1)
        #expect(world.metric(#"pop_ingress_connect_seconds_count{protocol="socks5"}"#) == 1)
        #expect(world.metric("pop_ingress_placed_total") == 1)
    }

    @Test(arguments: OpenError.allCases)
    func aDevicesFailureIsAReply(_ error: OpenError) throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0] + connect("example.com", 443))
        world.run { device.opens.count == 1 }
        let id = try #require(device.opens.first?.connID)
        device.send(.commandResponse(CommandResponse(connID: id, success: false, errorCode: error)))
        world.run { client.hasPeerFinished }
        let codes: [UInt8] = [1, 4, 5, 4, 3, 6, 2, 1, 7, 1]
        let outcomes = [
            "failed", "dns_failure", "connection_refused", "host_unreachable", "network_unreachable",
            "timed_out", "denied", "capacity", "unsupported", "failed",
        ]
        let outcome = outcomes[Int(error.rawValue)]
        #expect(world.metric("pop_ingress_requests_total{protocol=\"socks5\",outcome=\"\(outcome)\"}") == 1)
        #expect(client.received == [5, 0] + reply(codes[Int(error.rawValue)]))
        #expect(world.harness.observer.endedConns.map(\.reason) == [.error])
    }

    @Test func aSilentDeviceIsATimeout() throws {
        let world = try IngressWorld { $0.connectTimeout = .milliseconds(20) }
        _ = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0] + connect("example.com", 443))
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 0] + reply(6))
    }

    @Test(arguments: [0, 1]) func aFullDeviceHandsOverToAnother(_ otherLoop: Int) throws {
        let world = try IngressWorld()
        let devices = [
            try world.joinDevice("a", dataLoop: 0), try world.joinDevice("b", dataLoop: otherLoop),
        ]
        let client = try world.connect()
        client.send([5, 1, 0] + connect("example.com", 443))
        world.run { devices.contains { $0.opens.count == 1 } }
        let first = try #require(devices.first { $0.opens.count == 1 })
        let second = try #require(devices.first { $0.opens.isEmpty })
        let id = try #require(first.opens.first?.connID)
        first.send(.commandResponse(CommandResponse(connID: id, success: false, errorCode: .capacity)))
        world.run { second.opens.count == 1 }
        #expect(second.opens.first?.connID == id)
        world.run { world.harness.dataLoops.contains { $0.pending[id] != nil } }
        for dataLoop in world.harness.dataLoops { try dataLoop.streamArrives(for: id) }
        world.run { client.received.count == 12 }
        #expect(client.received == [5, 0] + reply(0))
    }

    @Test func noDevice() throws {
        let world = try IngressWorld()
        let client = try world.connect()
        client.send([5, 1, 0] + connect("example.com", 443))
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 0] + reply(1))
        #expect(world.metric(#"pop_ingress_requests_total{protocol="socks5",outcome="no_device"}"#) == 1)
        #expect(world.metric("pop_ingress_no_device_total") == 1)
    }

    @Test(arguments: [
        [5, 1, 0, 1, 10, 0, 0, 1, 0, 80], [5, 1, 0, 1, 127, 0, 0, 1, 0, 80],
        connect("169.254.169.254", 80), connect("::ffff:10.0.0.1", 80),
    ])
    func privateTargetsAreRefused(_ request: [UInt8]) throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0] + request)
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 0] + reply(2))
        #expect(device.opens.isEmpty)
        #expect(world.metric(#"pop_ingress_requests_total{protocol="socks5",outcome="denied"}"#) == 1)
    }

    @Test func privateTargetsMayBeAllowed() throws {
        let world = try IngressWorld { $0.allowsPrivateTargets = true }
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0, 5, 1, 0, 1, 10, 0, 0, 1, 0, 80])
        world.run { device.opens.count == 1 }
        #expect(device.opens.first?.target == "10.0.0.1:80")
    }

    @Test func bindIsNotSupported() throws {
        let world = try IngressWorld()
        _ = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0, 5, 2, 0, 1, 192, 0, 2, 1, 0, 80])
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 0] + reply(7))
    }

    @Test func anAssociationNeedsADeviceThatCarriesDatagrams() throws {
        let world = try IngressWorld()
        _ = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 0] + reply(1))
    }

    @Test func anyPasswordWillDoWithoutAuthenticationAndTheParametersApply() throws {
        let world = try IngressWorld()
        _ = try world.joinDevice("other", dataLoop: 0)
        let device = try world.joinDevice("dev-7", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 2, 0, 2] + login("bob-device-dev_7") + connect("example.com", 80))
        world.run { device.opens.count == 1 }
        let id = try #require(device.opens.first?.connID)
        #expect(world.harness.plane.conn(id)?.user == "bob")
        world.run { client.received.count == 4 }
        #expect(client.received == [5, 2, 1, 0])
    }

    @Test func parametersThatCanNotBeReadAreAFailedLogin() throws {
        let world = try IngressWorld()
        _ = try world.joinDevice("d", dataLoop: 0)
        for name in ["bob-tag-", "bob-colour-red"] {
            let client = try world.connect()
            client.send([5, 1, 2] + login(name) + connect("example.com", 80))
            world.run { client.hasPeerFinished }
            #expect(client.received == [5, 2, 1, 1])
        }
        #expect(world.metric("pop_ingress_failed_logins_total") == 2)
    }

    /// What the database can't keep, or what would forge lines where it is shown, doesn't come in, not even where
    /// any name may.
    @Test(arguments: ["bob\0", "\0", "bob-session-a\0b", "bob\n", "bob\u{7f}"])
    func aNameWithAControlCharacterIsAFailedLogin(name: String) throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 2] + login(name) + connect("example.com", 80))
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 2, 1, 1])
        let http = try world.connect()
        let credentials = Base64.encode(Array("\(name):x".utf8))
        http.send(
            Array(
                "CONNECT example.com:80 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic \(credentials)\r\n\r\n"
                    .utf8))
        world.run { http.text.hasSuffix("}") }
        #expect(http.text.hasPrefix("HTTP/1.1 407 "))
        #expect(device.opens.isEmpty)
    }

    @Test func aWishThatNoDeviceFitsIsNoDevice() throws {
        let world = try IngressWorld()
        _ = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 2] + login("bob-location-mars") + connect("example.com", 80))
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 2, 1, 0] + reply(1))
    }

    @Test func withoutUsersNobodyGetsIn() throws {
        let world = try IngressWorld(authenticator: ClosedAuthenticator())
        let client = try world.connect()
        client.send([5, 2, 0, 2, 1, 1, 0x61, 1, 0x78])
        world.run { client.hasPeerFinished }
        #expect(client.received == [5, 2, 1, 1])
        let anonymous = try world.connect()
        anonymous.send([5, 1, 0])
        world.run { anonymous.hasPeerFinished }
        #expect(anonymous.received == [5, 0xff])
        #expect(world.metric("pop_ingress_failed_logins_total") == 1)
        #expect(world.metric(#"pop_ingress_failed_handshakes_total{cause="login"}"#) == 1)
        #expect(world.metric(#"pop_ingress_failed_handshakes_total{cause="no_method"}"#) == 1)
    }

    @Test func bytesOfNoProtocolAreClosed() throws {
        let world = try IngressWorld()
        let client = try world.connect()
        client.send([0x16, 3, 1])
        world.run { client.hasPeerFinished }
        #expect(client.received.isEmpty)
        world.run { world.ingress.waitingClients == 0 }
        #expect(world.ingress.waitingClients == 0)
        #expect(world.metric(#"pop_ingress_failed_handshakes_total{cause="unknown_protocol"}"#) == 1)
    }

    @Test func aHandshakeByteByByte() throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        for byte in [5, 1, 0] + connect("example.com", 80) {
            client.send([byte])
            world.harness.settle()
        }
        world.run { device.opens.count == 1 }
        #expect(device.opens.count == 1)
    }

    @Test func aClientThatLeavesInItsHandshakeLeavesNothing() throws {
        let world = try IngressWorld()
        for cut in [[], [5], [5, 1, 0], [5, 1, 0, 5, 1]] as [[UInt8]] {
            let client = try world.connect()
            client.send(cut)
            world.run { world.ingress.waitingClients == 1 }
            client.stream?.finishWriting()
            world.run { world.ingress.waitingClients == 0 }
            #expect(world.ingress.waitingClients == 0)
        }
        #expect(world.metric(#"pop_ingress_failed_handshakes_total{cause="closed"}"#) == 4)
    }

    @Test func aClientThatLeavesBeforeItsAnswerHasAbandonedIt() throws {
        let world = try IngressWorld()
        let device = try world.joinDevice("d", dataLoop: 0)
        let client = try world.connect()
        client.send([5, 1, 0] + connect("example.com", 443))
        world.run { device.opens.count == 1 }
        let id = try #require(device.opens.first?.connID)
        world.run { world.harness.dataLoops[0].pending[id] != nil }
        world.harness.dataLoops[0].end(id, .clientReset)
        #expect(world.metric(#"pop_ingress_requests_total{protocol="socks5",outcome="abandoned"}"#) == 1)
    }

    @Test func closingDropsThoseInTheirHandshake() throws {
        let world = try IngressWorld()
        let client = try world.connect()
        world.run { world.ingress.waitingClients == 1 }
        world.ingress.close()
        world.run { client.isEnded }
        #expect(client.isEnded)
        #expect(world.ingress.address == nil)
    }
}

private final class ClosedAuthenticator: IngressAuthenticator {
    let requiresPassword = true

    func authenticate(_ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void) {
        answer(.refused)
    }
}

private func login(_ name: String) -> [UInt8] { [1, UInt8(name.utf8.count)] + Array(name.utf8) + [1, 0x78] }

private func connect(_ host: String, _ port: UInt16) -> [UInt8] {
    [5, 1, 0, 3, UInt8(host.utf8.count)] + Array(host.utf8)
        + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
}

private func reply(_ code: UInt8) -> [UInt8] { [5, code, 0, 1, 0, 0, 0, 0, 0, 0] }
