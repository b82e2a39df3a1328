import Domain
import EventLoop
import Logging
import TemporaryPostgres
import TestKit
import Testing

@testable import Postgres
@testable import Store

/// A store on a real database, with the control loop's side driven by the test and a connection to look on.
final class StoreHarness {
    let loop: EventLoop
    let client: StoreClient
    let databaseURL: String

    init(
        _ databaseURL: String, nodeID: String = "n1", poolSize: Int = 2,
        flushInterval: Duration = .milliseconds(20), queryTimeout: Duration = .seconds(30),
        outbox: TemporaryDirectory? = nil, outboxPath: String? = nil
    ) throws {
        self.databaseURL = databaseURL
        loop = try EventLoop()
        let node = NodeRecord(
            nodeID: try named(nodeID), location: "eu", advertiseHost: nil, wssPort: 8443, quicPort: 8443,
            version: "0.1.0", startedAt: SystemClock.wall)
        client = try StoreClient(
            on: loop,
            StoreConfiguration(
                databaseURL: databaseURL, node: node, poolSize: poolSize, flushInterval: flushInterval,
                queryTimeout: queryTimeout,
                outboxPath: outboxPath ?? outbox.map { $0.path + "/outbox.sqlite" }),
            log: Logger(label: "store-test") { _ in SwiftLogNoOpLogHandler() })
    }

    convenience init() throws {
        try self.init(TemporaryPostgres.makeDatabase())
    }

    deinit {
        client.stop(within: .seconds(2))
    }

    /// Runs the control loop until `condition` holds, for a bounded number of rounds.
    @discardableResult
    func pump(rounds: Int = 3_000, until condition: () throws -> Bool) rethrows -> Bool {
        for _ in 0..<rounds where try !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        return try condition()
    }

    /// Waits until `count` events are committed.
    func waitForWritten(_ count: UInt64) -> Bool {
        pump { client.health.writtenEvents >= count && client.health.waitingEvents == 0 }
    }

    /// Starts a session and waits for its acknowledgement.
    @discardableResult
    func start(_ record: SessionRecord) -> Bool {
        var isDurable = false
        client.startSession(record) { isDurable = true }
        return pump { isDurable }
    }

    /// As their node does with sessions that live, when some of them began without the database.
    @discardableResult
    func claim(_ records: [SessionRecord]) throws -> [SessionEntry] {
        let claims = records.map { SessionClaim(record: $0, isCurrent: true) }
        guard case .claimed(let entries) = try ask(.claimSessions(claims)) else {
            throw StoreFailure.failed("kind")
        }
        return entries
    }

    func ask(_ query: StoreQuery) throws -> StoreAnswer {
        var result: Result<StoreAnswer, StoreFailure>?
        client.ask(query) { result = $0 }
        pump { result != nil }
        guard let result else { throw StoreFailure.failed("no answer at all") }
        return try result.get()
    }

    func devices(_ query: DeviceListQuery) throws -> ListPage<DeviceRow> {
        guard case .devices(let page) = try ask(.devices(query)) else { throw StoreFailure.failed("kind") }
        return page
    }

    func sessions(_ query: SessionListQuery) throws -> ListPage<SessionRow> {
        guard case .sessions(let page) = try ask(.sessions(query)) else { throw StoreFailure.failed("kind") }
        return page
    }

    func device(_ id: String) throws -> DeviceRow? {
        guard case .device(let row) = try ask(.device(try device(named: id))) else {
            throw StoreFailure.failed("kind")
        }
        return row
    }

    func device(named text: String) throws -> DeviceID {
        guard let id = DeviceID(text) else { throw StoreFailure.failed("not a device's name") }
        return id
    }
}

func named(_ text: String) throws -> NodeID {
    guard let id = NodeID(text) else { throw StoreFailure.failed("not a node's name") }
    return id
}

/// Records with defaults, each a session of its own.
struct Records {
    private var random = SystemRandom()
    private var epoch: UInt64 = 1_000

