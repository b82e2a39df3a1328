import Domain
import EventLoop
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

@Suite struct StoreQueryTests {
    private let store: StoreHarness
    private let sql: BlockingConnection
    private var records = Records()

    init() throws {
        store = try StoreHarness()
        sql = try BlockingConnection(store.databaseURL)
    }

    /// Every id of a list, page by page; `between` runs after each page.
    private func walk(_ query: DeviceListQuery, between: (Int) throws -> Void = { _ in }) throws -> [String] {
        var query = query
        var ids: [String] = []
        for round in 0..<1_000 {
            let page = try store.devices(query)
            ids += page.items.map(\.deviceID.description)
            guard let next = page.next else { return ids }
            // A client carries the text.
            let cursor: ListCursor = try #require(ListCursor(next.text))
            query.cursor = cursor
            try between(round)
        }
        return ids
    }

    @Test mutating func pagesCoverTheListInEverySortAndOrder() throws {
        var random = SeededRandom.ofEnvironment()
        let base = SystemClock.wall
        for number in 0..<57 {
            let seconds = Int64.random(in: 0..<20, using: &random)
            let start = WallTime(microseconds: base.microseconds - seconds * 1_000_000)
            let session = try records.session("dev-\(number)", at: start)
            store.client.record(.sessionStarted(session, acknowledgement: nil))
            store.client.record(
                .deviceState(
                    DeviceState(
                        deviceID: session.deviceID, sessionID: session.sessionID, at: start, health: .whole,
                        activeConns: UInt64.random(in: 0..<5, using: &random))))
        }
        #expect(store.waitForWritten(114))
        // One that was enrolled and never came.
        try sql.query("INSERT INTO pop.devices (device_id) VALUES ('never-seen')")
        for sort in DeviceListQuery.Sort.allCases {
            let column =
                switch sort {
                case .deviceID: "''::text"
                case .connectedAt: "coalesce(connected_at, '-infinity')"
                case .activeConns: "active_conns"
                }
            for descending in [false, true] {
                let order = descending ? "DESC" : "ASC"
                let expected = try sql.query(
                    "SELECT device_id FROM pop.devices ORDER BY \(column) \(order), device_id \(order)"
                ).rows.map { try $0.string("device_id") }
                for limit in [1, 7, 100] {
                    let ids = try walk(DeviceListQuery(sort: sort, descending: descending, limit: limit))
                    #expect(ids == expected, "\(sort) \(order) \(limit), seed \(random.seed)")
                }
            }
        }
    }

    @Test mutating func pagesStayWholeWhileRowsComeAndGo() throws {
        for number in 100..<160 {
            store.client.record(.sessionStarted(try records.session("dev-\(number)"), acknowledgement: nil))
        }
        #expect(store.waitForWritten(60))
        let ids = try walk(DeviceListQuery(limit: 7)) { round in
            // Rows before, at and after the place where the next page begins.
            try sql.query("DELETE FROM pop.devices WHERE device_id = 'dev-\(100 + round * 7)'")
            try sql.query("INSERT INTO pop.devices (device_id) VALUES ('aaa-\(round)')")
            try sql.query("UPDATE pop.devices SET active_conns = active_conns + 1")
        }
        #expect(ids == (100..<160).map { "dev-\($0)" })
    }

    @Test mutating func filtersMatchTogether() throws {
        let plan: [(String, String, [String])] = [
            ("a-1", "eu", ["x"]), ("a-2", "eu", ["x", "y"]), ("b-1", "us", ["x", "y"]), ("b-2", "us", []),
        ]
        for (name, location, tags) in plan {
            #expect(store.start(try records.session(name, location: location, tags: tags)))
        }
        try sql.query("UPDATE pop.devices SET status = 'offline', node_id = 'n2' WHERE device_id = 'b-2'")
        func ids(_ query: DeviceListQuery) throws -> [String] {
            try store.devices(query).items.map(\.deviceID.description)
        }
        #expect(try ids(DeviceListQuery(online: true)) == ["a-1", "a-2", "b-1"])
        #expect(try ids(DeviceListQuery(online: false)) == ["b-2"])
        #expect(try ids(DeviceListQuery(nodeID: named("n2"))) == ["b-2"])
        #expect(try ids(DeviceListQuery(location: "us")) == ["b-1", "b-2"])
        #expect(try ids(DeviceListQuery(tags: ["x"])) == ["a-1", "a-2", "b-1"])
        #expect(try ids(DeviceListQuery(tags: ["x", "y"])) == ["a-2", "b-1"])
        #expect(try ids(DeviceListQuery(prefix: "a-")) == ["a-1", "a-2"])
        #expect(try ids(DeviceListQuery(prefix: "é%_\\")) == [])
        #expect(try ids(DeviceListQuery(online: true, location: "us", tags: ["y"], prefix: "b")) == ["b-1"])
        #expect(try store.device("absent") == nil)
    }

