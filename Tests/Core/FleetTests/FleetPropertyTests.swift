import DeviceProtocol
import Domain
import Fleet
import TestKit
import Testing

/// Random devices, clients, operators and losses; after each step the fleet's promises hold.
@Suite struct FleetPropertyTests {
    @Test func promisesHoldUnderRandomEvents() {
        var random = SeededRandom.ofEnvironment()
        let seed = random.seed
        for _ in 0..<40 {
            let world = FleetWorld(seed: random.next())
            for step in 0..<400 {
                world.step()
                if let fault = world.fault {
                    Issue.record("seed \(seed), step \(step): \(fault)")
                    return
                }
            }
            if let fault = world.finish() {
                Issue.record("seed \(seed), at the end: \(fault)")
                return
            }
        }
    }
}

/// The outside of a fleet: devices that may do anything, data loops that keep their word.
private final class FleetWorld {
    let harness: FleetHarness
    var random: SeededRandom
    var fault: String?

    private var openControls: Set<ControlID> = []
    private var openData: Set<DataConnectionID> = []
    private var responses: [RegisterResponse] = []
    /// What data loops hold: the connection of each conn they expect or carry.
    private var loopConns: [ConnID: DataConnectionID] = [:]
    private var placed: Set<ConnID> = []
    private var associations: [AssociationPlacement] = []
    private var ended: Set<ConnID> = []
    private var startedSessions: [SessionID: DeviceID] = [:]
    private var endedSessions: Set<SessionID> = []
    private var epochs: [DeviceID: UInt64] = [:]
    private var unrecorded: [SessionID] = []

    init(seed: UInt64) {
        random = SeededRandom(seed: seed)
        let strategy = SelectionStrategy.allCases.randomElement(using: &random) ?? .leastConns
        harness = FleetHarness {
            $0.maximumDevices = 5
            $0.strategy = strategy
        }
    }

    func step() {
        switch Int.random(in: 0..<20, using: &random) {
        case 0, 1: openControls.insert(harness.openControl())
        case 2, 3, 4: sendRegistration()
        case 5, 6, 7: sendMessage()
        case 8, 9: sendHello()
        case 10, 11, 12: openConn()
        case 13, 14, 15: moveConn()
        case 16: losePlane()
        case 17: pass()
        case 18: answerRecord()
        default: operate()
        }
        perform()
    }

    /// Stops the node and lets everything come to rest.
    func finish() -> String? {
        harness.fleet.stop(at: harness.moment)
        perform()
        for id in Array(loopConns.keys) { endConn(id, .sessionLost) }
        harness.pass(.seconds(5))
        perform()
        if let fault { return fault }
        if !harness.isEmpty { return "something is left" }
        if placed != ended { return "conns placed \(placed.count), ended \(ended.count)" }
        return Set(startedSessions.keys) == endedSessions ? nil : "a session was not told ended"
    }

    // MARK: Events

    private func pick<T>(_ items: some Collection<T>) -> T? {
        items.randomElement(using: &random)
    }

    private func sendRegistration() {
        guard let control = pick(openControls.sorted { $0.serial < $1.serial }) else { return }
        let name = "d\(Int.random(in: 0..<7, using: &random))"
        let known = startedSessions.keys.sorted { $0.description < $1.description }
        let resumed = Bool.random(using: &random) ? pick(known) : nil
        let owner = resumed.flatMap { startedSessions[$0]?.description }
        harness.fleet.receive(
            .registerRequest(
                RegisterRequest(
                    deviceID: Int.random(in: 0..<4, using: &random) > 0 ? owner ?? name : name,
                    capacity: UInt32.random(in: 0...3, using: &random),
                    capabilities: Bool.random(using: &random) ? ["tcp", "udp"] : ["tcp"],
                    resumeSessionID: resumed?.bytes ?? [])),
            on: control, at: harness.moment, using: &random)
    }

