import Domain
import EventLoop
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

@Suite struct StoreWriteTests {
    private let store: StoreHarness
    private let sql: BlockingConnection
    private var records = Records()

    init() throws {
        store = try StoreHarness()
        sql = try BlockingConnection(store.databaseURL)
    }

    @Test mutating func aStartIsAcknowledgedOnceItsRowIsThere() throws {
        var found: [String?] = []
        for number in 0..<20 {
            let session = try records.session("d\(number)")
            var isDurable = false
            let sql = self.sql
            store.client.startSession(session) {
                isDurable = true
                found.append(
                    try? sql.scalar(
                        "SELECT device_id FROM pop.device_sessions WHERE session_id = $1::uuid",
                        [.uuid(session.sessionID)]))
            }
            #expect(store.pump { isDurable })
        }
        #expect(found == (0..<20).map { "d\($0)" })
    }

    @Test mutating func aStartTellsSinceWhenItsDeviceIsKnownBeforeItIsAcknowledged() throws {
        #expect(store.pump { store.client.health.isConnected })
        try sql.query(
            """
            INSERT INTO pop.devices (device_id, first_seen_at, cpu_utilization, load_sampled_at)
            VALUES ('old', '2020-02-03T04:05:06Z', 0.9, now())
            """)
        var told: [SessionEntry] = []
        store.client.sessionNews = { if case .entered(let entries) = $0 { told += entries } }
        let old = try records.session("old")
        let new = try records.session("new")
        for session in [old, new] {
            var known: WallTime?
            var isDurable = false
            store.client.startSession(session) {
                isDurable = true
                known = told.first { $0.sessionID == session.sessionID }?.firstSeenAt
            }
            #expect(store.pump { isDurable })
            #expect(known == (session == old ? WallTime(rfc3339: "2020-02-03T04:05:06Z") : new.startedAt))
        }
        // What the last session said of its load is not this one's.
        #expect(try store.device("old")?.cpuUtilization == nil)
        // One that began before it has not got the device.
        told = []
        #expect(store.start(try records.session("old", began: SystemClock.now + .seconds(-60))))
        #expect(told.map(\.isOwner) == [false])
    }

    @Test mutating func theLifeOfASessionIsOnRecord() throws {
        let session = try records.session("dev-1")
        #expect(store.start(session))
        var device = try #require(try store.device("dev-1"))
        #expect(device.online && device.enabled)
        #expect(device.sessionID == session.sessionID)
        #expect(device.health == .controlOnly)
        #expect(device.tags == session.tags)
        #expect(device.location == "eu-west")
        #expect(device.remoteAddress == "192.0.2.1:4711")
        #expect(device.sessionEpoch == session.sessionEpoch)
        #expect(device.capacity == 100)

        let heartbeat = SystemClock.wall
        store.client.record(
            .deviceState(
                DeviceState(
                    deviceID: session.deviceID, sessionID: session.sessionID, at: heartbeat, health: .whole,
                    lastHeartbeatAt: heartbeat, roundTripMilliseconds: 4.5,
                    quicRemoteAddress: SocketAddress("192.0.2.1:999"), activeConns: 2, bytesSent: 5,
                    bytesReceived: 6)))
        store.client.record(.loadReport(records.load(of: session)))
        let counters = SessionCounters(
            bytesSent: 50, bytesReceived: 60, connsTotal: 7, resumes: 1, migrations: 2)
        store.client.record(
            .sessionUpdated(SessionUpdate(sessionID: session.sessionID, at: heartbeat, counters: counters)))
        #expect(store.waitForWritten(4))
        device = try #require(try store.device("dev-1"))
        #expect(device.health == .whole)
        #expect(device.lastHeartbeatAt == heartbeat)
        #expect(device.roundTripMilliseconds == 4.5)
        #expect(device.quicRemoteAddress == "192.0.2.1:999")
        #expect(device.activeConns == 2)
        #expect(device.cpuUtilization == 0.5)
        #expect(device.memoryTotalBytes == 4_000)
        #expect(try store.sessions(SessionListQuery(open: true)).items.map(\.counters) == [counters])

        store.client.record(
            .sessionEnded(
                SessionEnd(
                    sessionID: session.sessionID, endedAt: SystemClock.wall, reason: .goodbye,
                    counters: SessionCounters(bytesSent: 51, bytesReceived: 61, connsTotal: 8))))
        #expect(store.waitForWritten(5))
        device = try #require(try store.device("dev-1"))
        #expect(!device.online)
        #expect(device.health == nil)
        #expect(device.activeConns == 0)
        let rows = try store.sessions(SessionListQuery(deviceID: session.deviceID)).items
        #expect(rows.count == 1)
        #expect(rows.first?.endReason == .goodbye)
        #expect(rows.first?.endedAt != nil)
        #expect(rows.first?.remoteAddress == "192.0.2.1")
        #expect(rows.first?.counters.bytesSent == 51)
        #expect(rows.first?.counters.resumes == 1)
    }

