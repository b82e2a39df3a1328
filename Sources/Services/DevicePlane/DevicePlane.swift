internal import ControlWire
package import DataPlane
internal import DeviceProtocol
package import Domain
package import EventLoop
package import Fleet
package import Logging

/// The control loop's half of the device plane: drives the ``Fleet`` and does what it says.
///
/// Control connections, data loops and ingresses call in; everything happens on the control loop.
package final class DevicePlane {
    package weak var observer: (any DevicePlaneObserver)?

    private let loop: EventLoop
    private let dataLoops: [Mailbox<DataCommand>]
    private let logger: Logger
    private var random = SystemRandom()
    /// For the ids of conns and draws by lot.
    private var connRandom = ReservedRandom()
    private let fleet: Fleet
    private var timer: LoopTimer?

    private var transports: [ControlID: any ControlTransport] = [:]
    private var lastControl: UInt64 = 0
    var figures = DevicePlaneFigures()
    private var registrationWaits = RecentWaits()
    /// Conns whose clients wait for their device.
    private var waitingConns: [ConnID: WaitingConn] = [:]
    var associations = AssociationBook()
    private var isPerforming = false
    /// Memory for the next actions.
    private var spareActions: [FleetAction] = []
    private var whenStopped: (() -> Void)?

    private struct WaitingConn {
        let failureReply: (OpenError) -> [UInt8]
        let settled: (ConnOpeningOutcome) -> Void
    }

    package init(
        on loop: EventLoop, configuration: FleetConfiguration, dataLoops: [Mailbox<DataCommand>],
        logger: Logger
    ) {
        self.loop = loop
        self.dataLoops = dataLoops
        self.logger = logger
        fleet = Fleet(configuration: configuration)
        timer = loop.makeTimer { [weak self] in self?.expire() }
    }

    private var moment: Moment { Moment(now: loop.now, wall: SystemClock.wall) }

    package var configuration: FleetConfiguration { fleet.configuration }

    /// Changes what devices are told from now on, e.g. after the data loops are bound or a new certificate.
    package func reconfigure(_ configuration: FleetConfiguration) {
        fleet.reconfigure(configuration)
        settle()
    }

    // MARK: Control connections

    /// Whether another control connection may be opened.
    package var hasRoom: Bool {
        transports.count
            < fleet.configuration.maximumDevices + DevicePlaneLimits.controlConnectionsAboveDevices
    }

    /// A control connection has been upgraded; held until it is closed.
    package func opened(
        _ transport: any ControlTransport, peer: SocketAddress, identity: DeviceID?
    ) -> ControlID {
        lastControl += 1
        let id = ControlID(serial: lastControl)
        transports[id] = transport
        fleet.controlOpened(id, peer: peer, identity: identity, at: moment)
        settle()
        return id
    }

    /// A binary WebSocket message has arrived.
    package func received(_ message: [UInt8], on id: ControlID) {
        let moment = moment
        figures.bytesReceived &+= UInt64(message.count)
        fleet.heard(from: id, at: moment)
        var reader = ControlFrameReader(message)
        do {
            while transports[id] != nil, let frame = try reader.next() {
                let message = try ControlCodec.decode(frame)
                figures.messagesReceived.note(message.kind)
                fleet.receive(message, on: id, at: moment, using: &random)
                settle()
            }
        } catch let violation as ControlFramingViolation {
            violated(violation.closeCode, "\(violation)", on: id)
        } catch let error as WireError {
            violated(error.closeCode, "\(error)", on: id)
        } catch {
            violated(ControlCloseCode.framing.rawValue, "\(error)", on: id)
        }
        settle()
    }

    /// The WebSocket's rules were broken: `code` is the answer.
    package func violated(_ code: UInt16, _ reason: String, on id: ControlID) {
        let known = ControlCloseCode(rawValue: code) ?? .framing
        fleet.controlViolated(id, known, reason: reason, at: moment)
        settle()
    }

    /// The connection is gone, with or without a close of the device's.
    package func closed(_ id: ControlID) {
        guard transports.removeValue(forKey: id) != nil else { return }
        fleet.controlClosed(id, at: moment)
        settle()
    }

    package func measured(roundTrip: Duration, on id: ControlID) {
        figures.roundTrips.note(roundTrip)
        fleet.measured(roundTrip: roundTrip, on: id)
        settle()
    }

    // MARK: Data loops

    /// Takes what a data loop tells.
    package func receive(_ event: DataEvent) {
        switch event {
        case .stopped, .figures:
            // The life of the loops and their figures are the composition's business.
            return
        case .hello(let connection, let peer, let sessionID, let dataToken):
            fleet.helloReceived(
                connection, peer: peer, sessionID: sessionID, dataToken: dataToken, at: moment)
        case .connectionClosed(let connection, _):
            fleet.dataClosed(connection, at: moment)
        case .pathChanged(let connection, let peer):
            fleet.pathChanged(connection, peer: peer)
        case .released(let pending):
            expect(pending)
            fleet.connMoved(pending.connID, at: moment)
        case .connOpened(let conn, let resolvedAddress):
            waitingConns.removeValue(forKey: conn)?.settled(.opened)
            fleet.connOpened(conn, resolvedAddress: resolvedAddress, at: moment)
        case .connEnded(let progress, let reason):
            let wasOpen = fleet.connEnded(
                progress.connID, bytesSent: progress.bytesSent, bytesReceived: progress.bytesReceived,
                reason: reason, at: moment)
            if !wasOpen { waitingConns.removeValue(forKey: progress.connID)?.settled(.abandoned) }
        case .flowWanted(let id, let target):
            flowWanted(id, target)
        case .associationEnded(let id):
            associations.remove(id)
        case .progress(let counts):
            let moment = moment
            for count in counts {
                fleet.connProgressed(
                    count.connID, bytesSent: count.bytesSent, bytesReceived: count.bytesReceived, at: moment)
            }
        }
        settle()
    }

    func command(_ command: DataCommand, on connection: DataConnectionID) {
        guard dataLoops.indices.contains(connection.loop) else { return }
        dataLoops[connection.loop].send(command)
    }

    /// The loop need not hear of the conn before its device's stream comes, for which it wakes anyway.
    private func expect(_ pending: PendingConn) {
        guard dataLoops.indices.contains(pending.connection.loop) else { return }
        dataLoops[pending.connection.loop].send(.expect(pending), soonFrom: loop)
    }

    // MARK: Conns

    /// Finds a device for a client and has the target opened.
    ///
    /// - Parameter handOver: called once a device is found; gives the client's socket away, or nil when it is
    ///   gone.
    package func openConn(_ opening: ConnOpening, handOver: () -> Int32?) -> ConnOpeningResult {
        let moment = moment
        guard let placement = fleet.open(opening.request, at: moment, using: &connRandom) else {
            return .noDevice
        }
        guard let descriptor = handOver() else {
            fleet.connEnded(
                placement.connID, bytesSent: 0, bytesReceived: 0, reason: .clientReset, at: moment)
            settle()
            return .abandoned
        }
        waitingConns[placement.connID] = WaitingConn(
            failureReply: opening.failureReply, settled: opening.settled)
        let pending = PendingConn(
            connID: placement.connID, connection: placement.connection, clientDescriptor: descriptor,
            earlyBytes: opening.earlyBytes, successReply: opening.successReply(placement),
            idleTimeout: opening.idleTimeout, rate: opening.rate)
        // Before the order goes out, so that the device's stream can't come first.
        expect(pending)
        settle()
        return .placed(placement)
    }

    func chooseForAssociation(_ wish: DeviceWish) -> AssociationPlacement? {
        defer { settle() }
        return fleet.associate(wish)
    }

    /// The order goes out when the event at hand is settled, after the data loop has been told of the flow.
    func openFlow(
        _ request: ConnRequest, idleTimeout: Duration, of placement: AssociationPlacement
    ) -> FlowOpening {
        fleet.openFlow(request, idleTimeout: idleTimeout, of: placement, at: moment, using: &connRandom)
    }

    /// Ends a conn on both sides; whether there is such a conn.
    package func closeConn(_ id: ConnID, _ reason: CloseReason = .admin) -> Bool {
        defer { settle() }
        return fleet.closeConn(id, reason)
    }

    /// The conns that a user has here.
    package func connCount(of user: String) -> Int { fleet.connCount(of: user) }

    /// Whether a user has conns here, or what could open some.
    package func isServing(_ user: String) -> Bool {
        connCount(of: user) > 0 || associations.count(of: user) > 0
    }

    /// Ends all conns of a user, and what could open new ones.
    package func closeConns(of user: String, _ reason: CloseReason) {
        fleet.closeConns(of: user, reason)
        // Its flows are told their own reason first.
        settle()
        endAssociations(of: user)
    }

    /// What users' conns have carried since this was last called.
    package func takeUserBytes() -> [UserBytes] { fleet.takeUserBytes() }

    /// A device that a conn of this wish could be given now.
    package func candidate(for wish: DeviceWish) -> DeviceID? {
        fleet.candidate(for: wish, at: loop.now, using: &connRandom)
    }

    /// Whether a device is connected here and has what the wish asks for.
    package func fits(_ wish: DeviceWish, _ device: DeviceID) -> Bool { fleet.fits(wish, device) }

    /// Which device a wish would get, and why it would not get the others.
    package func explain(_ wish: DeviceWish, limit: Int) -> RouteExplanation {
        fleet.explain(wish, limit: limit, at: loop.now)
    }

    package func conn(_ id: ConnID) -> ConnSnapshot? { fleet.conn(id) }
    /// All conns, in no order.
    package var conns: [ConnSnapshot] { fleet.connSnapshots }
    package var connCount: Int { fleet.connCount }

    // MARK: Devices

    /// The current session of a device; nil when it is offline.
    package func session(of device: DeviceID) -> SessionSnapshot? { fleet.session(of: device) }
    package func session(_ id: SessionID) -> SessionSnapshot? { fleet.session(id) }
    /// All live sessions, in no order.
    package var sessions: [SessionSnapshot] { fleet.sessionSnapshots }
    package var sessionCount: Int { fleet.sessionCount }
    package var totals: FleetTotals { fleet.totals }
    package var census: FleetCensus { fleet.census }
    /// Devices that take another conn now.
    package var availableDevices: Int { fleet.availableDevices }
    package var openingConnCount: Int { fleet.openingConnCount }
    /// Control connections, registered or not.
    package var controlCount: Int { transports.count }

    /// Ends a device's session with 4010; whether it was online.
    package func disconnect(_ device: DeviceID) -> Bool {
        defer { settle() }
        return fleet.disconnect(device, at: moment)
    }

    /// Lets a device in, or ends its session with 4003 and keeps it out.
    package func setEnabled(_ device: DeviceID, _ isEnabled: Bool) {
        fleet.setEnabled(device, isEnabled, at: moment)
        settle()
    }

    /// Devices that are kept out.
    package var disabledDevices: Set<DeviceID> { fleet.disabledDevices }

    /// Ends a device's session with 4003 because its token is no longer good.
    package func revoke(_ device: DeviceID) {
        fleet.revoke(device, at: moment)
        settle()
    }

    /// The live sessions that have carried something since this was last called.
    package func takeCountedSessions() -> [SessionSnapshot] { fleet.takeCountedSessions() }

    /// Lives of this node before this one gave epochs up to this.
    package func learnEpoch(_ epoch: UInt64) { fleet.learnEpoch(epoch) }

    /// The database or another node knows of this epoch of the device.
    package func learnEpoch(_ epoch: UInt64, of device: DeviceID) {
        fleet.learnEpoch(epoch, of: device)
    }

    // MARK: The cluster

    /// Whether it is the one session of its device that counts.
    package func isCurrent(_ session: SessionID) -> Bool { fleet.isCurrent(session) }

    /// On record the session has this epoch.
    package func epochSettled(_ epoch: UInt64, of session: SessionID) {
        fleet.epochSettled(epoch, of: session)
    }

    /// The device has come to another node after this session began; whether there was such a session.
    @discardableResult
    package func sessionTakenOver(_ session: SessionID) -> Bool {
        defer { settle() }
        return fleet.sessionTakenOver(session, at: moment)
    }

    // MARK: The node

    package var nodeState: NodeState { fleet.nodeState }
    package var knowsDrain: Bool { fleet.knowsDrain }
    package var drainSnapshot: DrainSnapshot { fleet.drainSnapshot }

    /// Other nodes that are known to take devices.
    package var takerCount: Int { fleet.takerCount }

    /// What takes longer to find out; lists hold `count` at most.
    package func drainDetails(atMost count: Int) -> DrainDetails {
        fleet.drainDetails(atMost: count, at: moment)
    }

    /// Cordons or uncordons the node.
    package func setEligibility(_ isEligible: Bool) {
        fleet.setEligible(isEligible)
        settle()
    }

    package func startDrain(_ request: DrainRequest) {
        fleet.startDrain(request, at: moment)
        settle()
    }

    package func undrain(staysCordoned: Bool = false) {
        fleet.cancelDrain(staysCordoned: staysCordoned, at: moment)
        settle()
    }

    /// An operator's order of an earlier life stays in force; called before the first device.
    package func restore(_ state: NodeState, _ past: PastDrain?) {
        fleet.restore(state, past)
        settle()
    }

    /// The other nodes that are alive.
    package func takersChanged(_ takers: [Taker]) {
        fleet.takersChanged(takers, at: moment)
        settle()
    }

    /// Where devices of the drain are now.
    package func devicesArrived(_ counts: [NodeID: Int], moved: [SessionID]) {
        fleet.devicesArrived(counts, moved: moved, at: moment)
        settle()
    }

    /// Ends every session with 1001 and refuses new ones; `done` is called once all of it has been told,
    /// within about two seconds. The data loops are stopped by whoever owns them, after that.
    package func stop(_ done: @escaping () -> Void) {
        whenStopped = done
        fleet.stop(at: moment)
        settle()
    }

    package var isStopping: Bool { fleet.isStopping }

    // MARK: Doing what the fleet says

    private func expire() {
        fleet.expire(at: moment)
        settle()
    }

    /// Performs all actions, also those that performing brings about, and arms the timer.
    private func settle() {
        guard !isPerforming else { return }
        isPerforming = true
        while fleet.hasActions {
            var actions = fleet.exchangeActions(spareActions)
            spareActions = []
            for action in actions { perform(action) }
            actions.removeAll(keepingCapacity: true)
            spareActions = actions
        }
        isPerforming = false
        timer?.arm(at: fleet.nextDeadline)
        if let whenStopped, fleet.hasStopped {
            self.whenStopped = nil
            whenStopped()
        }
    }

    private func perform(_ action: FleetAction) {
        switch action {
        case .send(let id, let message):
            send(message, on: id)
        case .close(let id, let code, let reason):
            figures.closes.note(code)
            logger.debug(
                "closing a control connection",
                metadata: ["code": "\(code.rawValue)", "reason": "\(reason)", "control": "\(id.serial)"])
            transports.removeValue(forKey: id)?.close(code: code.rawValue, reason: reason)
        case .acceptHello(let connection, let capacity):
            figures.hellosAccepted += 1
            command(.acceptHello(connection, capacity: capacity), on: connection)
        case .rejectHello(let connection):
            figures.hellosRejected += 1
            command(.rejectHello(connection), on: connection)
        case .closeData(let connection, let code, let reason):
            command(.closeConnection(connection, code: code, reason: reason), on: connection)
        case .moveConn(let id, let from, let to):
            command(.reassign(id, to: to), on: from)
            if from.loop == to.loop { fleet.connMoved(id, at: moment) }
        case .failConn(let id, let connection, let error):
            let waiting = waitingConns.removeValue(forKey: id)
            waiting?.settled(.failed(error))
            command(.fail(id, reply: waiting?.failureReply(error) ?? []), on: connection)
        case .closeConn(let id, let connection, let reason):
            waitingConns.removeValue(forKey: id)?.settled(.abandoned)
            command(.close(id, reason), on: connection)
        case .flowOpened(let id, let connection, let resolvedAddress):
            command(.flowOpened(id, resolvedAddress: resolvedAddress), on: connection)
        default:
            tell(action)
        }
    }

    private func send(_ message: ControlMessage, on id: ControlID) {
        guard let transport = transports[id] else { return }
        let bytes = ControlFraming.encode(ControlCodec.encode(message))
        figures.messagesSent.note(message.kind)
        figures.bytesSent &+= UInt64(bytes.count)
        if case .registerResponse(let response) = message { figures.registrations.note(response.status) }
        transport.send(bytes)
        if case .heartbeatAck = message { transport.measureRoundTrip() }
        guard transport.bufferedBytes > DevicePlaneLimits.outboundBytes else { return }
        figures.slowReaders += 1
        logger.warning("a device reads too slowly", metadata: ["control": "\(id.serial)"])
        transports[id] = nil
        transport.abort()
        fleet.controlClosed(id, at: moment)
    }

    private func tell(_ action: FleetAction) {
        switch action {
        case .sessionStarted(let session):
            started(session)
        case .recordOverdue(let id):
            figures.recordsOverdue += 1
            logger.warning(
                "a session's record is late, its device is answered without it",
                metadata: ["session_id": "\(id)"])
        case .sessionUpdated(let session):
            observer?.sessionUpdated(session)
        case .sessionEnded(let session, let reason, let at):
            figures.sessionEnds.note(reason)
            logger.info(
                "session ended",
                metadata: [
                    "device_id": "\(session.deviceID)", "session_id": "\(session.sessionID)",
                    "reason": "\(reason.rawValue)",
                ])
            observer?.sessionEnded(session, reason: reason, at: at)
        case .loadReported(let load):
            observer?.loadReported(load)
        case .connOpened(let conn):
            observer?.connOpened(conn)
        case .connEnded(let conn, let reason, let at):
            figures.connEnds.note(reason)
            figures.connDurations.note(
                .microseconds(at.microseconds &- conn.openedAt.microseconds))
            observer?.connEnded(conn, reason: reason, at: at)
        case .nodeStateChanged(let state):
            logger.notice("node state changed", metadata: ["state": "\(state.rawValue)"])
            observer?.nodeStateChanged(state)
        case .drainProgressed:
            observer?.drainProgressed()
        default:
            return
        }
    }

    private func started(_ session: SessionSnapshot) {
        logger.info(
            "session started",
            metadata: [
                "device_id": "\(session.deviceID)", "session_id": "\(session.sessionID)",
                "remote_address": "\(session.remoteAddress)",
            ])
        let id = session.sessionID
        let since = loop.now
        guard let observer else {
            fleet.sessionRecorded(id, at: moment)
            return
        }
        observer.sessionStarted(session) { [weak self] in
            guard let self else { return }
            registrationWaits.note(loop.now - since, at: loop.now)
            fleet.sessionRecorded(id, at: moment)
            settle()
        }
    }

    /// How long devices of the last seconds waited to be registered: all but one in a hundred less.
    package func takeRegistrationWait() -> Duration { registrationWaits.take(at: loop.now) }
}
