import Domain
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

/// Pages of devices against a plain sort of all of them, and what they cost.
@Suite struct DeviceListTests {
    private let store: StoreHarness
    private let sql: BlockingConnection

    init() throws {
        store = try StoreHarness()
        sql = try BlockingConnection(store.databaseURL)
        #expect(store.pump { store.client.health.isConnected })
        for (name, value) in StoreReader.plannerSettings { try sql.query("SET \(name) = \(value)") }
        // Statistics come when a test says so.
        try sql.run(script: "ALTER TABLE pop.devices SET (autovacuum_enabled = false)")
    }

    // MARK: One page, as the reader makes it

    /// - Parameter looked: is given each statement before it is asked.
    private func page(
        _ query: DeviceListQuery, _ bounds: ListBounds, looked: (PostgresStatement) throws -> Void = { _ in }
    ) throws -> ListPage<DeviceRow> {
        var search = DeviceListSearch(DeviceLists(query, bounds: bounds))
        while true {
            let statement = try search.statement()
            try looked(statement)
            let results = [try sql.query(statement.sql, statement.parameters)]
            if let page = try search.take(results) { return page }
        }
    }

    private func walk(_ query: DeviceListQuery, _ bounds: ListBounds) throws -> [String] {
        var query = query
        var ids: [String] = []
        while true {
            let page = try page(query, bounds)
            #expect(page.items.count <= query.limit)
            ids += page.items.map(\.deviceID.description)
            guard let next = page.next else { return ids }
            query.cursor = next
        }
    }

    // MARK: What is listed

    private func all() throws -> [DeviceRow] {
        try sql.query("SELECT \(DeviceReads.columns) FROM pop.devices").rows.map(DeviceReads.decode)
    }

    private func expected(_ query: DeviceListQuery, _ rows: [DeviceRow]) -> [String] {
        let fitting = rows.filter { row in
            (query.online.map { $0 == row.online } ?? true)
                && (query.nodeID.map { $0 == row.nodeID } ?? true)
                && (query.location.map { $0 == row.location } ?? true)
                && Set(query.tags).isSubset(of: Set(row.tags))
                && (query.prefix.map { row.deviceID.description.hasPrefix($0) } ?? true)
        }
        func key(_ row: DeviceRow) -> Int64 {
            switch query.sort {
            case .deviceID: 0
            case .connectedAt: row.connectedAt?.microseconds ?? .min
            case .activeConns: Int64(row.activeConns)
            }
        }
        let sorted = fitting.sorted {
            (key($0), $0.deviceID.description) < (key($1), $1.deviceID.description)
        }
        let ids = sorted.map(\.deviceID.description)
        return query.descending ? ids.reversed() : ids
    }

    /// Devices of all kinds, some of which have never come.
    private func fill(_ count: Int, _ random: inout SeededRandom) throws {
        var values: [String] = []
        for number in 0..<count {
            let tags = ["a", "b", "c\"d", "rare"].filter { tag in
                tag == "rare" ? number % 40 == 0 : Bool.random(using: &random)
            }
            let tagText = tags.map { "'\($0)'" }.joined(separator: ",")
            let node = Bool.random(using: &random) ? "'n\(Int.random(in: 0...2, using: &random))'" : "'n9'"
            let isOnline = Int.random(in: 0..<3, using: &random) > 0
            let time =
                "timestamptz '2026-01-01' + \(Int.random(in: 0...8, using: &random)) * interval '1.000001 s'"
            let conns = Bool.random(using: &random) ? 0 : Int.random(in: 0...4, using: &random)
            let hasCome = isOnline || Bool.random(using: &random)
            values.append(
                """
                ('\(["d", "e", "d-x"].randomElement(using: &random) ?? "")\(number)',
                '\(isOnline ? "online" : "offline")', \(hasCome ? node : "NULL"), gen_random_uuid(),
                '\(["eu", "us", "é"].randomElement(using: &random) ?? "")', ARRAY[\(tagText)]::text[],
                \(isOnline ? "'whole'" : "NULL"), \(hasCome ? time : "NULL"), \(conns))
                """)
        }
        try sql.query(
            """
            INSERT INTO pop.devices (device_id, status, node_id, session_id, location, tags, health, connected_at,
                active_conns) VALUES \(values.joined(separator: ",\n"))
            """)
    }

