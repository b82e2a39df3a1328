import ControlWire
import DevicePlane
import DevicePlaneKit
import DeviceProtocol
import Domain
import EventLoop
import Fleet
import Logging
import TLS
import TestKit
import Testing

@Suite struct ControlListenerTests {
    // MARK: Before the upgrade

    @Test func theHandshakeOfTheRFC() throws {
        let world = try ListenerWorld()
        let device = try world.upgraded()
        #expect(device.head.lowercased().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="))
        #expect(device.head.lowercased().contains("sec-websocket-protocol: pop.control.v1"))
    }

    @Test(
        arguments: [
            (ForeignDevice.handshake(path: "/"), 404, ""),
            (ForeignDevice.handshake(path: "/v1/control/"), 404, ""),
            (ForeignDevice.handshake(path: "/v1/nodes"), 404, ""),
            (ForeignDevice.handshake(path: "/v1/control?x=1"), 101, ""),
            (ForeignDevice.handshake(method: "POST", adding: ["Content-Length: 0"]), 405, "allow: get"),
            (ForeignDevice.handshake(without: "Upgrade"), 426, "upgrade: websocket"),
            (ForeignDevice.handshake(without: "Sec-WebSocket-Key"), 400, ""),
            (
                ForeignDevice.handshake(
                    without: "Sec-WebSocket-Version", adding: ["Sec-WebSocket-Version: 8"]), 426,
                "sec-websocket-version: 13"
            ),
            (ForeignDevice.handshake(without: "Sec-WebSocket-Protocol"), 400, ""),
            (
                ForeignDevice.handshake(
                    without: "Sec-WebSocket-Protocol", adding: ["Sec-WebSocket-Protocol: pop.control.v2"]),
                400, ""
            ),
            (
                ForeignDevice.handshake(
                    without: "Sec-WebSocket-Protocol", adding: ["Sec-WebSocket-Protocol: a, pop.control.v1"]),
                101, "sec-websocket-protocol: pop.control.v1"
            ),
            // Content of strangers is not read.
            (ForeignDevice.handshake(path: "/", adding: ["Content-Length: 9"]), 404, "connection: close"),
            (ForeignDevice.handshake(adding: ["Content-Length: 9"]), 400, "connection: close"),
            (
                ForeignDevice.handshake(method: "POST", adding: ["Transfer-Encoding: chunked"]), 405,
                "connection: close"
            ),
            ("nonsense\r\n\r\n", 400, ""),
        ])
    func whatIsAskedFor(_ request: String, _ status: Int, _ field: String) throws {
        let world = try ListenerWorld()
        let device = try world.connect()
        device.write(request)
        world.run { device.status != nil }
        #expect(device.status == status)
        if !field.isEmpty { #expect(device.head.lowercased().contains(field)) }
    }

    @Test(
        arguments: [
            ([], 401), (["Authorization: Bearer wrong"], 401), (["Authorization: Basic right"], 401),
            (["Authorization: Bearer right", "Authorization: Bearer right"], 400),
            (["Authorization: Bearer down"], 503), (["Authorization: bearer right"], 101),
        ] as [([String], Int)])
    func tokens(_ lines: [String], _ status: Int) throws {
        let world = try ListenerWorld(authenticator: TokenAuthenticator())
        let device = try world.connect()
        device.write(ForeignDevice.handshake(adding: lines))
        world.run { device.status != nil }
        #expect(device.status == status)
        if status == 401 { #expect(device.head.lowercased().contains("www-authenticate: bearer")) }
        if status == 503 { #expect(device.head.lowercased().contains("retry-after: 7")) }
    }

    @Test func aTokenNamesItsDevice() throws {
        let world = try ListenerWorld(authenticator: TokenAuthenticator())
        let device = try world.connect()
        device.write(ForeignDevice.handshake(adding: ["Authorization: Bearer right"]))
        world.run { device.isUpgraded }
        device.send(.registerRequest(RegisterRequest(deviceID: "another")))
        world.run { device.closeCode != nil }
        #expect(device.response?.status == .forbidden)
        #expect(device.closeCode == 4003)
    }

    // MARK: A session

    @Test func aSessionOverTLS() throws {
        let world = try ListenerWorld(usesTLS: true)
        let device = try world.upgraded()
        device.send(.registerRequest(RegisterRequest(deviceID: "d", location: "eu")))
        world.run { device.response != nil }
        let response = try #require(device.response)
        #expect(response.status == .ok)
        let data = world.harness.dataLoops[0].hello(
            sessionID: response.sessionID, dataToken: response.dataToken)
        world.run { world.harness.dataLoops[0].accepted.contains(data) }
        let name = try #require(DeviceID("d"))
        #expect(world.harness.plane.session(of: name)?.health == .whole)
        device.send(.heartbeat(Heartbeat(sequence: 9, sentAtUnixMilliseconds: 1)))
        world.run { world.harness.plane.session(of: name)?.roundTripMilliseconds != nil }
        #expect(world.harness.plane.session(of: name)?.roundTripMilliseconds != nil)
        guard case .heartbeatAck(let ack)? = device.messages.last else {
            Issue.record("no ack")
            return
        }
        #expect(ack.sequence == 9)
        device.send(.goodbye(reason: "done"))
        world.run { device.closeCode != nil && !world.harness.observer.ended.isEmpty }
        #expect(device.closeCode == 1000)
        #expect(world.harness.observer.ended.map(\.reason) == [.goodbye])
    }

    @Test func aRegistrationSplitAtEveryByte() throws {
        let bytes = ForeignDevice.encoded(.registerRequest(RegisterRequest(deviceID: "d")))
        for cut in 1..<bytes.count {
            let world = try ListenerWorld()
            let device = try world.upgraded()
            device.write(Array(bytes[..<cut]))
            world.harness.settle()
            device.write(Array(bytes[cut...]))
            world.run { device.response != nil }
            #expect(device.response?.status == .ok, "cut at \(cut)")
        }
    }

    @Test func aRegistrationInFragmentsBehindTheHandshake() throws {
        let world = try ListenerWorld()
        let device = try world.connect()
        let whole = ControlFraming.encode(
            ControlCodec.encode(.registerRequest(RegisterRequest(deviceID: "d"))))
        device.write(
            Array(ForeignDevice.handshake().utf8)
                + ForeignDevice.frame(2, Array(whole.prefix(3)), isFinal: false)
                + ForeignDevice.frame(9, [1, 2, 3])
                + ForeignDevice.frame(0, Array(whole.dropFirst(3))))
        world.run { device.response != nil }
        #expect(device.response?.status == .ok)
    }

    @Test(
        arguments: [
            (ForeignDevice.frame(1, Array("text".utf8)), 1003),
            (ForeignDevice.frame(2, []), 1002),
            (ForeignDevice.frame(2, [0, 0, 0]), 1002),
            (ForeignDevice.frame(2, [0, 0, 0, 9, 1]), 1002),
            (ForeignDevice.frame(2, [0, 1, 0, 1]), 1009),
            (ForeignDevice.frame(2, [0, 0, 0, 2, 0x0a, 0x7f]), 1007),
            ([0x82, 0x05, 0, 0, 0, 1, 0], 1002),
            ([0xf2, 0x80, 1, 1, 1, 1], 1002),
            ([0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4], 1009),
            (ForeignDevice.encoded(.heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: 1))), 1008),
            (ForeignDevice.encoded(.registerRequest(RegisterRequest(deviceID: ""))), 1008),
        ] as [([UInt8], UInt16)])
    func whatBreaksTheRules(_ bytes: [UInt8], _ code: UInt16) throws {
        let world = try ListenerWorld()
        let device = try world.upgraded()
        device.write(bytes)
        world.run { device.closeCode != nil }
        #expect(device.closeCode == code)
        world.run { device.hasPeerFinished || device.isEnded }
        #expect(world.harness.plane.controlCount == 0)
    }

    @Test func theLargestMessageIsTaken() throws {
        let world = try ListenerWorld()
        let device = try world.upgraded()
        device.send(.registerRequest(RegisterRequest(deviceID: "d")))
        world.run { device.response != nil }
        // An unknown field that fills a message of 64 KiB to the last byte: tag 15, its length, the bytes.
        let filler = [0x7a, 0xfc, 0xff, 0x03] + [UInt8](repeating: 0, count: 65_532)
        #expect(filler.count == 65_536)
        device.write(ForeignDevice.frame(2, [0, 1, 0, 0] + filler))
        device.send(.heartbeat(Heartbeat(sequence: 3, sentAtUnixMilliseconds: 1)))
        world.run { device.messages.count == 2 || device.closeCode != nil }
        #expect(device.closeCode == nil)
    }

    @Test func aCutConnectionIsControlLost() throws {
        let world = try ListenerWorld()
        let device = try world.upgraded()
        device.send(.registerRequest(RegisterRequest(deviceID: "d")))
        world.run { device.response != nil }
        device.cut()
        let name = try #require(DeviceID("d"))
        world.run { world.harness.plane.session(of: name)?.health == .dataOnly }
        #expect(world.harness.plane.session(of: name)?.health == .dataOnly)
        #expect(world.harness.plane.controlCount == 0)
    }

    @Test func aDevicesOwnCloseIsAnswered() throws {
        let world = try ListenerWorld()
        let device = try world.upgraded()
        device.write(ForeignDevice.frame(8, [0x03, 0xe8]))
        world.run { device.closeCode != nil }
        #expect(device.closeCode == 1000)
        world.run { device.hasPeerFinished || device.isEnded }
        #expect(world.harness.plane.controlCount == 0)
    }

    @Test func anOperatorsDisconnectIsSeen() throws {
        let world = try ListenerWorld()
        let device = try world.upgraded()
        device.send(.registerRequest(RegisterRequest(deviceID: "d")))
        world.run { device.response != nil }
        #expect(world.harness.plane.disconnect(try #require(DeviceID("d"))))
        world.run { device.closeCode != nil }
        #expect(device.closeCode == 4010)
    }

    @Test func silenceIsClosed() throws {
        let world = try ListenerWorld { $0.heartbeatTimeout = .milliseconds(50) }
        let silent = try world.upgraded()
        world.run { silent.closeCode != nil }
        #expect(silent.closeCode == 4008)
        let device = try world.upgraded()
        device.send(.registerRequest(RegisterRequest(deviceID: "d")))
        world.run { device.closeCode != nil }
        #expect(device.response?.status == .ok)
        #expect(device.closeCode == 4008)
        world.run { !world.harness.observer.ended.isEmpty }
        #expect(world.harness.observer.ended.map(\.reason) == [.heartbeatLost])
    }
}

/// A listener before a plane with stand-in data loops.
private final class ListenerWorld {
    let harness: PlaneHarness
    let listener: ControlListener
    let clientTLS: TLSContext?

