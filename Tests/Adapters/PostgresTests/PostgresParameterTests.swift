import Domain
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@Suite struct PostgresParameterTests {
    private let connection: BlockingConnection

    init() throws {
        connection = try BlockingConnection(TemporaryPostgres.makeDatabase())
    }

    @Test func textsOfAnyContentComeBackAsTheyWere() throws {
        var random = SeededRandom.ofEnvironment()
        let seed = random.seed
        let alphabet: [Unicode.Scalar] = [
            "\"", "\\", "{", "}", ",", " ", "'", "\n", "\t", "é", "🦊", "N", "U", "L", ";", "a", "\u{1}", "$",
        ]
        for round in 0..<200 {
            let values: [String] = (0..<Int.random(in: 0...6, using: &random)).map { _ in
                var text = String.UnicodeScalarView()
                for _ in 0..<Int.random(in: 0...8, using: &random) {
                    if let scalar = alphabet.randomElement(using: &random) { text.append(scalar) }
                }
                return String(text)
            }
            let result = try connection.query("SELECT $1::text[] AS v", [.texts(values)])
            let row = try #require(result.rows.first)
            #expect(try row.strings("v") == values, "seed \(seed), round \(round)")
            let single = values.first ?? ""
            let text = try connection.scalar("SELECT $1::text", [.text(single)])
            #expect(text == single, "seed \(seed), round \(round)")
        }
    }

    @Test func wordNULLIsATextAndNilIsNULL() throws {
        let result = try connection.query(
            "SELECT v, v IS NULL AS absent FROM unnest($1::text[]) WITH ORDINALITY AS t(v, n) ORDER BY n",
            [.texts(["NULL", nil, ""])])
        #expect(try result.rows.map { try $0.optionalString("v") } == ["NULL", nil, ""])
        #expect(try result.rows.map { try $0.boolean("absent") } == [false, true, false])
    }

    @Test func nulInATextIsReplaced() throws {
        #expect(try connection.scalar("SELECT $1::text", [.text("a\0b")]) == "a\u{fffd}b")
        let row = try #require(
            try connection.query("SELECT $1::text[] AS v", [.texts(["a\0b"])]).rows.first)
        #expect(try row.strings("v") == ["a\u{fffd}b"])
    }

    @Test func timesKeepTheirMicrosecondsAndSaturate() throws {
        let times = [
            WallTime(microseconds: 0), WallTime(microseconds: -1),
            WallTime(microseconds: 1_767_225_600_123_456),
            WallTime(microseconds: -62_135_596_800_000_000),
        ]
        let result = try connection.query(
            "SELECT v FROM unnest($1::timestamptz[]) WITH ORDINALITY AS t(v, n) ORDER BY n",
            [.times(times)])
        #expect(try result.rows.map { try $0.time("v") } == times)
        let far = try connection.query(
            "SELECT $1::timestamptz AS late, $2::timestamptz AS early",
            [.time(WallTime(microseconds: .max)), .time(WallTime(microseconds: .min))])
        #expect(far.rowCount == 1)
    }

    @Test func numbersUUIDsAndBooleansComeBack() throws {
        var random = SeededRandom(seed: 1)
        let id = SessionID(using: &random)
        let result = try connection.query(
            """
            SELECT ($1::uuid[])[1] AS id, ($2::bigint[])[1] AS big, ($3::double precision[])[2] AS number,
                ($4::boolean[])[1] AS flag, $5::bigint AS nothing, $6::double precision AS infinite
            """,
            [
                .uuids([id]), .integers([UInt64.max]), .doubles([0.1, 1e300]), .booleans([true]),
                .integer(nil as Int64?), .double(.infinity),
            ])
        let row = try #require(result.rows.first)
        #expect(try row.value("id") { SessionID($0) } == id)
        #expect(try row.integer("big", as: Int64.self) == .max)
        #expect(try row.double("number") == 1e300)
        #expect(try row.boolean("flag"))
        #expect(try row.optionalInteger("nothing", as: Int.self) == nil)
        #expect(try row.double("infinite") == .infinity)
    }

    @Test func anAccessorSaysWhatIsWrong() throws {
        let row = try #require(try connection.query("SELECT 'x'::text AS v, NULL::text AS n").rows.first)
        #expect(throws: PostgresError.self) { try row.integer("v", as: Int.self) }
        #expect(throws: PostgresError.self) { try row.string("n") }
        #expect(throws: PostgresError.self) { try row.string("absent") }
        #expect(throws: PostgresError.self) { try row.strings("v") }
    }
}
