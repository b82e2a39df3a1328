internal import Domain
internal import EventLoop
internal import Logging
internal import Postgres

/// Control loop to store thread.
enum StoreCommand: Sendable {
    case record(StoreEvent)
    case count([SessionUpdate])
    case forgetTokens(DeviceID)
    case remember(UserKey)
    case userChanged(UserName, UserKey?)
    case forgetUsers
    case followedUsers(Int64)
    case ask(UInt64, StoreQuery)
    case answerNode(SessionID, NodeAnswer)
    /// It was too late to begin with what another node has asked.
    case giveUpQuestion(SessionID)
    /// Answered with `figures`.
    case tellFigures
    /// Write what waits, not longer than this, and end.
    case stop(within: Duration)
}

/// Store thread to control loop.
enum StoreReply: Sendable {
    case durable([UInt64])
    case sessions(SessionNews)
    case answer(UInt64, Result<StoreAnswer, StoreFailure>)
    case health(StoreHealth)
    /// Of other nodes; each is answered or given up.
    case asked([ClaimedQuestion])
    /// Other nodes may have told of events.
    case eventsTold
    /// Rare and large, so it makes the others no larger.
    indirect case figures(StoreFigures)
}

/// What runs on the store's thread: the loop, the writer, the readers, and the way to them.
final class StoreThread {
    private let loop: EventLoop
    private let life: NodeLife
    private let writer: StoreWriter
    private let reader: StoreReader
    private let wake: WakeLink
    private let nodes: NodeRequests
    private let notes: NodeNotes?
    private let tokens: DeviceTokens
    private let users: KnownUsers
    private let rollups: RollupKeeper
    private let replies: Mailbox<StoreReply>
    private var healthTimer: LoopTimer?
    private var queryCounts = StoreQueryCounts()

    /// Counts change with every event; they are told at most this often, a lost connection at once.
    private static let healthInterval = Duration.milliseconds(250)

    /// Runs until a stop command is done.
    static func run(
        _ configuration: StoreConfiguration, _ log: Logger, _ commands: Mailbox<StoreCommand>,
        _ replies: Mailbox<StoreReply>
    ) {
        do {
            let thread = try StoreThread(configuration, log, commands, replies)
            thread.serve()
        } catch {
            log.critical("the store's loop could not be made", metadata: ["error": "\(error)"])
            replies.send(.health(StoreHealth(failure: error.description)))
        }
    }

    private init(
        _ configuration: StoreConfiguration, _ log: Logger, _ commands: Mailbox<StoreCommand>,
        _ replies: Mailbox<StoreReply>
    ) throws(SystemError) {
        let loop = try EventLoop()
        self.loop = loop
        self.replies = replies
        var random = SystemRandom()
        let life = NodeLife(id: configuration.node.nodeID, incarnation: SessionID(using: &random))
        self.life = life
        let disk = configuration.outboxPath.map { DiskQueue(path: $0, life: life, log: log, now: loop.now) }
        writer = StoreWriter(on: loop, configuration, life, disk: disk, log)
        notes = disk.map { NodeNotes(on: loop, disk: $0, life: life) }
        tokens = DeviceTokens(on: loop, disk: disk)
        users = KnownUsers(on: loop, disk: disk)
        reader = StoreReader(
            on: loop,
            PostgresConfiguration(
                connectionString: configuration.databaseURL, applicationName: "pop-node reader",
                statementTimeout: configuration.queryTimeout,
                answerTimeout: configuration.queryTimeout + .seconds(2),
                settings: StoreReader.plannerSettings,
                preparedStatements: StoreReader.preparedStatements),
            connections: max(1, configuration.poolSize - 1), life: life)
        wake = WakeLink(
            on: loop, databaseURL: configuration.databaseURL, node: configuration.node.nodeID, log: log)
        nodes = NodeRequests(on: loop, wake: wake, life: life, log: log)
        rollups = RollupKeeper(
            on: loop, databaseURL: configuration.databaseURL, retentionDays: configuration.retentionDays,
            log: log)
        rollups.isPrepared = { [writer] in writer.isPrepared }
        // The writer holds the wake link in its turn.
        wake.isPrepared = { [weak writer] in writer?.isPrepared ?? false }
        healthTimer = loop.makeTimer { [weak self] in self?.tellHealth() }
        writer.committed = { replies.send(.durable($0)) }
        writer.entered = { replies.send(.sessions(.entered($0))) }
        writer.undated = { replies.send(.sessions(.undated($0))) }
        writer.leaseNews = { replies.send(.sessions(.lease($0))) }
        writer.look = { [wake, weak writer] in
            wake.submit([NodeWrites.reapLostNodes]) { result in writer?.looked(result) }
        }
        wake.on(.takeovers) { [weak wake] in
            wake?.submit([NodeWrites.takeovers(life)]) { result in
                guard let rows = try? result.get().first?.rows else { return }
                let taken = rows.compactMap { row in try? row.value("session_id") { SessionID($0) } }
                if !taken.isEmpty { replies.send(.sessions(.takenOver(taken))) }
            }
        }
        writer.leftServer = { [reader, wake] in
            reader.restart()
            wake.restart()
        }
        wake.on(.events) { replies.send(.eventsTold) }
        nodes.claimed = { replies.send(.asked($0)) }
        writer.changed = { [weak self] in self?.healthChanged() }
        try loop.attach(commands) { [weak self] command in self?.handle(command) }
        writer.open()
        reader.open()
        wake.open()
    }