    init(
        authenticator: any DeviceAuthenticator = OpenDeviceAuthenticator(), usesTLS: Bool = false,
        _ change: (inout FleetConfiguration) -> Void = { _ in }
    ) throws {
        harness = try PlaneHarness(change)
        var serverTLS: TLSContext?
        if usesTLS {
            serverTLS = try TLSContext.server(identity: try SelfSignedCertificate.make(hosts: ["127.0.0.1"]))
            clientTLS = try TLSContext.client(trust: .nobodyVerified)
        } else {
            clientTLS = nil
        }
        listener = try ControlListener(
            on: harness.loop, bind: loopback, tls: serverTLS, plane: harness.plane,
            authenticator: authenticator, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    func connect() throws -> ForeignDevice {
        let device = ForeignDevice(on: harness.loop, to: listener.address, tls: clientTLS)
        run { device.isOpen || device.isEnded }
        try #require(device.isOpen)
        return device
    }

    func upgraded() throws -> ForeignDevice {
        let device = try connect()
        device.write(ForeignDevice.handshake())
        run { device.isUpgraded || device.isEnded }
        try #require(device.isUpgraded)
        return device
    }

    func run(_ isDone: () -> Bool) {
        harness.loop.run(until: isDone)
    }
}

/// Knows one token, of the device `mine`, and one that it can't judge now.
private final class TokenAuthenticator: DeviceAuthenticator {
    func authenticate(_ credential: DeviceCredential, answer: @escaping (DeviceAdmission) -> Void) {
        switch credential.bearerToken {
        case "right": answer(.admitted(DeviceID("mine")))
        case "down": answer(.unavailable(retryAfter: .seconds(7)))
        default: answer(.refused)
        }
    }
}
