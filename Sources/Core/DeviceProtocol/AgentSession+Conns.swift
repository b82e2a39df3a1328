internal import Domain

extension AgentSession {
    // MARK: Conns

    mutating func ordered(_ command: Command) {
        switch command.body {
        case .openTCP(let target, let timeoutMilliseconds):
            guard conns[command.connID] == nil else { return }
            let limit = configuration.capacity == 0 ? Int.max : Int(configuration.capacity)
            guard conns.count < min(limit, AgentLimit.conns) else {
                respond(failed: command.connID, .capacity, "the device carries its most conns")
                return
            }
            conns[command.connID] = .dialling
            actions.append(
                .dial(number, command.connID, target: target, timeoutMilliseconds: timeoutMilliseconds))
        case .openUDP:
            respond(failed: command.connID, .unsupported, "UDP is not supported")
        case .close(let reason):
            closeConn(command.connID, reason)
        case .unknown:
            respond(failed: command.connID, .unsupported, "unknown command")
        }
    }

    mutating func closeConn(_ connID: ConnID, _ reason: CloseReason) {
        guard let phase = conns[connID] else { return }
        // An open conn stays until the shell has told its counts.
        if phase == .dialling { conns[connID] = nil }
        actions.append(.endConn(number, connID, reason))
        finishIfLeft()
    }

    /// The target is reached and the conn's stream is open.
    mutating func connOpened(_ connID: ConnID) {
        guard conns[connID] == .dialling else { return }
        conns[connID] = .open
    }

    mutating func connFailed(
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

    mutating func connEnded(_ closed: ConnClosed) {
        guard conns.removeValue(forKey: closed.connID) == .open else { return }
        sendOrHold(.connClosed(closed))
        finishIfLeft()
    }

    mutating func respond(
        failed connID: ConnID, _ error: OpenError, _ text: String, resolvedAddress: String = "",
        connectTimeMilliseconds: UInt32 = 0
    ) {
        sendOrHold(
            .commandResponse(
                CommandResponse(
                    connID: connID, success: false, errorCode: error, error: text,
                    resolvedAddress: resolvedAddress, connectTimeMilliseconds: connectTimeMilliseconds)))
    }

    mutating func sendOrHold(_ message: ControlMessage) {
        if control == .up {
            actions.append(.send(number, message))
        } else if outcome == nil {
            held.append(message)
        }
    }

    /// Ends all conns; the POP knows of those that were not open yet, or has given them up.
    mutating func endConns(_ reason: CloseReason) {
        for (connID, phase) in conns {
            if phase == .dialling { conns[connID] = nil }
            actions.append(.endConn(number, connID, reason))
        }
    }

    /// Ends all conns without a word to the POP: their session is gone.
    mutating func forgetConns() {
        for connID in conns.keys { actions.append(.endConn(number, connID, .sessionLost)) }
        conns.removeAll()
        held.removeAll()
    }
}
