internal import Domain

extension AgentSession {
    // MARK: Conns

    func ordered(_ command: Command) {
        switch command.body {
        case .openTCP(let target, let timeoutMilliseconds):
            guard takes(command.connID) else { return }
            actions.append(
                .dial(number, command.connID, target: target, timeoutMilliseconds: timeoutMilliseconds))
        case .openUDP(let target, let flowID, let idleTimeoutMilliseconds):
            guard flowID <= DatagramFraming.largestFlowID else {
                respond(failed: command.connID, .internal, "the flow id is no QUIC integer")
                return
            }
            guard takes(command.connID) else { return }
            let idleTimeout: Duration =
                idleTimeoutMilliseconds == 0
                ? AgentLimit.flowIdleTimeout
                : min(.milliseconds(Int64(idleTimeoutMilliseconds)), AgentLimit.longestFlowIdleTimeout)
            actions.append(
                .openFlow(
                    number, command.connID, target: target, flowID: flowID, idleTimeout: idleTimeout))
        case .close(let reason):
            closeConn(command.connID, reason)
        case .unknown:
            respond(failed: command.connID, .unsupported, "unknown command")
        }
    }

    /// Whether there is room for a new conn, which then is dialled; answers for it if there is none.
    private func takes(_ connID: ConnID) -> Bool {
        guard conns[connID] == nil else { return false }
        let limit = configuration.capacity == 0 ? Int.max : Int(configuration.capacity)
        guard conns.count < min(limit, AgentLimit.conns) else {
            respond(failed: connID, .capacity, "the device carries its most conns")
            return false
        }
        conns[connID] = .dialling
        return true
    }

    func closeConn(_ connID: ConnID, _ reason: CloseReason) {
        guard let phase = conns[connID] else { return }
        // An open conn stays until the shell has told its counts.
        if phase == .dialling { conns[connID] = nil }
        actions.append(.endConn(number, connID, reason))
        finishIfLeft()
    }

    /// The target is reached and the conn's stream is open.
    func connOpened(_ connID: ConnID) {
        guard conns[connID] == .dialling else { return }
        conns[connID] = .open
    }

    /// The flow's socket is open: the POP learns of it by this answer, since there is no stream.
    func flowOpened(_ connID: ConnID, resolvedAddress: String, connectTimeMilliseconds: UInt32) {
        guard conns[connID] == .dialling else { return }
        conns[connID] = .open
        sendOrHold(
            .commandResponse(
                CommandResponse(
                    connID: connID, success: true, resolvedAddress: resolvedAddress,
                    connectTimeMilliseconds: connectTimeMilliseconds)))
    }

    func connFailed(
        _ connID: ConnID, _ error: OpenError, _ text: String, resolvedAddress: String = "",
        connectTimeMilliseconds: UInt32 = 0
    ) {
        guard conns[connID] == .dialling else { return }
        conns[connID] = nil
        respond(
            failed: connID, error, text, resolvedAddress: resolvedAddress,
            connectTimeMilliseconds: connectTimeMilliseconds)
        finishIfLeft()
    }

    /// Nobody waits for the word of it, so it waits for others to share a message with.
    func connEnded(_ closed: ConnClosed, now: Instant) {
        guard conns.removeValue(forKey: closed.connID) == .open, outcome == nil else { return }
        held.append(.connClosed(closed))
        if heldUntil == nil { heldUntil = now + AgentLimit.connClosedDelay }
        finishIfLeft()
    }

    /// Sends what has waited, once control is there.
    func sendHeld() {
        heldUntil = nil
        for message in held { actions.append(.send(number, message)) }
        held.removeAll(keepingCapacity: true)
    }

    func respond(
        failed connID: ConnID, _ error: OpenError, _ text: String, resolvedAddress: String = "",
        connectTimeMilliseconds: UInt32 = 0
    ) {
        sendOrHold(
            .commandResponse(
                CommandResponse(
                    connID: connID, success: false, errorCode: error, error: text,
                    resolvedAddress: resolvedAddress, connectTimeMilliseconds: connectTimeMilliseconds)))
    }

    func sendOrHold(_ message: ControlMessage) {
        if control == .up {
            actions.append(.send(number, message))
        } else if outcome == nil {
            held.append(message)
        }
    }

    /// Ends all conns; the POP knows of those that were not open yet, or has given them up.
    func endConns(_ reason: CloseReason) {
        for (connID, phase) in conns {
            if phase == .dialling { conns[connID] = nil }
            actions.append(.endConn(number, connID, reason))
        }
    }

    /// Ends all conns without a word to the POP: their session is gone.
    func forgetConns() {
        for connID in conns.keys { actions.append(.endConn(number, connID, .sessionLost)) }
        conns.removeAll()
        held.removeAll()
        heldUntil = nil
    }
}
