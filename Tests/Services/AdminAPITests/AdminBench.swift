import AdminAPI
import DeviceProtocol
import Domain
import EventLoop
import HTTP1
import HTTPServer
import JSON
import Logging
import Store
import TLS

@testable import Fleet

/// A node that does what the test says.
final class FakeBackend: AdminBackend {
    let nodeID = someNode("pop-1")
    var state = NodeState.active
    var questions: [StoreQuery] = []
    /// Answers of the database by question; nil: unavailable.
    var database: ((StoreQuery) -> StoreAnswer?)?
    /// Answers questions that `database` does not: alone, and without a database, a node has its own conns.
    var nodes: [NodeRow]? = []
    var failure = StoreFailure.unavailable("connection refused: password=hunter2")
    var sessions: [SessionSnapshot] = []
    var conns: [ConnSnapshot] = []
    var sightings: [DeviceID: WallTime] = [:]
    var drain = DrainSnapshot(state: .none)
    var details = DrainDetails(estimate: DrainEstimate(time: .zero, basis: .none))
    var drainRequests: [DrainRequest] = []
    func drainDetails(atMost count: Int) -> DrainDetails { details }
    var closed: [ConnID] = []
    var disconnected: [DeviceID] = []
    var checks = [ReadinessCheck(name: "state", isPassing: true, isRequired: true, detail: "active")]

    var events: [StoreEvent] = []
    var admissions: [Admission] = []

    private let loop: EventLoop

    init(loop: EventLoop) {
        self.loop = loop
    }

    var devicesOnline: UInt64 = 1
    var node: NodeRow {
        var row = nodeRow("pop-1", state: state)
        row.devicesOnline = devicesOnline
        return row
    }
    var isAlone = false
    var readiness: [ReadinessCheck] { checks }
    var statistics: JSONValue { ["node_id": "pop-1", "conns_active": .integer(Int64(conns.count))] }
    func metrics(answer: @escaping ([UInt8]) -> Void) { answer(Array("pop_test 1\n".utf8)) }

    func ask(_ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void) {
        questions.append(query)
        let result: Result<StoreAnswer, StoreFailure> =
            if let found = database?(query) ?? ownAnswer(query) { .success(found) } else { .failure(failure) }
        loop.atEndOfBatch { answer(result) }
    }

    private func ownAnswer(_ query: StoreQuery) -> StoreAnswer? {
        if case .nodes = query { nodes.map { .nodes($0) } } else { nil }
    }

    func record(_ event: StoreEvent) { events.append(event) }
    func apply(_ admission: Admission) { admissions.append(admission) }

    var changedUsers: [UserName] = []
    var verdict = RouteVerdict.noUser
    /// Nil: too many wait.
    var passwordHash: String? = "$hash"

    func hashPassword(_ password: [UInt8], answer: @escaping (String?) -> Void) {
        loop.atEndOfBatch { [passwordHash] in answer(passwordHash) }
    }

    func userChanged(_ name: UserName) { changedUsers.append(name) }

    func explainRoute(_ username: String, limit: Int, answer: @escaping (RouteVerdict) -> Void) {
        answer(verdict)
    }

    /// The lines of the audit trail, oldest first.
    var audit: [AuditRecord] {
        events.compactMap { if case .audited(let record) = $0 { record } else { nil } }
    }

    func session(of device: DeviceID) -> SessionSnapshot? { sessions.first { $0.deviceID == device } }
    func firstSeen(_ device: DeviceID) -> WallTime? { sightings[device] }
    func learn(_ sighting: DeviceFirstSeen) { sightings[sighting.deviceID] = sighting.at }
    func session(_ id: SessionID) -> SessionSnapshot? { sessions.first { $0.sessionID == id } }

    func disconnect(_ device: DeviceID) -> Bool {
        disconnected.append(device)
        return session(of: device) != nil
    }

    func conn(_ id: ConnID) -> ConnSnapshot? { conns.first { $0.connID == id } }

    func closeConn(_ id: ConnID) -> Bool {
        guard conns.contains(where: { $0.connID == id }) else { return false }
        closed.append(id)
        return true
    }

    func setEligibility(_ isEligible: Bool) { state = isEligible ? .active : .cordoned }

