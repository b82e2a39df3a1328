import DeviceProtocol
import Domain
import Fleet
import TestKit
import Testing

/// A fleet with a clock that tests move, and data loops that do what they are told.
final class FleetHarness {
    var fleet: Fleet
    var moment = Moment(
        now: Instant(nanoseconds: 1_000_000_000_000),
        wall: WallTime(microseconds: 1_800_000_000_000_000))
    var random = SeededRandom(seed: 7)
    /// Everything the fleet has asked for, in order.
    var log: [FleetAction] = []
    private var lastControl: UInt64 = 0
    private var lastData: UInt64 = 0

    init(_ change: (inout FleetConfiguration) -> Void = { _ in }) {
        var configuration = FleetConfiguration(nodeID: Self.nodeID)
        configuration.alternatives = ["wss://other:443"]
        change(&configuration)
        fleet = Fleet(configuration: configuration)
    }

    static let nodeID: NodeID = {
        guard let id = NodeID("node-1") else { fatalError("node-1 is a name") }
        return id
    }()
    static let peer = SocketAddress(ip: .v4(IPv4Address(0xc000_0201)), port: 4_000)
    static let client = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 5_000)

    /// Takes the actions of the last event.
    @discardableResult func drainActions() -> [FleetAction] {
        let actions = fleet.takeActions()
        log += actions
        return actions
    }

    // MARK: What expectations read: they copy what they are given, and a fleet can't be copied.

    var isEmpty: Bool { fleet.isEmpty }
    var nodeState: NodeState { fleet.nodeState }
    var drainSnapshot: DrainSnapshot { fleet.drainSnapshot }
    var sessionCount: Int { fleet.sessionCount }
    var disabledDevices: Set<DeviceID> { fleet.disabledDevices }
    func session(_ id: SessionID) -> SessionSnapshot? { fleet.session(id) }
    var connIDs: [ConnID] { fleet.connSnapshots.map(\.connID) }
    func conn(_ id: ConnID) -> ConnSnapshot? { fleet.conn(id) }
    func disconnect(_ device: DeviceID) -> Bool { fleet.disconnect(device, at: moment) }
    func closeConn(_ id: ConnID, _ reason: CloseReason) -> Bool { fleet.closeConn(id, reason) }

    // MARK: Events

    func advance(_ duration: Duration) {
        moment.now = moment.now + duration
        moment.wall.microseconds += duration.nanoseconds / 1_000
    }

    /// Moves the clock and lets everything happen that is due on the way.
    @discardableResult func pass(_ duration: Duration) -> [FleetAction] {
        let end = moment.now + duration
        while fleet.nextDeadline <= end {
            advance(max(.zero, fleet.nextDeadline - moment.now))
            fleet.expire(at: moment)
        }
        advance(end - moment.now)
        return drainActions()
    }

    /// Moves the clock to what is due next, and lets it happen.
    func step() {
        advance(max(.zero, fleet.nextDeadline - moment.now))
        fleet.expire(at: moment)
    }

    func openControl(identity: DeviceID? = nil) -> ControlID {
        lastControl += 1
        let id = ControlID(serial: lastControl)
        fleet.controlOpened(id, peer: Self.peer, identity: identity, at: moment)
        return id
    }

    @discardableResult func receive(_ message: ControlMessage, on id: ControlID) -> [FleetAction] {
        fleet.receive(message, on: id, at: moment, using: &random)
        return drainActions()
    }

    func newData() -> DataConnectionID {
        lastData += 1
        return DataConnectionID(loop: Int(lastData % 2), serial: lastData)
    }

    @discardableResult func hello(
        _ connection: DataConnectionID, _ response: RegisterResponse
    ) -> [FleetAction] {
        fleet.helloReceived(
            connection, peer: Self.peer, sessionID: response.sessionID, dataToken: response.dataToken,
            at: moment)
        return drainActions()
    }

    // MARK: Whole devices

    struct Device {
        var control: ControlID
        var session: SessionID
        var data: DataConnectionID
        var response: RegisterResponse
    }

    /// Registers and answers the record; the response, and the session's id.
    func register(
        _ name: String, location: String = "eu-west", tags: [String] = ["t"], capacity: UInt32 = 0,
        resuming: SessionID? = nil, on existing: ControlID? = nil, capabilities: [String] = ["tcp"]
    ) throws -> (ControlID, RegisterResponse) {
        let control = existing ?? openControl()
        let request = RegisterRequest(
            deviceID: name, location: location, capacity: capacity, tags: tags, agentVersion: "1",
            capabilities: capabilities, resumeSessionID: resuming?.bytes ?? [])
        var actions = receive(.registerRequest(request), on: control)
        for case .sessionStarted(let snapshot) in actions {
            fleet.sessionRecorded(snapshot.sessionID, at: moment)
            actions += drainActions()
        }
        let responses: [RegisterResponse] = actions.compactMap {
            guard case .send(control, .registerResponse(let response)) = $0 else { return nil }
            return response
        }
        return (control, try #require(responses.first))
    }

    /// A device with both planes up.
    func join(
        _ name: String, location: String = "eu-west", tags: [String] = ["t"], capacity: UInt32 = 0,
        capabilities: [String] = ["tcp"]
    ) throws -> Device {
        let (control, response) = try register(
            name, location: location, tags: tags, capacity: capacity, capabilities: capabilities)
        let data = newData()
        #expect(hello(data, response).contains(.acceptHello(data, capacity: capacity)))
        let session = try #require(SessionID(bytes: response.sessionID))
        return Device(control: control, session: session, data: data, response: response)
    }

    /// - Parameter login: a user name with parameters.
    func open(
        _ target: String = "example.com:80", as login: String? = nil, allowed: Set<String> = []
    ) throws -> Placement? {
        let parsed = try login.map { try #require(ClientLogin($0)) }
        var wish = parsed?.wish ?? DeviceWish()
        wish.allowedLocations = allowed
        let request = ConnRequest(
            user: parsed?.user, clientProtocol: .socks5, clientAddress: Self.client,
            target: try #require(Target(target)), connectTimeout: .seconds(10), wish: wish)
        return fleet.open(request, at: moment, using: &random)
    }

    /// - Parameter login: a user name with parameters.
    func associate(as login: String = "") -> AssociationPlacement? {
        ClientLogin(login).flatMap { fleet.associate($0.wish) }
    }

    func openFlow(_ placement: AssociationPlacement, _ target: String = "192.0.2.1:53") throws -> FlowOpening
    {
        let request = ConnRequest(
            user: nil, clientProtocol: .udp, clientAddress: Self.client,
            target: try #require(Target(target)), connectTimeout: .seconds(10))
        return fleet.openFlow(
            request, idleTimeout: .seconds(60), of: placement, at: moment, using: &random)
    }

    /// A conn that its device has opened.
    func openConn() throws -> Placement {
        let placement = try #require(try open())
        fleet.connOpened(placement.connID, resolvedAddress: "192.0.2.1:80", at: moment)
        drainActions()
        return placement
    }

    @discardableResult func connEnds(
        _ id: ConnID, sent: UInt64 = 0, received: UInt64 = 0, _ reason: CloseReason = .finished
    ) -> [FleetAction] {
        fleet.connEnded(id, bytesSent: sent, bytesReceived: received, reason: reason, at: moment)
        return drainActions()
    }
}

extension [FleetAction] {
    var closes: [ControlCloseCode] {
        compactMap {
            guard case .close(_, let code, _) = $0 else { return nil }
            return code
        }
    }

    var dataCloses: [UInt64] {
        compactMap {
            guard case .closeData(_, let code, _) = $0 else { return nil }
            return code
        }
    }

    var endings: [SessionEndReason] {
        compactMap {
            guard case .sessionEnded(_, let reason, _) = $0 else { return nil }
            return reason
        }
    }

    var endedConns: [CloseReason] {
        compactMap {
            guard case .connEnded(_, let reason, _) = $0 else { return nil }
            return reason
        }
    }

    var responses: [RegisterResponse] {
        compactMap {
            guard case .send(_, .registerResponse(let response)) = $0 else { return nil }
            return response
        }
    }

    var sent: [ControlMessage] {
        compactMap {
            guard case .send(_, let message) = $0 else { return nil }
            return message
        }
    }
}
