import Domain
import EventLoop
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Outbox
@testable import Store

/// A store with its outbox, on a real database that is away, slow, full, read-only or of another opinion.
@Suite struct StoreOutboxTests {
    private var records = Records()
    private let directory = TemporaryDirectory()
    private let nowhere = "host=127.0.0.1 port=1 user=x dbname=x"

    private func end(_ session: SessionRecord, _ reason: SessionEndReason = .goodbye) -> StoreEvent {
        .sessionEnded(
            SessionEnd(
                sessionID: session.sessionID, endedAt: SystemClock.wall, reason: reason,
                counters: SessionCounters(bytesSent: 5)))
    }

    private func endReasons(_ sql: BlockingConnection) throws -> [String: Int] {
        let rows = try sql.query(
            "SELECT coalesce(end_reason, 'open') AS r, count(*) AS n FROM pop.device_sessions GROUP BY 1")
        return try Dictionary(
            uniqueKeysWithValues: rows.rows.map { (try $0.string("r"), try $0.integer("n", as: Int.self)) })
    }

    @Test mutating func aStartIsDurableWithoutAnyDatabase() throws {
        let store = try StoreHarness(nowhere, outbox: directory)
        for number in 0..<20 { #expect(store.start(try records.session("d\(number)"))) }
        #expect(store.pump { store.client.health.outbox?.events == 20 })
        #expect(!store.client.health.isConnected)
        #expect(store.client.health.outbox?.failure == nil)
        let start = SystemClock.now
        store.client.stop(within: .seconds(30))
        // Everything is safe: nobody waits for a database that is not there.
        #expect(SystemClock.now - start < .seconds(10))
    }

    @Test mutating func theNextLifeWritesWhatThisOneCouldNotAndTellsItsEnds() throws {
        let sessions = try (0..<30).map { try records.session("d\($0)") }
        let before = try StoreHarness(nowhere, outbox: directory)
        for session in sessions { before.client.startSession(session) {} }
        for session in sessions[..<10] { before.client.record(end(session)) }
        for session in sessions { before.client.record(.connEnded(records.conn(of: session))) }
        before.client.record(
            .sessionUpdated(
                SessionUpdate(
                    sessionID: sessions[29].sessionID, at: SystemClock.wall,
                    counters: SessionCounters(bytesSent: 77))))
        before.client.stop(within: .seconds(5))

        let store = try StoreHarness(TemporaryPostgres.makeDatabase(), outbox: directory)
        let current = try records.session("d29", epoch: 1_000_000)
        #expect(store.start(current))
        #expect(store.pump { store.client.health.waitingEvents == 0 && store.client.health.isConnected })
        let sql = try BlockingConnection(store.databaseURL)
        #expect(try endReasons(sql) == ["goodbye": 10, "node_lost": 20, "open": 1])
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns") == "30")
        #expect(
            try sql.scalar("SELECT count(DISTINCT node_incarnation) FROM pop.device_sessions") == "2")
        let bytes = try sql.scalar(
            "SELECT bytes_sent FROM pop.device_sessions WHERE session_id = $1::uuid",
            [.uuid(sessions[29].sessionID)])
        #expect(bytes == "77")
        // It began without the database, so it gets its device when its node claims it.
        try store.claim([current])
        let online = try sql.scalar(
            "SELECT string_agg(device_id, ',') FROM pop.devices WHERE status = 'online'")
        #expect(online == "d29")
    }

