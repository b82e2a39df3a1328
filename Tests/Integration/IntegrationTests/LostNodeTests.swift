import Foundation
import Postgres
import TemporaryPostgres
import Testing

/// Nodes that die, pause or are cut off from the database, and devices that move between them: real programs on one
/// PostgreSQL. What holds at the end of each: one open row for each session that lives, none for any other.
@Suite(.serialized) struct LostNodeTests {
    @Test func aKilledNodeIsDownAndItsDevicesAreBackOnOthers() throws {
        // A device whose control connection broke goes on with its data plane until that proves silent.
        let cluster = try Cluster(settings: [
            "device": ["heartbeat_interval_seconds": 2, "heartbeat_timeout_seconds": 6]
        ])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        let devices = ["d1", "d2", "d3"]
        for device in devices { try cluster.start(device, at: [0, 1, 2]) }
        let sql = try cluster.connection()
        let sessions = try cluster.openSessions(sql)
        #expect(sessions.map(\.node) == ["a", "a", "a"])

        let death = Date()
        _ = a.node?.stop(SIGKILL)
        try b.wait("the others show it down") { try b.state(of: "a") == "down" }
        let down = Date()
        try b.wait("its sessions are closed") { try cluster.openSessions(sql).allSatisfy { $0.node != "a" } }
        let closed = Date()
        for device in devices { try b.wait("\(device) is back") { try b.isWhole(device) } }
        let ends = try sql.scalar(
            "SELECT count(*) FROM pop.device_sessions WHERE node_id = 'a' AND end_reason IN ('node_lost')")
        #expect(ends == "3")
        #expect(try cluster.openSessions(sql).map(\.device).sorted() == devices)
        print(
            "down after \(down.timeIntervalSince(death)) s, sessions closed after "
                + "\(closed.timeIntervalSince(death)) s, devices back after \(Date().timeIntervalSince(death)) s"
        )

        // In its next life it is an ordinary node.
        try a.startNode()
        try b.wait("it is back") { try b.state(of: "a") == "active" }
    }

    /// The pause lasts until the others have given the node up, or longer if `POP_TEST_PAUSE_SECONDS` says so.
    @Test func aPausedNodeComesBackWithWhatStillLivesThere() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        try cluster.start("stays", at: [0])
        try cluster.start("moves", at: [0])
        let sql = try cluster.connection()
        let before = try cluster.openSessions(sql)
        let stays = try #require(before.first { $0.device == "stays" })

