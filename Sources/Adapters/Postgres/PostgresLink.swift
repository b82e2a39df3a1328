internal import Domain
package import EventLoop

/// A connection that comes back: one ``PostgresConnection`` after another, with jittered exponential
/// backoff between them.
///
/// What was in flight when a connection was lost fails; whether to say it again is its sender's decision.
package final class PostgresLink: PostgresConnectionDelegate {
    /// Called when statements can be submitted, after each reconnect again.
    package var opened: (() -> Void)?
    /// Called when a connection was lost or could not be made.
    package var lost: ((PostgresError) -> Void)?
    package var notified: ((_ channel: String, _ payload: String) -> Void)?
    package var noticed: ((String) -> Void)?

    private let loop: EventLoop
    private let configuration: PostgresConfiguration
    private var connection: PostgresConnection?
    private var retry: LoopTimer?
    private var failures = 0
    /// Where to begin among several servers: one further after each attempt that ran out of time, which the first
    /// of them has used up, and after each server that was given up.
    private var firstServer = 0
    private var isClosed = false

    private static let shortestPause = Duration.milliseconds(100)
    private static let longestPause = Duration.seconds(5)

    package init(on loop: EventLoop, _ configuration: PostgresConfiguration) {
        self.loop = loop
        self.configuration = configuration
        retry = loop.makeTimer { [weak self] in self?.connect() }
    }

    deinit {
        retry?.cancel()
        connection?.delegate = nil
        connection?.close()
    }

    package var isReady: Bool { connection?.isReady ?? false }

    /// How many groups wait for their answers.
    package var inFlightCount: Int { connection?.inFlightCount ?? 0 }

    /// Starts, and goes on until `close()`.
    package func open() {
        guard connection == nil, !isClosed else { return }
        connect()
    }

    /// See ``PostgresConnection/submit(_:answer:)``; fails at once, but later than this call, without a
    /// connection.
    package func submit(_ statements: [PostgresStatement], answer: @escaping PostgresConnection.Answer) {
        guard let connection else {
            return loop.atEndOfBatch {
                answer(.failure(PostgresError(.connection, "not connected to the database")))
            }
        }
        connection.submit(statements, answer: answer)
    }

    /// See ``PostgresConnection/run(script:answer:)``.
    package func run(script: String, answer: @escaping PostgresConnection.Answer) {
        guard let connection else {
            return loop.atEndOfBatch {
                answer(.failure(PostgresError(.connection, "not connected to the database")))
            }
        }
        connection.run(script: script, answer: answer)
    }

    /// Gives up the present connection, e.g. because its session is not what it should be; a new one is made
    /// after a pause.
    package func restart() {
        firstServer += 1
        connection?.close()
    }

    /// Ends for good. What is in flight fails with `closed`.
    package func close() {
        isClosed = true
        retry?.cancel()
        connection?.close()
    }

    private func connect() {
        guard !isClosed else { return }
        let next = PostgresConnection(on: loop, configuration, firstServer: firstServer)
        connection = next
        next.delegate = self
        next.connect()
    }

    package func postgresReady(_ connection: PostgresConnection) {
        failures = 0
        opened?()
    }

    package func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError) {
        guard connection === self.connection else { return }
        self.connection = nil
        if error.kind == .timeout { firstServer += 1 }
        if !isClosed {
            var random = SystemRandom()
            let doubled = Self.shortestPause * (1 << min(failures, 10))
            let pause = min(doubled, Self.longestPause)
            failures += 1
            // Half of it is chance, so that many nodes don't come back to a new server in one moment.
            retry?.arm(at: loop.now + pause * Double.random(in: 0.5...1, using: &random))
        }
        lost?(error)
    }

    package func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String) {
        notified?(channel, payload)
    }

    package func postgresNotice(_ connection: PostgresConnection, _ message: String) {
        noticed?(message)
    }
}
