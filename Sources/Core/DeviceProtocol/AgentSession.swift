internal import Domain

/// The device's side of its relation with one POP (contract section 2, "Sessions").
///
/// Two planes live and die apart; the session is over when neither can bring it back:
///
///     control   connecting -> registering -> up -+-> waiting -> connecting ...  (data alive: resume)
///                                                +-> over                       (data gone, or final)
///     data      none -> connecting -> up -+-> waiting -> (RegisterRequest that resumes) -> connecting ...
///
/// - The POP says in RegisterResponse whether the data plane lives on (`resumed`), or the token to open it.
/// - A conn is dialled, then open; for each that was open exactly one ConnClosed goes out. It is held while
///   control is away and dropped when the POP has given another session.
/// - How the session ended (`outcome`) tells ``AgentMachine`` where to go next; this type knows one POP only.
///
/// The machine alone holds it; it is shared so that a change costs no more than finding it.
final class AgentSession {
    enum Control: Equatable {
        case connecting(until: Instant)
        case registering(until: Instant)
        case up
        /// Lost while data lives: the next attempt to resume.
        case waiting(until: Instant)
        case over
    }

    enum Data: Equatable {
        case none
        case connecting(until: Instant)
        case up
        /// Lost while control is up: when to register again.
        case waiting(until: Instant)
    }

    enum Outcome: Equatable {
        /// No connection came to be: the next POP may be better.
        case unreachable
        /// The session or the connection broke, or an operator ended it: back here, after a wait.
        case lost
        /// The POP wants no session now: the next POP, at once.
        case refused(retryAfter: Duration, alternatives: [PopURL])
        case forbidden
        case replaced
        /// Ended by our own wish.
        case left
    }

    struct Details: Equatable {
        let sessionID: SessionID
        let heartbeatInterval: Duration
        let heartbeatTimeout: Duration
        let loadReportInterval: Duration
        let registeredAt: Instant
    }

    struct DrainNotice: Equatable {
        let moveAt: Instant
        let alternatives: [PopURL]
    }

    let number: AgentSessionNumber
    let pop: PopURL
    let configuration: AgentConfiguration
    var control: Control
    var data = Data.none
    var details: Details?
    var outcome: Outcome?
    /// Whether the POP may still hold the session after it was lost.
    var isResumable = true
    var drain: DrainNotice?
    /// Whether another session has taken its place: it ends once it has no conns.
    var isLeaving = false

    /// Until then the POP may begin a session for a registration that it has not answered, whatever has become of
    /// the connection that it went by.
    var answerDueUntil: Instant?

    var resumeSessionID: SessionID?
    var registerDeadline: Instant?
    var nextHeartbeat = Instant.distantFuture
    var nextLoadReport = Instant.distantFuture
    var silentSince: Instant
    /// When the first heartbeat went out that nothing has come after.
    var unansweredSince: Instant?
    /// Whether this POP answers heartbeats.
    var hasBeenAnswered = false
    var sequence: UInt64 = 0
    var controlBackoff: AgentBackoff
    var dataBackoff: AgentBackoff
    var refusal = Outcome.refused(retryAfter: .zero, alternatives: [])
    /// Messages about conns that wait for control to come back, or for company; at most two for each conn that
    /// there was.
    var held: [ControlMessage] = []
    /// When they have waited long enough for company.
    var heldUntil: Instant?
    var conns: [ConnID: ConnPhase] = [:]
    var actions: [AgentAction] = []

    enum ConnPhase: Equatable {
        case dialling
        case open
    }

    init(
        _ number: AgentSessionNumber, pop: PopURL, resuming: SessionID?, configuration: AgentConfiguration,
        seed: UInt64, now: Instant
    ) {
        self.number = number
        self.pop = pop
        self.configuration = configuration
        resumeSessionID = resuming
        controlBackoff = AgentBackoff(seed: seed)
        dataBackoff = AgentBackoff(seed: ~seed)
        silentSince = now
        control = .connecting(until: now + AgentLimit.connectTimeout)
        actions.append(.connectControl(number, pop))
    }

    /// Whether a POP may have taken this session for the device's newest after `other`.
    func mayHaveReplaced(_ other: AgentSession, now: Instant) -> Bool {
        if let answerDueUntil, now < answerDueUntil { return true }
        guard let details, let its = other.details else { return false }
        return details.registeredAt >= its.registeredAt
    }

    var isRegistered: Bool { control == .up && details != nil }
    var isWhole: Bool { isRegistered && data == .up }

    func takeActions() -> [AgentAction] {
        defer { actions.removeAll(keepingCapacity: true) }
        return actions
    }

    // MARK: Control