    @Test mutating func aTrueEndTakesThePlaceOfAGuess() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let session = try records.session("d1")
        let sql = try BlockingConnection(database)
        do {
            let store = try StoreHarness(database, outbox: directory)
            #expect(store.start(session))
            #expect(store.waitForWritten(1))
            // The database goes; the end stays on disk, and so does the process's.
            try sql.query("ALTER DATABASE \(try name(sql)) SET default_transaction_read_only = on")
            try terminate(sql)
            store.client.record(end(session, .operator))
            #expect(store.pump { store.client.health.outbox?.events == 1 })
            store.client.stop(within: .seconds(5))
        }
        try sql.query("ALTER DATABASE \(try name(sql)) RESET default_transaction_read_only")
        // Another node takes it for lost meanwhile.
        try sql.query("UPDATE pop.device_sessions SET ended_at = now(), end_reason = 'node_lost'")
        let store = try StoreHarness(database, outbox: directory)
        #expect(store.pump { store.client.health.waitingEvents == 0 && store.client.health.isConnected })
        #expect(try endReasons(sql) == ["operator": 1])
        #expect(try sql.scalar("SELECT bytes_sent FROM pop.device_sessions") == "5")
    }

    @Test mutating func aDatabaseThatHangsHoldsNobodyUp() throws {
        let store = try StoreHarness(TemporaryPostgres.makeDatabase(), outbox: directory)
        #expect(store.pump { store.client.health.isConnected })
        let sql = try BlockingConnection(store.databaseURL)
        let sessions = try (0..<50).map { try records.session("d\($0)") }
        try sql.run(script: "BEGIN; LOCK TABLE pop.device_sessions IN ACCESS EXCLUSIVE MODE")
        for session in sessions { #expect(store.start(session)) }
        #expect(store.pump { !store.client.health.isConnected })
        #expect(store.client.health.failure?.contains("does not answer") == true)
        #expect(store.client.health.outbox?.events ?? 0 > 0)
        try sql.run(script: "COMMIT")
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == "50")
        #expect(store.client.health.refusedEvents == 0)
    }

    @Test mutating func aReadOnlyDatabaseIsToldAndWrittenWhenItIsNot() throws {
        let store = try StoreHarness(TemporaryPostgres.makeDatabase(), outbox: directory)
        #expect(store.pump { store.client.health.isConnected })
        let sql = try BlockingConnection(store.databaseURL)
        try sql.query("ALTER DATABASE \(try name(sql)) SET default_transaction_read_only = on")
        try terminate(sql)
        for number in 0..<10 { #expect(store.start(try records.session("d\(number)"))) }
        #expect(store.pump { store.client.health.failure?.contains("read-only") == true })
        try sql.query("ALTER DATABASE \(try name(sql)) RESET default_transaction_read_only")
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == "10")
    }

    @Test mutating func aDatabaseOutOfConnectionsIsToldAndWrittenWhenItHasOne() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let owner = try BlockingConnection(database)
        let user = "limited_\(try name(owner))"
        try owner.run(
            script: "CREATE ROLE \(user) LOGIN; GRANT CREATE ON DATABASE \(try name(owner)) TO \(user)")
        let limited = database.split(separator: " ")
            .map { $0.hasPrefix("user=") ? "user=\(user)" : String($0) }.joined(separator: " ")
        let store = try StoreHarness(limited, outbox: directory)
        #expect(store.start(try records.session("first")))
        try owner.query("ALTER ROLE \(user) CONNECTION LIMIT 0")
        try terminate(owner)
        for number in 0..<10 { #expect(store.start(try records.session("d\(number)"))) }
        #expect(store.pump { store.client.health.failure?.contains("too many connections") == true })
        try owner.query("ALTER ROLE \(user) CONNECTION LIMIT -1")
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        #expect(try owner.scalar("SELECT count(*) FROM pop.device_sessions") == "11")
    }

    @Test mutating func whatTheDatabaseRefusesIsKeptAndTheOthersGoOn() throws {
        let database = try TemporaryPostgres.makeDatabase()
        do {
            let store = try StoreHarness(database, outbox: directory)
            #expect(store.pump { store.client.health.isConnected })
            var sessions = try (0..<9).map { try records.session("d\($0)") }
            // The registration would have been refused; the database refuses it too.
            sessions.insert(try records.session("bad", location: String(repeating: "x", count: 200)), at: 4)
            var acknowledged = 0
            for session in sessions { store.client.startSession(session) { acknowledged += 1 } }
            #expect(store.pump { acknowledged == 10 })
            #expect(store.pump { store.client.health.outbox?.setAsideEvents == 1 })
            #expect(store.client.health.refusedEvents == 1)
        }
        let again = try StoreHarness(database, outbox: directory)
        #expect(again.pump { again.client.health.isConnected })
        #expect(again.client.health.outbox?.setAsideEvents == 1)
        let sql = try BlockingConnection(database)
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == "9")
    }

    @Test mutating func aSchemaThatRefusesEverythingCanBeMendedBeforeAllIsSetAside() throws {
        let store = try StoreHarness(TemporaryPostgres.makeDatabase(), outbox: directory)
        #expect(store.pump { store.client.health.isConnected })
        let sql = try BlockingConnection(store.databaseURL)
        try sql.query("ALTER TABLE pop.devices ADD CONSTRAINT mistaken CHECK (device_id !~ '^d')")
        for number in 0..<150 { #expect(store.start(try records.session("d\(number)"))) }
        #expect(store.pump { store.client.health.refusedEvents == 101 })
        try sql.query("ALTER TABLE pop.devices DROP CONSTRAINT mistaken")
        #expect(store.pump { store.client.health.waitingEvents == 0 })
        #expect(store.client.health.refusedEvents == 101)
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == "49")
    }

    @Test mutating func whatWasSetAsideIsPutBackAsTheRunbookSays() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let sql = try BlockingConnection(database)
        do {
            let store = try StoreHarness(database, outbox: directory)
            #expect(store.pump { store.client.health.isConnected })
            try sql.query("ALTER TABLE pop.devices ADD CONSTRAINT mistaken CHECK (device_id !~ '^d')")
            for number in 0..<5 { #expect(store.start(try records.session("d\(number)"))) }
            #expect(store.pump { store.client.health.outbox?.setAsideEvents == 5 })
        }
        try sql.query("ALTER TABLE pop.devices DROP CONSTRAINT mistaken")
        let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        let runbook = String(
            decoding: try Files.read("/\(root)/docs/runbooks/lost-database.md"), as: UTF8.self)
        let block = try #require(
            runbook.split(separator: "<<'SQL'\n").last?.split(separator: "   SQL\n").first)
        try Outbox(path: directory.path + "/outbox.sqlite").database.run(script: String(block))
        let store = try StoreHarness(database, outbox: directory)
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        #expect(try endReasons(sql) == ["node_lost": 5])
        #expect(store.client.health.outbox?.setAsideEvents == 0)
    }

    @Test mutating func aDiskThatFailsIsToldAndNobodyWaitsForIt() throws {
        // There can be no file below a file.
        try Files.write([], to: directory.path + "/file")
        let store = try StoreHarness(nowhere, outboxPath: directory.path + "/file/outbox.sqlite")
        for number in 0..<10 { #expect(store.start(try records.session("d\(number)"))) }
        #expect(store.pump { store.client.health.outbox?.failure != nil })
        #expect(store.client.health.waitingEvents == 10)
    }

    @Test mutating func aServerThatComesAndGoesGetsEverythingOnceAcrossLives() throws {
        let cluster = try TemporaryCluster()
        var told: [SessionRecord] = []
        for life in 0..<3 {
            let store = try StoreHarness(cluster.connectionString, outbox: directory)
            for round in 0..<4 {
                if round == 1 { cluster.stop() }
                if round == 3 { try cluster.start() }
                for number in 0..<25 {
                    let session = try records.session("d\(life)-\(round)-\(number)")
                    #expect(store.start(session))
                    told.append(session)
                    store.client.record(.connEnded(records.conn(of: session)))
                    store.client.record(end(session))
                }
            }
            if life == 1 { cluster.stop() }
            store.client.stop(within: .seconds(5))
            if life == 1 { try cluster.start() }
        }
        let store = try StoreHarness(cluster.connectionString, outbox: directory)
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        let sql = try BlockingConnection(cluster.connectionString)
        #expect(try endReasons(sql) == ["goodbye": told.count])
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns") == String(told.count))
    }

    @Test mutating func afterAFailoverTheOtherServerIsFound() throws {
        let (first, second) = (try TemporaryCluster(), try TemporaryCluster())
        func readOnly(_ cluster: TemporaryCluster, _ isOn: Bool) throws {
            let sql = try BlockingConnection(cluster.connectionString)
            try sql.run(script: "ALTER SYSTEM SET default_transaction_read_only = \(isOn ? "on" : "off")")
            try sql.query("SELECT pg_reload_conf()")
            // The server tells its sessions in its own time; new ones have it when this one has.
            let wanted = isOn ? "on" : "off"
            for _ in 0..<1_000 where try sql.scalar("SHOW default_transaction_read_only") != wanted {}
        }
        func count(_ cluster: TemporaryCluster) throws -> String? {
            try BlockingConnection(cluster.connectionString).scalar(
                "SELECT count(*) FROM pop.device_sessions WHERE device_id LIKE 'd%'")
        }
        try readOnly(second, true)
        let store = try StoreHarness(
            Self.several([first.connectionString, second.connectionString]), outbox: directory)
        #expect(store.start(try records.session("d1")))
        #expect(store.waitForWritten(1))
        #expect(try count(first) == "1")
        // The roles change without a connection lost: the old primary refuses, and is left.
        try readOnly(second, false)
        try readOnly(first, true)
        #expect(store.start(try records.session("d2")))
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        #expect(try count(second) == "1")
        #expect(try count(first) == "1")
        // And now by the end of a server.
        try readOnly(first, false)
        second.stop()
        #expect(store.start(try records.session("d3")))
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        #expect(try count(first) == "2")
    }

    /// One connection string for several servers, of which the one that takes writes is wanted.
    private static func several(_ strings: [String]) -> String {
        func value(_ key: String, _ string: String) -> String {
            string.split(separator: " ").first { $0.hasPrefix("\(key)=") }
                .map { $0.dropFirst(key.count + 1).filter { $0 != "'" } } ?? ""
        }
        let hosts = strings.map { value("host", $0) }.joined(separator: ",")
        let ports = strings.map { value("port", $0) }.joined(separator: ",")
        return "host='\(hosts)' port=\(ports) user=pop dbname=pop target_session_attrs=read-write"
    }

    private func name(_ sql: BlockingConnection) throws -> String {
        try #require(try sql.scalar("SELECT current_database()::text"))
    }

    /// Ends the store's connections, as new settings are for new ones.
    private func terminate(_ sql: BlockingConnection) throws {
        try sql.query(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'pop-node %'
            """)
    }
}
