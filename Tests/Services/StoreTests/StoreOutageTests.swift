import Domain
import EventLoop
import Glibc
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

@Suite struct StoreOutageTests {
    private var records = Records()

    @Test mutating func whatHappensWhileTheServerIsAwayIsWrittenOnceWhenItIsBack() throws {
        let cluster = try TemporaryCluster()
        let store = try StoreHarness(cluster.connectionString)
        var acknowledged = 0
        var total = 0
        func happen(_ count: Int, _ records: inout Records) throws {
            for _ in 0..<count {
                total += 1
                let session = try records.session("dev-\(total)")
                store.client.startSession(session) { acknowledged += 1 }
                store.client.record(.connEnded(records.conn(of: session)))
                store.client.record(
                    .sessionEnded(
                        SessionEnd(
                            sessionID: session.sessionID, endedAt: SystemClock.wall, reason: .goodbye,
                            counters: .init())))
            }
        }
        for _ in 0..<2 {
            try happen(200, &records)
            #expect(store.pump { acknowledged == total })
            // In flight when the server goes, and told while it is away.
            try happen(200, &records)
            cluster.stop()
            try happen(200, &records)
            #expect(store.pump { !store.client.health.isConnected })
            try cluster.start()
            #expect(store.pump { acknowledged == total && store.client.health.isConnected })
        }
        #expect(store.pump { store.client.health.waitingEvents == 0 })
        let sql = try BlockingConnection(cluster.connectionString)
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == String(total))
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns") == String(total))
        let open = try sql.scalar("SELECT count(*) FROM pop.device_sessions WHERE ended_at IS NULL")
        #expect(open == "0")
        #expect(store.client.health.refusedEvents == 0)
    }

    @Test mutating func aKilledConnectionLosesNothing() throws {
        let store = try StoreHarness(TemporaryPostgres.makeDatabase())
        let sql = try BlockingConnection(store.databaseURL)
        #expect(store.pump { store.client.health.isConnected })
        var acknowledged = 0
        for round in 0..<10 {
            for number in 0..<50 {
                let session = try records.session("dev-\(round)-\(number)")
                store.client.startSession(session) { acknowledged += 1 }
            }
            try sql.query(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE 'pop-node %'
                """)
        }
        #expect(store.pump { acknowledged == 500 })
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == "500")
    }

    /// The server takes a change and is not heard of again: nobody knows, and nobody may say that nothing was done.
    @Test func aChangeWithoutAnAnswerIsInDoubtAndAQuestionIsNot() throws {
        let store = try StoreHarness(
            TemporaryPostgres.makeDatabase(), poolSize: 3, queryTimeout: .milliseconds(200))
        let sql = try BlockingConnection(store.databaseURL)
        var readers: [pid_t] = []
        #expect(
            try store.pump {
                readers = try sql.query(
                    """
                    SELECT pid FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'pop-node reader'
                    """
                ).rows.map { try $0.integer("pid") }
                return store.client.health.isConnected && readers.count == 2
            })
        for reader in readers { kill(reader, SIGSTOP) }
        defer { for reader in readers { kill(reader, SIGCONT) } }
        var answers: [Result<StoreAnswer, StoreFailure>] = []
        let name = try #require(UserName("alice"))
        store.client.ask(.deleteUser(name)) { answers.append($0) }
        store.client.ask(.user(name)) { answers.append($0) }
        #expect(store.pump { answers.count == 2 })
        let failures = answers.map { answer -> StoreFailure? in
            if case .failure(let failure) = answer { failure } else { nil }
        }
        #expect(failures == [.inDoubt("no answer in time"), .unavailable("no answer in time")])
    }

    @Test func aStoreWithoutADatabaseAnswersThatItIsUnavailable() throws {
        let store = try StoreHarness("host=127.0.0.1 port=1 user=x dbname=x")
        #expect(store.pump { store.client.health.failure != nil })
        do {
            _ = try store.ask(.nodes)
            Issue.record("an answer")
        } catch let error as StoreFailure {
            guard case .unavailable = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test func aServerThatNeverAnswersIsUnavailableInTime() throws {
        let peers = try EventLoop()
        var accepted: [Int32] = []
        let listener = try Listener(on: peers, SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)) {
            descriptor, _ in accepted.append(descriptor)
        }
        defer {
            listener.close()
            for descriptor in accepted { Sockets.close(descriptor) }
        }
        let store = try StoreHarness(
            "host=127.0.0.1 port=\(listener.address.port) user=x dbname=x",
            queryTimeout: .milliseconds(100))
        peers.runOnce(waitingAtMost: .milliseconds(200))
        // By whichever gives up first, the one who asks or the connection.
        let failure = #expect(throws: StoreFailure.self) { try store.ask(.nodes) }
        guard case .unavailable = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
    }

    @Test func stoppingWithoutADatabaseIsBounded() throws {
        let store = try StoreHarness("host=127.0.0.1 port=1 user=x dbname=x")
        var records = self.records
        store.client.record(.sessionStarted(try records.session("dev-1"), acknowledgement: nil))
        let start = SystemClock.now
        store.client.stop(within: .milliseconds(300))
        #expect(SystemClock.now - start < .seconds(60))
    }

    @Test func aSchemaThatRefusesIsToldAndTriedAgain() throws {
        let database = try TemporaryPostgres.makeDatabase()
        _ = try MigrationCommand.up(databaseURL: database)
        let sql = try BlockingConnection(database)
        try sql.query("UPDATE pop.schema_migrations SET checksum = 'x' || checksum WHERE version = 1")
        let store = try StoreHarness(database)
        #expect(store.pump { store.client.health.failure?.contains("edited") == true })
        try sql.query("UPDATE pop.schema_migrations SET checksum = substr(checksum, 2) WHERE version = 1")
        #expect(store.pump { store.client.health.isConnected })
    }
}
