import Domain
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

/// Pages of sessions against a plain sort of all of them, and what they cost.
@Suite struct SessionListTests {
    private let store: StoreHarness
    private let sql: BlockingConnection
    private static let start = WallTime(milliseconds: 1_769_850_000_000)

    init() throws {
        store = try StoreHarness()
        sql = try BlockingConnection(store.databaseURL)
        #expect(store.pump { store.client.health.isConnected })
        for (name, value) in StoreReader.plannerSettings { try sql.query("SET \(name) = \(value)") }
        try sql.run(script: "ALTER TABLE pop.device_sessions SET (autovacuum_enabled = false)")
    }

    /// Sessions of 7 devices and 3 nodes, several of which begin at the same time; one in `openEvery` is open.
    private func fill(_ count: Int, openEvery: Int) throws {
        try sql.query(
            """
            INSERT INTO pop.device_sessions (session_id, device_id, node_id, node_incarnation, session_epoch,
                started_at, last_seen_at, ended_at, end_reason)
            SELECT gen_random_uuid(), 'd' || n % 7, 'n' || n % 3, gen_random_uuid(), n, t, t,
                CASE WHEN n % $2::integer > 0 THEN t END, CASE WHEN n % $2::integer > 0 THEN 'goodbye' END
            FROM (SELECT n, timestamptz '2026-01-31 09:00:00Z' + n / 4 * interval '1.000001 s' AS t
                FROM generate_series(0, $1::integer - 1) n) s
            """, [.integer(Int64(count)), .integer(Int64(openEvery))])
    }

    private func page(_ query: SessionListQuery, _ bounds: ListBounds) throws -> ListPage<SessionRow> {
        let statement = try SessionReads.list(query, bounds: bounds)
        return try SessionReads.page(query, try sql.query(statement.sql, statement.parameters))
    }

    private func walk(_ query: SessionListQuery, _ bounds: ListBounds) throws -> [SessionID] {
        var query = query
        var ids: [SessionID] = []
        while true {
            let page = try page(query, bounds)
            ids += page.items.map(\.sessionID)
            guard let next = page.next else { return ids }
            query.cursor = next
        }
    }

    private func later(_ seconds: Int64) -> WallTime {
        WallTime(microseconds: Self.start.microseconds + seconds * 1_000_001)
    }

    @Test func everyCombinationListsWhatAPlainSortDoes() throws {
        var random = SeededRandom.ofEnvironment()
        try fill(160, openEvery: 5)
        let rows = try walk(SessionListQuery(limit: 1_000), ListBounds())
        #expect(rows.count == 160)
        let all = try page(SessionListQuery(limit: 1_000), ListBounds()).items.sorted {
            ($0.startedAt, $0.sessionID.description) > ($1.startedAt, $1.sessionID.description)
        }
        for _ in 0..<300 {
            func maybe<Value>(_ value: @autoclosure () throws -> Value) rethrows -> Value? {
                Bool.random(using: &random) ? try value() : nil
            }
            var query = SessionListQuery(limit: .random(in: 1...20, using: &random))
            query.deviceID = try maybe(try store.device(named: "d\(Int.random(in: 0...7, using: &random))"))
            query.nodeID = try maybe(try named("n\(Int.random(in: 0...3, using: &random))"))
            query.open = maybe(Bool.random(using: &random))
            query.from = maybe(later(.random(in: -1...20, using: &random)))
            query.to = maybe(later(.random(in: 20...41, using: &random)))
            let bounds = ListBounds(walk: .random(in: 1...40, using: &random))
            let expected = all.filter { row in
                (query.deviceID.map { $0 == row.deviceID } ?? true)
                    && (query.nodeID.map { $0 == row.nodeID } ?? true)
                    && (query.open.map { $0 == (row.endedAt == nil) } ?? true)
                    && (query.from.map { row.startedAt >= $0 } ?? true)
                    && (query.to.map { row.startedAt < $0 } ?? true)
            }
            #expect(
                try walk(query, bounds) == expected.map(\.sessionID), "\(query) \(bounds) seed \(random.seed)"
            )
        }
    }

    @Test func aCursorBehindTheEndOfTheTimeThatIsAskedForBeginsThere() throws {
        try fill(160, openEvery: 5)
        var query = SessionListQuery(limit: 3)
        let cursor = try #require(try page(query, ListBounds()).next)
        query.to = later(10)
        let whole = try walk(query, ListBounds())
        query.cursor = cursor
        #expect(try walk(query, ListBounds()) == whole)
        #expect(whole.count == 40)
    }

    @Test(arguments: [(1_000, false), (1_000, true), (1, false), (1, true)])
    func noPageReadsMoreThanItsBoundOfRows(openEvery: Int, hasStatistics: Bool) throws {
        try fill(20_000, openEvery: openEvery)
        if hasStatistics { try sql.run(script: "ANALYZE pop.device_sessions") }
        let device = try store.device(named: "d1")
        let node = try named("n1")
        let cursor = try #require(try page(SessionListQuery(limit: 5), ListBounds()).next)
        for filter in 0..<96 {
            var query = SessionListQuery(limit: 20)
            query.deviceID = filter & 1 == 0 ? nil : device
            query.nodeID = filter & 2 == 0 ? nil : node
            query.open = [nil, true, false][filter / 4 % 3]
            query.from = filter / 12 & 1 == 0 ? nil : later(1)
            query.to = filter / 12 & 2 == 0 ? nil : later(100)
            query.cursor = filter / 12 & 4 == 0 ? nil : cursor
            let statement = try SessionReads.list(query, bounds: ListBounds(walk: 150))
            #expect(try rowsRead(statement, over: sql) < 600, "\(query)")
        }
    }
}