    @Test mutating func theSessionThatBeganLastOwnsTheDevice() throws {
        let newer = try records.session("dev-2", epoch: 20)
        let older = try records.session("dev-2", epoch: 10, began: SystemClock.now + .seconds(-60))
        #expect(store.start(newer))
        #expect(store.start(older))
        var row = try #require(try store.device("dev-2"))
        #expect(row.sessionID == newer.sessionID)
        // The older one's end says nothing about the device.
        store.client.record(
            .sessionEnded(
                SessionEnd(
                    sessionID: older.sessionID, endedAt: SystemClock.wall, reason: .replaced,
                    counters: .init())))
        #expect(store.waitForWritten(3))
        row = try #require(try store.device("dev-2"))
        #expect(row.online)
        #expect(row.sessionID == newer.sessionID)
    }

    @Test mutating func twoSessionsOfADeviceInOneBatchLeaveTheNewest() throws {
        let first = try records.session("dev-3")
        let second = try records.session("dev-3")
        store.client.record(.sessionStarted(first, acknowledgement: nil))
        store.client.record(
            .sessionEnded(
                SessionEnd(
                    sessionID: first.sessionID, endedAt: SystemClock.wall, reason: .replaced,
                    counters: .init())))
        store.client.record(.sessionStarted(second, acknowledgement: nil))
        #expect(store.waitForWritten(3))
        #expect(try store.device("dev-3")?.sessionID == second.sessionID)
        #expect(try store.device("dev-3")?.online == true)
        let open = try store.sessions(SessionListQuery(deviceID: second.deviceID, open: true))
        #expect(open.items.map(\.sessionID) == [second.sessionID])
    }

