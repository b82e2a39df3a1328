import JSON
import PopCtl
import Testing

/// Tables on terminals of all widths.
struct TableTests {
    private static let id = "7f3c0c6e-6a54-4a3e-9c62-0b0a3f7c5d11"

    private func lines(_ items: JSONValue, noun: String, columns: Int) throws -> [Substring] {
        let server = try StandIn { _ in Canned(json: ["items": items, "next_cursor": nil]) }
        let run = server.run([noun, "list"], console: TestConsole(columns: columns))
        #expect(run.code == 0)
        return run.output.split(separator: "\n")
    }

    @Test(arguments: [40, 60, 80, 100, 120, 200])
    func tablesFitAndKeepTheirKeysAndNumbersWhole(columns: Int) throws {
        let conn: JSONValue = [
            "conn_id": .string(Self.id), "device_id": "device-of-the-family-0001", "user": "alice",
            "protocol": "socks5", "client_address": "[2001:db8::1234:5678]:40000",
            "target": "a-long-name.of-a-host.example.com:443", "state": "open",
            "bytes_sent": 123_456_789_012, "opened_at": "2026-01-31T09:00:00.000Z", "node_id": "pop-1",
        ]
        let lines = try lines([conn, conn], noun: "conns", columns: columns)
        #expect(lines.count == 3)
        for line in lines { #expect(line.count <= columns, "\(line)") }
        #expect(lines[1].hasPrefix(Self.id) || columns < 46)
        #expect(lines[0].contains("SENT") == lines[1].contains("115 GiB"))
        #expect(lines[0].contains("TARGET"))
    }

    @Test func lessImportantColumnsGoBeforeTheKeyIsCut() throws {
        let node: JSONValue = ["node_id": "a-node-with-a-rather-long-name-01", "state": "active"]
        let lines = try lines([node], noun: "nodes", columns: 44)
        #expect(lines[1].hasPrefix("a-node-with-a-rather-long-name-01  active"))
        #expect(!lines[0].contains("VERSION"))
    }

    @Test func keyIsCutInItsMiddleWhenNothingElseIsLeft() throws {
        let name = String(repeating: "a", count: 60) + "-0042"
        let lines = try lines([["node_id": .string(name), "state": "active"]], noun: "nodes", columns: 30)
        #expect(lines[1].hasPrefix("aaaa"))
        #expect(lines[1].contains("…"))
        #expect(lines[1].contains("-0042  active"))
    }

    @Test func nothingIsCutInAPipe() throws {
        let name = String(repeating: "d", count: 300)
        let server = try StandIn { _ in .list(["device_id": .string(name), "location": .string(name)]) }
        let run = server.run(["devices", "list"])
        #expect(!run.output.contains("…"))
        #expect(run.output.contains("RECEIVED"))
    }

    @Test func wideCharactersTakeTwoColumnsAndMarksNone() throws {
        let items: JSONValue = [
            ["token_id": "1", "name": "日本語", "scope": "read"],
            ["token_id": "2", "name": "e\u{301}te", "scope": "read"],
            ["token_id": "3", "name": "📱📶", "scope": "read"],
            ["token_id": "4", "name": "ascii", "scope": "read"],
        ]
        let lines = try lines(items, noun: "tokens", columns: 200)
        #expect(lines[1].contains("日本語  read"))
        #expect(lines[2].contains("e\u{301}te     read"))
        #expect(lines[3].contains("📱📶    read"))
        #expect(lines[4].contains("ascii   read"))
    }

    @Test func wideCharactersAreNotCutInTwo() throws {
        let name = String(repeating: "語", count: 60)
        for columns in 30...60 {
            let lines = try lines(
                [["token_id": "1", "name": .string(name), "scope": "read"]], noun: "tokens", columns: columns)
            let width = lines[1].reduce(0) { $0 + ($1 == "語" ? 2 : 1) }
            #expect(width <= columns)
        }
    }

    @Test func terminalIsNotObeyed() throws {
        let lines = try lines(
            [["device_id": "\u{1b}[2Jevil\n\u{202e}"]], noun: "devices", columns: 80)
        #expect(lines.count == 2)
        #expect(lines[1].hasPrefix("?[2Jevil??"))
    }

    @Test(arguments: [
        ("2026-01-31T09:04:59.500Z", "0s"), ("2026-01-31T09:03:01.000Z", "119s"),
        ("2026-01-31T09:01:50.000Z", "3m10s"), ("2026-01-31T08:05:00.000Z", "60m"),
        ("2026-01-31T06:00:00.000Z", "3h5m"), ("2026-01-24T07:05:00.000Z", "7d2h"),
        ("2025-01-31T09:05:00.000Z", "365d"), ("2026-01-31T09:06:00.000Z", "in 60s"), ("now", "now"),
    ])
    func agesAreShort(time: String, age: String) throws {
        let lines = try lines(
            [["token_id": "1", "name": "n", "scope": "read", "expires_at": .string(time)]], noun: "tokens",
            columns: 200)
        #expect(lines[1].contains("  \(age)"))
    }
}
