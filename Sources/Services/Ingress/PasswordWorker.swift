internal import Domain
package import EventLoop
package import Observability
internal import Synchronization
internal import TLS

/// A thread for the hashes of passwords: each takes some tens of milliseconds, in which the control loop serves
/// everybody else. One after the other, and no more than a bounded number wait.
package final class PasswordWorker {
    private let loop: EventLoop
    private let jobs: Mailbox<Job>
    private let thread: LoopThread
    private let isEnding = Ending()
    private var waiting: [UInt64: Waiting] = [:]
    private var lastNumber: UInt64 = 0
    private var isStopped = false
    private var refusedCount: UInt64 = 0
    /// From the question to the answer, the wait for others included.
    private var checkTimes = Distribution(.waits)
    private var makeTimes = Distribution(.waits)

    /// As many as are done in about five seconds: who comes behind them would not wait that long.
    private static let maximumWaiting = 64

    private struct Waiting {
        let since: Instant
        let answer: (Outcome) -> Void
    }

    private enum Work: Sendable {
        case check([UInt8], PasswordHash)
        case make([UInt8])
    }

    private enum Job: Sendable {
        case work(UInt64, Work)
        case stop
    }

    private enum Outcome: Sendable {
        case checked(Bool)
        case made(String?)
    }

    /// Tells the thread before it comes to the end of what waits.
    private final class Ending: Sendable {
        let isDue = Atomic(false)
    }

    private struct Reply: Sendable {
        let number: UInt64
        let outcome: Outcome
    }

    package init(on loop: EventLoop) throws(SystemError) {
        self.loop = loop
        let jobs = try Mailbox<Job>()
        let replies = try Mailbox<Reply>()
        self.jobs = jobs
        thread = try LoopThread(name: "passwords") { [isEnding] in Self.run(jobs, replies, isEnding) }
        try loop.attach(replies) { [weak self] reply in self?.received(reply) }
    }

    /// Whether `password` is the one that `hash` was made of; nil when too many wait. A `hash` that can't be read
    /// is nobody's, and costs what any other does.
    package func check(_ password: [UInt8], _ hash: String?, answer: @escaping (Bool?) -> Void) {
        let known = hash.flatMap { PasswordHash($0) }
        guard let work = known ?? PasswordHash(Self.nobodysHash) else { return answer(nil) }
        submit(.check(password, work)) { outcome in
            guard case .checked(let isRight)? = outcome else { return answer(nil) }
            answer(isRight && known != nil)
        }
    }

    /// The hash to keep; nil when too many wait.
    package func make(of password: [UInt8], answer: @escaping (String?) -> Void) {
        submit(.make(password)) { outcome in
            guard case .made(let text)? = outcome else { return answer(nil) }
            answer(text)
        }
    }

    /// Ends the thread once the hash at hand is done; who waits is answered nothing.
    package func stop() {
        guard !isStopped else { return }
        isStopped = true
        isEnding.isDue.store(true, ordering: .relaxed)
        jobs.send(.stop)
        thread.join()
        waiting = [:]
    }

    /// Of a password that nobody knows: what a stranger's name is checked against.
    private static let nobodysHash =
        "$scrypt$ln=14,r=8,p=5$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

    private func submit(_ work: Work, _ answer: @escaping (Outcome?) -> Void) {
        guard !isStopped, waiting.count < Self.maximumWaiting else {
            refusedCount += 1
            return answer(nil)
        }
        lastNumber += 1
        waiting[lastNumber] = Waiting(since: loop.now, answer: answer)
        jobs.send(.work(lastNumber, work))
    }

    private func received(_ reply: Reply) {
        guard let question = waiting.removeValue(forKey: reply.number) else { return }
        let wait = loop.now - question.since
        switch reply.outcome {
        case .checked: checkTimes.note(wait)
        case .made: makeTimes.note(wait)
        }
        question.answer(reply.outcome)
    }

    package func writeMetrics(on page: inout MetricPage) {
        page.gauge("pop_password_hashes_waiting", "Passwords that wait for their hash", waiting.count)
        page.counter(
            "pop_password_hashes_refused_total", "Passwords not hashed because too many were waiting",
            refusedCount)
        page.histograms(
            "pop_password_hash_seconds", "Time until a password was hashed, the wait for others included",
            by: "purpose", [("check", checkTimes), ("make", makeTimes)])
    }

    private static func run(_ jobs: Mailbox<Job>, _ replies: Mailbox<Reply>, _ ending: Ending) {
        guard let loop = try? EventLoop() else { return }
        _ = try? loop.attach(jobs) { job in
            switch job {
            case .work where ending.isDue.load(ordering: .relaxed): break
            case .work(let number, .check(let password, let hash)):
                replies.send(Reply(number: number, outcome: .checked(hash.isOf(password))))
            case .work(let number, .make(let password)):
                let salt = SystemRandom.bytes(PasswordHash.saltLength)
                replies.send(
                    Reply(number: number, outcome: .made(PasswordHash(of: password, salt: salt)?.text)))
            case .stop:
                loop.stop()
            }
        }
        loop.run()
    }
}