    @Test mutating func thousandsOfEventsAreWrittenOnce() throws {
        let sessions = try (0..<2_000).map { try records.session("mass-\($0)") }
        for session in sessions {
            store.client.record(.sessionStarted(session, acknowledgement: nil))
            store.client.record(.loadReport(records.load(of: session)))
            store.client.record(.connEnded(records.conn(of: session)))
        }
        #expect(store.waitForWritten(6_000))
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == "2000")
        #expect(try sql.scalar("SELECT count(*) FROM pop.devices WHERE status = 'online'") == "2000")
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_load") == "2000")
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns") == "2000")
        // Today's rows are in today's partitions.
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns_default") == "0")
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_load_default") == "0")
        let row = try #require(try sql.query("SELECT * FROM pop.conns LIMIT 1").rows.first)
        #expect(try row.string("user_name") == "alice")
        #expect(try row.string("protocol") == "socks5")
        #expect(try row.string("target") == "example.org:443")
        #expect(try row.string("end_reason") == "finished")
        #expect(try row.integer("bytes_received", as: Int.self) == 20)
    }

    @Test mutating func theSameEventsTwiceAreOneRowEach() throws {
        let session = try records.session("dev-4")
        let conn = records.conn(of: session)
        let load = records.load(of: session)
        let end = SessionEnd(
            sessionID: session.sessionID, endedAt: SystemClock.wall, reason: .drained, counters: .init())
        for _ in 0..<2 {
            store.client.record(.sessionStarted(session, acknowledgement: nil))
            store.client.record(.connEnded(conn))
            store.client.record(.loadReport(load))
            store.client.record(.sessionEnded(end))
        }
        #expect(store.waitForWritten(8))
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == "1")
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns") == "1")
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_load") == "1")
        #expect(try store.device("dev-4")?.online == false)
    }

    @Test mutating func aRefusedEventDoesNotStandInTheWay() throws {
        var acknowledged: Set<Int> = []
        for number in 0..<50 {
            // The schema refuses a location of more than 128 bytes.
            let location = number == 23 ? String(repeating: "x", count: 200) : "eu"
            let session = try records.session("poison-\(number)", location: location)
            store.client.startSession(session) { acknowledged.insert(number) }
        }
        #expect(store.pump { acknowledged.count == 49 && store.client.health.refusedEvents == 1 })
        #expect(!acknowledged.contains(23))
        #expect(store.start(try records.session("after")))
    }

    @Test mutating func aDeviceWithAWrongClockIsSampledByTheNodes() throws {
        let session = try records.session("dev-5")
        #expect(store.start(session))
        var load = records.load(of: session)
        load.sampledAt = WallTime(microseconds: .max)
        load.cpuUtilization = .nan
        load.bytesSent = .max
        store.client.record(.loadReport(load))
        #expect(store.waitForWritten(2))
        let row = try #require(try sql.query("SELECT * FROM pop.device_load").rows.first)
        #expect(try row.time("sampled_at") == load.receivedAt)
        #expect(try row.double("cpu_utilization") == 0)
        #expect(try row.integer("bytes_sent", as: Int64.self) == .max)
    }

    @Test mutating func theNodeIsOnRecordAndGoesDown() throws {
        let nodeID = try named("n1")
        store.client.record(
            .nodeSample(
                NodeSample(
                    sampledAt: SystemClock.wall, devicesOnline: 3, connsActive: 4, bytesSent: 5,
                    bytesReceived: 6,
                    cpuUtilization: 0.25, memoryUsedBytes: 7)))
        #expect(store.waitForWritten(1))
        store.client.record(.nodeState(.draining))
        #expect(
            store.pump {
                guard case .node(let row?) = try? store.ask(.node(nodeID)) else { return false }
                return row.state == .draining
            })
        guard case .nodes(let nodes) = try store.ask(.nodes), let node = nodes.first else {
            Issue.record("no nodes")
            return
        }
        #expect(node.devicesOnline == 3)
        #expect(node.cpuUtilization == 0.25)
        #expect(node.wssPort == 8_443)
        #expect(try sql.scalar("SELECT count(*) FROM pop.node_load") == "1")
        store.client.stop()
        #expect(try sql.scalar("SELECT state FROM pop.nodes") == "down")
    }

    @Test func theLeaseIsRenewedByTheDatabasesClock() throws {
        #expect(store.pump { store.client.health.isConnected })
        let before = try sql.scalar("SELECT last_seen_at FROM pop.nodes")
        let renewed = store.pump {
            (try? sql.scalar("SELECT last_seen_at FROM pop.nodes")) != before
        }
        #expect(renewed)
    }

    @Test mutating func whatAnEarlierLifeLeftOpenIsClosedOnce() throws {
        let lost = try records.session("dev-6")
        #expect(store.start(lost))
        // The earlier life is gone without a word: its rows stay as they are.
        try sql.query("UPDATE pop.nodes SET incarnation = gen_random_uuid()")
        try sql.query("UPDATE pop.device_sessions SET node_incarnation = (SELECT incarnation FROM pop.nodes)")
        let next = try StoreHarness(store.databaseURL)
        let session = try records.session("dev-7")
        #expect(next.start(session))
        let row = try #require(try next.sessions(SessionListQuery(deviceID: lost.deviceID)).items.first)
        #expect(row.endReason == .nodeLost)
        let lastSeen = try #require(row.endedAt)
        #expect(lastSeen >= row.startedAt)
        #expect(try next.device("dev-6")?.online == false)
        #expect(try next.device("dev-7")?.online == true)
        #expect(try next.sessions(SessionListQuery(open: true)).items.map(\.sessionID) == [session.sessionID])
    }
}
