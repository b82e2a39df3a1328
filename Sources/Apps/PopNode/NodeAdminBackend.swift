internal import AdminAPI
internal import Admissions
internal import ClusterMember
internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Ingress
internal import JSON
internal import Observability
internal import Store

/// The node as its admin API sees it.
final class NodeAdminBackend: AdminBackend {
    let nodeID: NodeID
    private let record: NodeRecord
    private let loop: EventLoop
    private let plane: DevicePlane
    private let store: StoreClient
    private let known: KnownDevices
    private let admissions: DeviceAdmissions
    private let registry: MetricRegistry
    /// Nil where clients don't authenticate.
    private let users: UserAdmissions?
    private let passwords: PasswordWorker
    private let machine = MachineLoad()
    /// Who else is there, once somebody looks.
    weak var takers: TakerWatch?

    init(
        _ record: NodeRecord, on loop: EventLoop, plane: DevicePlane, store: StoreClient, known: KnownDevices,
        admissions: DeviceAdmissions, users: UserAdmissions?, passwords: PasswordWorker,
        registry: MetricRegistry
    ) {
        self.users = users
        self.passwords = passwords
        nodeID = record.nodeID
        self.record = record
        self.loop = loop
        self.plane = plane
        self.store = store
        self.known = known
        self.admissions = admissions
        self.registry = registry
    }

    var isAlone: Bool { takers?.isAlone ?? false }

    var node: NodeRow {
        let load = machine.sample(now: loop.now)
        let totals = plane.totals
        return NodeRow(
            nodeID: nodeID, state: plane.nodeState, location: record.location,
            advertiseHost: record.advertiseHost, wssPort: record.wssPort, quicPort: record.quicPort,
            version: record.version, startedAt: record.startedAt, lastSeenAt: SystemClock.wall, age: 0,
            devicesOnline: UInt64(plane.sessionCount), connsActive: UInt64(plane.connCount),
            bytesSent: totals.bytesSent, bytesReceived: totals.bytesReceived,
            cpuUtilization: load.cpuUtilization, memoryUsedBytes: load.memory?.usedBytes ?? 0,
            maximumDevices: UInt64(max(0, record.maximumDevices)))
    }

    /// A node without its database goes on serving those it knows, and one whose disk fails keeps in memory
    /// what it can, so those checks only inform.
    var readiness: [ReadinessCheck] {
        let health = store.health
        // Until the database has answered or refused once, nobody can tell what this node would serve.
        let isStarting = !health.isConnected && health.failure == nil
        let phase = plane.isStopping ? "the node is stopping" : isStarting ? "the node is starting" : ""
        return [
            ReadinessCheck(name: "running", isPassing: phase.isEmpty, isRequired: true, detail: phase),
            ReadinessCheck(
                name: "eligible", isPassing: plane.nodeState == .active, isRequired: true,
                detail: "the node is \(plane.nodeState.rawValue)"),
            ReadinessCheck(
                name: "database", isPassing: health.isConnected, isRequired: false,
                detail: health.failure ?? ""),
            outboxCheck(health),
        ]
    }

    private func outboxCheck(_ health: StoreHealth) -> ReadinessCheck {
        let outbox = health.outbox ?? OutboxHealth()
        let detail =
            if let failure = outbox.failure {
                "\(failure); \(health.waitingEvents) events wait in memory"
            } else if outbox.setAsideEvents > 0 {
                "the database has refused \(outbox.setAsideEvents) events for good; they are set aside on disk"
            } else {
                outbox.events > 0 ? "\(outbox.events) events wait on disk" : ""
            }
        return ReadinessCheck(
            name: "outbox", isPassing: outbox.failure == nil, isRequired: false, detail: detail)
    }

    var statistics: JSONValue {
        let totals = plane.totals
        let health = store.health
        let counts: [(String, UInt64)] = [
            ("devices_online", UInt64(plane.sessionCount)), ("conns_active", UInt64(plane.connCount)),
            ("sessions_started", totals.sessionsStarted), ("sessions_resumed", totals.resumes),
            ("registrations_refused", totals.registrationsRefused), ("conns_placed", totals.connsPlaced),
            ("conns_opened", totals.connsOpened), ("conns_without_device", totals.connsWithoutDevice.total),
            ("bytes_sent", totals.bytesSent), ("bytes_received", totals.bytesReceived),
            ("store_events_waiting", UInt64(health.waitingEvents)),
            ("store_events_written", health.writtenEvents),
            ("store_events_dropped", health.droppedEvents),
            ("store_events_refused", health.refusedEvents),
            ("outbox_events", UInt64(max(0, health.outbox?.events ?? 0))),
            ("outbox_bytes", health.outbox?.usedBytes ?? 0),
            ("outbox_events_set_aside", UInt64(max(0, health.outbox?.setAsideEvents ?? 0))),
        ]
        // JSON's integers end at what 63 bits hold.
        let figures = counts.map { JSONMember($0.0, .integer(Int64(clamping: $0.1))) }
        return .object(
            [
                JSONMember("node_id", .string(nodeID.description)),
                JSONMember("database_connected", .bool(health.isConnected)),
            ]
                + figures)
    }

    func metrics(answer: @escaping ([UInt8]) -> Void) { registry.scrape(answer) }

    func ask(_ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void) {
        store.ask(query, answer: answer)
    }

    func record(_ event: StoreEvent) { store.record(event) }
    func apply(_ admission: Admission) { admissions.apply(admission) }

    func hashPassword(_ password: [UInt8], answer: @escaping (String?) -> Void) {
        passwords.make(of: password, answer: answer)
    }

    func userChanged(_ name: UserName) { users?.changed(name) }

    func explainRoute(_ username: String, limit: Int, answer: @escaping (RouteVerdict) -> Void) {
        if let users { return users.explain(username, limit: limit, answer: answer) }
        guard let login = ClientLogin(username) else { return answer(.malformed) }
        answer(.explained(plane.explain(login.wish, limit: limit), refusal: nil))
    }

    func session(of device: DeviceID) -> SessionSnapshot? { plane.session(of: device) }
    func firstSeen(_ device: DeviceID) -> WallTime? { known.firstSeen(device) }
    func learn(_ sighting: DeviceFirstSeen) {
        if plane.session(of: sighting.deviceID) != nil { known.learn(sighting) }
    }
    func session(_ id: SessionID) -> SessionSnapshot? { plane.session(id) }
    func disconnect(_ device: DeviceID) -> Bool { plane.disconnect(device) }

    var conns: [ConnSnapshot] { plane.conns }
    func conn(_ id: ConnID) -> ConnSnapshot? { plane.conn(id) }
    func closeConn(_ id: ConnID) -> Bool { plane.closeConn(id, .admin) }

    var drain: DrainSnapshot { plane.drainSnapshot }
    func drainDetails(atMost count: Int) -> DrainDetails { plane.drainDetails(atMost: count) }
    func setEligibility(_ isEligible: Bool) { plane.setEligibility(isEligible) }
    func startDrain(_ request: DrainRequest) { plane.startDrain(request) }
    func cancelDrain(staysCordoned: Bool) { plane.undrain(staysCordoned: staysCordoned) }
}
