import Domain
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

/// Where devices of a drain are, and what it costs to find out.
@Suite struct DrainArrivalTests {
    private let store: StoreHarness
    private let sql: BlockingConnection
    private static let began = WallTime(milliseconds: 1_769_850_000_000)

    init() throws {
        store = try StoreHarness()
        sql = try BlockingConnection(store.databaseURL)
        #expect(store.pump { store.client.health.isConnected })
        for (name, value) in StoreReader.plannerSettings { try sql.query("SET \(name) = \(value)") }
        try sql.run(script: "ALTER TABLE pop.device_sessions SET (autovacuum_enabled = false)")
    }

    /// Sessions of devices at a node, from and until so many seconds after the drain's begin.
    private func sessions(_ devices: Range<Int>, _ node: String, from: Int, until: Int? = nil) throws {
        try sql.query(
            """
            INSERT INTO pop.device_sessions (session_id, device_id, node_id, node_incarnation, session_epoch,
                started_at, last_seen_at, ended_at, end_reason)
            SELECT gen_random_uuid(), 'd' || n, $1, gen_random_uuid(), 1000 + $4::integer,
                t + $4::integer * interval '1 s', t + 9999 * interval '1 s',
                t + $5::integer * interval '1 s', CASE WHEN $5::integer IS NOT NULL THEN 'drained' END
            FROM generate_series($2::integer, $3::integer - 1) n, (SELECT $6::timestamptz AS t) s
            """,
            [
                .text(node), .integer(Int64(devices.lowerBound)), .integer(Int64(devices.upperBound)),
                .integer(Int64(from)), .integer(until.map { Int64($0) }),
                .time(Self.began),
            ])
    }

    /// Each device is online where its latest session is open.
    private func settle() throws {
        try sql.query(
            """
            INSERT INTO pop.devices (device_id, status, node_id, session_id, session_epoch, health)
            SELECT DISTINCT ON (device_id) device_id, CASE WHEN ended_at IS NULL THEN 'online' ELSE 'offline' END,
                node_id, session_id, session_epoch, 'whole'
            FROM pop.device_sessions ORDER BY device_id, (ended_at IS NULL) DESC, started_at DESC
            """)
    }

    private func arrivals() throws -> [String: (devices: Int, open: Int)] {
        let statement = DrainStatements.arrivals(of: try named("a"), since: Self.began)
        let rows = try sql.query(statement.sql, statement.parameters).rows.map(DrainStatements.decodeArrivals)
        return Dictionary(
            uniqueKeysWithValues: rows.map {
                ($0.nodeID.description, ($0.devices, $0.openSessions.count))
            })
    }

    @Test func devicesAreCountedWhereTheyAre() throws {
        // Gone to b in peace, gone there with conns here, gone to c, still here, offline.
        try sessions(0..<4, "a", from: -60, until: 5)
        try sessions(0..<4, "b", from: 4)
        try sessions(4..<6, "a", from: -60)
        try sessions(4..<6, "b", from: 4)
        try sessions(6..<7, "a", from: -60, until: 5)
        try sessions(6..<7, "b", from: 4, until: 6)
        try sessions(6..<7, "c", from: 7)
        try sessions(7..<9, "a", from: -60)
        try sessions(9..<10, "a", from: -60, until: 5)
        // Was here before the drain only, or never.
        try sessions(10..<12, "a", from: -60, until: -1)
        try sessions(10..<12, "b", from: -1)
        try sessions(12..<20, "b", from: -60)
        // Here and there before.
        for number in 2..<30 { try sessions(0..<1, "c", from: -100 * number, until: -100 * number + 50) }
        try settle()
        let found = try arrivals()
        #expect(found.keys.sorted() == ["b", "c"])
        #expect(found["b"]?.devices == 6 && found["b"]?.open == 2)
        #expect(found["c"]?.devices == 1 && found["c"]?.open == 0)
    }

    /// Each device's own sessions are read, not those of the node for each device.
    @Test(arguments: [false, true]) func itCostsAFewRowsForEachDevice(isAnalysed: Bool) throws {
        try sessions(0..<300, "a", from: -60, until: 5)
        try sessions(0..<300, "b", from: 4)
        try settle()
        if isAnalysed { try sql.run(script: "ANALYZE") }
        let read = try rowsRead(DrainStatements.arrivals(of: try named("a"), since: Self.began), over: sql)
        #expect(read < 300 * 10)
        #expect(try arrivals()["b"]?.devices == 300)
    }
}
