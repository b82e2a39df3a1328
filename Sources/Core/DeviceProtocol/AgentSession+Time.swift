internal import Domain

extension AgentSession {
    // MARK: Time

    var nextDeadline: Instant {
        guard outcome == nil else { return .distantFuture }
        var deadline = min(nextHeartbeat, nextLoadReport, registerDeadline ?? .distantFuture)
        switch control {
        case .connecting(let until), .registering(let until), .waiting(let until):
            deadline = min(deadline, until)
        case .up: deadline = min(deadline, silenceDeadline, heldUntil ?? .distantFuture)
        case .over: break
        }
        switch data {
        case .connecting(let until): deadline = min(deadline, until)
        case .waiting(let until) where control == .up && registerDeadline == nil:
            deadline = min(deadline, until)
        case .none, .up, .waiting: break
        }
        return deadline
    }

    var silenceDeadline: Instant {
        guard let details else { return .distantFuture }
        let deadline = silentSince + details.heartbeatTimeout
        // The POP's own patience ends at the same moment, and the session with it. After a change of this device's
        // address the control connection leads nowhere while the data connection goes on: it must be replaced
        // before that. A POP that never answers heartbeats is not measured by its answers.
        guard data == .up, hasBeenAnswered, let unansweredSince else { return deadline }
        return min(deadline, unansweredSince + min(AgentLimit.answerTimeout, details.heartbeatTimeout / 3))
    }

    func expire(now: Instant) {
        guard outcome == nil else { return }
        expireControl(now: now)
        guard outcome == nil else { return }
        if case .connecting(let until) = data, until <= now {
            actions.append(.closeData(number, code: DataPlaneError.normalEnd))
            dataClosed(code: nil, now: now)
        }
        registerForDataIfDue(now: now)
    }

    func expireControl(now: Instant) {
        switch control {
        case .connecting(let until) where until <= now:
            actions.append(.closeControl(number, code: 1_000))
            controlFailed(.unreachable, now: now)
        case .registering(let until) where until <= now:
            silent(now: now)
        case .waiting(let until) where until <= now:
            control = .connecting(until: now + AgentLimit.connectTimeout)
            actions.append(.connectControl(number, pop))
        case .up:
            if silenceDeadline <= now || (registerDeadline ?? .distantFuture) <= now {
                silent(now: now)
                return
            }
            if let heldUntil, heldUntil <= now { sendHeld() }
            beat(now: now)
        case .connecting, .registering, .waiting, .over:
            break
        }
    }

    /// The POP has not answered for too long: the connection is as good as lost.
    func silent(now: Instant) {
        actions.append(.note(number, .controlSilent))
        actions.append(.closeControl(number, code: 1_000))
        controlLost(now: now)
    }

    func beat(now: Instant) {
        guard let details else { return }
        if nextHeartbeat <= now {
            sequence += 1
            if unansweredSince == nil { unansweredSince = now }
            nextHeartbeat = now + details.heartbeatInterval
            actions.append(.sendHeartbeat(number, sequence: sequence))
        }
        if nextLoadReport <= now {
            nextLoadReport = now + details.loadReportInterval
            actions.append(.reportLoad(number))
        }
    }
}