    private func serve() {
        loop.run()
    }

    private func handle(_ command: StoreCommand) {
        switch command {
        case .record(let event):
            note(event)
            writer.append(event)
        case .count(let updates):
            for update in updates { notes?.counted(update) }
        case .forgetTokens(let device):
            tokens.forget(device)
        case .remember(let user):
            users.remember(user)
        case .userChanged(let user, let key):
            users.changed(user, key)
        case .forgetUsers:
            users.forgetAll()
        case .followedUsers(let revision):
            users.followed(to: revision)
        case .ask(let id, let query):
            let asked = loop.now
            answer(query) { [weak self, replies] result in
                if let self { queryCounts.answered(query.kind, result, after: loop.now - asked) }
                replies.send(.answer(id, result))
            }
        case .answerNode(let id, let answer): nodes.answer(id, answer)
        case .giveUpQuestion(let id): nodes.giveUp(claimed: id)
        case .tellFigures:
            var figures = StoreFigures()
            figures.loop = loop.statistics
            figures.queries = queryCounts
            figures.readersReady = reader.readyCount
            writer.tell(&figures)
            nodes.tell(&figures)
            replies.send(.figures(figures))
        case .stop(let patience):
            notes?.write()
            tokens.write()
            writer.stop(within: patience) { [self] in
                reader.close()
                wake.close()
                rollups.stop()
                loop.stop()
            }
        }
    }

    private func note(_ event: StoreEvent) {
        switch event {
        case .sessionStarted(let record, _): notes?.started(record)
        case .sessionEnded(let end): notes?.ended(end.sessionID)
        default: break
        }
    }

    private func answer(
        _ query: StoreQuery, _ done: @escaping (Result<StoreAnswer, StoreFailure>) -> Void
    ) {
        let cause = writer.health.failure ?? "the store is starting"
        let isAvailable = writer.isPrepared
        if case .deviceOfToken(let hash) = query {
            return tokens.holder(
                of: hash, unavailable: cause,
                ask: isAvailable ? { [reader] in reader.answer(query, $0) } : nil, done)
        }
        if case .userKey(let name) = query {
            return users.find(
                name, unavailable: cause, ask: isAvailable ? { [reader] in reader.answer(query, $0) } : nil,
                done)
        }
        if case .followedUsers = query { return done(.success(.followedUsers(users.followedRevision))) }
        guard isAvailable else { return done(.failure(.unavailable(cause))) }
        switch query {
        case .claimSessions(let claims):
            writer.claim(claims) { done($0.map { .claimed($0) }) }
        case .regainLease(let term):
            writer.regain(term: term) { done($0.map { .changed($0) }) }
        case .settleTakeovers(let sessions):
            wake.submit([NodeWrites.settleTakeovers(sessions, life)]) { result in
                done(
                    result.map { .changed(($0.first?.affectedRows ?? 0) > 0) }
                        .mapError { .unavailable($0.description) })
            }
        case .askNode(let question):
            nodes.ask(question) { done($0.map { .nodeAsked($0) }) }
        default:
            reader.answer(query, done)
        }
    }

    private var toldConnected = false

    private func healthChanged() {
        if writer.isConnected != toldConnected { return tellHealth() }
        guard healthTimer?.isArmed != true else { return }
        healthTimer?.arm(at: loop.now + Self.healthInterval)
    }

    private func tellHealth() {
        toldConnected = writer.isConnected
        replies.send(.health(writer.health))
    }
}
