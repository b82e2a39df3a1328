import EventLoop
import Postgres
import Synchronization
import TemporaryPostgres
import Testing

@testable import Store

@Suite struct MigratorTests {
    @Test func aNewDatabaseGetsEveryMigrationOnceAndASecondRunChangesNothing() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let before = try MigrationCommand.status(databaseURL: database)
        #expect(before.allSatisfy { $0.appliedAt == nil && $0.isKnown })
        let first = try MigrationCommand.up(databaseURL: database)
        #expect(first.map(\.name) == embeddedMigrations.map(\.name))
        #expect(first.allSatisfy { $0.appliedAt != nil })
        #expect(try MigrationCommand.up(databaseURL: database) == first)
        #expect(try MigrationCommand.status(databaseURL: database) == first)
    }

    @Test func severalNodesMayMigrateAtOnce() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let failures = FailureList()
        let threads = try (0..<4).map { _ in
            try LoopThread(name: "migrating") {
                do throws(MigrationError) {
                    _ = try MigrationCommand.up(databaseURL: database)
                } catch {
                    failures.texts.withLock { $0.append(error.description) }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.texts.withLock { $0 } == [])
        let connection = try BlockingConnection(database)
        let count = try connection.scalar("SELECT count(*) FROM pop.schema_migrations")
        #expect(count == String(embeddedMigrations.count))
    }

    @Test func anEditedMigrationIsRefused() throws {
        let database = try TemporaryPostgres.makeDatabase()
        _ = try MigrationCommand.up(databaseURL: database)
        let connection = try BlockingConnection(database)
        try connection.query("UPDATE pop.schema_migrations SET checksum = repeat('0', 64) WHERE version = 2")
        let name = embeddedMigrations[1].name
        #expect(throws: MigrationError.edited(name: name)) {
            try MigrationCommand.up(databaseURL: database)
        }
        #expect(throws: MigrationError.edited(name: name)) {
            try MigrationCommand.status(databaseURL: database)
        }
    }

    @Test func aNewerSchemaIsRefusedOnlyWhenItBreaks() throws {
        let database = try TemporaryPostgres.makeDatabase()
        _ = try MigrationCommand.up(databaseURL: database)
        let connection = try BlockingConnection(database)
        try connection.query(
            "INSERT INTO pop.schema_migrations VALUES (9001, '9001_added', 'x', false)")
        let statuses = try MigrationCommand.up(databaseURL: database)
        #expect(statuses.last?.isKnown == false)
        try connection.query("INSERT INTO pop.schema_migrations VALUES (9002, '9002_broke', 'x', true)")
        #expect(throws: MigrationError.schemaIsNewer(name: "9002_broke")) {
            try MigrationCommand.up(databaseURL: database)
        }
    }

    @Test func aFailingMigrationIsUndoneAndNamed() throws {
        let connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
        let migrations = [
            Migration(name: "0001_good", sql: "CREATE TABLE pop.good (v integer);"),
            Migration(name: "0002_bad", sql: "CREATE TABLE pop.half (v integer); SELECT 1/0;"),
        ]
        var outcome: Migrator.Outcome?
        Migrator(connection.connection, migrations).migrate { outcome = $0 }
        #expect(connection.pump { outcome != nil })
        guard case .failure(.failed(name: "0002_bad", let error)) = outcome else {
            Issue.record("\(String(describing: outcome))")
            return
        }
        #expect(error.sqlState == "22012")
        #expect(try connection.scalar("SELECT to_regclass('pop.half')") == nil)
        #expect(
            try connection.scalar("SELECT string_agg(name, ',') FROM pop.schema_migrations") == "0001_good")
    }

    /// As when two clusters that share a server are brought up to date at once.
    @Test func aRoleThatAnotherDatabaseChangesAtTheSameMomentIsNoFailure() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let other = try BlockingConnection(TemporaryPostgres.makeDatabase())
        let name = try #require(database.split(separator: "=").last)
        let role = "shared_\(name)"
        try other.run(script: "CREATE ROLE \(role); ALTER ROLE \(role) SET jit = on")
        try other.query("BEGIN")
        try other.query("ALTER ROLE \(role) SET jit = on")
        let connection = try BlockingConnection(database)
        var outcome: Migrator.Outcome?
        let migrations = [Migration(name: "0001_role", sql: "ALTER ROLE \(role) SET jit = off;")]
        Migrator(connection.connection, migrations).migrate { outcome = $0 }
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '\(name)'"
        _ = connection.pump { (try? other.scalar(waits)) != "0" }
        try other.query("COMMIT")
        #expect(connection.pump { outcome != nil })
        #expect(try outcome?.get().allSatisfy { $0.appliedAt != nil } == true)
        try other.query("DROP ROLE \(role)")
    }

    @Test func theBinaryCarriesTheFilesOfTheMigrationsFolder() throws {
        let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        for migration in embeddedMigrations {
            let file = try Files.read("/\(root)/Migrations/\(migration.name).sql")
            #expect(migration.sql == String(decoding: file, as: UTF8.self), "\(migration.name)")
            #expect(migration.sql.hasPrefix("-- Purpose: "), "\(migration.name)")
            #expect(migration.sql.contains("\n-- Breaking: "), "\(migration.name)")
        }
        #expect(embeddedMigrations.map(\.version) == Array(1...embeddedMigrations.count))
    }

    @Test func theDashboardRoleReadsItsViewsAndNothingElse() throws {
        let database = try TemporaryPostgres.makeDatabase()
        _ = try MigrationCommand.up(databaseURL: database)
        let connection = try BlockingConnection(database)
        try connection.query("SET ROLE pop_dashboard")
        let views = ["devices", "sessions", "nodes", "load", "node_load", "conns"]
        for view in views { try connection.query("SELECT * FROM pop.dashboard_\(view)") }
        #expect(throws: PostgresError.self) { try connection.query("SELECT * FROM pop.devices") }
        #expect(throws: PostgresError.self) { try connection.query("SELECT * FROM pop.admin_tokens") }
    }

    @Test func aUserWithoutTheRightToMakeRolesStillMigrates() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let owner = try BlockingConnection(database)
        let name = try #require(database.split(separator: "=").last)
        try owner.run(
            script: "CREATE ROLE plain_\(name) LOGIN; GRANT CREATE ON DATABASE \(name) TO plain_\(name)")
        let plain = database.split(separator: " ")
            .map { $0.hasPrefix("user=") ? "user=plain_\(name)" : String($0) }.joined(separator: " ")
        let statuses = try MigrationCommand.up(databaseURL: plain)
        #expect(statuses.allSatisfy { $0.appliedAt != nil })
    }

    private final class FailureList: Sendable {
        let texts = Mutex<[String]>([])
    }
}