    func startDrain(_ request: DrainRequest) {
        drainRequests.append(request)
        state = .draining
        drain.state = .handover
        drain.startedAt = someTime
        drain.devicesTotal = 120
        drain.devicesRemaining = 101
        drain.reason = request.reason
        details.estimate = DrainEstimate(
            time: .seconds(Double(drain.devicesRemaining) / Double(request.devicesPerSecond)), basis: .setRate
        )
    }

    func cancelDrain(staysCordoned: Bool) {
        state = staysCordoned ? .cordoned : .active
        drain.state = .canceled
    }
}

/// The API behind a real server on loopback, and a client for it.
final class AdminBench {
    struct Answer {
        let status: UInt16
        let fields: HTTPFields
        let body: [UInt8]

        var json: JSONValue { (try? JSONValue(parsing: body)) ?? .null }
        var code: String? { json["code"]?.string }
        /// The fields named in a problem's `errors`.
        var faults: [String] { json["errors"]?.array?.compactMap { $0["field"]?.string } ?? [] }
        var items: [JSONValue] { json["items"]?.array ?? [] }
    }

    let loop: EventLoop
    let backend: FakeBackend
    let api: AdminAPI
    private let server: HTTPServer
    let address: SocketAddress
    private var revision: Int64 = 0

    init(isMetricsPublic: Bool = false, bootstrapToken: String = "bootstrap-token") throws {
        loop = try EventLoop()
        backend = FakeBackend(loop: loop)
        api = AdminAPI(
            on: loop,
            configuration: AdminAPIConfiguration(
                authenticator: AdminAuthenticator(bootstrapToken: bootstrapToken),
                isMetricsPublic: isMetricsPublic),
            backend: backend, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        server = HTTPServer(on: loop, handler: api)
        address = try server.listen(SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0))
        load([storedToken("read"), storedToken("operate"), storedToken("admin")])
    }

    /// Has the API copy these tokens from the database.
    func load(_ keys: [AdminTokenKey]) {
        revision += 1
        let before = backend.database
        backend.database = { [revision] _ in .adminTokenBook(AdminTokenBook(revision: revision, keys: keys)) }
        api.noticed(tokenRevision: revision)
        loop.runOnce(waitingAtMost: .zero)
        backend.database = before
        backend.questions = []
    }

    deinit {
        server.abort()
        loop.runOnce(waitingAtMost: .zero)
    }

