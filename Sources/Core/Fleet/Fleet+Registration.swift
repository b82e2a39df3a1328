internal import DeviceProtocol
package import Domain

extension Fleet {
    /// A device has opened a control connection.
    ///
    /// - Parameter identity: the device its token or certificate names; nil where any may come.
    package func controlOpened(
        _ id: ControlID, peer: SocketAddress, identity: DeviceID?, at moment: Moment
    ) {
        guard !isStopping else {
            actions.append(.close(id, .nodeStopping, reason: "the node is stopping"))
            return
        }
        controls[id] = ControlConnection(peer: peer, identity: identity, at: moment.now)
        let longest = min(FleetLimits.registrationTimeout, configuration.heartbeatTimeout)
        registrationDeadlines.set(id, moment.now + longest)
    }

    /// The control connection is gone, without or with a close of the device's.
    package func controlClosed(_ id: ControlID, at moment: Moment) {
        registrationDeadlines.remove(id)
        guard let control = controls.removeValue(forKey: id), let session = control.session else { return }
        guard let session = sessions[session] else { return }
        session.control = .down(graceEnds: moment.now + configuration.resumeGrace)
        session.repairAt = nil
        rank(session)
        schedule(session)
        tellUpdated(session)
    }

    /// The device broke the framing, the codec or a size: closes with `code` and ends its session.
    package func controlViolated(
        _ id: ControlID, _ code: ControlCloseCode, reason: String, at moment: Moment
    ) {
        guard let control = controls[id] else { return }
        if let session = control.session {
            end(
                session, .protocolError, close: code, reason, data: DataPlaneError.protocolViolation,
                at: moment)
        } else {
            drop(id, code, reason)
        }
    }

    /// Closes a control connection that serves no session.
    func drop(_ id: ControlID, _ code: ControlCloseCode, _ reason: String) {
        registrationDeadlines.remove(id)
        guard controls.removeValue(forKey: id) != nil else { return }
        actions.append(.close(id, code, reason: reason))
    }

    // MARK: RegisterRequest

    func register(
        _ request: RegisterRequest, on id: ControlID, at moment: Moment,
        using random: inout some RandomNumberGenerator
    ) {
        guard let control = controls[id] else { return }
        let registration: Registration
        do {
            registration = try Registration(request)
        } catch {
            refuse(id, .invalid, .outOfOrder, error.reason, at: moment)
            return
        }
        if let own = control.session {
            guard registration.resumes == own, sessions[own]?.deviceID == registration.deviceID else {
                controlViolated(id, .outOfOrder, reason: "already registered", at: moment)
                return
            }
            renewData(of: own, registration, at: moment, using: &random)
            return
        }
        // After a pause of this process the request may come before the timer: its device has given up by
        // now, and may be at another node already.
        if let deadline = registrationDeadlines.key(of: id), deadline <= moment.now {
            drop(id, .silent, "the RegisterRequest came too late")
            return
        }
        guard control.identity == nil || control.identity == registration.deviceID else {
            refuse(id, .forbidden, .forbidden, "the token belongs to another device", at: moment)
            return
        }
        guard !disabled.contains(registration.deviceID) else {
            refuse(id, .forbidden, .forbidden, "the device is disabled", at: moment)
            return
        }
        if let resumed = registration.resumes, let session = sessions[resumed], session.ending == nil,
            session.deviceID == registration.deviceID
        {
            resume(resumed, registration, on: id, at: moment, using: &random)
            return
        }
        guard nodeState == .active else {
            refuse(id, .draining, .tryLater, "the node takes no new devices", at: moment)
            return
        }
        guard current[registration.deviceID] != nil || sessionCount < configuration.maximumDevices else {
            refuse(id, .overloaded, .tryLater, "the node is full", at: moment)
            return
        }
        start(registration, on: id, at: moment, using: &random)
    }

