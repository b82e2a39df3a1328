import Domain
import JSON
import Testing

private func parse(_ text: String, limits: JSONLimits = .standard) throws(JSONError) -> JSONValue {
    try JSONValue(parsing: Array(text.utf8), limits: limits)
}

private func problem(_ text: String, limits: JSONLimits = .standard) -> JSONError.Problem? {
    do {
        _ = try parse(text, limits: limits)
        return nil
    } catch {
        return error.problem
    }
}

struct JSONValueTests {
    @Test func everyKindOfValueReadsBackAsItWasWritten() throws {
        let value: JSONValue = [
            "null": nil, "yes": true, "no": false, "small": -9_223_372_036_854_775_808,
            "big": 9_223_372_036_854_775_807, "fraction": .double(0.1), "huge": .double(1e300),
            "text": "a\"b\\c\n\r\t\u{1}\u{7f}/é🙂", "list": [1, [], ["x": [:]]], "": "",
        ]
        #expect(try parse(value.text) == value)
        #expect(try JSONValue(parsing: value.serialised(isPretty: true)) == value)
    }

    @Test func membersKeepTheirOrder() throws {
        let text = #"{"z":1,"a":2,"m":[true,null]}"#
        #expect(try parse(text).text == text)
    }

    @Test func prettyTextHasOneMemberALine() {
        let value: JSONValue = ["a": [1, 2], "b": [:]]
        let text = String(decoding: value.serialised(isPretty: true), as: UTF8.self)
        #expect(text == "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}\n")
    }

    @Test func numbersThatJSONLacksAreWrittenAsNull() {
        #expect(JSONValue.array([.double(.nan), .double(.infinity)]).text == "[null,null]")
    }

    @Test func writerTakesNumbersIdsAndTimesWithoutATree() throws {
        var writer = JSONWriter()
        writer.beginArray()
        for value in [0, 7, 10, -1, Int.max, Int.min] { writer.integer(value) }
        writer.integer(UInt64.max)
        writer.double(0.5)
        writer.string(SessionID(high: 1, low: 0xabcd))
        writer.string(SocketAddress(ip: .v4(IPv4Address(0xc000_0207)), port: 0))
        writer.time(WallTime(milliseconds: 1_769_850_300_120))
        writer.beginObject()
        writer.name("known")
        writer.null()
        writer.name(anything: "a\"b")
        writer.bool(true)
        writer.endObject()
        writer.endArray()
        #expect(
            String(decoding: writer.bytes, as: UTF8.self) == """
                [0,7,10,-1,9223372036854775807,-9223372036854775808,18446744073709551615,0.5,\
                "00000000-0000-0001-0000-00000000abcd","192.0.2.7:0","2026-01-31T09:05:00.120Z",{"known":null,"a\\"b":true}]
                """)
    }

    @Test func documentTakenInPiecesIsTheSame() {
        var writer = JSONWriter(isPretty: true)
        var pieces: [[UInt8]] = []
        writer.beginArray()
        for number in 0..<3 {
            writer.value([.integer(Int64(number))])
            pieces.append(writer.takeBytes())
        }
        writer.endArray()
        pieces.append(writer.takeBytes())
        let whole = JSONValue.array((0..<3).map { [.integer(Int64($0))] }).serialised(isPretty: true)
        #expect(pieces.flatMap { $0 } + [UInt8(ascii: "\n")] == whole)
        #expect(pieces.allSatisfy { !$0.isEmpty })
    }

    @Test func everyControlCharacterIsEscaped() {
        let text = String(String.UnicodeScalarView((0...0x7f).compactMap { Unicode.Scalar($0) }))
        let written = JSONValue.string(text).text
        #expect(written.utf8.allSatisfy { (0x20..<0x7f).contains($0) })
        #expect(written.contains(#"\u0000\u0001"#) && written.contains(#"\b"#) == false)
        #expect(written.hasSuffix(#"}~\u007f""#) && written.contains(#"\t\n\u000b\u000c\r\u000e"#))
    }

    @Test func faultsAreTyped() {
        #expect(problem(#"{"a":1,"b":2,"a":3}"#) == .duplicateName("a"))
        #expect(problem("9223372036854775808") == .numberOutOfRange)
        #expect(problem("-9223372036854775809") == .numberOutOfRange)
        #expect(problem("1e400") == .numberOutOfRange)
        #expect(problem(#""a\u0000b""#) == .nullCharacter)
        #expect(problem(#"{"a":"#) == .incomplete)
        #expect(problem("[1,2]", limits: JSONLimits(bytes: 4, depth: 9)) == .tooLong(limit: 4))
        #expect(problem("[[[1]]]", limits: JSONLimits(bytes: 99, depth: 2)) == .tooDeep(limit: 2))
        #expect(problem("[[1]]", limits: JSONLimits(bytes: 99, depth: 2)) == nil)
        #expect(problem(String(repeating: "[", count: 100_000)) == .tooDeep(limit: 2_048))
    }

    @Test(arguments: [
        "", " ", "NaN", "Infinity", "-", "01", "1.", "+1", "'a'", "{a:1}", "[1,]", "{\"a\":1,}", "1 2", "tru",
        "\u{feff}{}", "\"\n\"", #""\x""#, #""\ud800""#, "// c\n1", "{\"a\" 1}", "[1}",
    ])
    func whatIsNotJSONIsRefused(text: String) {
        #expect(problem(text) != nil)
    }

    @Test func invalidUTF8IsRefused() {
        for bytes: [UInt8] in [
            [0x22, 0xff, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22],
        ] {
            #expect(throws: JSONError.self) { try JSONValue(parsing: bytes) }
        }
    }

    @Test func faultNamesItsPlace() {
        let error = #expect(throws: JSONError.self) { try parse("{\n  \"a\": 1,\n  \"b\": x\n}") }
        #expect(error?.line == 3)
        #expect(error?.description.hasPrefix("invalid JSON at line 3, column ") == true)
    }

    @Test func everyCutOfADocumentIsRefused() throws {
        let text = #"{"a":[1,2.5,"x\u00e9"],"b":{"c":null,"d":true}}"#
        _ = try parse(text)
        let bytes = Array(text.utf8)
        for count in 0..<bytes.count {
            #expect(throws: JSONError.self) { try JSONValue(parsing: Array(bytes[..<count])) }
        }
        #expect(problem(text + "x") != nil)
        #expect(problem(text + " \n") == nil)
    }
}