    @Test func whatIsShownOfADeviceIsAsOldAsTheWordOfItsNode() throws {
        #expect(store.pump { store.client.health.isConnected })
        try sql.run(
            script: """
                INSERT INTO pop.nodes (node_id, incarnation, state, wss_port, quic_port, version, started_at,
                    last_seen_at)
                VALUES ('far', gen_random_uuid(), 'active', 1, 1, '1', now(), now() - interval '7 seconds'),
                    ('ahead', gen_random_uuid(), 'active', 1, 1, '1', now(), now() + interval '1 hour');
                INSERT INTO pop.devices (device_id, status, node_id, session_id, health)
                VALUES ('a', 'online', 'far', gen_random_uuid(), 'whole'),
                    ('b', 'online', 'ahead', gen_random_uuid(), 'whole');
                INSERT INTO pop.devices (device_id, node_id) VALUES ('c', 'far');
                """)
        let ages = try store.devices(DeviceListQuery()).items.map(\.age)
        #expect(ages.count == 3)
        #expect((7..<60).contains(try #require(ages[0])))
        #expect(ages[1] == 0)
        #expect(ages[2] == nil)
        guard case .node(let node?) = try store.ask(.node(try #require(NodeID("far")))) else {
            Issue.record("no node")
            return
        }
        #expect((7..<60).contains(node.age))
    }

    @Test mutating func aCursorOfAnotherListIsRefused() throws {
        for number in 0..<3 { #expect(store.start(try records.session("c-\(number)"))) }
        let page = try store.devices(DeviceListQuery(limit: 1))
        let cursor = try #require(page.next)
        #expect(throws: StoreFailure.invalidCursor) {
            try store.devices(DeviceListQuery(sort: .connectedAt, cursor: cursor))
        }
        #expect(throws: StoreFailure.invalidCursor) {
            try store.sessions(SessionListQuery(cursor: cursor))
        }
        let forged = ListCursor(list: "sessions", key: "yesterday'; --", id: "nonsense")
        #expect(throws: StoreFailure.invalidCursor) {
            try store.sessions(SessionListQuery(cursor: forged))
        }
        #expect(ListCursor("zz") == nil)
        #expect(ListCursor("") == nil)
        #expect(ListCursor(String(repeating: "61", count: 2_000)) == nil)
    }

    @Test mutating func sessionsAreListedNewestFirstAndFiltered() throws {
        let base = SystemClock.wall
        var expected: [SessionID] = []
        for number in 0..<23 {
            let start = WallTime(microseconds: base.microseconds - Int64(number / 3) * 1_000_000)
            let session = try records.session("s-\(number % 4)", at: start)
            expected.append(session.sessionID)
            store.client.record(.sessionStarted(session, acknowledgement: nil))
        }
        store.client.record(
            .sessionEnded(
                SessionEnd(sessionID: expected[5], endedAt: base, reason: .operator, counters: .init())))
        #expect(store.waitForWritten(24))
        var query = SessionListQuery(limit: 4)
        var rows: [SessionRow] = []
        while true {
            let page = try store.sessions(query)
            rows += page.items
            guard let next = page.next else { break }
            let cursor: ListCursor = try #require(ListCursor(next.text))
            query.cursor = cursor
        }
        #expect(Set(rows.map(\.sessionID)) == Set(expected))
        #expect(rows.count == 23)
        #expect(rows.map(\.startedAt) == rows.map(\.startedAt).sorted(by: >))
        let device = try store.device(named: "s-1")
        #expect(try store.sessions(SessionListQuery(deviceID: device)).items.count == 6)
        #expect(try store.sessions(SessionListQuery(open: false)).items.map(\.sessionID) == [expected[5]])
        #expect(try store.sessions(SessionListQuery(open: true, limit: 1_000)).items.count == 22)
        #expect(try store.sessions(SessionListQuery(nodeID: named("other"))).items == [])
        let second = WallTime(microseconds: base.microseconds - 1_000_000)
        #expect(try store.sessions(SessionListQuery(from: second, to: base)).items.count == 3)
    }

    @Test mutating func loadComesAsSamplesAndInSteps() throws {
        let session = try records.session("load-1")
        #expect(store.start(session))
        // Begins on a whole minute, so that steps of 60 s hold six samples each.
        let minute: Int64 = 60_000_000
        let start = (SystemClock.wall.microseconds / minute - 10) * minute
        for number in 0..<30 {
            let time = WallTime(microseconds: start + Int64(number) * 10_000_000)
            var load = records.load(of: session, at: time)
            load.activeConns = UInt64(number)
            load.bytesSent = UInt64(number) * 100
            store.client.record(.loadReport(load))
        }
        #expect(store.waitForWritten(31))
        func points(_ step: Int, _ end: Int64 = 10 * 60_000_000) throws -> [LoadPoint] {
            let query = LoadSeriesQuery(
                deviceID: session.deviceID, from: WallTime(microseconds: start),
                to: WallTime(microseconds: start + end), stepSeconds: step)
            guard case .load(let points) = try store.ask(.load(query)) else { return [] }
            return points
        }
        #expect(try points(0).map(\.activeConns) == (0..<30).map(Double.init))
        let steps = try points(60)
        #expect(steps.map(\.at.microseconds) == (0..<5).map { start + $0 * minute })
        #expect(steps.map(\.activeConns) == [2.5, 8.5, 14.5, 20.5, 26.5])
        #expect(steps.map(\.bytesSent) == [500, 1_100, 1_700, 2_300, 2_900])
        #expect(steps.first?.roundTripMilliseconds == 12.5)
        #expect(try points(.max).count == 1)
        #expect(try points(60, 60_000_000).count == 1)
        #expect(try points(1, .min / 2).isEmpty)
    }
}
