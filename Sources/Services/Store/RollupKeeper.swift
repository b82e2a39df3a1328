internal import Domain
internal import EventLoop
internal import Logging
internal import Postgres

/// Keeps the dashboards' hours of device load rolled up (`pop.refresh_rollups`).
///
/// An hour of a large fleet takes the database a second or more, so this has a connection of its own, on which
/// nobody waits, and only while there is something to do. Each hour is a transaction; a run ends when none is left,
/// or when another node is at it.
final class RollupKeeper: PostgresConnectionDelegate {
    /// Whether the schema is there.
    var isPrepared: () -> Bool = { false }

    private let loop: EventLoop
    private let databaseURL: String
    private let retentionDays: Int
    private let interval: Duration
    private let log: Logger
    private var timer: LoopTimer?
    private var connection: PostgresConnection?

    /// An hour may wait this long for its rollup; meanwhile dashboards read its reports themselves.
    static let standardInterval = Duration.seconds(600)
    /// An hour of a million devices that report every 30 s, on a machine that has other things to do.
    private static let longestRefresh = Duration.seconds(600)

    init(
        on loop: EventLoop, databaseURL: String, retentionDays: Int, log: Logger,
        interval: Duration = standardInterval
    ) {
        self.loop = loop
        self.databaseURL = databaseURL
        self.retentionDays = retentionDays
        self.interval = interval
        self.log = log
        timer = loop.makeTimer { [weak self] in self?.run() }
        timer?.arm(at: loop.now + interval)
    }

    deinit {
        stop()
    }

    func stop() {
        timer?.cancel()
        finish()
    }

    private func run() {
        timer?.arm(at: loop.now + interval)
        guard connection == nil, isPrepared() else { return }
        let connection = PostgresConnection(
            on: loop,
            PostgresConfiguration(
                connectionString: databaseURL, applicationName: "pop-node rollups",
                statementTimeout: Self.longestRefresh, answerTimeout: Self.longestRefresh + .seconds(10)))
        self.connection = connection
        connection.delegate = self
        connection.connect()
    }

    private func refresh() {
        connection?.submit([NodeWrites.refreshRollups(retentionDays: retentionDays)]) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success(let results):
                if Self.hoursLeft(results) > 0 { refresh() } else { finish() }
            case .failure(let error):
                log.warning("rollups could not be refreshed", metadata: ["error": "\(error)"])
                finish()
            }
        }
    }

    private static func hoursLeft(_ results: [PostgresResult]) -> Int64 {
        guard let row = results.first?.rows.first else { return 0 }
        let hours: Int64? = try? row.integer("hours_left")
        return hours ?? 0
    }

    private func finish() {
        connection?.delegate = nil
        connection?.close()
        connection = nil
    }

    func postgresReady(_ connection: PostgresConnection) {
        refresh()
    }

    func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError) {
        finish()
    }

    func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String) {}

    func postgresNotice(_ connection: PostgresConnection, _ message: String) {}
}
