import Domain
import EventLoop
import Logging
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

@Suite struct RollupKeeperTests {
    private let database: String
    private let sql: BlockingConnection
    private let loop: EventLoop
    private let keeper: RollupKeeper

    init() throws {
        database = try TemporaryPostgres.makeDatabase()
        _ = try MigrationCommand.up(databaseURL: database)
        sql = try BlockingConnection(database)
        loop = try EventLoop()
        keeper = RollupKeeper(
            on: loop, databaseURL: database, retentionDays: 30,
            log: Logger(label: "store-test") { _ in SwiftLogNoOpLogHandler() }, interval: .milliseconds(5))
    }

    private func rolledUpHours() throws -> String? {
        try sql.scalar("SELECT count(*) FROM pop.device_load_hours")
    }

    private func pump(until condition: () throws -> Bool) rethrows -> Bool {
        for _ in 0..<3_000 where try !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        return try condition()
    }

    @Test func hoursThatAreOverAreRolledUpWithinOneRunAndNewOnesLater() throws {
        try sql.run(
            script: """
                INSERT INTO pop.device_load
                SELECT 'd', md5('s')::uuid, 'n', date_trunc('hour', now(), 'UTC') - h * interval '1 hour', 1, 1, 1,
                    0.5, 1, 1, 20
                FROM generate_series(-1, 5) h
                """)
        #expect(try rolledUpHours() == "0")
        keeper.isPrepared = { true }
        // The hour that goes on, and the one to come, have to wait.
        #expect(try pump { try Int(rolledUpHours() ?? "") ?? 0 >= 4 })
        try sql.run(
            script: """
                INSERT INTO pop.device_load
                SELECT 'e', md5('s')::uuid, 'n', date_trunc('hour', now(), 'UTC') - interval '3 hours', 1, 1, 1,
                    0.5, 1, 1, 20
                """)
        let late = "SELECT count(*) FROM pop.device_load_hours WHERE device_id = 'e'"
        #expect(try pump { try sql.scalar(late) == "1" })
        keeper.stop()
    }

    @Test func nothingIsAskedBeforeTheSchemaIsThere() throws {
        try sql.run(script: "DROP FUNCTION pop.refresh_rollups")
        var asked = 0
        keeper.isPrepared = {
            asked += 1
            return false
        }
        #expect(pump { asked > 2 })
        let seen = try sql.scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pop-node rollups' "
                + "AND datname = current_database()")
        #expect(seen == "0")
    }
}
