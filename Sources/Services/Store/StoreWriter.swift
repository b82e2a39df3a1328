internal import DequeModule
internal import Domain
internal import EventLoop
internal import Logging
internal import Postgres

/// Writes events: one batch at a time, in order, over one connection.
///
///     waiting for the database -> migrating -> beginning this life -> writing
///
/// A batch that fails for want of a database is written again, whole: its statements are idempotent. A batch
/// with a value that the database refuses is halved until the one event is found, which is given up and
/// logged, so that it can't stand in the way of the others.
final class StoreWriter {
    /// Called with what a committed batch's session starts are acknowledged with.
    var committed: (([UInt64]) -> Void)?
    /// Called with what the database told of devices whose sessions started, before their acknowledgement.
    var learned: (([DeviceFirstSeen]) -> Void)?
    /// Called when connection or counts have changed enough to tell.
    var changed: (() -> Void)?

    private let loop: EventLoop
    private let configuration: StoreConfiguration
    private let node: NodeLife
    private let log: Logger
    private let link: PostgresLink
    private var queue: WriteQueue
    /// Batches that were tried and go before all that waits.
    private var retries = Deque<WriteBatch>()
    private var phase = Phase.waiting
    private var isWriting = false
    private var oldestWaiting: Instant?
    private var nodeState = NodeState.active
    private var flushTimer: LoopTimer?
    private var pauseTimer: LoopTimer?
    private var leaseTimer: LoopTimer?
    private var upkeepTimer: LoopTimer?
    private var migration: MigrationRun?
    private var consecutiveFailures = 0
    private var stopped: (() -> Void)?
    private(set) var health = StoreHealth()

    private enum Phase {
        /// Not connected, or connected and not yet fit to write.
        case waiting
        case migrating
        case beginning
        case writing
    }

    /// Enough to make a round trip cheap, few enough to be done in well under a second.
    private static let maximumBatchEvents = 2_000
    private static let leaseInterval = Duration.seconds(2)
    private static let upkeepInterval = Duration.seconds(3_600)
    /// A node that is restarted often drops what has expired, too, once its start is over.
    private static let firstUpkeepDelay = Duration.seconds(60)
    private static let shortestPause = Duration.milliseconds(100)
    private static let longestPause = Duration.seconds(5)

    init(
        on loop: EventLoop, _ configuration: StoreConfiguration, _ node: NodeLife, _ log: Logger,
        queueCapacity: Int = WriteQueue.defaultCapacity
    ) {
        self.loop = loop
        self.configuration = configuration
        self.node = node
        self.log = log
        queue = WriteQueue(capacity: queueCapacity)
        link = PostgresLink(
            on: loop,
            PostgresConfiguration(
                connectionString: configuration.databaseURL, applicationName: "pop-node writer"))
        link.opened = { [weak self] in self?.linkOpened() }
        link.lost = { [weak self] error in self?.linkLost(error) }
        link.noticed = { [weak self] text in self?.log.info("database notice", metadata: ["text": "\(text)"])
        }
        flushTimer = loop.makeTimer { [weak self] in self?.pump() }
        pauseTimer = loop.makeTimer { [weak self] in self?.resume() }
        leaseTimer = loop.makeTimer { [weak self] in self?.renewLease() }
        upkeepTimer = loop.makeTimer { [weak self] in self?.maintainPartitions() }
    }

    /// Whether the schema is there and this life has begun: before, queries have nothing to ask.
    var isPrepared: Bool { phase == .writing }

    func open() {
        link.open()
    }

    // MARK: What comes in

    func append(_ event: StoreEvent) {
        if case .nodeState(let state) = event {
            nodeState = state
            if phase == .writing { renewLease() }
            return
        }
        if oldestWaiting == nil { oldestWaiting = loop.now }
        let droppedBefore = queue.droppedCount
        queue.append(event)
        if queue.droppedCount > droppedBefore {
            log.warning(
                "no room for events while the database is away: the less important ones are dropped",
                metadata: ["dropped_total": "\(queue.droppedCount)"])
        }
        noteHealth()
        pump()
    }