        a.node?.signal(SIGSTOP)
        let pause = Date()
        try b.wait("the others show it down") { try b.state(of: "a") == "down" }
        try b.wait("its sessions are closed") { try cluster.openSessions(sql).isEmpty }
        _ = a.devices["moves"]?.stop(SIGKILL)
        try cluster.start("moves", at: [1])
        let text = ProcessInfo.processInfo.environment["POP_TEST_PAUSE_SECONDS"] ?? ""
        let longer = Double(text) ?? 0
        try b.wait("it has paused for \(longer) s", seconds: longer + 60) {
            Date().timeIntervalSince(pause) >= longer
        }
        a.node?.signal(SIGCONT)
        try b.wait("it is back") { try b.state(of: "a") == "active" }
        try b.wait("one row is open for each") { try cluster.openSessions(sql).count == 2 }
        let after = try cluster.openSessions(sql)
        #expect(after.first { $0.device == "stays" } == stays)
        #expect(after.first { $0.device == "moves" }?.node == "b")
        for device in ["stays", "moves"] { try b.wait("\(device) is whole") { try b.isWhole(device) } }
        #expect(try b.device("stays")["node_id"] as? String == "a")
        #expect(try b.device("moves")["node_id"] as? String == "b")
        #expect(try cluster.doubles(sql) == "0")
        let echo = try TestServer.echo()
        try talk(try a.connect(to: echo.port))
    }

    @Test func aNodeCutOffFromTheDatabaseServesItsDevicesAndIsOnRecordAgain() throws {
        let database = try TemporaryCluster()
        let relay = try DatabaseRelay(to: database.connectionString)
        let cluster = try Cluster(["a", "b"], database: database, relays: ["a": relay.connectionString])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        for device in ["stays", "moves"] { try cluster.start(device, at: [0]) }
        let sql = try cluster.connection()
        let stays = try #require(try cluster.openSessions(sql).first { $0.device == "stays" })
        let echo = try TestServer.echo()
        let conn = try a.connect(to: echo.port)
        try talk(conn)

        relay.cut()
        try b.wait("the others show it down") { try b.state(of: "a") == "down" }
        try talk(conn)
        try b.wait("its sessions are closed") { try cluster.openSessions(sql).isEmpty }
        _ = a.devices["moves"]?.stop(SIGKILL)
        try cluster.start("moves", at: [1])
        try cluster.start("comes", at: [0])
        try talk(conn)

        relay.mend()
        try b.wait("it is back") { try b.state(of: "a") == "active" }
        try b.wait("one row is open for each") { try cluster.openSessions(sql).count == 3 }
        let after = try cluster.openSessions(sql)
        #expect(after.first { $0.device == "stays" } == stays)
        #expect(after.first { $0.device == "moves" }?.node == "b")
        #expect(after.first { $0.device == "comes" }?.node == "a")
        for device in ["stays", "moves", "comes"] {
            try b.wait("\(device) is whole") { try b.isWhole(device) }
        }
        #expect(try cluster.doubles(sql) == "0")
        try talk(conn)
    }

    @Test func aDeviceThatRegistersAtAnotherNodeEndsItsSessionHere() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        try cluster.start("d", at: [0])
        let sql = try cluster.connection()
        let first = try #require(try cluster.openSessions(sql).first)
        let agent = try #require(a.devices["d"])
        try cluster.start("d", at: [1])
        // 4009: it does not come back by itself.
        try a.wait("the device knows") { agent.logText.contains("replaced by another session") }
        try b.wait("the old session is over") { try cluster.openSessions(sql).count == 1 }
        #expect(try b.endReason(device: "d", session: first.id) == "replaced")
        let seconds = try sql.scalar(
            """
            SELECT extract(epoch FROM old.ended_at - new.started_at) FROM pop.device_sessions old,
                pop.device_sessions new WHERE old.ended_at IS NOT NULL AND new.ended_at IS NULL
            """)
        print("the old session ended \(seconds ?? "") s after the new one began")
        let epochs = try sql.query("SELECT session_epoch FROM pop.device_sessions ORDER BY started_at").rows
        let values: [Int64] = try epochs.map { try $0.integer("session_epoch") }
        #expect(values.count == 2 && values[0] < values[1])
    }

    @Test func aDatabaseThatWasAwayForEverybodyLosesNobody() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        try cluster.start("d", at: [0])
        let session = try a.session("d")
        cluster.database.stop()
        let stopped = Date()
        try a.wait("all leases are over") { Date().timeIntervalSince(stopped) > 11 }
        try cluster.database.start()
        let sql = try cluster.connection()
        try b.wait("both have renewed for longer than a lease") {
            try sql.scalar(
                "SELECT count(*) FROM pop.nodes WHERE last_seen_at > pg_postmaster_start_time() + interval '14 s'"
            )
                == "2"
        }
        #expect(try sql.scalar("SELECT count(*) FROM pop.nodes WHERE lost_at IS NOT NULL") == "0")
        #expect(try cluster.openSessions(sql).map(\.id) == [session])
    }

    private func talk(_ socket: TestSocket) throws {
        try socket.write("hello")
        #expect(try socket.read(exactly: 5) == Array("hello".utf8))
    }
}

extension Cluster {
    struct OpenSession: Equatable {
        let id: String
        let device: String
        let node: String
    }

    func openSessions(_ sql: BlockingConnection) throws -> [OpenSession] {
        try sql.query(
            """
            SELECT session_id::text AS id, device_id, node_id FROM pop.device_sessions WHERE ended_at IS NULL
            ORDER BY device_id
            """
        ).rows.map {
            OpenSession(
                id: try $0.string("id"), device: try $0.string("device_id"), node: try $0.string("node_id"))
        }
    }

    /// Devices that are online without an open session of theirs, and open sessions whose device is not online.
    func doubles(_ sql: BlockingConnection) throws -> String? {
        try sql.scalar(
            """
            SELECT count(*) FROM (SELECT * FROM pop.devices WHERE status = 'online') d
            FULL JOIN (SELECT * FROM pop.device_sessions WHERE ended_at IS NULL) s USING (session_id)
            WHERE d.session_id IS NULL OR s.session_id IS NULL
            """)
    }

    /// Starts a device that knows these nodes, and waits until it is whole.
    func start(_ device: String, at places: [Int]) throws {
        let more = places.dropFirst().flatMap { ["--pop", "wss://127.0.0.1:\(nodes[$0].wssPort)"] }
        try nodes[places[0]].startDevice(device, arguments: more)
    }
}

extension Fixture {
    /// The state of a node as this one tells it.
    func state(of node: String) throws -> String? {
        try get("/v1/nodes/\(node)").object["state"] as? String
    }

    func isWhole(_ id: String) throws -> Bool {
        let device = try device(id)
        return device["status"] as? String == "online" && device["health"] as? String == "whole"
    }
}