    func controlConnected(now: Instant) {
        guard case .connecting = control else { return }
        control = .registering(until: now + AgentLimit.registerTimeout)
        silentSince = now
        register(now: now)
    }

    func controlFailed(_ failure: ControlFailure, now: Instant) {
        guard case .connecting = control else { return }
        if data == .up {
            controlLost(now: now)
            return
        }
        control = .over
        switch failure {
        case .unreachable, .unauthorized: end(.unreachable)
        case .unavailable(let retryAfter): end(.refused(retryAfter: retryAfter, alternatives: []))
        }
    }

    /// - Parameter code: of the POP's close frame; nil when the connection just ended.
    func controlClosed(code: UInt16?, now: Instant) {
        guard control != .over else { return }
        if case .waiting = control { return }
        actions.append(.note(number, .controlLost(code: code)))
        switch code {
        case 4003: finishControl(.forbidden)
        case 4009: finishControl(.replaced)
        case 4010:
            // An operator's disconnect can't be resumed.
            isResumable = false
            finishControl(.lost)
        case 4012, 1001, 1013: finishControl(farewell)
        default: controlLost(now: now)
        }
    }

    /// Where the POP sends this device as it lets it go: by its refusal, or as it told it when it was to move.
    var farewell: Outcome {
        guard case .refused(let pause, []) = refusal, let drain else { return refusal }
        return .refused(retryAfter: pause, alternatives: drain.alternatives)
    }

    func finishControl(_ outcome: Outcome) {
        control = .over
        end(outcome)
    }

    /// The connection is gone and the session may live: resumed here while data is alive.
    func controlLost(now: Instant) {
        registerDeadline = nil
        unansweredSince = nil
        nextHeartbeat = .distantFuture
        nextLoadReport = .distantFuture
        guard data == .up, outcome == nil else {
            control = .over
            end(.lost)
            return
        }
        control = .waiting(until: now + controlBackoff.next())
    }

    func received(_ message: ControlMessage, now: Instant) {
        silentSince = now
        unansweredSince = nil
        if case .heartbeatAck = message { hasBeenAnswered = true }
        switch (control, message) {
        case (.registering, .registerResponse(let response)), (.up, .registerResponse(let response)):
            guard registerDeadline != nil else { return }
            registerDeadline = nil
            answerDueUntil = nil
            answered(response, now: now)
        case (.up, .command(let command)): ordered(command)
        case (.up, .connClosed(let closed)): closeConn(closed.connID, closed.reason)
        case (.up, .drain(let notice)): drained(notice, now: now)
        case (.up, .reconnect): reconnect(now: now)
        default:
            // HeartbeatAck only proves life; what a POP doesn't send, or not yet, is ignored.
            break
        }
    }

    // MARK: Registration

    /// Sends a RegisterRequest that asks for the session there is, if there is one.
    func register(now: Instant) {
        if control == .up { sendHeld() }
        registerDeadline = now + AgentLimit.registerTimeout
        answerDueUntil = registerDeadline
        let resumed = details?.sessionID ?? resumeSessionID
        let request = RegisterRequest(
            deviceID: configuration.deviceID, location: configuration.location,
            capacity: configuration.capacity, tags: configuration.tags,
            agentVersion: configuration.agentVersion, capabilities: configuration.capabilities,
            resumeSessionID: resumed?.bytes ?? [])
        actions.append(.send(number, .registerRequest(request)))
    }

    func answered(_ response: RegisterResponse, now: Instant) {
        switch response.status {
        case .ok:
            accepted(response, now: now)
        case .draining, .overloaded:
            actions.append(.note(number, .refused(response.status, response.error)))
            refusal = .refused(
                retryAfter: .milliseconds(Int64(response.retryAfterMilliseconds)),
                alternatives: acceptable(response.alternatives))
            end(refusal)
        case .forbidden:
            actions.append(.note(number, .refused(response.status, response.error)))
            end(.forbidden)
        case .invalid, .unspecified:
            actions.append(.note(number, .refused(response.status, response.error)))
            isResumable = false
            end(.lost)
        }
    }