    func send(
        _ method: HTTPMethod, _ target: String, body: String = "", token: String? = "admin-token",
        fields: HTTPFields = [:]
    ) throws -> Answer {
        var fields = fields
        if let token { fields.append("Authorization", "Bearer \(token)") }
        if !body.isEmpty, !fields.contains("content-type") {
            fields.append("Content-Type", "application/json")
        }
        var result: Result<HTTPClient.Outcome, HTTPClientError>?
        let client = HTTPClient.send(
            HTTPClientRequest(
                method: method, target: target, host: "localhost", fields: fields, body: Array(body.utf8)),
            on: loop,
            over: { TCPStream.connect(on: loop, to: address, timeout: .seconds(5), handler: $0) },
            completion: { result = $0 })
        let deadline = loop.now + .seconds(60)
        while result == nil, loop.now < deadline { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        withExtendedLifetime(client) {}
        guard let result, case .response(let response) = try result.get() else {
            throw HTTPClientError.timedOut
        }
        return Answer(status: response.status.code, fields: response.head.fields, body: response.body)
    }

    /// Runs the loop until `condition` holds, or a bounded time is over.
    @discardableResult
    func run(until condition: () -> Bool) -> Bool {
        let deadline = loop.now + .seconds(60)
        while !condition(), loop.now < deadline { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        return condition()
    }

    func get(_ target: String, token: String? = "read-token", fields: HTTPFields = [:]) throws -> Answer {
        try send(.get, target, token: token, fields: fields)
    }
}

// MARK: Samples

/// The token `SCOPE-token`, named as its scope.
func storedToken(_ scope: String, expiresAt: WallTime? = nil) -> AdminTokenKey {
    AdminTokenKey(
        tokenID: someToken(scope), name: scope, scope: scope,
        sha256: SHA256.digest(Array("\(scope)-token".utf8)), expiresAt: expiresAt)
}

func someToken(_ scope: String) -> TokenID { TokenID(high: 3, low: UInt64(scope.utf8.count)) }

let someTime = WallTime(milliseconds: 1_769_850_300_120)
let someAddress = SocketAddress(ip: .v4(IPv4Address(0xc000_0207)), port: 51_000)

func someNode(_ text: String) -> NodeID {
    guard let id = NodeID(text) else { preconditionFailure("bad id \(text)") }
    return id
}

func someDevice(_ text: String) -> DeviceID {
    guard let id = DeviceID(text) else { preconditionFailure("bad id \(text)") }
    return id
}

func nodeRow(_ id: String, state: NodeState = .active, host: String? = nil) -> NodeRow {
    NodeRow(
        nodeID: someNode(id), state: state, location: "eu", advertiseHost: host, wssPort: 443, quicPort: 443,
        version: "0.1.0", startedAt: someTime, lastSeenAt: someTime, age: 0, devicesOnline: 1, connsActive: 2,
        bytesSent: 3, bytesReceived: 4, cpuUtilization: 0.5, memoryUsedBytes: 6, maximumDevices: 50)
}

func deviceRow(_ id: String, online: Bool = false, node: String? = nil, epoch: UInt64 = 7) -> DeviceRow {
    DeviceRow(
        deviceID: someDevice(id), online: online, enabled: true, nodeID: node.map(someNode), sessionID: nil,
        sessionEpoch: epoch, location: "eu", tags: ["a"], capacity: 0, agentVersion: "1", remoteAddress: nil,
        quicRemoteAddress: nil, health: online ? .whole : nil, connectedAt: nil, lastHeartbeatAt: nil,
        roundTripMilliseconds: nil, activeConns: 0, bytesSent: 1, bytesReceived: 2, cpuUtilization: nil,
        memoryUsedBytes: nil, memoryTotalBytes: nil, firstSeenAt: someTime, lastSeenAt: someTime,
        age: online ? 1.5 : nil)
}

func sessionRow(_ serial: UInt64, device: String, isOpen: Bool = true) -> SessionRow {
    SessionRow(
        sessionID: SessionID(high: 1, low: serial), deviceID: someDevice(device), nodeID: someNode("pop-1"),
        sessionEpoch: 7, startedAt: someTime, endedAt: isOpen ? nil : someTime,
        endReason: isOpen ? nil : .goodbye, remoteAddress: "192.0.2.7", agentVersion: "1", location: "eu",
        tags: [],
        counters: SessionCounters(bytesSent: 1, bytesReceived: 2, connsTotal: 3, resumes: 0, migrations: 0))
}

func liveSession(_ serial: UInt64, device: String, epoch: UInt64 = 7) -> SessionSnapshot {
    SessionSnapshot(
        sessionID: SessionID(high: 1, low: serial), deviceID: someDevice(device), epoch: epoch,
        location: "us",
        tags: ["b"], capacity: 5, agentVersion: "2", capabilities: ["tcp"], remoteAddress: someAddress,
        quicRemoteAddress: nil, health: .controlOnly, isDraining: false, connectedAt: someTime,
        began: Instant(nanoseconds: 1),
        lastSeenAt: WallTime(microseconds: someTime.microseconds + 7_000_000), lastHeartbeatAt: nil,
        roundTripMilliseconds: 1.5, load: nil, activeConns: 9, bytesSent: 100, bytesReceived: 200,
        connsTotal: 11, resumes: 1, migrations: 2)
}

func liveConn(
    _ serial: UInt64, device: String = "dev1", user: String? = nil, target: String = "example.com:443",
    opened: Int64 = 0
) -> ConnSnapshot {
    guard let target = Target(target) else { preconditionFailure("bad target") }
    return ConnSnapshot(
        connID: ConnID(high: 2, low: serial), deviceID: someDevice(device),
        sessionID: SessionID(high: 1, low: 1),
        user: user, clientProtocol: .socks5, clientAddress: someAddress, target: target,
        resolvedAddress: "192.0.2.9:443", state: .open,
        openedAt: WallTime(microseconds: someTime.microseconds + opened), bytesSent: 5, bytesReceived: 6,
        lastActiveAt: Instant(nanoseconds: 0))
}
