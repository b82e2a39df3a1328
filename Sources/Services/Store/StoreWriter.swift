internal import Domain
internal import EventLoop
internal import Logging
internal import Membership
internal import Postgres

/// Writes events: one batch at a time, in order, over one connection.
///
///     waiting for the database -> migrating -> beginning this life -> writing
///
/// A batch that fails for want of a database is written again, whole: its statements are idempotent. What the
/// database does not take in time waits on disk meanwhile (``Backlog``). A batch with a value that the
/// database refuses is halved until the one event is found, which is set aside with the reason, so that it
/// can't stand in the way of the others.
final class StoreWriter {
    /// Called with what session starts are acknowledged with, once they are durable.
    var committed: (([UInt64]) -> Void)?
    /// Called with what the database told of sessions that started, before their acknowledgement.
    var entered: (([SessionEntry]) -> Void)?
    /// Called with sessions of this life that were put on record without a word of when they began.
    var undated: (([SessionID]) -> Void)?
    /// Called when what this node has on record may be amiss.
    var leaseNews: ((LeaseNews) -> Void)?
    /// Called when it is time to look for nodes that have lost their lease.
    var look: (() -> Void)?
    /// Called when the server turned out to be one that takes no writes.
    var leftServer: (() -> Void)?
    /// Called when connection or counts have changed enough to tell.
    var changed: (() -> Void)?

    private let loop: EventLoop
    private let configuration: StoreConfiguration
    private let life: NodeLife
    private let log: Logger
    private let link: PostgresLink
    private let backlog: Backlog
    private let disk: DiskQueue?
    private var phase = Phase.waiting
    private var writingSince: Instant?
    private var batchEvents = StoreWriter.maximumBatchEvents
    private var nodeState = NodeState.active
    private var flushTimer: LoopTimer?
    private var spillTimer: LoopTimer?
    private var pauseTimer: LoopTimer?
    private var leaseTimer: LoopTimer?
    private var upkeepTimer: LoopTimer?
    private var migration: MigrationRun?
    private var consecutiveFailures = 0
    private var refusedInARow = 0
    /// Why the last batch was not written; nil when it was.
    private var batchFailure: PostgresError?
    private var stopped: (() -> Void)?
    private var lease = LeaseKeeper()
    private(set) var isConnected = false
    private var connectionFailure: String?
    private var writtenEvents: UInt64 = 0
    private var refusedEvents: UInt64 = 0
    private var counts = StoreWriteCounts()

    private enum Phase {
        /// Not connected, or connected and not yet fit to write.
        case waiting
        case migrating
        case beginning
        case writing
    }

    /// Done in well under a second, and reached only by a writer that is behind: on a machine that has other work,
    /// what each batch waits for a processor and the disk is shared by the more events.
    private static let maximumBatchEvents = 8_000
    /// A database that is so slow that batches run out of time gets smaller ones, but not single events.
    private static let minimumBatchEvents = 50
    /// A batch is done in well under a second; while one has no answer for this long, nobody waits for it.
    private static let stallLimit = Duration.seconds(1)
    /// For a statement that waits for a lock or a disk; the connection to a server that hangs lasts 5 s more.
    private static let statementTimeout = Duration.seconds(15)
    /// Each row of a set finds its row by an index. What the planner believes of tables that fill and change so
    /// fast is always out of date: left to itself it reads all devices to change forty of them.
    static let plannerSettings = [
        "enable_seqscan": "off", "enable_bitmapscan": "off", "enable_hashjoin": "off",
        "enable_mergejoin": "off", "enable_material": "off", "jit": "off",
        "max_parallel_workers_per_gather": "0",
    ]
    private static let upkeepInterval = Duration.seconds(3_600)
    /// A node that is restarted often drops what has expired, too, once its start is over.
    private static let firstUpkeepDelay = Duration.seconds(60)
    /// More refusals in a row than this are the schema's fault and not the events': the rest goes slowly, so that
    /// somebody can mend it before everything is set aside.
    private static let refusalsOfEvents = 100
    private static let shortestPause = Duration.milliseconds(100)
    private static let longestPause = Duration.seconds(5)