    private func sendMessage() {
        guard let control = pick(openControls.sorted { $0.serial < $1.serial }) else { return }
        let conn = pick(loopConns.keys.sorted { $0.description < $1.description }) ?? ConnID(high: 1, low: 1)
        let messages: [ControlMessage] = [
            .heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: .min)),
            .heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: .max)),
            .unknown,
            .commandResponse(
                CommandResponse(
                    connID: conn, success: false, errorCode: pick(OpenError.allCases) ?? .internal)),
            .commandResponse(CommandResponse(connID: conn, success: false, errorCode: .capacity)),
            .commandResponse(CommandResponse(connID: conn, success: true)),
            .connClosed(ConnClosed(connID: conn, reason: .finished, bytesSent: .max)),
            .goodbye(reason: ""),
            .reconnect(reason: ""),
        ]
        let index = Int.random(in: 0..<messages.count * 3, using: &random)
        let message = index < messages.count ? messages[index] : messages[index % 5]
        harness.fleet.receive(message, on: control, at: harness.moment, using: &random)
        harness.fleet.measured(
            roundTrip: .milliseconds(Int.random(in: 0...50, using: &random)), on: control)
    }

    private func sendHello() {
        guard let response = pick(responses.suffix(5)) else { return }
        let connection = harness.newData()
        openData.insert(connection)
        harness.fleet.helloReceived(
            connection, peer: FleetHarness.peer, sessionID: response.sessionID,
            dataToken: response.dataToken, at: harness.moment)
    }

    private func openConn() {
        if Bool.random(using: &random) { return openFlow() }
        guard let placement = try? harness.open() else { return }
        if !openData.contains(placement.connection) { fault = "placed on a closed connection" }
        placed.insert(placement.connID)
        loopConns[placement.connID] = placement.connection
    }

    /// Associations are as old as they happen to be: their sessions may be gone.
    private func openFlow() {
        if Bool.random(using: &random), let placement = harness.associate() {
            if !openData.contains(placement.connection) { fault = "associated on a closed connection" }
            associations.append(placement)
        }
        guard let association = pick(associations),
            case .placed(let id, _) = try? harness.openFlow(association)
        else { return }
        if !openData.contains(association.connection) { fault = "a flow on a closed connection" }
        placed.insert(id)
        loopConns[id] = association.connection
    }

    private func moveConn() {
        guard let id = pick(loopConns.keys.sorted { $0.description < $1.description }) else { return }
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
            harness.fleet.connOpened(id, resolvedAddress: "192.0.2.1:1", at: harness.moment)
        case 1:
            endConn(id, pick(CloseReason.allCases) ?? .finished)
        case 2:
            _ = harness.closeConn(id, .admin)
        default:
            harness.fleet.connProgressed(
                id, bytesSent: .random(in: 0 ... .max, using: &random),
                bytesReceived: .random(in: 0...100, using: &random), at: harness.moment)
        }
    }

    private func endConn(_ id: ConnID, _ reason: CloseReason) {
        guard loopConns.removeValue(forKey: id) != nil else { return }
        harness.fleet.connEnded(
            id, bytesSent: 1, bytesReceived: 2, reason: reason, at: harness.moment)
    }

    private func losePlane() {
        if Bool.random(using: &random), let control = pick(openControls.sorted { $0.serial < $1.serial }) {
            openControls.remove(control)
            harness.fleet.controlClosed(control, at: harness.moment)
        } else if let data = pick(openData.sorted { $0.serial < $1.serial }) {
            closeData(data)
        }
    }

    private func closeData(_ data: DataConnectionID) {
        guard openData.remove(data) != nil else { return }
        for (id, connection) in loopConns where connection == data { endConn(id, .sessionLost) }
        harness.fleet.dataClosed(data, at: harness.moment)
    }

    private func pass() {
        harness.advance(.milliseconds(Int.random(in: 0...20_000, using: &random)))
        harness.fleet.expire(at: harness.moment)
        if harness.fleet.nextDeadline <= harness.moment.now { fault = "a deadline is left in the past" }
    }

    private func answerRecord() {
        guard let session = unrecorded.popLast() else { return }
        harness.fleet.sessionRecorded(session, at: harness.moment)
    }

    private func operate() {
        guard let device = DeviceID("d\(Int.random(in: 0..<7, using: &random))") else { return }
        switch Int.random(in: 0..<7, using: &random) {
        case 0: _ = harness.disconnect(device)
        case 1: harness.fleet.setEnabled(device, Bool.random(using: &random), at: harness.moment)
        case 2: harness.fleet.revoke(device, at: harness.moment)
        case 3: harness.fleet.setEligible(Bool.random(using: &random))
        case 4: harness.fleet.startDrain(DrainRequest(deadline: .seconds(20)), at: harness.moment)
        default:
            harness.fleet.cancelDrain(
                staysCordoned: Bool.random(using: &random), at: harness.moment)
        }
    }

    // MARK: What the fleet does

    private func perform() {
        var actions = harness.drainActions()
        while !actions.isEmpty {
            for action in actions { perform(action) }
            actions = harness.drainActions()
        }
        check()
    }

    private func perform(_ action: FleetAction) {
        switch action {
        case .send(let control, let message):
            if !openControls.contains(control) { fault = "sent to a closed control connection" }
            if case .registerResponse(let response) = message, response.status == .ok {
                responses.append(response)
            }
        case .close(let control, _, _):
            if openControls.remove(control) == nil { fault = "closed a closed control connection" }
        case .acceptHello(let data, _):
            if !openData.contains(data) { fault = "accepted a closed connection" }
        case .rejectHello(let data):
            openData.remove(data)
        case .closeData(let data, _, _):
            closeData(data)
        case .moveConn(let id, _, let to):
            if loopConns[id] != nil {
                loopConns[id] = to
                harness.fleet.connMoved(id, at: harness.moment)
            }
        case .failConn(let id, let data, _), .closeConn(let id, let data, _):
            if let held = loopConns[id], held != data { fault = "told the wrong connection" }
            endConn(id, .admin)
        case .flowOpened(let id, let data, _):
            if let held = loopConns[id], held != data { fault = "opened on the wrong connection" }
        case .connEnded(let conn, _, _):
            if !ended.insert(conn.connID).inserted { fault = "a conn was told ended twice" }
        case .sessionStarted(let session):
            startedSessions[session.sessionID] = session.deviceID
            unrecorded.append(session.sessionID)
            if session.epoch <= epochs[session.deviceID] ?? 0 { fault = "an epoch did not grow" }
            epochs[session.deviceID] = session.epoch
        case .sessionEnded(let session, _, _):
            if !endedSessions.insert(session.sessionID).inserted { fault = "a session ended twice" }
        case .sessionUpdated, .recordOverdue, .loadReported, .connOpened, .nodeStateChanged,
            .drainProgressed:
            break
        }
    }

    private func check() {
        var currents: Set<DeviceID> = []
        for session in harness.fleet.sessionSnapshots {
            if harness.fleet.session(of: session.deviceID)?.sessionID == session.sessionID {
                currents.insert(session.deviceID)
            } else if !session.isDraining {
                fault = "a second session that was not told to leave"
            }
            if endedSessions.contains(session.sessionID) { fault = "an ended session is shown" }
            if session.capacity > 0, session.activeConns > 10 { fault = "far above capacity" }
        }
        checkCensus()
        let live = harness.fleet.connSnapshots
        if live.count != placed.count - ended.count { fault = "a conn leaked" }
        for conn in live where loopConns[conn.connID] == nil { fault = "a conn no data loop holds" }
        let opening = live.count { $0.state == .opening }
        if harness.fleet.openingConnCount != opening { fault = "conns opening are not as counted" }
    }

    /// What is kept up with every change is what counting would find.
    private func checkCensus() {
        let live = harness.fleet.sessionSnapshots
        for health in SessionHealth.allCases {
            let count = live.count { $0.health == health }
            if harness.fleet.census[health] != count { fault = "sessions \(health) are not as counted" }
        }
        if harness.fleet.census.capacity != live.reduce(0, { $0 + UInt64($1.capacity) }) {
            fault = "the capacity is not as counted"
        }
        if harness.fleet.census.unlimited != live.count(where: { $0.capacity == 0 }) {
            fault = "devices without a limit are not as counted"
        }
        let available = live.count { session in
            session.health == .whole && !session.isDraining
                && (session.capacity == 0 || session.activeConns < session.capacity)
        }
        if harness.fleet.availableDevices != available { fault = "available devices are not as counted" }
    }
}
