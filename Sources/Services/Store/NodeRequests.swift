package import Domain
internal import EventLoop
internal import Logging
internal import Postgres

/// Asks other nodes, and takes what they ask of this one; all by rows (`docs/adr/0017`).
///
///     this node                          the database                 the node that is asked
///     ask ----------------- INSERT, NOTIFY --> waiting
///                                              claimed  <-- UPDATE .. SKIP LOCKED --- look at requests
///                                                                                     (the admin API's router)
///     look at answers <---- DELETE, NOTIFY --- answered <-- UPDATE ------------------ answered
///
///     at `claimBy`: taken back if nobody has claimed it -> withdrawn, nothing was or will be done
///     at `answerBy`: given up                           -> unanswered, it may have been done
///
/// At most once: a claim is for good and its question is begun within its lifetime or never. What is lost between
/// (the connection, the server, either node) costs an answer, and is told as such.
final class NodeRequests {
    /// Takes questions to whoever answers them; each is answered or given up by its id.
    var claimed: (([ClaimedQuestion]) -> Void)?
    private(set) var figures = NodeRequestFigures()

    private let loop: EventLoop
    private let wake: WakeLink
    private let life: NodeLife
    private let log: Logger
    private let times: Times
    private var random = SystemRandom()
    private var asks: [SessionID: Ask] = [:]
    private var atWork: [SessionID: ClaimedQuestion] = [:]
    private var unsent: [SessionID: NodeAnswer] = [:]
    private var taking = Turn.idle
    private var claiming = Turn.idle
    private var upkeepTimer: LoopTimer?

    /// How long a question may wait, from when it is asked.
    struct Times {
        /// Nobody begins with it later.
        var claimBy = Duration.seconds(4)
        /// Whoever has begun by then has this long in all.
        var answerBy = Duration.seconds(5)
        /// Then nobody waits for the database's last word either.
        var settleBy = Duration.seconds(6)
    }

    private final class Ask {
        let question: NodeQuestion
        let answer: (Result<NodeOutcome, StoreFailure>) -> Void
        let since: Instant
        var timer: LoopTimer?
        /// The connection was lost before it was told whether the question waits.
        var isInDoubt = false

        init(
            _ question: NodeQuestion, since: Instant,
            _ answer: @escaping (Result<NodeOutcome, StoreFailure>) -> Void
        ) {
            self.question = question
            self.since = since
            self.answer = answer
        }

        /// Asked again, it does no harm that it was perhaps done.
        var isSafe: Bool { question.method == "GET" }
    }

    /// One look at a time; what is told meanwhile makes another one necessary.
    private enum Turn {
        case idle
        case looking
        case lookingAndDueAgain
    }

    /// Questions of this node at once.
    private static let mostAsks = 256
    /// Questions of others at once: enough to keep the database busy, few enough to let go of in a moment.
    private static let mostAtWork = 64
    private static let mostAtATime = 16
    /// An answer that can't be written has nobody left to read it so long after the deadline.
    private static let unsentPatience = Duration.seconds(2)
    private static let upkeepInterval = Duration.seconds(30)

    init(on loop: EventLoop, wake: WakeLink, life: NodeLife, log: Logger, times: Times = Times()) {
        self.loop = loop
        self.wake = wake
        self.life = life
        self.log = log
        self.times = times
        wake.on(.answers) { [weak self] in self?.takeAnswers() }
        wake.on(.requests) { [weak self] in
            self?.sendUnsent()
            self?.claimQuestions()
        }
        upkeepTimer = loop.makeTimer { [weak self] in self?.keepUp() }
        upkeepTimer?.arm(at: loop.now + Self.upkeepInterval)
    }

    deinit {
        upkeepTimer?.cancel()
    }

    func tell(_ figures: inout StoreFigures) {
        figures.nodes = self.figures
        figures.nodes.waiting = asks.count
        figures.nodes.atWork = atWork.count
        figures.nodes.wakes = wake.heardCount
    }

    // MARK: Asking

