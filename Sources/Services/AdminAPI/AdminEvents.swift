package import Domain
internal import EventLoop
package import Fleet
internal import HTTPServer
internal import JSON
internal import Logging
internal import Observability

/// Tells the readers of `/v1/events` what happens, as it happens.
///
/// Events go into the ``EventLog``, where one that a reader of this node waits for is written once and one of a
/// conn that nobody waits for is not written at all; each reader has a position in it and is sent what comes behind
/// as fast as it takes it. A reader that stops reading costs the bytes in flight to it and no more: it is put off
/// until it reads on, and given up when the log has forgotten what comes next for it.
package final class AdminEvents {
    /// Told for each reader and event: enough for every console and script of a big team.
    static let mostReaders = 256
    /// A reader with so much unsent is not written to until it has taken all of it.
    static let unsentBytes = 262_144
    /// Written at a time, so that one that resumes from far back doesn't hold the loop.
    private static let bytesAtATime = 65_536
    /// Proxies and clients give up on connections that are silent for a minute or half of it.
    private static let heartbeatInterval = Duration.seconds(15)
    private static let retryMilliseconds = 2_000
    /// A drain's numbers change with every conn; people read no faster.
    private static let drainInterval = Duration.seconds(1)

    private final class Reader {
        let responder: HTTPResponder
        let kinds: AdminEventKinds
        let address: SocketAddress
        let isWelcome: () -> Bool
        var position: UInt64

        init(
            _ responder: HTTPResponder, _ kinds: AdminEventKinds, _ address: SocketAddress,
            at position: UInt64, isWelcome: @escaping () -> Bool
        ) {
            self.responder = responder
            self.kinds = kinds
            self.address = address
            self.isWelcome = isWelcome
            self.position = position
        }
    }

    private let loop: EventLoop
    private let nodeID: NodeID
    private let logger: Logger
    private var log: EventLog
    /// Hears of each event of this node, to tell it to others; asks for its data only then.
    var toldHere: ((AdminEventKind, _ data: () -> [UInt8]) -> Void)?
    private var readers: [ObjectIdentifier: Reader] = [:] {
        didSet {
            wantedKinds = readers.isEmpty ? nil : readers.values.reduce(into: []) { $0.formUnion($1.kinds) }
        }
    }
    /// The kinds that readers want; nil without readers.
    private(set) var wantedKinds: AdminEventKinds?
    private var isFlushDue = false
    private var isClosed = false
    private var heartbeatTimer: LoopTimer?

    /// The session of each device that was told to be online.
    private var online: [DeviceID: SessionID] = [:]
    private var toldDrain: DrainSnapshot?
    private var nextDrain: DrainSnapshot?
    private var drainTimer: LoopTimer?

    private var told = Tally<AdminEventKind>()
    private var refusedReaders: UInt64 = 0
    private var evictedReaders: UInt64 = 0

    /// - Parameter life: drawn at random for each start of the node.
    init(
        on loop: EventLoop, nodeID: NodeID, life: UInt64, logger: Logger,
        limits: EventLog.Limits = EventLog.Limits()
    ) {
        self.loop = loop
        self.nodeID = nodeID
        self.logger = logger
        log = EventLog(life: life, limits: limits)
        heartbeatTimer = loop.makeTimer { [weak self] in self?.beat() }
        drainTimer = loop.makeTimer { [weak self] in self?.tellDrain() }
    }

    deinit {
        heartbeatTimer?.cancel()
        drainTimer?.cancel()
    }

    // MARK: Devices

    package func sessionStarted(_ session: SessionSnapshot, otherSessionLives: (SessionID) -> Bool) {
        // The end of the session before this one is told when its last conn is over; a reader would take the
        // device for gone then.
        if let old = online[session.deviceID], !otherSessionLives(old) {
            tell(.deviceOffline, at: session.connectedAt) { writer in
                writer.field("device_id", session.deviceID.description)
                writer.field("session_id", old)
                writer.field("end_reason", SessionEndReason.replaced.rawValue)
            }
        }
        online[session.deviceID] = session.sessionID
        tell(.deviceOnline, at: session.connectedAt) { writer in
            writer.field("device_id", session.deviceID.description)
            writer.field("session_id", session.sessionID)
            writer.field("session_epoch", session.epoch)
            writer.field("location", session.location)
            writer.field("tags", session.tags)
            writer.field("capacity", session.capacity)
            writer.field("agent_version", session.agentVersion)
            writer.field("remote_address", session.remoteAddress)
        }
    }

    package func sessionEnded(_ session: SessionSnapshot, reason: SessionEndReason, at: WallTime) {
        guard online[session.deviceID] == session.sessionID else { return }
        online[session.deviceID] = nil
        tell(.deviceOffline, at: at) { writer in
            writer.field("device_id", session.deviceID.description)
            writer.field("session_id", session.sessionID)
            writer.field("end_reason", reason.rawValue)
        }
    }

    // MARK: Conns

    package func connOpened(_ conn: ConnSnapshot) {
        tell(ConnEvent(conn: conn, node: nodeID, at: SystemClock.wall, now: loop.now, reason: nil))
    }

    package func connEnded(_ conn: ConnSnapshot, reason: CloseReason, at: WallTime) {
        tell(ConnEvent(conn: conn, node: nodeID, at: at, now: loop.now, reason: reason))
    }

    // MARK: The node

    package func nodeStateChanged(_ state: NodeState) {
        tell(.nodeState, at: SystemClock.wall) { $0.field("state", state.rawValue) }
    }

    /// To be called whenever the numbers of the drain may have changed.
    package func drainChanged(_ drain: DrainSnapshot) {
        guard drain.state != .none || toldDrain != nil, drain != nextDrain ?? toldDrain else { return }
        nextDrain = drain
        if drain.state != toldDrain?.state {
            tellDrain()
        } else if drainTimer?.isArmed != true {
            drainTimer?.arm(at: loop.now + Self.drainInterval)
        }
    }

    private func tellDrain() {
        guard let drain = nextDrain, drain != toldDrain else { return }
        toldDrain = drain
        nextDrain = nil
        drainTimer?.cancel()
        tell(.drainProgress, at: SystemClock.wall) { drain.writeMembers(to: &$0) }
    }

    // MARK: Telling

    private func tell(_ kind: AdminEventKind, at: WallTime, _ write: (inout JSONWriter) -> Void) {
        guard !isClosed else { return }
        told.note(kind)
        let data = Self.data(at, nodeID, write)
        log.append(kind, data: data)
        toldHere?(kind) { data }
        flushSoon()
    }

    /// There are two for each conn, and nearly always nobody listens: see ``ConnEvent``.
    private func tell(_ event: ConnEvent) {
        guard !isClosed else { return }
        told.note(event.kind)
        if wantedKinds?.contains(event.kind) == true {
            let data = event.data
            log.append(event.kind, data: data)
            toldHere?(event.kind) { data }
        } else {
            log.append(event)
            toldHere?(event.kind) { event.data }
        }
        flushSoon()
    }

    private func flushSoon() {
        guard !readers.isEmpty, !isFlushDue else { return }
        isFlushDue = true
        loop.atEndOfBatch { [weak self] in self?.flush() }
    }

    // MARK: Other nodes

    /// The number that the next event will have.
    var end: UInt64 { log.end }

    /// An event as another node has told it.
    func heard(_ kind: AdminEventKind, data: [UInt8]) {
        guard !isClosed else { return }
        log.append(kind, data: data)
        flushSoon()
    }

    /// What can be seen of another node from here.
    func tellState(_ state: NodeState, of node: NodeID) {
        heard(.nodeState, data: Self.data(SystemClock.wall, node) { $0.field("state", state.rawValue) })
    }

    /// Events of `node` may be missing from here on.
    func tellGap(of node: NodeID, cause: String) {
        guard !isClosed else { return }
        log.append(toAll: "gap", data: Self.data(SystemClock.wall, node) { $0.field("cause", cause) })
        flushSoon()
    }

    private static func data(_ at: WallTime, _ node: NodeID, _ write: (inout JSONWriter) -> Void) -> [UInt8] {
        var writer = JSONWriter(eventAt: at, of: node)
        write(&writer)
        writer.endObject()
        return writer.bytes
    }

    private func flush() {
        isFlushDue = false
        for reader in Array(readers.values) { send(to: reader) }
    }

    private func send(to reader: Reader) {
        guard !log.hasForgotten(reader.kinds, behind: reader.position - 1) else { return evict(reader) }
        while reader.position < log.end, reader.responder.bufferedBytes < Self.unsentBytes {
            reader.responder.write(
                log.frames(from: &reader.position, reader.kinds, upTo: Self.bytesAtATime))
        }
    }

    // MARK: Readers

    /// Whether another reader is taken; one that is not is counted.
    func admitsReader() -> Bool {
        if readers.count < Self.mostReaders, !isClosed { return true }
        refusedReaders += 1
        return false
    }

    /// Sends events from now on, or from behind the one with the id `lastEventID`; the head has been sent.
    ///
    /// - Parameters:
    ///   - start: what is known of the events of other nodes.
    ///   - isWelcome: whether the reader's token is still good.
    func add(
        _ responder: HTTPResponder, _ kinds: AdminEventKinds, from address: SocketAddress,
        lastEventID: String?, start: EventFollower.Start, isWelcome: @escaping () -> Bool
    ) {
        var resumption = log.resume(after: lastEventID, kinds)
        if resumption.gap == nil, let othersFrom = start.othersFrom, resumption.position < othersFrom {
            resumption.gap = .unfollowed
        }
        let reader = Reader(responder, kinds, address, at: resumption.position, isWelcome: isWelcome)
        let key = ObjectIdentifier(reader)
        readers[key] = reader
        responder.onCancel = { [weak self] in self?.readers[key] = nil }
        responder.onDrained = { [weak self, weak reader] in
            if let self, let reader { send(to: reader) }
        }
        responder.write(log.opening(at: reader.position, retryMilliseconds: Self.retryMilliseconds))
        if let gap = resumption.gap { responder.write(gapFrame(gap, lastEventID, at: reader.position)) }
        for (node, cause) in start.gaps {
            let data = Self.data(SystemClock.wall, node) { $0.field("cause", cause.rawValue) }
            responder.write(log.ownFrame("gap", data: data, at: reader.position))
        }
        if heartbeatTimer?.isArmed != true { heartbeatTimer?.arm(at: loop.now + Self.heartbeatInterval) }
        send(to: reader)
    }

    private func gapFrame(_ gap: EventLog.Gap, _ lastEventID: String?, at position: UInt64) -> [UInt8] {
        let data = Self.data(SystemClock.wall, nodeID) { writer in
            writer.field("last_event_id", lastEventID)
            writer.field("cause", gap.rawValue)
        }
        return log.ownFrame("gap", data: data, at: position)
    }

    /// Gives a reader up that is too far behind. It is told, should it ever read again: its place is lost.
    private func evict(_ reader: Reader) {
        evictedReaders += 1
        readers[ObjectIdentifier(reader)] = nil
        logger.warning(
            "a reader of events is too slow and given up", metadata: ["remote_address": "\(reader.address)"])
        let data = Self.data(SystemClock.wall, nodeID) { $0.field("cause", "too_slow") }
        reader.responder.write(log.ownFrame("evicted", data: data, at: reader.position))
        reader.responder.end()
    }

    /// Ends the streams of those whose token has expired or is revoked; asking again, they learn why.
    func review() {
        for (key, reader) in readers where !reader.isWelcome() {
            readers[key] = nil
            reader.responder.end()
        }
    }

    func beat() {
        review()
        guard !readers.isEmpty else { return }
        heartbeatTimer?.arm(at: loop.now + Self.heartbeatInterval)
        for reader in Array(readers.values) where reader.responder.bufferedBytes == 0 {
            send(to: reader)
            reader.responder.write(log.heartbeat(at: reader.position))
        }
    }

    /// Tells all readers that the node is down, ends their streams, and takes no more.
    func close() {
        guard !isClosed else { return }
        nodeStateChanged(.down)
        isClosed = true
        flush()
        let last = readers
        readers = [:]
        for reader in last.values { reader.responder.end() }
    }

    // MARK: Figures

    func writeMetrics(on page: inout MetricPage) {
        page.counters(
            "pop_events_total", "Events told, whether or not anybody listens", by: "type",
            told.all.map { ($0.kind.rawValue, $0.count) })
        page.gauge("pop_event_readers", "Readers of events", readers.count)
        page.counter("pop_event_readers_refused_total", "Readers turned away, too many", refusedReaders)
        page.counter("pop_event_readers_evicted_total", "Readers given up, too slow", evictedReaders)
    }
}
