package import Domain
package import EventLoop
package import Logging
package import Observability

/// The store as its users have it: belongs to the control loop, speaks to the store's thread by mailbox.
package final class StoreClient: StorePort {
    package private(set) var health = StoreHealth()
    /// Called when `health` has changed.
    package var healthChanged: ((StoreHealth) -> Void)?
    /// Called with what the database, and so the rest of the cluster, has to say about this node's sessions.
    package var sessionNews: ((SessionNews) -> Void)?

    /// Called when other nodes may have told of events; about every second in any case.
    package var eventsTold: (() -> Void)?
    /// Answers what other nodes ask of this one. Set before the loop runs; what nobody answers in time is not asked
    /// again.
    package var asked: ((ClaimedQuestion, _ answer: @escaping (NodeAnswer) -> Void) -> Void)?

    /// No new session may have an epoch up to this: lives of this node before this one gave them.
    package let lastEpoch: UInt64

    private let loop: EventLoop
    private let commands: Mailbox<StoreCommand>
    private let thread: LoopThread
    private let patience: Duration
    private var nextNumber: UInt64 = 0
    private var waitingStarts: [UInt64: WaitingStart] = [:]
    /// As the store's thread last told them (``refresh(_:)``).
    package private(set) var figures = StoreFigures()
    private var figuresTold: (() -> Void)?
    private var recordTimes = Distribution(.waits)
    private var questions: [UInt64: Question] = [:]
    private var isStopped = false

    private struct WaitingStart {
        let since: Instant
        let durable: () -> Void
    }

    private struct Question {
        let query: StoreQuery
        let answer: (Result<StoreAnswer, StoreFailure>) -> Void
        let timer: LoopTimer
    }

    /// The store's own bound on asking another node, and a moment.
    private static let nodePatience = Duration.seconds(7)
    /// Questions at once; more would only wait longer than their asker does.
    private static let maximumQuestions = 10_000

    /// Starts the store's thread. It needs no database to start: it connects, and goes on trying.
    package init(
        on loop: EventLoop, _ configuration: StoreConfiguration, log: Logger
    ) throws(SystemError) {
        self.loop = loop
        // Before the thread has the file.
        lastEpoch = configuration.outboxPath.map { NodeNotes.lastEpoch(outboxPath: $0) } ?? 0
        let commands = try Mailbox<StoreCommand>()
        let replies = try Mailbox<StoreReply>()
        self.commands = commands
        // The store's own bounds come first; this one stands for a thread that has no time at all.
        patience = configuration.queryTimeout + .seconds(1)
        thread = try LoopThread(name: "store") {
            StoreThread.run(configuration, log, commands, replies)
        }
        try loop.attach(replies) { [weak self] reply in self?.receive(reply) }
    }

    package func record(_ event: StoreEvent) {
        // They come by the thousand and are written in batches anyway: none is worth waking the thread for.
        if case .connEnded = event {
            commands.send(.record(event), soonFrom: loop)
        } else {
            commands.send(.record(event))
        }
    }

    package func count(_ updates: [SessionUpdate]) {
        commands.send(.count(updates))
    }

    package func remember(_ user: UserKey) {
        commands.send(.remember(user))
    }

    package func userChanged(_ user: UserName, _ key: UserKey?) {
        commands.send(.userChanged(user, key))
    }

    package func forgetUsers() {
        commands.send(.forgetUsers)
    }

    package func followed(usersTo revision: Int64) {
        commands.send(.followedUsers(revision))
    }

    package func forgetTokens(of device: DeviceID) {
        commands.send(.forgetTokens(device))
    }

    package func startSession(_ record: SessionRecord, durable: @escaping () -> Void) {
        nextNumber += 1
        waitingStarts[nextNumber] = WaitingStart(since: loop.now, durable: durable)
        commands.send(.record(.sessionStarted(record, acknowledgement: nextNumber)))
    }

    package func ask(
        _ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void
    ) {
        guard !isStopped, questions.count < Self.maximumQuestions else {
            let cause = isStopped ? "the store has stopped" : "too many queries at once"
            return loop.atEndOfBatch { answer(.failure(.unavailable(cause))) }
        }
        nextNumber += 1
        let number = nextNumber
        let timer = loop.makeTimer { [weak self] in
            self?.settle(number, .failure(query.unanswered("no answer in time")))
        }
        let isForNode = if case .askNode = query { true } else { false }
        timer.arm(at: loop.now + (isForNode ? max(patience, Self.nodePatience) : patience))
        questions[number] = Question(query: query, answer: answer, timer: timer)
        commands.send(.ask(number, query))
    }

    /// Writes what waits and says that the node is down; blocks until that is done or `limit` is over, and
    /// ends the thread. Questions still open are answered with `unavailable`.
    package func stop(within limit: Duration = .seconds(5)) {
        guard !isStopped else { return }
        isStopped = true
        commands.send(.stop(within: limit))
        thread.join()
        for (number, question) in questions {
            settle(number, .failure(question.query.unanswered("the store has stopped")))
        }
        waitingStarts = [:]
    }

    private func receive(_ reply: StoreReply) {
        switch reply {
        case .durable(let numbers):
            for number in numbers {
                guard let start = waitingStarts.removeValue(forKey: number) else { continue }
                recordTimes.note(loop.now - start.since)
                start.durable()
            }
        case .sessions(let news):
            sessionNews?(news)
        case .answer(let number, let result):
            settle(number, result)
        case .eventsTold:
            eventsTold?()
        case .asked(let questions):
            for question in questions { receive(question) }
        case .figures(let figures):
            self.figures = figures
            figuresTold?()
            figuresTold = nil
        case .health(let health):
            self.health = health
            healthChanged?(health)
        }
    }

    /// This loop may have stood still since the question was claimed, so the clock itself is asked.
    private func receive(_ question: ClaimedQuestion) {
        guard let asked, SystemClock.now < question.deadline else {
            return commands.send(.giveUpQuestion(question.id))
        }
        asked(question) { [commands] answer in commands.send(.answerNode(question.id, answer)) }
    }

    private func settle(_ number: UInt64, _ result: Result<StoreAnswer, StoreFailure>) {
        guard let question = questions.removeValue(forKey: number) else { return }
        question.timer.cancel()
        question.answer(result)
    }
}

extension StoreClient: MetricSource {
    package func refresh(_ done: @escaping () -> Void) {
        guard !isStopped else { return done() }
        figuresTold = done
        commands.send(.tellFigures)
    }

    package func write(on page: inout MetricPage) {
        figures.write(on: &page)
        page.histogram(
            "pop_store_session_record_seconds", "Time until a session's start was in the database or on disk",
            recordTimes)
    }
}