    /// - Parameter answer: called once, within `Times.settleBy`; a failure says that nothing was done.
    func ask(_ question: NodeQuestion, answer: @escaping (Result<NodeOutcome, StoreFailure>) -> Void) {
        guard wake.isReady else {
            return answer(.failure(.unavailable("no connection over which to ask another node")))
        }
        guard asks.count < Self.mostAsks else {
            figures.asked.note(.tooMany)
            return answer(.success(.tooMany))
        }
        let id = SessionID(using: &random)
        let ask = Ask(question, since: loop.now, answer)
        asks[id] = ask
        ask.timer = loop.makeTimer { [weak self] in self?.timeExpired(id) }
        ask.timer?.arm(at: ask.since + times.claimBy)
        let statements = NodeRequestStatements.ask(id, question, of: life, lifetime: times.claimBy)
        wake.submit(statements) { [weak self] result in self?.asked(id, result) }
    }

    private func asked(_ id: SessionID, _ result: Result<[PostgresResult], PostgresError>) {
        guard let ask = asks[id] else { return }
        do throws(PostgresError) {
            if let refusal = try NodeRequestStatements.refusal(try result.get()) {
                finish(id, .success(refusal))
            }
        } catch {
            // The server's own word means that nothing was written; a lost connection leaves it open.
            if error.kind == .server || ask.isSafe {
                finish(id, .failure(StoreReader.failure(error)))
            } else {
                ask.isInDoubt = true
            }
        }
    }

    private func timeExpired(_ id: SessionID) {
        guard let ask = asks[id] else { return }
        let waited = loop.now - ask.since
        if waited >= times.settleBy { return giveUp(id) }
        let isLast = waited >= times.answerBy
        ask.timer?.arm(at: ask.since + (isLast ? times.settleBy : times.answerBy))
        guard wake.isReady else {
            if isLast { giveUp(id) }
            return
        }
        wake.submit([NodeRequestStatements.settle(id, atLast: isLast)]) { [weak self] result in
            self?.settled(id, result, isLast: isLast)
        }
    }

    private func settled(
        _ id: SessionID, _ result: Result<[PostgresResult], PostgresError>, isLast: Bool
    ) {
        guard let ask = asks[id] else { return }
        let outcome: NodeOutcome?
        do throws(PostgresError) {
            outcome = try result.get().first.flatMap { try? NodeRequestStatements.decodeSettled($0) }
        } catch {
            outcome = nil
        }
        switch outcome {
        case .withdrawn where ask.isInDoubt:
            finish(id, .failure(.unavailable("the connection was lost while another node was asked")))
        case .some(let outcome): finish(id, .success(outcome))
        case nil: if isLast { giveUp(id) }
        }
    }

    private func giveUp(_ id: SessionID) {
        guard let ask = asks[id] else { return }
        if ask.isSafe, !wake.isReady {
            return finish(id, .failure(.unavailable("the connection was lost while another node was asked")))
        }
        finish(id, .success(.unanswered))
    }

    private func finish(_ id: SessionID, _ result: Result<NodeOutcome, StoreFailure>) {
        guard let ask = asks.removeValue(forKey: id) else { return }
        ask.timer?.cancel()
        figures.asked.note(NodeRequestFigures.Outcome(result))
        ask.answer(result)
    }

    private func takeAnswers() {
        guard !asks.isEmpty, Self.begin(&taking) else { return }
        wake.submit([NodeRequestStatements.take(for: life, limit: Self.mostAtATime)]) { [weak self] result in
            guard let self else { return }
            var count = 0
            if case .success(let results) = result, let rows = results.first?.rows {
                count = rows.count
                for row in rows {
                    guard let taken = try? NodeRequestStatements.decodeTaken(row) else { continue }
                    finish(taken.id, .success(.answered(taken.answer)))
                }
            }
            if Self.end(&taking) || count == Self.mostAtATime { takeAnswers() }
        }
    }

    /// Whether a look may begin; if not, there will be another one.
    private static func begin(_ turn: inout Turn) -> Bool {
        guard case .idle = turn else {
            turn = .lookingAndDueAgain
            return false
        }
        turn = .looking
        return true
    }

