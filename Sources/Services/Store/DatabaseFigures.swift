internal import Domain
internal import EventLoop
internal import Postgres

/// What a database says of the rows that nodes write, for measurements and tests of the write path.
package struct DatabaseFigures: Sendable, Hashable {
    package var loadReports: UInt64
    package var conns: UInt64
    /// The conns that the rollups have counted.
    package var connsInRollups: UInt64
    package var sessions: UInt64
    package var openSessions: UInt64
    package var devicesOnline: UInt64
    /// Written since the server was made.
    package var walBytes: UInt64
    /// Of changes of rows of `pop.devices`, and of those that touched no index.
    package var deviceUpdates: UInt64
    package var deviceUpdatesInPlace: UInt64
    package var deadDevices: UInt64
    package var deviceTableBytes: UInt64
    package var databaseBytes: UInt64

    /// Asks, and waits for the answer: for programs that measure, not for a loop that serves.
    package static func read(databaseURL: String) throws -> DatabaseFigures {
        let asker = try Asker(databaseURL)
        return try asker.answer()
    }

    private static let question = """
        SELECT (SELECT count(*) FROM pop.device_load) AS loads, (SELECT count(*) FROM pop.conns) AS conns,
            (SELECT coalesce(sum(conns), 0) FROM pop.conn_rollups WHERE step_seconds = 60)::bigint AS rolled_up,
            s.sessions, s.open_sessions, d.online,
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes, t.n_tup_upd AS updates,
            t.n_tup_hot_upd AS hot_updates, t.n_dead_tup AS dead,
            pg_total_relation_size('pop.devices') AS table_bytes,
            pg_database_size(current_database()) AS database_bytes
        FROM (SELECT count(*) AS sessions, count(*) FILTER (WHERE ended_at IS NULL) AS open_sessions
                FROM pop.device_sessions) s,
            (SELECT count(*) AS online FROM pop.devices WHERE status = 'online') d,
            pg_stat_user_tables t WHERE t.relid = 'pop.devices'::regclass
        """

    private final class Asker: PostgresConnectionDelegate {
        private let loop: EventLoop
        private let connection: PostgresConnection
        private var outcome: Result<[PostgresResult], PostgresError>?

        init(_ databaseURL: String) throws {
            loop = try EventLoop()
            connection = PostgresConnection(
                on: loop,
                PostgresConfiguration(
                    connectionString: databaseURL, connectTimeout: .seconds(60), statementTimeout: nil,
                    answerTimeout: nil))
            connection.delegate = self
            connection.connect()
        }

        func answer() throws -> DatabaseFigures {
            while outcome == nil { loop.runOnce(waitingAtMost: .seconds(1)) }
            let results = try outcome?.get()
            connection.close()
            loop.runOnce(waitingAtMost: .zero)
            guard let row = results?.first?.rows.first else {
                throw PostgresError(.unexpectedAnswer, "no row")
            }
            func count(_ column: String) throws -> UInt64 { try row.integer(column) }
            return DatabaseFigures(
                loadReports: try count("loads"), conns: try count("conns"),
                connsInRollups: try count("rolled_up"), sessions: try count("sessions"),
                openSessions: try count("open_sessions"), devicesOnline: try count("online"),
                walBytes: try count("wal_bytes"), deviceUpdates: try count("updates"),
                deviceUpdatesInPlace: try count("hot_updates"), deadDevices: try count("dead"),
                deviceTableBytes: try count("table_bytes"), databaseBytes: try count("database_bytes"))
        }

        func postgresReady(_ connection: PostgresConnection) {
            connection.submit([PostgresStatement(DatabaseFigures.question)]) { [weak self] result in
                self?.outcome = result
            }
        }

        func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError) {
            if outcome == nil { outcome = .failure(error) }
        }

        func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String) {}

        func postgresNotice(_ connection: PostgresConnection, _ message: String) {}
    }
}