    /// Answers with a status other than OK and closes.
    private func refuse(
        _ id: ControlID, _ status: RegisterResponse.Status, _ code: ControlCloseCode, _ reason: String,
        at moment: Moment
    ) {
        totals.registrationsRefused += 1
        var response = RegisterResponse(status: status)
        response.nodeID = configuration.nodeID.description
        response.error = reason
        if code == .tryLater {
            response.retryAfterMilliseconds = UInt32(clamping: FleetLimits.retryAfter.milliseconds)
            response.alternatives = referral()
        }
        actions.append(.send(id, .registerResponse(response)))
        controlViolated(id, code, reason: reason, at: moment)
    }

    // MARK: A new session

    private func start(
        _ registration: Registration, on control: ControlID, at moment: Moment,
        using random: inout some RandomNumberGenerator
    ) {
        let device = registration.deviceID
        if let old = current[device] { supersede(old, at: moment) }
        let session = DeviceSession(
            id: SessionID(using: &random), epoch: nextEpoch(for: device, moment.wall),
            registration: registration,
            remoteAddress: controls[control]?.peer ?? SocketAddress(ip: .v4(IPv4Address(0)), port: 0),
            control: control,
            token: DeviceSession.DataToken(
                bytes: randomBytes(FleetLimits.dataTokenBytes, using: &random), expires: .distantFuture),
            answerBy: moment.now + FleetLimits.recordWait, at: moment)
        totals.sessionsStarted += 1
        sessions[session.id] = session
        current[device] = session.id
        controls[control]?.session = session.id
        registrationDeadlines.remove(control)
        rank(session)
        schedule(session)
        actions.append(.sessionStarted(session.snapshot))
    }

    /// Makes room for a new session of the device. One that was sent `Drain` lives on until its conns end.
    func supersede(_ old: SessionID, at moment: Moment) {
        guard let session = sessions[old] else { return }
        guard session.wasToldToLeave else {
            end(
                old, .replaced, close: .replaced, "replaced by a newer session",
                data: DataPlaneError.replaced, at: moment)
            return
        }
        current[session.deviceID] = nil
        session.isDraining = true
        drain.moved(old, at: moment.now)
        // While a drain is under way its deadline is the one that counts.
        if !drain.isRunning, session.drainDeadline == nil {
            session.drainDeadline = moment.now + FleetLimits.supersededDrain
        }
        rank(session)
        schedule(session)
    }

    /// Microseconds of the node's clock, above all that this node has given or heard of for the device.
    private func nextEpoch(for device: DeviceID, _ wall: WallTime) -> UInt64 {
        let clock = UInt64(max(0, wall.microseconds))
        let ahead = epochsAhead[device] ?? 0
        lastEpoch = max(clock, lastEpoch &+ 1)
        guard ahead >= lastEpoch else {
            epochsAhead[device] = nil
            return lastEpoch
        }
        epochsAhead[device] = ahead &+ 1
        return ahead &+ 1
    }

    /// Lives of this node before this one gave epochs up to this.
    package func learnEpoch(_ epoch: UInt64) {
        lastEpoch = max(lastEpoch, epoch)
    }

    /// Another node, or the database, knows of this epoch of the device.
    package func learnEpoch(_ epoch: UInt64, of device: DeviceID) {
        guard epoch > lastEpoch, epoch > epochsAhead[device] ?? 0 else { return }
        epochsAhead[device] = epoch
    }

    /// On record the session has this epoch: above what other nodes gave, whatever their clocks say.
    package func epochSettled(_ epoch: UInt64, of id: SessionID) {
        guard let session = sessions[id], epoch > session.epoch else { return }
        session.epoch = epoch
        learnEpoch(epoch, of: session.deviceID)
    }

    /// The device has come to another node after this session began: it ends here, unless it was sent `Drain`.
    ///
    /// - Returns: whether there was such a session.
    @discardableResult
    package func sessionTakenOver(_ id: SessionID, at moment: Moment) -> Bool {
        guard let session = sessions[id], session.ending == nil else { return false }
        // One that was told to leave and is not the current one any more is on its way out already.
        guard !session.wasToldToLeave || current[session.deviceID] == id else { return true }
        supersede(id, at: moment)
        tellUpdated(session)
        return true
    }

    /// Whether it is the one session of its device that new conns and orders go to.
    package func isCurrent(_ id: SessionID) -> Bool {
        sessions[id].map { current[$0.deviceID] == id } ?? false
    }