    func accepted(_ response: RegisterResponse, now: Instant) {
        guard let sessionID = SessionID(bytes: response.sessionID) else {
            protocolError("RegisterResponse without a session_id of 16 bytes")
            return
        }
        let isAnother = details.map { $0.sessionID != sessionID } ?? false
        if isAnother {
            // What was told to leave was the other one; a POP that wants this one to leave says so.
            drain = nil
            forgetConns()
            closeDataIfAny()
        }
        let timeout = interval(response.heartbeatTimeoutMilliseconds, otherwise: .seconds(90))
        details = Details(
            sessionID: sessionID,
            // Two heartbeats must fit into the POP's patience, whatever is configured.
            heartbeatInterval: min(
                configuration.heartbeatInterval
                    ?? interval(response.heartbeatIntervalMilliseconds, otherwise: .seconds(30)),
                timeout / 2),
            heartbeatTimeout: timeout,
            loadReportInterval: interval(response.loadReportIntervalMilliseconds, otherwise: .seconds(30)),
            registeredAt: isAnother ? now : details?.registeredAt ?? now)
        let isFirstAnswer = control != .up
        control = .up
        nextHeartbeat = now
        nextLoadReport = now
        actions.append(
            .note(
                number,
                .registered(sessionID: sessionID, nodeID: response.nodeID, resumed: response.resumed)))
        if isAnother, isLeaving {
            // The conns that it lived on for are gone with the one before it.
            finishIfLeft()
            return
        }
        if response.resumed {
            // The POP has not noticed yet that data is lost; asked again, it gives a token.
            if data != .up { data = .waiting(until: isFirstAnswer ? now : now + dataBackoff.next()) }
            registerForDataIfDue(now: now)
        } else {
            guard let plan = plan(response, timeout) else { return }
            endConns(.sessionLost)
            closeDataIfAny()
            data = .connecting(until: now + AgentLimit.dataTimeout)
            actions.append(.connectData(number, plan))
        }
        sendHeld()
        controlBackoff.reset()
    }

    func plan(_ response: RegisterResponse, _ idleTimeout: Duration) -> DataPlan? {
        let address = response.quicAddress
        // An empty host means the host that was dialled for control.
        let text = address.hasPrefix(":") ? Target(host: pop.host, port: 1).hostText + address : address
        guard let target = Target(text) else {
            protocolError("RegisterResponse with a quic_address that is no host:port")
            return nil
        }
        guard !response.dataToken.isEmpty else {
            protocolError("RegisterResponse without a data_token")
            return nil
        }
        return DataPlan(
            host: target.host, port: target.port,
            hello: DataHello(sessionID: response.sessionID, dataToken: response.dataToken),
            certificateSHA256: response.quicCertificateSHA256, idleTimeout: idleTimeout)
    }

    func protocolError(_ text: String) {
        actions.append(.note(number, .protocolError(text)))
        isResumable = false
        end(.lost)
    }

    func interval(_ milliseconds: UInt32, otherwise: Duration) -> Duration {
        guard milliseconds > 0 else { return otherwise }
        return min(
            max(.milliseconds(Int64(milliseconds)), AgentLimit.shortestInterval), AgentLimit.longestInterval)
    }

    // MARK: Drain and end

    func drained(_ notice: Drain, now: Instant) {
        actions.append(.note(number, .draining(deadlineMilliseconds: notice.deadlineMilliseconds)))
        drain = DrainNotice(
            moveAt: now + .milliseconds(Int64(notice.notBeforeMilliseconds)),
            alternatives: acceptable(notice.alternatives))
    }

    /// URLs of a POP that a device follows: well-formed, not this POP, and never from `wss` down to `ws`.
    func acceptable(_ alternatives: [String]) -> [PopURL] {
        let urls = alternatives.prefix(AgentLimit.alternatives).compactMap { PopURL($0) }
        return urls.filter { $0 != pop && ($0.isSecure || !pop.isSecure) }
    }

    /// Another session has taken over: this one goes when its conns have ended.
    func leaveWhenIdle() {
        isLeaving = true
        finishIfLeft()
    }

    func finishIfLeft() {
        if isLeaving, conns.isEmpty, outcome == nil { leave(reason: "moved") }
    }

    /// Ends the session by our own wish: Goodbye, close 1000, data 0x100.
    func leave(reason: String) {
        guard outcome == nil else { return }
        if isRegistered {
            sendHeld()
            actions.append(.send(number, .goodbye(reason: reason)))
        }
        end(.left)
    }

    func end(_ outcome: Outcome) {
        guard self.outcome == nil else { return }
        self.outcome = outcome
        switch control {
        case .connecting, .registering, .up: actions.append(.closeControl(number, code: 1_000))
        case .waiting, .over: break
        }
        control = .over
        registerDeadline = nil
        nextHeartbeat = .distantFuture
        nextLoadReport = .distantFuture
        forgetConns()
        closeDataIfAny()
        actions.append(.forget(number))
    }
}

extension Target {
    /// The host as it stands before a port.
    fileprivate var hostText: String {
        switch host {
        case .name(let name): name
        case .address(.v4(let address)): address.description
        case .address(.v6(let address)): "[\(address)]"
        }
    }
}