    /// - Parameter disk: nil: what can't be written waits in memory alone.
    init(
        on loop: EventLoop, _ configuration: StoreConfiguration, _ life: NodeLife, disk: DiskQueue?,
        _ log: Logger, queueCapacity: Int = WriteQueue.defaultCapacity
    ) {
        self.loop = loop
        self.configuration = configuration
        self.life = life
        self.log = log
        self.disk = disk
        backlog = Backlog(life: life, disk: disk, memoryCapacity: queueCapacity, now: SystemClock.now)
        link = PostgresLink(
            on: loop,
            PostgresConfiguration(
                connectionString: configuration.databaseURL, applicationName: "pop-node writer",
                statementTimeout: Self.statementTimeout,
                answerTimeout: Self.statementTimeout + .seconds(5), settings: Self.plannerSettings))
        link.opened = { [weak self] in self?.linkOpened() }
        link.lost = { [weak self] error in self?.linkLost(error) }
        link.noticed = { [weak self] text in self?.log.info("database notice", metadata: ["text": "\(text)"])
        }
        flushTimer = loop.makeTimer { [weak self] in self?.pump() }
        spillTimer = loop.makeTimer { [weak self] in self?.spill() }
        pauseTimer = loop.makeTimer { [weak self] in self?.resume() }
        leaseTimer = loop.makeTimer { [weak self] in self?.keepLease() }
        upkeepTimer = loop.makeTimer { [weak self] in self?.maintainPartitions() }
        changed?()
    }

    var health: StoreHealth {
        StoreHealth(
            isConnected: isConnected, failure: connectionFailure, waitingEvents: backlog.count,
            writtenEvents: writtenEvents, droppedEvents: backlog.droppedCount, refusedEvents: refusedEvents,
            outbox: disk?.health)
    }

    /// Whether the schema is there and this life has begun: before, queries have nothing to ask.
    var isPrepared: Bool { phase == .writing }

    func open() {
        link.open()
        armSpill()
    }

    /// Writes down what there is to tell of the writer.
    func tell(_ figures: inout StoreFigures) {
        figures.health = health
        figures.writes = counts
        figures.oldestEventAge = backlog.oldest.map { loop.now - $0 } ?? .zero
        figures.leaseAge = lease.renewedAt.map { loop.now - $0 }
        figures.droppedFromMemory = backlog.droppedFromMemory
        figures.droppedFromDisk = backlog.droppedFromDisk
    }

    // MARK: What comes in

    func append(_ event: StoreEvent) {
        if case .nodeState(let state) = event {
            nodeState = state
            if phase == .writing { renewLease() }
            return
        }
        if case .nodeVitals(let vitals) = event {
            // Old by the time that a database which is away has come back.
            if phase == .writing, link.isReady { link.submit([NodeWrites.tell(vitals, life)]) { _ in } }
            return
        }
        let droppedBefore = backlog.droppedCount
        backlog.append(event, now: loop.now)
        if backlog.droppedCount > droppedBefore {
            log.warning(
                "no room for events while the database is away: the less important ones are dropped",
                metadata: ["dropped_total": "\(backlog.droppedCount)"])
        }
        changed?()
        pump()
        // What waits already is older, and due no later.
        if event.acknowledgement != nil || spillTimer?.isArmed != true { armSpill() }
    }

    /// Writes what waits, says that the node is down, and calls `done`; not later than `patience`. What the
    /// database does not take by then, or can't take now, is left on disk for the next life.
    func stop(within patience: Duration, _ done: @escaping () -> Void) {
        stopped = done
        nodeState = .down
        let deadline = loop.makeTimer { [weak self] in self?.finish() }
        deadline.arm(at: loop.now + patience)
        proceedStopping()
        pump()
    }

    /// Ends without waiting for the database where waiting can't help and the disk has everything.
    private func proceedStopping() {
        guard stopped != nil, isAway || backlog.hasMoreOnDisk else { return }
        spillAll()
        guard backlog.memoryCount == 0 else { return }
        if isAway { finish() } else { sayDown() }
    }