    private func someQuery(_ random: inout SeededRandom) throws -> DeviceListQuery {
        func maybe<Value>(_ value: @autoclosure () throws -> Value?) rethrows -> Value? {
            Int.random(in: 0..<3, using: &random) == 0 ? try value() : nil
        }
        var query = DeviceListQuery()
        query.online = maybe(Bool.random(using: &random))
        query.nodeID = try maybe(try named("n\(Int.random(in: 0...3, using: &random))"))
        query.location = maybe(["eu", "us", "é", "none"].randomElement(using: &random))
        query.tags =
            maybe(
                ["a", "b", "c\"d", "rare", "none"].shuffled(using: &random).suffix(2).dropLast(
                    Int.random(in: 0...1, using: &random))
            ).map(Array.init) ?? []
        query.prefix = maybe(["d", "d-", "d1", "e", "", "zz"].randomElement(using: &random))
        query.sort = DeviceListQuery.Sort.allCases.randomElement(using: &random) ?? .deviceID
        query.descending = Bool.random(using: &random)
        query.limit = Int.random(in: 1...30, using: &random)
        return query
    }

    @Test func everyCombinationListsWhatAPlainSortDoes() throws {
        var random = SeededRandom.ofEnvironment()
        try fill(300, &random)
        let rows = try all()
        for _ in 0..<400 {
            let query = try someQuery(&random)
            // Bounds so small that walks are cut, and that any filter may lead.
            let bounds = ListBounds(
                glance: .random(in: 1...20, using: &random), walk: .random(in: 1...60, using: &random),
                few: [0, 10, 400].randomElement(using: &random) ?? 0)
            #expect(
                try walk(query, bounds) == expected(query, rows), "\(query) \(bounds) seed \(random.seed)")
        }
    }

    @Test func tagsAndBusyDevicesFollowEveryChangeOfDevices() throws {
        var random = SeededRandom.ofEnvironment()
        try fill(80, &random)
        func check(_ step: String) throws {
            func compare(_ columns: String, _ table: String, _ wanted: String) throws {
                let there = try sql.query("SELECT \(columns) FROM pop.\(table) ORDER BY 1, 2")
                let expected = try sql.query("SELECT DISTINCT \(wanted) ORDER BY 1, 2")
                #expect(there == expected, "\(table) after \(step), seed \(random.seed)")
            }
            try compare(
                "tag, device_id, status, connected_at", "device_tags",
                """
                unnest(tags) COLLATE "C" AS tag, device_id, status,
                coalesce(connected_at, '-infinity') AS connected_at FROM pop.devices
                """)
            try compare(
                "device_id, status, node_id, location, active_conns", "busy_devices",
                "device_id, status, node_id, location, active_conns FROM pop.devices WHERE active_conns > 0")
            try compare(
                "tag, device_id, status, active_conns", "busy_tags",
                """
                unnest(tags) COLLATE "C" AS tag, device_id, status, active_conns FROM pop.devices
                WHERE active_conns > 0
                """)
        }
        try check("insert")
        let changes = [
            "UPDATE pop.devices SET tags = tags || '{new,new}' WHERE device_id < 'd3'",
            "UPDATE pop.devices SET tags = '{}' WHERE device_id > 'd5'",
            "UPDATE pop.devices SET active_conns = active_conns + 1 WHERE location = 'eu'",
            "UPDATE pop.devices SET active_conns = 0 WHERE location = 'us'",
            "UPDATE pop.devices SET node_id = 'n7', location = 'moved' WHERE status = 'online'",
            "UPDATE pop.devices SET device_id = device_id || '-renamed' WHERE device_id < 'd2'",
            "UPDATE pop.devices SET bytes_sent = 1",
            "UPDATE pop.devices SET status = 'offline', health = NULL WHERE device_id < 'd5'",
            "UPDATE pop.devices SET connected_at = now() WHERE device_id > 'd4'",
            """
            INSERT INTO pop.devices AS d (device_id, tags, active_conns)
            VALUES ('d-x1', '{q}', 3), ('new', '{q}', 0)
            ON CONFLICT (device_id) DO UPDATE SET tags = excluded.tags, active_conns = excluded.active_conns
            """,
            "DELETE FROM pop.devices WHERE device_id < 'd4'",
            "TRUNCATE pop.devices",
        ]
        for change in changes {
            try sql.query(change)
            try check(change)
        }
        #expect(try sql.scalar("SELECT count(*)::text FROM pop.device_tags") == "0")
    }

    @Test func stateThatChangesWithEveryReportTouchesNoIndex() throws {
        try sql.query("INSERT INTO pop.devices (device_id) SELECT 'd' || n FROM generate_series(1, 100) n")
        // A server's process tells its counts at its end at the latest.
        try BlockingConnection(store.databaseURL).query(
            """
            UPDATE pop.devices SET active_conns = active_conns + 1, bytes_sent = 5, rtt_ms = 1,
                last_seen_at = now(), last_heartbeat_at = now(), cpu_utilization = 0.5
            WHERE device_id = 'd7'
            """)
        let counts =
            "SELECT n_tup_upd || ' ' || n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'devices'"
        #expect(store.pump { (try? sql.scalar(counts)) == "1 1" })
    }

    // MARK: What it costs

    /// Fleets in which the planner's guesses go wrong: what is rare lies at the far end of every order.
    private func fillAdversely(_ count: Int) throws {
        try sql.query(
            """
            INSERT INTO pop.devices (device_id, status, node_id, session_id, location, tags, health, connected_at,
                active_conns)
            SELECT 'dev-' || lpad(n::text, 7, '0'), CASE WHEN n % 10 = 0 THEN 'offline' ELSE 'online' END,
                'n' || n * 4 / $1::integer, gen_random_uuid(),
                CASE WHEN n > $1::integer - 20 THEN 'few' WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END,
                CASE WHEN n > $1::integer - 20 THEN '{common,rare}'::text[] ELSE '{common}' END,
                CASE WHEN n % 10 = 0 THEN NULL ELSE 'whole' END, timestamptz '2026-01-01' + n * interval '1 s', n
            FROM generate_series(0, $1::integer - 1) n
            """, [.integer(Int64(count))])
    }

    @Test(arguments: [false, true])
    func noPageReadsMoreThanItsBoundOfRows(hasStatistics: Bool) throws {
        let count = 20_000
        try fillAdversely(count)
        if hasStatistics {
            try sql.run(script: "ANALYZE pop.devices, pop.device_tags, pop.busy_devices, pop.busy_tags")
        }
        let bounds = ListBounds(glance: 30, walk: 150, few: 100)
        let node = try named("n0")
        for sort in DeviceListQuery.Sort.allCases {
            for descending in [false, true] {
                for filter in 0..<96 {
                    var query = DeviceListQuery(sort: sort, descending: descending, limit: 20)
                    query.online = filter & 1 == 0 ? nil : filter & 2 == 0
                    query.nodeID = filter & 4 == 0 ? nil : node
                    query.location = [nil, "few", "even"][filter / 8 % 3]
                    query.tags = [[], ["rare"], ["common"], ["common", "rare"]][filter / 24]
                    query.prefix = filter % 5 == 0 ? ["dev-00", "dev-0019999"][filter % 2] : nil
                    let key =
                        sort == .connectedAt ? "2026-01-01 01:00:00+00" : sort == .activeConns ? "9000" : ""
                    let cursor = ListCursor(
                        list: "devices.\(sort.rawValue).\(descending ? "desc" : "asc")", key: key,
                        id: "dev-0009000")
                    for cursor in filter.isMultiple(of: 3) ? [nil, cursor] : [cursor] {
                        query.cursor = cursor
                        var read = 0
                        _ = try page(query, bounds) { read += try rowsRead($0, over: sql) }
                        #expect(read < 2_200, "\(query)")
                    }
                }
            }
        }
    }

    /// Half of the fleet would have to be passed over for the devices in the other state, of which there are none.
    @Test func aStretchWithNothingInItCostsNothing() throws {
        try sql.query(
            """
            INSERT INTO pop.devices (device_id, status, node_id, session_id, location, tags, health, connected_at,
                active_conns)
            SELECT 'dev-' || n, 'online', 'n0', gen_random_uuid(), 'eu', '{common}', 'whole', now(), n % 2
            FROM generate_series(1, 20000) n
            """)
        try sql.run(script: "VACUUM ANALYZE pop.devices, pop.device_tags, pop.busy_devices, pop.busy_tags")
        for sort in DeviceListQuery.Sort.allCases {
            for (isOnline, node, location, tag) in [
                (true, "n1", nil, nil), (false, "n0", nil, nil), (false, nil, "eu", nil),
                (false, nil, nil, "common"), (false, nil, nil, nil),
            ] as [(Bool, String?, String?, String?)] {
                for descending in [false, true] {
                    var query = DeviceListQuery(sort: sort, descending: descending, limit: 20)
                    query.online = isOnline
                    query.nodeID = try node.map { try named($0) }
                    query.location = location
                    query.tags = tag.map { [$0] } ?? []
                    var read = 0
                    let page = try page(query, ListBounds()) { read += try pagesRead($0, over: sql) }
                    #expect(page.items.isEmpty && page.next == nil)
                    #expect((1..<20).contains(read), "\(read) pages for \(query)")
                }
            }
        }
    }
}