    /// Writes what waits, says that the node is down, and calls `done`; not later than `patience`.
    func stop(within patience: Duration, _ done: @escaping () -> Void) {
        stopped = done
        nodeState = .down
        let deadline = loop.makeTimer { [weak self] in self?.finish() }
        deadline.arm(at: loop.now + patience)
        pump()
    }

    private func finish() {
        guard let stopped else { return }
        self.stopped = nil
        for timer in [flushTimer, pauseTimer, leaseTimer, upkeepTimer] { timer?.cancel() }
        if !queue.isEmpty || !retries.isEmpty {
            log.error("events not written at the end", metadata: ["count": "\(waitingCount)"])
        }
        link.close()
        stopped()
    }

    // MARK: Connection

    private func linkOpened() {
        pauseTimer?.cancel()
        consecutiveFailures = 0
        log.info("database connected")
        switch phase {
        case .writing:
            renewLease()
            noteHealth(isConnected: true)
            pump()
        case .waiting, .migrating, .beginning:
            prepare()
        }
    }

    private func linkLost(_ error: PostgresError) {
        if health.isConnected || health.failure == nil {
            log.warning("database not reachable", metadata: ["error": "\(error)"])
        }
        if phase == .beginning { phase = .waiting }
        noteHealth(isConnected: false, failure: error.description)
    }

    private func prepare() {
        guard configuration.autoMigrate else { return begin() }
        guard migration == nil else { return }
        phase = .migrating
        migration = MigrationRun(on: loop, databaseURL: configuration.databaseURL) { [weak self] outcome in
            self?.migrated(outcome)
        }
    }

    private func migrated(_ outcome: Migrator.Outcome) {
        migration = nil
        phase = .waiting
        switch outcome {
        case .success:
            begin()
        case .failure(let error):
            log.error("migrations failed", metadata: ["error": "\(error)"])
            fail(error.description)
        }
    }

