package import Domain

/// A device agent as a machine: which POP to be at, when to come back, when to move (contract section 2).
///
///                    +---------------- wait (backoff) <---------------+
///                    v                                                | all tried
///     start --> try a POP --registered--> current --lost, refused----+--> try the next POP
///                    ^                      |  \--4009--> finished (replaced)
///                    +--- Drain, not before-+
///
/// - At most one *candidate* is being tried. It becomes the *current* session when it is registered; while a
///   draining current one lives, only when it is whole.
/// - A session that was current and has been moved away from leaves with a Goodbye once it has no conns.
/// - A *round* tries each POP once, the alternatives that a POP named before the configured ones; when a
///   round is used up, the agent waits, at least as long as the POPs that refused asked for.
///
/// The shell performs the returned actions in order and reports what came of them under the same number.
package final class AgentMachine {
    private let configuration: AgentConfiguration
    private var sessions: [AgentSessionNumber: AgentSession] = [:]
    private var current: AgentSessionNumber?
    private var candidate: AgentSessionNumber?
    private var candidateDeadline = Instant.distantFuture
    private var round: [PopURL] = []
    private var tried: Set<PopURL> = []
    private var retryAfter = Duration.zero
    private var wakeAt: Instant?
    private var backoff: AgentBackoff
    private var seeds: SplitMix64
    private var lastNumber = 0
    private var resumable: Resumable?
    /// Until then a POP may begin a session for a registration that was given up here.
    private var answerDueUntil = Instant(nanoseconds: 0)
    private var end: AgentEnd?
    private var isStarted = false

    private struct Resumable {
        let pop: PopURL
        let sessionID: SessionID
        let until: Instant
    }

    /// - Parameter seed: random; all waits are drawn from it.
    package init(_ configuration: AgentConfiguration, seed: UInt64) {
        self.configuration = configuration
        backoff = AgentBackoff(seed: seed)
        seeds = SplitMix64(seed: seed &+ 1)
    }

    /// The session that new conns are expected on; nil while there is none.
    package var currentSession: AgentSessionNumber? { current }

    /// Whether the current session has both planes.
    package var isWhole: Bool { current.flatMap { sessions[$0]?.isWhole } ?? false }

    /// Conns of a session, dials included.
    package func activeConns(_ number: AgentSessionNumber) -> Int { sessions[number]?.conns.count ?? 0 }

    // MARK: Events

    package func start(now: Instant) -> [AgentAction] {
        guard !isStarted else { return [] }
        isStarted = true
        return seek(now: now)
    }

    /// The WebSocket is open.
    package func controlConnected(_ number: AgentSessionNumber, now: Instant) -> [AgentAction] {
        sessions[number]?.controlConnected(now: now)
        return settle(number, now: now)
    }

    package func controlFailed(
        _ number: AgentSessionNumber, _ failure: ControlFailure, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.controlFailed(failure, now: now)
        return settle(number, now: now)
    }

    package func received(
        _ number: AgentSessionNumber, _ message: ControlMessage, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.received(message, now: now)
        return settle(number, now: now)
    }

    /// The WebSocket is gone; `code` is that of the POP's close frame, if there was one.
    package func controlClosed(
        _ number: AgentSessionNumber, code: UInt16?, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.controlClosed(code: code, now: now)
        return settle(number, now: now)
    }

    /// The POP has acknowledged the DataHello.
    package func dataConnected(_ number: AgentSessionNumber, now: Instant) -> [AgentAction] {
        sessions[number]?.dataConnected()
        return settle(number, now: now)
    }

    /// The QUIC connection is gone or never came to be; the ends of its conns have been told before.
    package func dataClosed(
        _ number: AgentSessionNumber, code: UInt64?, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.dataClosed(code: code, now: now)
        return settle(number, now: now)
    }

    /// The target is reached and the conn's stream is open.
    package func connOpened(
        _ number: AgentSessionNumber, _ connID: ConnID, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.connOpened(connID)
        return settle(number, now: now)
    }

    /// A flow's socket is open.
    package func flowOpened(
        _ number: AgentSessionNumber, _ connID: ConnID, resolvedAddress: String,
        connectTimeMilliseconds: UInt32, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.flowOpened(
            connID, resolvedAddress: resolvedAddress, connectTimeMilliseconds: connectTimeMilliseconds)
        return settle(number, now: now)
    }

    /// The target was not reached.
    package func connFailed(
        _ number: AgentSessionNumber, _ connID: ConnID, _ error: OpenError, _ text: String,
        resolvedAddress: String = "", connectTimeMilliseconds: UInt32 = 0, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.connFailed(
            connID, error, text, resolvedAddress: resolvedAddress,
            connectTimeMilliseconds: connectTimeMilliseconds)
        return settle(number, now: now)
    }

    /// A conn that was open is over.
    package func connEnded(
        _ number: AgentSessionNumber, _ closed: ConnClosed, now: Instant
    ) -> [AgentAction] {
        sessions[number]?.connEnded(closed, now: now)
        return settle(number, now: now)
    }

    /// Leaves all POPs with a Goodbye, for good.
    package func stop(reason: String, now: Instant) -> [AgentAction] {
        guard end == nil else { return [] }
        end = .ordered
        var actions: [AgentAction] = []
        for number in sessions.keys.sorted(by: { $0.value < $1.value }) {
            sessions[number]?.leave(reason: reason)
            actions += settle(number, now: now)
        }
        return actions + [.finished(.ordered)]
    }

    // MARK: Time

    /// When `expire` wants to be called; `distantFuture` for not at all.
    package var nextDeadline: Instant {
        var deadline = sessions.values.reduce(Instant.distantFuture) { min($0, $1.nextDeadline) }
        guard end == nil else { return deadline }
        deadline = min(deadline, candidateDeadline)
        if candidate == nil {
            if let wakeAt, wantsAnother(at: wakeAt) { deadline = min(deadline, wakeAt) }
            if wakeAt == nil, let current, let moveAt = moveDeadline(current) {
                deadline = min(deadline, moveAt)
            }
        }
        return deadline
    }

    package func expire(now: Instant) -> [AgentAction] {
        var actions: [AgentAction] = []
        for number in sessions.keys.sorted(by: { $0.value < $1.value }) {
            guard let session = sessions[number], session.nextDeadline <= now else { continue }
            sessions[number]?.expire(now: now)
            actions += settle(number, now: now)
        }
        if candidateDeadline <= now, let candidate {
            // It is no better than the POP that drains; the next one may be.
            sessions[candidate]?.leave(reason: "not whole in time")
            actions += settle(candidate, now: now)
        }
        return actions + seek(now: now)
    }

    // MARK: Sessions' ends

    /// Takes what a session wants done, and notices when it has changed its place.
    private func settle(_ number: AgentSessionNumber, now: Instant) -> [AgentAction] {
        guard let session = sessions[number] else { return [] }
        var actions = session.takeActions()
        guard var outcome = session.outcome else {
            if number == candidate { actions += promoteIfReady(session, now: now) }
            if number == current, session.drain != nil { actions += seek(now: now) }
            return actions
        }
        sessions[number] = nil
        if let due = session.answerDueUntil { answerDueUntil = max(answerDueUntil, due) }
        // It may be this device itself that is the newer one: as when a POP that it moves away from has begun
        // anew, and gives a new session to the registration that wanted the old one back.
        if outcome == .replaced,
            now < answerDueUntil
                || sessions.values.contains(where: { $0.mayHaveReplaced(session, now: now) })
        {
            outcome = .lost
        }
        if number == current || number == candidate { remember(session, outcome, now: now) }
        if number == candidate {
            candidate = nil
            candidateDeadline = .distantFuture
            next(after: session, outcome, now: now)
        } else if number == current {
            current = nil
            if let candidate, let waiting = sessions[candidate] {
                // The move has begun already: its outcome decides.
                candidateDeadline = .distantFuture
                if outcome == .replaced { return actions + replaced(now: now) }
                return actions + promoteIfReady(waiting, now: now)
            }
            startRound()
            next(after: session, outcome, now: now)
        }
        if outcome == .replaced, end == nil, candidate == nil, current == nil {
            return actions + replaced(now: now)
        }
        return actions + seek(now: now)
    }

    private func replaced(now: Instant) -> [AgentAction] {
        guard end == nil else { return [] }
        end = .replaced
        return [.finished(.replaced)]
    }

    private func promoteIfReady(_ session: AgentSession, now: Instant) -> [AgentAction] {
        guard current == nil ? session.isRegistered : session.isWhole else { return [] }
        candidate = nil
        candidateDeadline = .distantFuture
        round = []
        tried = []
        retryAfter = .zero
        wakeAt = nil
        let old = current
        current = session.number
        guard let old else { return [] }
        sessions[old]?.leaveWhenIdle()
        return settle(old, now: now)
    }

    /// Keeps in mind a session that its POP may still hold.
    private func remember(_ session: AgentSession, _ outcome: AgentSession.Outcome, now: Instant) {
        guard let details = session.details else { return }
        if now - details.registeredAt >= AgentLimit.stableAfter { backoff.reset() }
        guard session.isResumable, outcome == .lost || outcome == .unreachable else {
            resumable = nil
            return
        }
        resumable = Resumable(
            pop: session.pop, sessionID: details.sessionID, until: now + AgentLimit.resumeMemory)
    }

    // MARK: Where next

    private func startRound() {
        round = []
        tried = []
        retryAfter = .zero
    }

    /// Decides what comes after a session that has ended.
    private func next(
        after session: AgentSession, _ outcome: AgentSession.Outcome, now: Instant
    ) {
        tried.insert(session.pop)
        if round.isEmpty, current == nil { round = configuration.pops.filter { !tried.contains($0) } }
        switch outcome {
        case .unreachable, .left:
            waitIfUsedUp(now: now)
        case .lost where session.details == nil || current != nil:
            // A POP that never gave a session, or no whole one for a move, is not better than the others.
            waitIfUsedUp(now: now)
        case .refused(let pause, let alternatives):
            retryAfter = max(retryAfter, min(pause, AgentLimit.longestRetryAfter))
            let fresh = alternatives.filter { !tried.contains($0) }
            round = fresh + round.filter { !fresh.contains($0) }
            waitIfUsedUp(now: now)
        case .lost:
            round.removeAll { $0 == session.pop }
            round.insert(session.pop, at: 0)
            wakeAt = now + backoff.next()
        case .forbidden:
            startRound()
            wakeAt =
                now + max(backoff.next(), backoff.jittered(AgentLimit.forbiddenWait, spread: .seconds(15)))
        case .replaced:
            round = []
        }
    }

    private func waitIfUsedUp(now: Instant) {
        guard round.isEmpty else {
            wakeAt = nil
            return
        }
        wakeAt = now + max(backoff.next(), retryAfter)
        startRound()
    }

    /// Whether a candidate should be tried at `now`.
    private func wantsAnother(at now: Instant) -> Bool {
        guard isStarted, end == nil, candidate == nil else { return false }
        guard let current else { return true }
        guard let moveAt = moveDeadline(current) else { return false }
        return moveAt <= now
    }

    /// When a draining session wants to be moved away from; nil when it doesn't, or has nowhere to go.
    private func moveDeadline(_ number: AgentSessionNumber) -> Instant? {
        guard let session = sessions[number], let drain = session.drain,
            !places(awayFrom: session, drain).isEmpty
        else { return nil }
        return drain.moveAt
    }

    /// The alternatives that the POP named, or else the other configured ones (contract section 2, "Drain").
    private func places(awayFrom session: AgentSession, _ drain: AgentSession.DrainNotice) -> [PopURL] {
        if !drain.alternatives.isEmpty { return drain.alternatives }
        return configuration.pops.filter { $0 != session.pop }
    }

    /// Tries the next POP if one is wanted and nothing has to be waited for.
    private func seek(now: Instant) -> [AgentAction] {
        guard wantsAnother(at: now), (wakeAt ?? now) <= now else { return [] }
        wakeAt = nil
        var actions: [AgentAction] = []
        if round.isEmpty {
            if let current, let session = sessions[current], let drain = session.drain {
                round = places(awayFrom: session, drain)
                actions.append(.note(current, .moving))
            } else {
                round = configuration.pops
            }
        }
        guard !round.isEmpty else { return actions }
        let pop = round.removeFirst()
        lastNumber += 1
        let number = AgentSessionNumber(lastNumber)
        let session = AgentSession(
            number, pop: pop, resuming: current == nil ? sessionToResume(at: pop, now: now) : nil,
            configuration: configuration, seed: seeds.next(), now: now)
        actions += session.takeActions()
        sessions[number] = session
        candidate = number
        candidateDeadline = current == nil ? .distantFuture : now + AgentLimit.handoverTimeout
        return actions
    }

    private func sessionToResume(at pop: PopURL, now: Instant) -> SessionID? {
        guard let resumable, resumable.pop == pop, now < resumable.until else { return nil }
        return resumable.sessionID
    }
}
