import EventLoop
import Postgres
import TemporaryPostgres
import Testing

/// Statements that the server keeps for a connection, as they are seen from both sides.
@Suite struct PreparedStatementsTests {
    private func connect(keeping limit: Int) throws -> (BlockingConnection, observer: BlockingConnection) {
        let database = try TemporaryPostgres.makeDatabase()
        let connection = try BlockingConnection(database) { $0.preparedStatements = limit }
        return (connection, try BlockingConnection(database))
    }

    /// Texts of those that stand, in the order they were prepared in.
    private func standing(_ connection: BlockingConnection) throws -> [String] {
        try connection.query("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time, name").rows
            .map { try $0.string("statement") }
    }

    private let look = "SELECT statement FROM pg_prepared_statements ORDER BY prepare_time, name"

    @Test func theSameTextIsPreparedOnceAndAnswersEveryParameter() throws {
        let (connection, _) = try connect(keeping: 4)
        for number in 0..<5 {
            #expect(
                try connection.scalar("SELECT 2 * $1::bigint", [.integer(Int64(number))]) == "\(2 * number)")
        }
        #expect(try standing(connection).filter { $0 != look } == ["SELECT 2 * $1::bigint"])
    }

    @Test func withoutRoomNothingIsPrepared() throws {
        let (connection, _) = try connect(keeping: 0)
        #expect(try connection.scalar("SELECT 1") == "1")
        #expect(try standing(connection).isEmpty)
    }

    @Test func noMoreThanTheLimitStandAndTheOldestGoes() throws {
        let (connection, _) = try connect(keeping: 3)
        for value in [1, 2, 1, 3, 4] { #expect(try connection.scalar("SELECT \(value)") == "\(value)") }
        // The look itself takes the place of one; what was dropped by it goes with the next group.
        _ = try standing(connection)
        #expect(try standing(connection) == ["SELECT 3", "SELECT 4", look])
        #expect(try connection.scalar("SELECT 1") == "1")
    }

    @Test func oneThatCannotBePreparedFailsEachTimeAndStopsNothing() throws {
        let (connection, _) = try connect(keeping: 3)
        for _ in 0..<3 {
            #expect(throws: PostgresError.self) { try connection.query("SELECT * FROM absent") }
            #expect(try connection.scalar("SELECT 7") == "7")
        }
        try connection.query("CREATE TABLE absent (v integer)")
        #expect(try connection.query("SELECT * FROM absent").rows.isEmpty)
    }

    /// One of a group that was skipped has never reached the server.
    @Test func oneThatWasSkippedIsPreparedTheNextTime() throws {
        let (connection, _) = try connect(keeping: 8)
        var answers: [Bool] = []
        for statements in [["SELECT 1/0", "SELECT 11"], ["SELECT 11"], ["SELECT 12", "SELECT 11"]] {
            connection.connection.submit(statements.map { PostgresStatement($0) }) { result in
                answers.append((try? result.get()) != nil)
            }
        }
        #expect(connection.pump { answers.count == 3 })
        #expect(answers == [false, true, true])
        #expect(try connection.scalar("SELECT 11") == "11")
        #expect(try standing(connection).contains("SELECT 11"))
    }

    /// A plan that no longer fits its table is the trouble of one answer.
    @Test func oneThatATableHasOutgrownIsPreparedAnew() throws {
        let (connection, observer) = try connect(keeping: 8)
        try observer.query("CREATE TABLE t (a integer)")
        try observer.query("INSERT INTO t VALUES (1)")
        #expect(try connection.query("SELECT * FROM t").columns == ["a"])
        try observer.query("ALTER TABLE t ADD COLUMN b text")
        #expect(throws: PostgresError.self) { try connection.query("SELECT * FROM t") }
        #expect(try connection.query("SELECT * FROM t").columns == ["a", "b"])
        #expect(try connection.query("SELECT * FROM t").columns == ["a", "b"])
    }

    /// A statement may be asked for again before it is known to stand.
    @Test func manyInFlightAreAnsweredInOrder() throws {
        let (connection, _) = try connect(keeping: 2)
        var answers: [Int] = []
        for number in 0..<600 {
            let statement = PostgresStatement(
                "SELECT $1::bigint + \(number % 5) AS v", [.integer(Int64(number))])
            connection.connection.submit([statement]) { result in
                if let value = try? result.get().first?.rows.first?.integer("v", as: Int.self) {
                    answers.append(value - answers.count)
                }
            }
            if number % 50 == 0 { _ = connection.pump { answers.count == number } }
        }
        #expect(connection.pump { answers.count == 600 })
        #expect(answers == (0..<600).map { $0 % 5 })
    }
}
