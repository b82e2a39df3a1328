internal import EventLoop
package import Postgres

/// A connection for tests, which may wait.
package final class BlockingConnection: PostgresConnectionDelegate {
    private let loop: EventLoop
    package let connection: PostgresConnection
    package private(set) var failure: PostgresError?
    package private(set) var notices: [String] = []
    package private(set) var notifications: [String] = []

    package init(
        _ connectionString: String, _ change: (inout PostgresConfiguration) -> Void = { _ in }
    ) throws {
        loop = try EventLoop()
        // A busy machine takes its time, and one answer that is given up would fail every later test.
        var configuration = PostgresConfiguration(
            connectionString: connectionString, connectTimeout: .seconds(60), statementTimeout: nil,
            answerTimeout: nil)
        change(&configuration)
        connection = PostgresConnection(on: loop, configuration)
        connection.delegate = self
        connection.connect()
        while !connection.isReady {
            if let failure { throw failure }
            loop.runOnce(waitingAtMost: .seconds(1))
        }
    }

    deinit {
        connection.close()
    }

    @discardableResult
    package func query(_ sql: String, _ parameters: [PostgresParameter] = []) throws -> PostgresResult {
        let results = try transaction([PostgresStatement(sql, parameters)])
        guard let result = results.first else { throw PostgresError(.unexpectedAnswer, "no result") }
        return result
    }

    @discardableResult
    package func transaction(_ statements: [PostgresStatement]) throws -> [PostgresResult] {
        var outcome: Result<[PostgresResult], PostgresError>?
        connection.submit(statements) { outcome = $0 }
        while outcome == nil { loop.runOnce(waitingAtMost: .seconds(1)) }
        return try outcome?.get() ?? []
    }

    @discardableResult
    package func run(script: String) throws -> [PostgresResult] {
        var outcome: Result<[PostgresResult], PostgresError>?
        connection.run(script: script) { outcome = $0 }
        while outcome == nil { loop.runOnce(waitingAtMost: .seconds(1)) }
        return try outcome?.get() ?? []
    }

    /// The one value of a query with one row and one column.
    package func scalar(_ sql: String, _ parameters: [PostgresParameter] = []) throws -> String? {
        let result = try query(sql, parameters)
        guard let row = result.rows.first, let column = result.columns.first else { return nil }
        return try row.optionalString(column)
    }

    /// Handles what comes in, for at most `rounds` batches, until `condition` holds.
    @discardableResult
    package func pump(rounds: Int = 3_000, until condition: () -> Bool) -> Bool {
        for _ in 0..<rounds where !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        return condition()
    }

    package func postgresReady(_ connection: PostgresConnection) {}

    package func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError) {
        failure = error
    }

    package func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String) {
        notifications.append("\(channel):\(payload)")
    }

    package func postgresNotice(_ connection: PostgresConnection, _ message: String) {
        notices.append(message)
    }
}
