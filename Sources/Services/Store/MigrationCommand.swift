internal import EventLoop
internal import Postgres

/// `pop-node migrate`: connects, does one thing, and returns; it blocks.
package enum MigrationCommand {
    /// Applies what is pending.
    package static func up(databaseURL: String) throws(MigrationError) -> [MigrationStatus] {
        try run(databaseURL) { $0.migrate($1) }
    }

    package static func status(databaseURL: String) throws(MigrationError) -> [MigrationStatus] {
        try run(databaseURL) { $0.status($1) }
    }

    private static func run(
        _ databaseURL: String, _ work: @escaping MigrationRun.Work
    ) throws(MigrationError) -> [MigrationStatus] {
        let loop: EventLoop
        do {
            loop = try EventLoop()
        } catch {
            throw .database(PostgresError(.connection, error.description))
        }
        var outcome: Migrator.Outcome?
        let run = MigrationRun(on: loop, databaseURL: databaseURL, work: work) { outcome = $0 }
        while outcome == nil { loop.runOnce() }
        run.end()
        return try outcome?.get() ?? []
    }
}

/// A connection of its own for one piece of the migrator's work.
final class MigrationRun: PostgresConnectionDelegate {
    typealias Work = (Migrator, @escaping (Migrator.Outcome) -> Void) -> Void

    private let connection: PostgresConnection
    private let work: Work
    private var done: ((Migrator.Outcome) -> Void)?

    /// - Parameter done: called exactly once, later than this call.
    init(
        on loop: EventLoop, databaseURL: String, work: @escaping Work = { $0.migrate($1) },
        done: @escaping (Migrator.Outcome) -> Void
    ) {
        self.work = work
        self.done = done
        // A migration may rewrite a large table, or wait for another node that applies it.
        connection = PostgresConnection(
            on: loop,
            PostgresConfiguration(
                connectionString: databaseURL, applicationName: "pop-node migrate", statementTimeout: nil,
                answerTimeout: nil))
        connection.delegate = self
        connection.connect()
    }

    func end() {
        connection.close()
    }

    private func finish(_ outcome: Migrator.Outcome) {
        let done = self.done
        self.done = nil
        connection.close()
        done?(outcome)
    }

    func postgresReady(_ connection: PostgresConnection) {
        work(Migrator(connection)) { [weak self] outcome in self?.finish(outcome) }
    }

    func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError) {
        finish(.failure(.database(error)))
    }

    func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String) {}

    func postgresNotice(_ connection: PostgresConnection, _ message: String) {}
}
