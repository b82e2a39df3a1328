package import Domain

// The control loop's knowledge of its devices, and every rule of contract section 2 that binds the POP.
//
// Events come in by methods, actions go out by `takeActions`; after each event the shell performs the actions
// and arms its timer for `nextDeadline`.
//
// Invariants:
//   - a device has at most one session that has not been told to leave (`current`);
//   - a control connection serves at most one session, a data connection too;
//   - every conn that was placed is told ended exactly once, after the data loop's own word;
//   - every session that was started is told ended exactly once, after its conns or two seconds.
//
// A class because one is as large as it is long-lived: no access moves it about.
package final class Fleet {
    package internal(set) var configuration: FleetConfiguration

    final class ControlConnection {
        let peer: SocketAddress
        /// The device that its token names; nil admits any.
        let identity: DeviceID?
        var session: SessionID?
        var messages: MessageBudget
        var connMessages: MessageBudget

        init(peer: SocketAddress, identity: DeviceID?, at now: Instant) {
            self.peer = peer
            self.identity = identity
            messages = MessageBudget(
                perSecond: FleetLimits.messagesPerSecond, burst: FleetLimits.messageBurst, now: now)
            connMessages = MessageBudget(
                perSecond: FleetLimits.connMessagesPerSecond, burst: FleetLimits.connMessageBurst, now: now)
        }
    }

    var actions: [FleetAction] = []

    var controls: [ControlID: ControlConnection] = [:]
    /// Control connections that have not registered, by when they must have.
    var registrationDeadlines = IndexedHeap<ControlID, Instant>()

    var sessions: [SessionID: DeviceSession] = [:]
    var current: [DeviceID: SessionID] = [:]
    var sessionByData: [DataConnectionID: SessionID] = [:]
    /// Never later than the session's own next deadline; often earlier, since life only puts it off.
    var sessionDeadlines = IndexedHeap<SessionID, Instant>()
    var selection = SelectionIndex()
    var picks: UInt64 = 0

    var conns: [ConnID: Conn] = [:]
    var openDeadlines = OpenDeadlines()
    /// Users with conns, or with bytes that have not been asked for yet.
    var users: [String: UserActivity] = [:]

    /// Sessions whose counts have changed since this was last asked for.
    private var counted: [DeviceSession] = []

    var disabled: Set<DeviceID> = []
    var lastEpoch: UInt64 = 0
    /// Epochs known to lie ahead of this node's clock, e.g. given by a node whose clock runs fast.
    var epochsAhead: [DeviceID: UInt64] = [:]

    package internal(set) var nodeState = NodeState.active
    var drain = DrainMachine()
    package internal(set) var isStopping = false

    package init(configuration: FleetConfiguration) {
        self.configuration = configuration
    }

    package var hasActions: Bool { !actions.isEmpty }

    /// What to do, in order; empties the list.
    package func takeActions() -> [FleetAction] {
        exchangeActions([])
    }

    /// The same; `empty` takes its place and lends its memory to what comes next.
    package func exchangeActions(_ empty: consuming [FleetAction]) -> [FleetAction] {
        let taken = actions
        actions = empty
        return taken
    }

    /// The live sessions whose counts have changed since this was last called.
    package func takeCountedSessions() -> [SessionSnapshot] {
        var snapshots: [SessionSnapshot] = []
        for session in counted {
            session.isCounted = false
            if session.ending == nil { snapshots.append(session.snapshot) }
        }
        counted.removeAll(keepingCapacity: true)
        return snapshots
    }

    /// Changes what devices are told from now on; a new strategy ranks all devices again.
    package func reconfigure(_ configuration: FleetConfiguration) {
        let strategyChanged = configuration.strategy != self.configuration.strategy
        self.configuration = configuration
        guard strategyChanged else { return }
        for session in sessions.values { rank(session) }
    }

    // MARK: Reading

    package internal(set) var totals = FleetTotals()

    /// Sessions that live, those that have been told to leave included.
    package var sessionCount: Int { sessions.count - endingSessions }
    package var connCount: Int { conns.count }
    package var controlCount: Int { controls.count }
    package var unregisteredControlCount: Int { registrationDeadlines.count }
    /// Live sessions by their state.
    package internal(set) var census = FleetCensus()
    var endingSessions = 0
    /// Conns whose device's stream has come.
    var openConnCount = 0

    /// After `stop`: every session has been told ended, so the node may end. A conn that its data loop never
    /// gave back holds nothing up.
    package var hasStopped: Bool { isStopping && sessions.isEmpty && controls.isEmpty }

    /// Nothing is left.
    package var isEmpty: Bool { sessions.isEmpty && conns.isEmpty && controls.isEmpty }

    /// The current session of a device; nil when it is offline.
    package func session(of device: DeviceID) -> SessionSnapshot? {
        current[device].flatMap { sessions[$0]?.snapshot }
    }

    package func session(_ id: SessionID) -> SessionSnapshot? {
        sessions[id].flatMap { $0.ending == nil ? $0.snapshot : nil }
    }

    /// All live sessions, in no order.
    package var sessionSnapshots: [SessionSnapshot] {
        sessions.values.lazy.filter { $0.ending == nil }.map(\.snapshot)
    }

    package func conn(_ id: ConnID) -> ConnSnapshot? {
        conns[id]?.snapshot
    }

    /// All conns, in no order.
    package var connSnapshots: [ConnSnapshot] {
        conns.values.map(\.snapshot)
    }

    /// The connection of a live session's data plane.
    package func dataConnection(of session: SessionID) -> DataConnectionID? {
        sessions[session]?.data?.connection
    }

    /// Devices that are kept out.
    package var disabledDevices: Set<DeviceID> { disabled }

    // MARK: Bookkeeping

    /// The session's counts have changed.
    func count(_ session: DeviceSession) {
        guard !session.isCounted else { return }
        session.isCounted = true
        counted.append(session)
    }

    /// Puts a session where it belongs in the order of selection, after anything that may have moved it.
    func rank(_ session: DeviceSession) {
        recount(session)
        drain.note(session.id, conns: session.conns.count, isReachable: session.isReachable)
        guard session.ending == nil else { return selection.remove(session.id) }
        selection.update(
            session.id, session.registration,
            rank: session.takesConns ? SelectionRank(session, strategy: configuration.strategy) : nil)
    }

    /// Makes sure that the session is looked at no later than its next deadline.
    func schedule(_ session: DeviceSession) {
        let deadline = session.nextDeadline(heartbeatTimeout: configuration.heartbeatTimeout)
        if let known = sessionDeadlines.key(of: session.id), known <= deadline { return }
        sessionDeadlines.set(session.id, deadline)
    }

    /// After a change that others want to know of.
    func tellUpdated(_ session: DeviceSession) {
        guard session.ending == nil else { return }
        actions.append(.sessionUpdated(session.snapshot))
    }
}