    mutating func session(
        _ device: String, epoch: UInt64? = nil, at startedAt: WallTime = SystemClock.wall,
        location: String = "eu-west", tags: [String] = ["a", "b \"q\" \\ ,{}"],
        began: Instant? = SystemClock.now
    ) throws -> SessionRecord {
        guard let deviceID = DeviceID(device) else { throw StoreFailure.failed("not a device's name") }
        self.epoch += 1
        return SessionRecord(
            sessionID: SessionID(using: &random), deviceID: deviceID, sessionEpoch: epoch ?? self.epoch,
            startedAt: startedAt,
            remoteAddress: SocketAddress(ip: .v4(IPv4Address(0xc000_0201)), port: 4_711), location: location,
            tags: tags, capacity: 100, agentVersion: "1.2.3", began: began)
    }

    mutating func conn(of session: SessionRecord) -> ConnRecord {
        ConnRecord(
            connID: ConnID(using: &random), deviceID: session.deviceID, sessionID: session.sessionID,
            userName: "alice", clientProtocol: .socks5,
            clientAddress: SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 50_000),
            target: "example.org:443", resolvedAddress: "192.0.2.7:443", openedAt: session.startedAt,
            endedAt: SystemClock.wall, bytesSent: 10, bytesReceived: 20, endReason: .finished)
    }

    func load(of session: SessionRecord, at time: WallTime = SystemClock.wall) -> LoadSample {
        LoadSample(
            deviceID: session.deviceID, sessionID: session.sessionID, sampledAt: time, receivedAt: time,
            activeConns: 3, bytesSent: 100, bytesReceived: 200, cpuUtilization: 0.5, memoryUsedBytes: 1_000,
            memoryTotalBytes: 4_000, roundTripMilliseconds: 12.5)
    }
}

/// Rows that a statement has read, at all places of its plan.
func rowsRead(_ statement: PostgresStatement, over sql: BlockingConnection) throws -> Int {
    let plan = try explain(statement, "ANALYZE, COSTS OFF, TIMING OFF", over: sql)
    var total = 0
    var loops = 1
    for line in plan {
        if line.contains("Scan"), let actual = line.firstRange(of: "(actual rows=") {
            let numbers = line[actual.upperBound...].split { !$0.isNumber }.compactMap { Int($0) }
            loops = numbers.last ?? 1
            if !line.contains("Subquery Scan") { total += (numbers.first ?? 0) * loops }
            #expect(!line.contains("Seq Scan"), "\(plan.joined(separator: "\n"))")
        } else if line.contains("Rows Removed by"), let count = line.split(separator: " ").last {
            total += (Int(count) ?? 0) * loops
        }
    }
    return total
}

/// Pages that a statement looks at, of tables and indexes.
func pagesRead(_ statement: PostgresStatement, over sql: BlockingConnection) throws -> Int {
    let plan = try explain(statement, "ANALYZE, BUFFERS, COSTS OFF, TIMING OFF", over: sql)
    // The first line of buffers is that of the whole plan.
    let line = plan.first { $0.contains("Buffers: shared") } ?? ""
    return line.split { !$0.isNumber && !$0.isLetter }.reduce((name: "", total: 0)) { sum, word in
        guard let count = Int(word) else { return (String(word), sum.total) }
        return (sum.name, sum.name == "hit" || sum.name == "read" ? sum.total + count : sum.total)
    }.total
}

/// The plan of a statement that is prepared, as the reader's are: made without knowing the parameters.
private func explain(
    _ statement: PostgresStatement, _ options: String, over sql: BlockingConnection
) throws -> [String] {
    try sql.query("PREPARE explained AS \(statement.sql)")
    let values = statement.parameters.map(literal).joined(separator: ", ")
    let arguments = values.isEmpty ? "" : "(\(values))"
    let plan = try sql.query("EXPLAIN (\(options)) EXECUTE explained\(arguments)").rows
    try sql.query("DEALLOCATE explained")
    return try plan.map { try $0.string("QUERY PLAN") }
}

private func literal(_ parameter: PostgresParameter) -> String {
    guard let bytes = parameter.bytes else { return "NULL" }
    func quoted(_ bytes: some Collection<UInt8>) -> String {
        "'" + String(decoding: bytes, as: UTF8.self).replacing("'", with: "''") + "'"
    }
    guard parameter.isBinary else { return quoted(bytes) }
    // An array of texts: each behind its length, all behind a head of 20 octets.
    var rest = bytes.dropFirst(20)
    var elements: [String] = []
    while rest.count >= 4 {
        let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
        elements.append(quoted(rest.dropFirst(4).prefix(length)))
        rest = rest.dropFirst(4 + length)
    }
    return "ARRAY[\(elements.joined(separator: ", "))]::text[]"
}
