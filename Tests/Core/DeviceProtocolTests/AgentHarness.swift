import DeviceProtocol
import Domain

/// A machine with its clock, and what it wanted done since the last look.
struct AgentHarness {
    static let sessionA = SessionID(high: 1, low: 1)
    static let sessionB = SessionID(high: 2, low: 2)
    static let first = AgentSessionNumber(1)
    static let second = AgentSessionNumber(2)
    static let third = AgentSessionNumber(3)

    var machine: AgentMachine
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var actions: [AgentAction] = []

    init(_ pops: [String] = ["wss://a", "wss://b"], capacity: UInt32 = 0, seed: UInt64 = 1) {
        machine = AgentMachine(
            AgentConfiguration(deviceID: "d", capacity: capacity, pops: pops.compactMap { PopURL($0) }),
            seed: seed)
    }

    mutating func take() -> [AgentAction] {
        defer { actions = [] }
        return actions
    }

    mutating func start() { actions += machine.start(now: now) }

    /// The next deadline comes; answers how long it took.
    @discardableResult mutating func expire() -> Duration {
        let wait = machine.nextDeadline - now
        now = max(now, machine.nextDeadline)
        actions += machine.expire(now: now)
        return wait
    }

    mutating func pass(_ duration: Duration) {
        now = now + duration
        actions += machine.expire(now: now)
    }

    mutating func connect(_ number: AgentSessionNumber) {
        actions += machine.controlConnected(number, now: now)
    }

    mutating func fail(_ number: AgentSessionNumber, _ failure: ControlFailure = .unreachable) {
        actions += machine.controlFailed(number, failure, now: now)
    }

    mutating func receive(_ number: AgentSessionNumber, _ message: ControlMessage) {
        actions += machine.received(number, message, now: now)
    }

    mutating func close(_ number: AgentSessionNumber, _ code: UInt16?) {
        actions += machine.controlClosed(number, code: code, now: now)
    }

    mutating func dataUp(_ number: AgentSessionNumber) {
        actions += machine.dataConnected(number, now: now)
    }

    mutating func dataDown(_ number: AgentSessionNumber, _ code: UInt64? = nil) {
        actions += machine.dataClosed(number, code: code, now: now)
    }

    /// Connects, registers and opens the data plane.
    mutating func whole(_ number: AgentSessionNumber, session: SessionID = AgentHarness.sessionA) {
        connect(number)
        receive(number, Self.accepted(session))
        dataUp(number)
    }

    /// A conn that is open.
    mutating func open(_ number: AgentSessionNumber, _ connID: ConnID) {
        receive(number, Self.openTCP(connID))
        actions += machine.connOpened(number, connID, now: now)
    }

    mutating func end(_ number: AgentSessionNumber, _ closed: ConnClosed) {
        actions += machine.connEnded(number, closed, now: now)
    }

    static func accepted(
        _ session: SessionID = sessionA, resumed: Bool = false, quic: String = ":7443"
    ) -> ControlMessage {
        .registerResponse(
            RegisterResponse(
                status: .ok, deviceID: "d", quicAddress: quic, sessionID: session.bytes,
                dataToken: resumed ? [] : [UInt8](repeating: 7, count: 32), nodeID: "n",
                heartbeatIntervalMilliseconds: 30_000, heartbeatTimeoutMilliseconds: 90_000,
                loadReportIntervalMilliseconds: 30_000, resumed: resumed,
                quicCertificateSHA256: [UInt8](repeating: 9, count: 32), sessionEpoch: 1))
    }

    static func refused(
        _ status: RegisterResponse.Status, retryAfter: UInt32 = 0, alternatives: [String] = []
    ) -> ControlMessage {
        .registerResponse(
            RegisterResponse(
                status: status, retryAfterMilliseconds: retryAfter, alternatives: alternatives))
    }

    static func openTCP(_ connID: ConnID) -> ControlMessage {
        .command(Command(connID: connID, body: .openTCP(target: "t:1", connectTimeoutMilliseconds: 500)))
    }
}

extension [AgentAction] {
    var connects: [String] {
        compactMap { if case .connectControl(_, let url) = $0 { url.description } else { nil } }
    }

    var sent: [ControlMessage] {
        compactMap { if case .send(_, let message) = $0 { message } else { nil } }
    }

    var requests: [RegisterRequest] {
        sent.compactMap { if case .registerRequest(let request) = $0 { request } else { nil } }
    }

    var dataPlans: [DataPlan] {
        compactMap { if case .connectData(_, let plan) = $0 { plan } else { nil } }
    }

    var withoutNotes: [AgentAction] {
        filter { if case .note = $0 { false } else { true } }
    }
}