    private func sayDown() {
        guard stopped != nil, writingSince == nil else { return }
        writingSince = loop.now
        link.submit([NodeWrites.renewLease(life, .down)]) { [weak self] _ in self?.finish() }
    }

    private func finish() {
        guard let stopped else { return }
        self.stopped = nil
        for timer in [flushTimer, spillTimer, pauseTimer, leaseTimer, upkeepTimer] { timer?.cancel() }
        spillAll()
        if backlog.memoryCount > 0 {
            log.error("events not written at the end", metadata: ["count": "\(backlog.memoryCount)"])
        } else if backlog.count > 0 {
            log.notice("events left on disk for the next start", metadata: ["count": "\(backlog.count)"])
        }
        migration?.end()
        link.close()
        stopped()
    }

    // MARK: Connection

    /// Whether nothing is to be expected of the database right now.
    private var isAway: Bool {
        if phase != .writing || !link.isReady || !lease.isHeld || pauseTimer?.isArmed == true { return true }
        return writingSince.map { loop.now - $0 >= Self.stallLimit } ?? false
    }

    private func linkOpened() {
        pauseTimer?.cancel()
        consecutiveFailures = 0
        log.info("database connected")
        switch phase {
        case .writing:
            lease.opened(at: loop.now)
            keepLease()
        case .waiting, .migrating, .beginning:
            prepare()
        }
    }

    private func linkLost(_ error: PostgresError) {
        counts.connectionsLost &+= 1
        if isConnected || connectionFailure == nil {
            log.warning("database not reachable", metadata: ["error": "\(error)"])
        }
        if phase == .beginning { phase = .waiting }
        lease.closed()
        // What made us leave says more than that we left.
        noteConnection(
            false,
            failure: error.kind == .closed ? connectionFailure ?? error.description : error.description)
        armSpill()
        proceedStopping()
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
        let asked = loop.now
        link.submit(NodeWrites.begin(life, configuration.node, nodeState)) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success(let results):
                phase = .writing
                lease.opened(at: loop.now)
                if let row = results.last?.rows.first { renewed(row, asked) }
                keepLease()
                readSchemaVersion()
                noteConnection(true)
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
        noteConnection(false, failure: cause)
        let pause = min(Self.shortestPause * (1 << min(consecutiveFailures, 10)), Self.longestPause)
        consecutiveFailures += 1
        pauseTimer?.arm(at: loop.now + pause)
        armSpill()
        proceedStopping()
    }

    private func resume() {
        guard link.isReady else { return }
        if phase == .waiting { prepare() } else { pump() }
    }

    // MARK: Writing

    private func pump() {
        guard writingSince == nil, pauseTimer?.isArmed != true else { return }
        guard phase == .writing, link.isReady, lease.isHeld else { return }
        guard !backlog.isEmpty else {
            if stopped != nil { sayDown() }
            return
        }
        let due = backlog.dueAt(
            flushInterval: configuration.flushInterval, batchEvents: batchEvents, now: loop.now)
        guard let due else { return }
        guard due <= loop.now || stopped != nil else {
            flushTimer?.arm(at: due)
            return
        }
        guard let batch = backlog.take(batchEvents, now: loop.now) else { return armSpill() }
        write(batch)
        armSpill()
    }

    private func readSchemaVersion() {
        link.submit([NodeWrites.schemaVersion]) { [weak self] result in
            guard let row = try? result.get().first?.rows.first else { return }
            self?.counts.schemaVersion = (try? row.integer("version")) ?? 0
        }
    }

    private func write(_ batch: WriteBatch) {
        var statements = batch.statements(lease.clock, isOfThisLife: batch.life == life)
        if batch.life != life {
            statements += NodeWrites.close(batch.life, before: life, configuration.node)
        }
        let started = loop.now
        writingSince = started
        counts.batchEvents.note(UInt64(batch.events.count))
        link.submit(statements) { [weak self] result in
            guard let self else { return }
            writingSince = nil
            counts.batchTimes.note(loop.now - started)
            switch result {
            case .success(let results): wrote(results)
            case .failure(let error): failed(error)
            }
            proceedStopping()
            pump()
            armSpill()
        }
    }

