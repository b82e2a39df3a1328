internal import DeviceProtocol
package import Domain

extension Fleet {
    /// Ends a session: closes both planes; conns still on it end with `conns`.
    func end(
        _ id: SessionID, _ reason: SessionEndReason, close code: ControlCloseCode, _ text: String,
        data dataCode: UInt64, conns connReason: CloseReason = .sessionLost, at moment: Moment
    ) {
        guard let session = sessions[id], session.ending == nil else { return }
        session.ending = DeviceSession.Ending(
            reason: reason, at: moment.wall, settledBy: moment.now + FleetLimits.settleWait)
        endingSessions += 1
        if reason == .replaced { drain.moved(id, at: moment.now) }
        drain.left(id, inPeace: code == .normal, at: moment.now)
        if let control = session.controlID { drop(control, code, text) }
        failOpening(of: session)
        if let data = session.data {
            sessionByData[data.connection] = nil
            actions.append(.closeData(data.connection, code: dataCode, reason: connReason))
        }
        if current[session.deviceID] == id { current[session.deviceID] = nil }
        rank(session)
        sessionDeadlines.set(id, moment.now + FleetLimits.settleWait)
        settle(session, at: moment)
    }

    /// Tells the end of an ending session whose conns are all gone.
    func settle(_ session: DeviceSession, at moment: Moment) {
        if session.conns.isEmpty { finish(session, at: moment) }
    }

    private func finish(_ session: DeviceSession, at moment: Moment) {
        guard let ending = session.ending else { return }
        session.isOver = true
        sessions[session.id] = nil
        endingSessions -= 1
        sessionDeadlines.remove(session.id)
        actions.append(.sessionEnded(session.snapshot, ending.reason, at: ending.at))
        checkDrained(at: moment)
    }

    // MARK: Orders

    /// Ends a device's session; it may come back.
    ///
    /// - Returns: whether the device was online.
    package func disconnect(_ device: DeviceID, at moment: Moment) -> Bool {
        endAll(
            of: device, .operator, .disconnected, "disconnected by an operator", at: moment)
    }

    /// Keeps a device out, or lets it in again.
    package func setEnabled(_ device: DeviceID, _ isEnabled: Bool, at moment: Moment) {
        if isEnabled {
            disabled.remove(device)
        } else {
            disabled.insert(device)
            _ = endAll(of: device, .disabled, .forbidden, "the device is disabled", at: moment)
        }
    }

    /// Ends a device's session because its token is no longer good, and what is about to be one.
    package func revoke(_ device: DeviceID, at moment: Moment) {
        for id in registrationDeadlines.ids where controls[id]?.identity == device {
            drop(id, .forbidden, "the device's token is revoked")
        }
        _ = endAll(of: device, .revoked, .forbidden, "the device's token is revoked", at: moment)
    }

    private func endAll(
        of device: DeviceID, _ reason: SessionEndReason, _ code: ControlCloseCode, _ text: String,
        at moment: Moment
    ) -> Bool {
        var found = current[device].map { [$0] } ?? []
        if nodeState != .active || drain.phase != .none {
            // Sessions that have been told to leave are not the current one; they are looked for only then.
            found += sessions.values.lazy.filter { $0.deviceID == device && !found.contains($0.id) }.map(\.id)
        }
        let live = found.filter { sessions[$0]?.ending == nil }
        for id in live {
            end(id, reason, close: code, text, data: DataPlaneError.normalEnd, at: moment)
        }
        return !live.isEmpty
    }

    /// Ends every session with 1001 and refuses new control connections; done when ``hasStopped``.
    package func stop(at moment: Moment) {
        isStopping = true
        for id in Array(controls.keys) where controls[id]?.session == nil {
            drop(id, .nodeStopping, "the node is stopping")
        }
        for id in Array(sessions.keys) {
            end(
                id, .nodeStopped, close: .nodeStopping, "the node is stopping",
                data: DataPlaneError.normalEnd, at: moment)
        }
    }

    // MARK: Time

    /// When `expire` has something to do next.
    package var nextDeadline: Instant {
        var earliest = Instant.distantFuture
        if let first = registrationDeadlines.first { earliest = min(earliest, first.key) }
        if let first = sessionDeadlines.first { earliest = min(earliest, first.key) }
        if let first = openDeadlines.first { earliest = min(earliest, first.deadline) }
        return knowsDrain ? min(earliest, drain.nextDeadline) : earliest
    }

    /// Does what is due.
    package func expire(at moment: Moment) {
        while let first = registrationDeadlines.first, first.key <= moment.now {
            drop(first.id, .silent, "no RegisterRequest came")
            registrationDeadlines.remove(first.id)
        }
        while let first = openDeadlines.first, first.deadline <= moment.now {
            openDeadlines.remove(first)
            openTimedOut(first)
        }
        while let first = sessionDeadlines.first, first.key <= moment.now {
            sessionDeadlines.remove(first.id)
            expire(first.id, at: moment)
            if let session = sessions[first.id] { schedule(session) }
        }
        expireDrain(at: moment)
    }

    private func expire(_ id: SessionID, at moment: Moment) {
        guard let session = sessions[id] else { return }
        if session.ending != nil {
            if session.ending.map({ $0.settledBy <= moment.now }) == true { finish(session, at: moment) }
            return
        }
        if let deadline = session.drainDeadline, deadline <= moment.now {
            end(
                id, .drained, close: .drained, "drained", data: DataPlaneError.drained,
                conns: .nodeDrained, at: moment)
            return
        }
        switch session.control {
        case .up where session.lastLife + configuration.heartbeatTimeout <= moment.now:
            end(
                id, .heartbeatLost, close: .silent, "no message within the heartbeat timeout",
                data: DataPlaneError.heartbeatLost, at: moment)
            return
        case .down(let graceEnds) where graceEnds <= moment.now:
            end(
                id, .controlLost, close: .silent, "", data: DataPlaneError.heartbeatLost, at: moment)
            return
        case .up, .down:
            break
        }
        if let answerBy = session.answerBy, answerBy <= moment.now {
            actions.append(.recordOverdue(id))
            answer(id, at: moment)
        }
        if let repairAt = session.repairAt, repairAt <= moment.now, let control = session.controlID {
            session.repairAt = moment.now + FleetLimits.repairInterval
            actions.append(.send(control, .reconnect(reason: "there is no data plane")))
        }
    }
}
