internal import Domain

extension AgentSession {
    // MARK: Data

    /// The POP has acknowledged the DataHello.
    func dataConnected() {
        guard case .connecting = data else { return }
        data = .up
        dataBackoff.reset()
        actions.append(.note(number, .whole))
    }

    /// - Parameter code: of the peer's CONNECTION_CLOSE; nil for a timeout or a failure to connect.
    func dataClosed(code: UInt64?, now: Instant) {
        let wasUp = data == .up
        if case .connecting = data {} else if !wasUp { return }
        data = .none
        actions.append(.note(number, .dataLost(code: code)))
        endConns(.sessionLost)
        switch control {
        case .up:
            dataLost(code: code, wasUp: wasUp, now: now)
        case .waiting:
            control = .over
            switch code {
            case DataPlaneError.replaced: end(.replaced)
            case DataPlaneError.drained: end(farewell)
            default: end(.lost)
            }
        case .connecting, .registering, .over:
            // The answer to the registration under way tells what to do.
            break
        }
    }

    func dataLost(code: UInt64?, wasUp: Bool, now: Instant) {
        switch code {
        case DataPlaneError.replaced, DataPlaneError.drained, DataPlaneError.normalEnd:
            // The control connection's close frame is on its way and says more.
            data = .waiting(until: now + AgentLimit.explanationTimeout)
        default:
            data = .waiting(until: wasUp ? now : now + dataBackoff.next())
        }
        registerForDataIfDue(now: now)
    }

    /// The POP has noticed the loss of the data plane before this device did.
    func reconnect(now: Instant) {
        guard data == .up else { return }
        endConns(.sessionLost)
        closeDataIfAny()
        data = .waiting(until: now)
        registerForDataIfDue(now: now)
    }

    func registerForDataIfDue(now: Instant) {
        guard control == .up, case .waiting(let until) = data, until <= now, registerDeadline == nil
        else { return }
        // The answer, or the deadline of the registration, moves data on.
        data = .none
        register(now: now)
    }

    func closeDataIfAny() {
        switch data {
        case .connecting, .up: actions.append(.closeData(number, code: DataPlaneError.normalEnd))
        case .none, .waiting: break
        }
        data = .none
    }
}