    private func wrote(_ results: [PostgresResult]) {
        guard let batch = backlog.confirm(now: loop.now) else { return }
        consecutiveFailures = 0
        counts.batches.note(.committed)
        for event in batch.events { counts.written.note(event.kind) }
        refusedInARow = 0
        batchFailure = nil
        batchEvents = min(batchEvents * 2, Self.maximumBatchEvents)
        writtenEvents &+= UInt64(batch.events.count)
        let undatedStarts = batch.life == life ? Set(batch.undatedStarts) : []
        // Who can't say when it began has not lost its device yet: its claim will tell.
        let entries = (try? batch.entries(in: results)) ?? []
        let settled = entries.filter { $0.isOwner || !undatedStarts.contains($0.sessionID) }
        if !settled.isEmpty { entered?(settled) }
        if !undatedStarts.isEmpty { undated?(Array(undatedStarts)) }
        acknowledge(batch.acknowledgements)
        noteConnection(true)
    }

    private func failed(_ error: PostgresError) {
        guard error.isDataError else {
            backlog.giveBack(inHalves: false)
            counts.batches.note(.retried)
            batchFailure = error
            if error.isOutOfTime { batchEvents = max(batchEvents / 2, Self.minimumBatchEvents) }
            // A lost connection brings its own pause; anything else would come back at once.
            if link.isReady {
                log.error("a batch could not be written", metadata: ["error": "\(error)"])
                react(to: error)
                fail(error.description)
            }
            return
        }
        guard let event = backlog.onlyEvent else {
            counts.batches.note(.halved)
            return backlog.giveBack(inHalves: true)
        }
        counts.batches.note(.refused)
        counts.refused.note(event.kind)
        backlog.setAside(reason: error.description, now: loop.now)
        refusedEvents &+= 1
        refusedInARow += 1
        if refusedInARow > Self.refusalsOfEvents { pauseTimer?.arm(at: loop.now + Self.longestPause) }
        log.error(
            "the database refuses an event: it is set aside",
            metadata: ["error": "\(error)", "event": "\(event.name)"])
        // On disk it is kept, if not where it belongs; without a disk it is gone.
        if disk != nil { acknowledge([event.acknowledgement].compactMap { $0 }) }
        changed?()
    }

    private func acknowledge(_ numbers: [UInt64]) {
        if !numbers.isEmpty { committed?(numbers) }
    }

    /// After a failover the server we are connected to may be a standby: a new connection finds the other one.
    /// And a database that was replaced by an empty one is made ready anew.
    private func react(to error: PostgresError) {
        if error.isReadOnly {
            link.restart()
            leftServer?()
        } else if error.isSchemaMissing, phase == .writing {
            phase = .waiting
        }
    }

    // MARK: To disk

    private func armSpill() {
        if let due = backlog.spillAt(isAway: isAway) {
            spillTimer?.arm(at: due)
        } else {
            spillTimer?.cancel()
        }
    }

    private func spill() {
        acknowledge(backlog.spill(now: loop.now))
        noteStall()
        changed?()
        armSpill()
        pump()
    }

    private func spillAll() {
        var before = Int.max
        while backlog.memoryCount > 0, backlog.memoryCount < before {
            before = backlog.memoryCount
            acknowledge(backlog.spill(now: loop.now))
        }
    }

    /// A server that takes a batch and says nothing is as good as away, long before the connection is given up.
    private func noteStall() {
        guard let since = writingSince, loop.now - since >= Self.stallLimit, isConnected else {
            return
        }
        noteConnection(false, failure: "the database does not answer")
    }

    // MARK: At intervals

    private func keepLease() {
        guard phase == .writing, stopped == nil else { return }
        noteStall()
        for order in lease.expire(at: loop.now) {
            switch order {
            case .renew: renewLease()
            case .look: look?()
            }
        }
        leaseTimer?.arm(at: lease.nextDeadline)
    }

