internal import Domain
internal import EventLoop
internal import Logging
internal import Postgres

/// What a node may be woken for; each is a channel of NOTIFY.
enum WakeSubject: String, CaseIterable {
    /// Requests of other nodes wait for this one.
    case requests = "pop_requests"
    /// Requests of this node have been answered.
    case answers = "pop_answers"
    /// Devices of this node's sessions have come to other nodes.
    case takeovers = "pop_takeovers"
    /// Nodes have told of what happens there.
    case events = "pop_events"
}

/// Looks at rows that other nodes write for this one: as soon as it is told of them, and about every second
/// whether or not it is told.
///
///     another node: INSERT ...; pg_notify  ---->  heard  --\
///     about every second                   ----------------->  look at the rows
///     connected (again)                    ----------------/
///
/// A notification only wakes: it carries nothing that the rows don't say, and may be lost or come twice. So a
/// connection pooler that breaks LISTEN, a restart of the server and a fail-over cost no more than a second. What
/// looks asks over the same connection, so that one which is dead without a word is noticed by the next look.
final class WakeLink {
    /// Whether the schema is there; before, nobody looks.
    var isPrepared: () -> Bool = { false }

    private let loop: EventLoop
    private let node: NodeID
    private let log: Logger
    private let link: PostgresLink
    private let interval: Duration
    private var timer: LoopTimer?
    private var looks: [WakeSubject: [() -> Void]] = [:]
    private var due: Set<WakeSubject> = []
    private var hasToldOfRefusal = false
    private(set) var heardCount: UInt64 = 0

    /// What nobody was told of is found after this.
    static let standardInterval = Duration.seconds(1)
    /// Whatever is asked over this connection is a step in an answer that somebody waits for.
    private static let statementTimeout = Duration.seconds(3)

    init(
        on loop: EventLoop, databaseURL: String, node: NodeID, log: Logger,
        interval: Duration = standardInterval
    ) {
        self.loop = loop
        self.node = node
        self.log = log
        self.interval = interval
        link = PostgresLink(
            on: loop,
            PostgresConfiguration(
                connectionString: databaseURL, applicationName: "pop-node wake",
                statementTimeout: Self.statementTimeout,
                answerTimeout: Self.statementTimeout + .seconds(1)))
        link.opened = { [weak self] in self?.listen() }
        link.notified = { [weak self] channel, payload in self?.heard(channel, payload) }
        timer = loop.makeTimer { [weak self] in self?.poll() }
    }

    deinit {
        timer?.cancel()
    }

    /// Has `look` called whenever there may be something of `subject` to be found; from now on.
    func on(_ subject: WakeSubject, _ look: @escaping () -> Void) {
        looks[subject, default: []].append(look)
    }

    /// Wakes one node, or all, once the transaction that has this statement is committed.
    static func wake(_ subject: WakeSubject, _ node: NodeID? = nil) -> PostgresStatement {
        PostgresStatement(
            "SELECT pg_notify($1, $2)", [.text(subject.rawValue), .text(node?.description ?? "")])
    }

    // MARK: The connection

    func open() {
        link.open()
        timer?.arm(at: loop.now + interval)
    }

    func close() {
        timer?.cancel()
        link.close()
    }

    /// Connects anew, to whatever server is the right one now.
    func restart() {
        link.restart()
    }

    /// Whether statements can be submitted: one that is submitted while not has surely not been done.
    var isReady: Bool { link.isReady && isPrepared() }

    func submit(_ statements: [PostgresStatement], answer: @escaping PostgresConnection.Answer) {
        link.submit(statements) { [weak link] result in
            if case .failure(let error) = result, error.isReadOnly { link?.restart() }
            answer(result)
        }
    }

    // MARK: Waking

    private func listen() {
        let statements = WakeSubject.allCases.map { PostgresStatement("LISTEN \($0.rawValue)") }
        link.submit(statements) { [weak self] result in
            guard let self else { return }
            if case .failure(let error) = result, error.kind == .server, !hasToldOfRefusal {
                hasToldOfRefusal = true
                log.warning("LISTEN is refused: other nodes are heard a second later", error: error)
            }
            // What came while nobody listened.
            look(WakeSubject.allCases)
        }
    }

    private func heard(_ channel: String, _ payload: String) {
        guard payload.isEmpty || payload == node.description, let subject = WakeSubject(rawValue: channel)
        else { return }
        heardCount += 1
        look([subject])
    }

    private func poll() {
        timer?.arm(at: loop.now + interval)
        look(WakeSubject.allCases)
    }

    /// Once a batch, however often it was told.
    private func look(_ subjects: [WakeSubject]) {
        if due.isEmpty {
            loop.atEndOfBatch { [weak self] in
                guard let self else { return }
                let subjects = due
                due = []
                guard isReady else { return }
                for subject in subjects { for look in looks[subject] ?? [] { look() } }
            }
        }
        due.formUnion(subjects)
    }
}