    private func begin() {
        guard link.isReady, phase == .waiting else { return }
        phase = .beginning
        upkeep(NodeWrites.makePartitions)
        link.submit(NodeWrites.begin(node, nodeState)) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success:
                phase = .writing
                noteHealth(isConnected: true)
                leaseTimer?.arm(at: loop.now + Self.leaseInterval)
                upkeepTimer?.arm(at: loop.now + Self.firstUpkeepDelay)
                pump()
            case .failure(let error):
                phase = .waiting
                log.error("this node could not be entered", metadata: ["error": "\(error)"])
                fail(error.description)
            }
        }
    }

    /// Tries again after a pause that grows with the failures in a row.
    private func fail(_ cause: String) {
        noteHealth(isConnected: false, failure: cause)
        let pause = min(Self.shortestPause * (1 << min(consecutiveFailures, 10)), Self.longestPause)
        consecutiveFailures += 1
        pauseTimer?.arm(at: loop.now + pause)
    }

    private func resume() {
        guard link.isReady else { return }
        if phase == .waiting { prepare() } else { pump() }
    }

    // MARK: Writing

    private var waitingCount: Int { queue.count + retries.reduce(0) { $0 + $1.events.count } }

    private func pump() {
        guard !isWriting, pauseTimer?.isArmed != true else { return }
        guard phase == .writing, link.isReady else { return }
        if let batch = retries.popFirst() { return write(batch) }
        guard let oldest = oldestWaiting, !queue.isEmpty else { return finishIfStopping() }
        let due = oldest + configuration.flushInterval
        // Somebody waits for a session's start; all that waits beside it goes with it.
        let isDue =
            queue.waitingStarts > 0 || queue.count >= Self.maximumBatchEvents || due <= loop.now
            || stopped != nil
        guard isDue else {
            flushTimer?.arm(at: due)
            return
        }
        let batch = WriteBatch(events: queue.take(Self.maximumBatchEvents))
        oldestWaiting = queue.isEmpty ? nil : oldest
        write(batch)
    }

    private func write(_ batch: WriteBatch) {
        let statements = batch.statements(for: node)
        guard !statements.isEmpty else { return pump() }
        isWriting = true
        link.submit(statements) { [weak self] result in
            guard let self else { return }
            isWriting = false
            switch result {
            case .success(let results): wrote(batch, results)
            case .failure(let error): failed(batch, error)
            }
        }
    }

    private func wrote(_ batch: WriteBatch, _ results: [PostgresResult]) {
        consecutiveFailures = 0
        health.writtenEvents &+= UInt64(batch.events.count)
        if let sightings = try? batch.firstSightings(in: results), !sightings.isEmpty { learned?(sightings) }
        let acknowledgements = batch.acknowledgements
        if !acknowledgements.isEmpty { committed?(acknowledgements) }
        noteHealth(isConnected: true)
        pump()
    }

    private func failed(_ batch: WriteBatch, _ error: PostgresError) {
        guard error.isDataError else {
            retries.prepend(batch)
            // A lost connection brings its own pause; anything else would come back at once.
            if link.isReady {
                log.error("a batch could not be written", metadata: ["error": "\(error)"])
                fail(error.description)
            }
            return
        }
        if let (first, second) = batch.halves {
            retries.prepend(second)
            retries.prepend(first)
        } else {
            health.refusedEvents &+= 1
            log.error(
                "the database refuses an event: it is given up",
                metadata: ["error": "\(error)", "event": "\(batch.events.first.map(Self.kind) ?? "")"])
        }
        pump()
    }

    /// What an event is, without what a client or device put into it.
    private static func kind(_ event: StoreEvent) -> String {
        switch event {
        case .sessionStarted(let record, _): "session_started \(record.sessionID)"
        case .sessionUpdated(let update): "session_updated \(update.sessionID)"
        case .sessionEnded(let end): "session_ended \(end.sessionID)"
        case .deviceState(let state): "device_state \(state.sessionID)"
        case .loadReport(let sample): "load_report \(sample.sessionID)"
        case .connEnded(let conn): "conn_ended \(conn.connID)"
        case .nodeState: "node_state"
        case .nodeSample: "node_sample"
        case .audited(let record): "audited \(record.auditID)"
        case .adminTokensUsed: "admin_tokens_used"
        case .drainChanged(let drain): "drain_changed \(drain.drainID)"
        }
    }

    private func finishIfStopping() {
        guard stopped != nil else { return }
        isWriting = true
        link.submit([NodeWrites.renewLease(node, .down)]) { [weak self] _ in self?.finish() }
    }

    // MARK: At intervals

    private func renewLease() {
        guard phase == .writing, stopped == nil else { return }
        leaseTimer?.arm(at: loop.now + Self.leaseInterval)
        guard link.isReady else { return }
        link.submit([NodeWrites.renewLease(node, nodeState)]) { [weak self] result in
            guard let self, phase == .writing, stopped == nil, case .success(let results) = result,
                let row = results.first?.rows.first, (try? row.boolean("is_renewed")) == false
            else { return }
            if (try? row.boolean("is_present")) == true {
                log.error(
                    "another process goes by this node's id: give each node its own",
                    metadata: ["node_id": "\(node.record.nodeID)"])
            } else {
                // Someone removed the node's row, or restored an older database: this life begins again.
                phase = .waiting
                begin()
            }
        }
    }

    private func maintainPartitions() {
        upkeepTimer?.arm(at: loop.now + Self.upkeepInterval)
        guard phase == .writing, link.isReady else { return }
        upkeep(NodeWrites.makePartitions)
        upkeep(NodeWrites.dropExpired(retentionDays: configuration.retentionDays))
        upkeep(NodeWrites.dropExpiredRecords(retentionDays: configuration.retentionDays))
    }

    /// A transaction of its own, as it locks whole tables for a moment; what has no partition yet lands in
    /// the default one, so a failure can wait for the next time.
    private func upkeep(_ statement: PostgresStatement) {
        link.submit([statement]) { [log] result in
            if case .failure(let error) = result {
                log.warning("partitions could not be maintained", metadata: ["error": "\(error)"])
            }
        }
    }

    private func noteHealth(isConnected: Bool? = nil, failure: String? = nil) {
        let before = health
        if let isConnected {
            health.isConnected = isConnected
            health.failure = isConnected ? nil : failure
        }
        health.waitingEvents = waitingCount
        health.droppedEvents = queue.droppedCount
        if health != before { changed?() }
    }
}