    private func renewLease() {
        guard phase == .writing, stopped == nil, link.isReady else { return }
        let asked = loop.now
        link.submit([NodeWrites.renewLease(life, nodeState)]) { [weak self] result in
            guard let self, phase == .writing, stopped == nil else { return }
            switch result {
            case .success(let results): renewedLease(results.first?.rows.first, asked)
            case .failure(let error):
                guard link.isReady else { return }
                react(to: error)
                if phase == .writing {
                    noteConnection(false, failure: error.description)
                } else {
                    fail(error.description)
                }
            }
        }
    }

    private func renewedLease(_ row: PostgresRow?, _ asked: Instant) {
        guard let row, (try? row.boolean("is_renewed")) == false else {
            if let row { renewed(row, asked) }
            // A batch that fails says more than a lease that doesn't.
            if batchFailure == nil, !isAway { noteConnection(true) }
            return pump()
        }
        if (try? row.boolean("is_present")) == true {
            log.error(
                "another process goes by this node's id: give each node its own",
                metadata: ["node_id": "\(life.id)"])
        } else {
            // Someone removed the node's row, or restored an older database: this life begins again.
            phase = .waiting
            begin()
        }
    }

    private func renewed(_ row: PostgresRow, _ asked: Instant) {
        guard let answer = try? NodeWrites.leaseAnswer(row),
            let news = lease.renewed(answer, sentAt: asked, at: loop.now)
        else { return }
        if case .lost = news {
            counts.leasesLost &+= 1
            log.warning("this node was declared lost: what lives here is put on record again")
        }
        leaseNews?(news)
    }

    /// Others have been looked at, with this result.
    func looked(_ result: Result<[PostgresResult], PostgresError>) {
        var hasMore = false
        if let row = try? result.get().first?.rows.first {
            let lost = (try? row.strings("lost_nodes")) ?? []
            let closed: UInt64? = try? row.integer("sessions_closed")
            for node in lost { log.warning("a node is lost", metadata: ["node_id": "\(node)"]) }
            counts.nodesDeclaredLost &+= UInt64(lost.count)
            counts.lostSessionsClosed &+= closed ?? 0
            hasMore = (try? row.boolean("has_more")) == true
        }
        lease.looked(hasMore: hasMore, at: loop.now)
        if phase == .writing, stopped == nil { leaseTimer?.arm(at: lease.nextDeadline) }
    }

    /// Makes true what is on record of sessions that live. After a failure it may be asked anew, of those that
    /// live then.
    func claim(
        _ claims: [SessionClaim], _ answer: @escaping (Result<[SessionEntry], StoreFailure>) -> Void
    ) {
        guard phase == .writing, stopped == nil, lease.isHeld else {
            return answer(.failure(.unavailable(connectionFailure ?? "not connected")))
        }
        link.submit([SessionWrites.claim(claims, life, lease.clock)]) { [log] result in
            do throws(PostgresError) {
                let rows = try result.get().first
                answer(.success(try rows.map(SessionWrites.entries) ?? []))
            } catch {
                log.warning("sessions could not be claimed", metadata: ["error": "\(error)"])
                answer(.failure(.unavailable(error.description)))
            }
        }
    }

    /// Takes the lease again after the node was lost; tells whether it did.
    func regain(term: Int64, _ answer: @escaping (Result<Bool, StoreFailure>) -> Void) {
        guard phase == .writing, stopped == nil else {
            return answer(.failure(.unavailable(connectionFailure ?? "not connected")))
        }
        link.submit([NodeWrites.regainLease(life, nodeState, term: term)]) { [log] result in
            do throws(PostgresError) {
                let isRegained = (try result.get().first?.affectedRows ?? 0) > 0
                if isRegained { log.notice("this node is no longer lost") }
                answer(.success(isRegained))
            } catch {
                answer(.failure(.unavailable(error.description)))
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

    private func noteConnection(_ isConnected: Bool, failure: String? = nil) {
        self.isConnected = isConnected
        connectionFailure = isConnected ? nil : failure
        changed?()
    }
}