    /// Whether there has to be another look.
    private static func end(_ turn: inout Turn) -> Bool {
        defer { turn = .idle }
        if case .lookingAndDueAgain = turn { return true }
        return false
    }

    // MARK: Being asked

    private func claimQuestions() {
        let limit = min(Self.mostAtATime, Self.mostAtWork - atWork.count)
        guard claimed != nil, limit > 0, Self.begin(&claiming) else { return }
        let asked = loop.now
        wake.submit([NodeRequestStatements.claim(for: life, limit: limit)]) { [weak self] result in
            guard let self else { return }
            var questions: [ClaimedQuestion] = []
            // Whatever was claimed by a statement whose answer is lost is not done.
            if case .success(let results) = result, let rows = results.first?.rows {
                questions = rows.compactMap { row in
                    try? NodeRequestStatements.decodeClaim(row, of: life, asked: asked)
                }
            }
            for question in questions { atWork[question.id] = question }
            if !questions.isEmpty { claimed?(questions) }
            if Self.end(&claiming) || questions.count == limit { claimQuestions() }
        }
    }

    /// The question has been answered.
    func answer(_ id: SessionID, _ answer: NodeAnswer) {
        guard atWork[id] != nil else { return }
        unsent[id] = answer
        send(id)
    }

    /// The question's time was over before it could be begun.
    func giveUp(claimed id: SessionID) {
        guard atWork.removeValue(forKey: id) != nil else { return }
        figures.performed.note(.expired)
        claimQuestions()
    }

    private func sendUnsent() {
        for id in Array(unsent.keys) { send(id) }
    }

    private func send(_ id: SessionID) {
        guard wake.isReady, let question = atWork[id], let answer = unsent.removeValue(forKey: id) else {
            return
        }
        wake.submit(NodeRequestStatements.answer(id, answer, to: question.askedBy)) { [weak self] result in
            guard let self else { return }
            if case .failure(let error) = result, error.isRetryable || error.kind == .closed,
                loop.now < question.deadline + Self.unsentPatience
            {
                unsent[id] = answer
                return
            }
            if case .failure(let error) = result {
                log.warning("an answer to another node was not written", error: error)
            }
            let isWritten = if case .success = result { true } else { false }
            figures.performed.note(isWritten ? .answered : .unsent)
            atWork[id] = nil
            claimQuestions()
        }
    }

    // MARK: Upkeep

    private func keepUp() {
        upkeepTimer?.arm(at: loop.now + Self.upkeepInterval)
        // Whoever should have answered has not, or the database never came back for it.
        for (id, question) in atWork where loop.now - question.deadline > Self.upkeepInterval {
            atWork[id] = nil
            unsent[id] = nil
            figures.performed.note(.unsent)
        }
        if wake.isReady {
            wake.submit([NodeRequestStatements.dropAbandoned, NodeEventStatements.dropAbandoned]) { _ in }
        }
    }
}

/// What requests between nodes have come to.
package struct NodeRequestFigures: Sendable, Hashable {
    /// What became of questions to other nodes, as metrics name it.
    package enum Outcome: String, Countable {
        case answered
        case unknownNode = "unknown_node"
        case down
        case tooMany = "too_many"
        case withdrawn
        case unanswered
        case failed

        init(_ result: Result<NodeOutcome, StoreFailure>) {
            self =
                switch result {
                case .success(.answered): .answered
                case .success(.unknownNode): .unknownNode
                case .success(.down): .down
                case .success(.tooMany): .tooMany
                case .success(.withdrawn): .withdrawn
                case .success(.unanswered): .unanswered
                case .failure: .failed
                }
        }
    }

    /// What became of questions that this node has claimed.
    package enum Work: String, Countable {
        case answered
        /// Not begun: it was too late.
        case expired
        /// Done, or begun; the answer could not be written.
        case unsent
    }

    package var asked = Tally<Outcome>()
    package var performed = Tally<Work>()
    package var waiting = 0
    package var atWork = 0
    /// Notifications heard.
    package var wakes: UInt64 = 0
}
