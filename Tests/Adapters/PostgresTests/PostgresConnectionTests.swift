import Domain
import EventLoop
import Postgres
import TemporaryPostgres
import Testing

@Suite struct PostgresConnectionTests {
    @Test func anErrorUndoesItsOwnGroupAndNoOther() throws {
        let connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
        try connection.query("CREATE TABLE t (v integer PRIMARY KEY)")
        var outcomes: [String] = []
        func submit(_ name: String, _ values: [Int64]) {
            let statements = values.map {
                PostgresStatement("INSERT INTO t VALUES ($1::integer)", [.integer($0)])
            }
            connection.connection.submit(statements) { result in
                switch result {
                case .success(let results): outcomes.append("\(name) \(results.count)")
                case .failure(let error): outcomes.append("\(name) \(error.sqlState ?? "-")")
                }
            }
        }
        submit("first", [1, 2])
        submit("second", [3, 1, 4])
        submit("third", [5])
        #expect(connection.pump { outcomes.count == 3 })
        #expect(outcomes == ["first 2", "second 23505", "third 1"])
        #expect(try connection.scalar("SELECT string_agg(v::text, ',' ORDER BY v) FROM t") == "1,2,5")
    }

    @Test func thousandsOfGroupsInFlightAreAnsweredInOrder() throws {
        let connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
        var answers: [Int] = []
        for number in 0..<3_000 {
            let statement = PostgresStatement("SELECT $1::bigint AS v", [.integer(Int64(number))])
            connection.connection.submit([statement]) { result in
                if let row = try? result.get().first?.rows.first,
                    let value = try? row.integer("v", as: Int.self)
                {
                    answers.append(value)
                }
            }
        }
        #expect(connection.pump { answers.count == 3_000 })
        #expect(answers == Array(0..<3_000))
    }

    @Test func answersOfManyMegabytesComeWhole() throws {
        let connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
        let text = String(repeating: "x", count: 8_000_000)
        #expect(try connection.scalar("SELECT repeat('x', 8000000)") == text)
        #expect(try connection.scalar("SELECT length($1::text)", [.text(text)]) == "8000000")
    }

    @Test func aScriptIsOneTransactionAndThePipelineGoesOnAfterIt() throws {
        let connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
        #expect(throws: PostgresError.self) {
            try connection.run(script: "CREATE TABLE a (v integer); SELECT 1/0;")
        }
        #expect(try connection.scalar("SELECT to_regclass('a')") == nil)
        try connection.run(script: "CREATE TABLE a (v integer); INSERT INTO a VALUES (1), (2);")
        #expect(try connection.scalar("SELECT count(*) FROM a") == "2")
    }

    @Test func notificationsAndNoticesAreHeard() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let listener = try BlockingConnection(database)
        let speaker = try BlockingConnection(database)
        try listener.query("LISTEN news")
        try speaker.query("SELECT pg_notify('news', 'ping')")
        #expect(listener.pump { listener.notifications == ["news:ping"] })
        try speaker.run(script: "DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
        #expect(speaker.notices == ["heard"])
    }

    @Test(arguments: [
        ("SELECT 1/0", "22012", false, true), ("SELECT * FROM absent", "42P01", false, false),
        ("SELECT 'x'::integer", "22P02", false, true),
    ])
    func errorsAreMapped(_ sql: String, _ state: String, _ isRetryable: Bool, _ isData: Bool) throws {
        let connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
        do {
            try connection.query(sql)
            Issue.record("no error")
        } catch let error as PostgresError {
            #expect(error.sqlState == state)
            #expect(error.isRetryable == isRetryable)
            #expect(error.isDataError == isData)
        }
    }

    @Test func aStatementThatTakesTooLongIsCancelledAndRetryable() throws {
        let connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
        try connection.query("SET statement_timeout = 50")
        do {
            try connection.query("SELECT pg_sleep(10)")
            Issue.record("no error")
        } catch let error as PostgresError {
            #expect(error.sqlState == "57014")
            #expect(error.isRetryable)
        }
        #expect(try connection.scalar("SELECT 1") == "1")
    }

    @Test func aKilledSessionFailsWhatIsInFlight() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let victim = try BlockingConnection(database)
        let other = try BlockingConnection(database)
        let process = try #require(try victim.scalar("SELECT pg_backend_pid()"))
        var outcomes: [Result<[PostgresResult], PostgresError>] = []
        victim.connection.submit([PostgresStatement("SELECT pg_sleep(60)")]) { outcomes.append($0) }
        victim.connection.submit([PostgresStatement("SELECT 1")]) { outcomes.append($0) }
        victim.pump(rounds: 2) { false }
        try other.query("SELECT pg_terminate_backend(\(process))")
        #expect(victim.pump { victim.failure != nil })
        #expect(outcomes.count == 2)
        for outcome in outcomes {
            guard case .failure(let error) = outcome else {
                Issue.record("an answer")
                continue
            }
            #expect(error.isRetryable, "\(error)")
        }
    }

    @Test func aServerThatNeverAnswersTimesOut() throws {
        let loop = try EventLoop()
        var accepted: [Int32] = []
        let listener = try Listener(on: loop, SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)) {
            descriptor, _ in accepted.append(descriptor)
        }
        defer {
            listener.close()
            for descriptor in accepted { Sockets.close(descriptor) }
        }
        let observer = Observer()
        let connection = PostgresConnection(
            on: loop,
            PostgresConfiguration(
                connectionString: "host=127.0.0.1 port=\(listener.address.port) user=x dbname=x",
                connectTimeout: .milliseconds(150)))
        connection.delegate = observer
        connection.connect()
        for _ in 0..<3_000 where observer.error == nil { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        #expect(observer.error?.kind == .timeout)
    }

    @Test func aRefusedPortIsAConnectionError() throws {
        let error = failure(of: "host=127.0.0.1 port=1 user=x dbname=x")
        #expect(error?.kind == .connection)
        #expect(error?.isRetryable == true)
    }

    @Test func severalHostsAreTriedUntilOneAnswers() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let socket = try #require(database.split(separator: " ").first?.dropFirst(6).dropLast())
        let name = try #require(database.split(separator: "=").last)
        let connection = try BlockingConnection(
            "host=127.0.0.1,\(socket) port=1,5432 user=pop dbname=\(name)")
        #expect(try connection.scalar("SELECT 1") == "1")
    }

    @Test func aBrokenConnectionStringIsNotShown() throws {
        let error = failure(of: "postgres//user:secret@host/db")
        #expect(error?.kind == .configuration)
        #expect(error?.description.contains("secret") == false)
    }

    private func failure(of connectionString: String) -> PostgresError? {
        do {
            _ = try BlockingConnection(connectionString)
            return nil
        } catch {
            return error as? PostgresError
        }
    }

    private final class Observer: PostgresConnectionDelegate {
        var error: PostgresError?

        func postgresReady(_ connection: PostgresConnection) {}

        func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError) { self.error = error }

        func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String) {}

        func postgresNotice(_ connection: PostgresConnection, _ message: String) {}
    }
}