    /// The session's row is durable: the device gets its answer.
    package func sessionRecorded(_ id: SessionID, at moment: Moment) {
        guard sessions[id]?.answerBy != nil else { return }
        answer(id, at: moment)
    }

    func answer(_ id: SessionID, at moment: Moment) {
        guard let session = sessions[id], session.ending == nil else { return }
        session.answerBy = nil
        guard let control = session.controlID, let token = session.token else { return }
        offer(token.bytes, of: session, on: control, at: moment)
        rank(session)
    }

    /// Sends an OK that asks for a DataHello with `token`.
    private func offer(
        _ token: [UInt8], of session: DeviceSession, on control: ControlID, at moment: Moment
    ) {
        let expires = moment.now + FleetLimits.dataTokenLifetime
        session.token = DeviceSession.DataToken(bytes: token, expires: expires)
        session.repairAt = expires
        schedule(session)
        var response = accepted(session)
        response.dataToken = token
        actions.append(.send(control, .registerResponse(response)))
    }

    private func accepted(_ session: DeviceSession) -> RegisterResponse {
        RegisterResponse(
            status: .ok, deviceID: session.deviceID.description, quicAddress: configuration.quicAddress,
            sessionID: session.id.bytes, nodeID: configuration.nodeID.description,
            heartbeatIntervalMilliseconds: UInt32(clamping: configuration.heartbeatInterval.milliseconds),
            heartbeatTimeoutMilliseconds: UInt32(clamping: configuration.heartbeatTimeout.milliseconds),
            loadReportIntervalMilliseconds: UInt32(clamping: configuration.loadReportInterval.milliseconds),
            quicCertificateSHA256: configuration.quicCertificateSHA256, sessionEpoch: session.epoch)
    }

    // MARK: Resuming

    /// A new control connection takes the session over.
    private func resume(
        _ id: SessionID, _ registration: Registration, on control: ControlID, at moment: Moment,
        using random: inout some RandomNumberGenerator
    ) {
        guard let session = sessions[id] else { return }
        if let old = session.controlID {
            controls[old] = nil
            actions.append(.close(old, .replaced, reason: "resumed on a newer connection"))
        }
        controls[control]?.session = id
        registrationDeadlines.remove(control)
        session.control = .up(control)
        session.registration = registration
        if let peer = controls[control]?.peer { session.remoteAddress = peer }
        session.lastLife = moment.now
        session.lastSeenAt = moment.wall
        session.answerBy = nil
        session.resumes += 1
        totals.resumes += 1
        if session.data == nil {
            let token = randomBytes(FleetLimits.dataTokenBytes, using: &random)
            offer(token, of: session, on: control, at: moment)
        } else {
            var response = accepted(session)
            response.resumed = true
            actions.append(.send(control, .registerResponse(response)))
        }
        if let notice = drain.notice(of: id) { tell(id, notice, at: moment) }
        rank(session)
        schedule(session)
        tellUpdated(session)
    }

    /// The device has lost its data plane and asks for another on the same control connection.
    private func renewData(
        of id: SessionID, _ registration: Registration, at moment: Moment,
        using random: inout some RandomNumberGenerator
    ) {
        guard let session = sessions[id], let control = session.controlID else { return }
        // Still waiting for the first answer: nothing can be lost yet, and the answer comes.
        guard session.answerBy == nil else { return }
        session.registration = registration
        if let data = session.data {
            failOpening(of: session)
            actions.append(
                .closeData(data.connection, code: DataPlaneError.normalEnd, reason: .sessionLost))
            sessionByData[data.connection] = nil
            session.data = nil
        }
        let token = randomBytes(FleetLimits.dataTokenBytes, using: &random)
        offer(token, of: session, on: control, at: moment)
        rank(session)
        tellUpdated(session)
    }
}

func randomBytes(_ count: Int, using random: inout some RandomNumberGenerator) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count {
        var word = random.next()
        for _ in 0..<min(8, count - bytes.count) {
            bytes.append(UInt8(truncatingIfNeeded: word))
            word >>= 8
        }
    }
    return bytes
}
