import EventLoop
import JSON
import PopCtl
import Testing

/// `popctl top`, once and live.
struct TopTests {
    private static func devices(_ look: Int) -> Canned {
        let moved = Int64(look) * 2_048
        return .list(
            [
                "device_id": "idle", "session_id": "1", "bytes_sent": 9_000_000, "bytes_received": 0,
                "active_conns": 9,
            ],
            [
                "device_id": "busy", "session_id": "2", "bytes_sent": .integer(moved),
                "bytes_received": .integer(4 * moved),
            ],
            ["device_id": "anew", "session_id": .string("3-\(look)"), "bytes_sent": 512, "bytes_received": 0])
    }

    private static let nodes = Canned.list(
        [
            "node_id": "pop-1", "state": "active", "devices_online": 3, "conns_active": 9, "bytes_sent": 1,
            "bytes_received": 1,
        ],
        [
            "node_id": "pop-2", "state": "draining", "devices_online": 1, "conns_active": 0, "bytes_sent": 0,
            "bytes_received": 0,
        ])

    /// Answers looks at nodes, devices and conns.
    private static func answer(_ asked: Asked, _ before: Int) -> Canned {
        switch asked.path {
        case "/v1/nodes": nodes
        case "/v1/devices": devices(before)
        default:
            .list([
                "conn_id": "conn-1", "device_id": "busy", "target": "example.com:443", "bytes_sent": 1,
                "bytes_received": 1,
            ])
        }
    }

    private func order(_ output: String) -> [Substring] {
        output.split(separator: "\n").dropFirst().compactMap { $0.split(separator: " ").first }
    }

    // MARK: Once

    @Test(arguments: [
        ("traffic", ["busy", "anew", "idle"]), ("sent", ["busy", "anew", "idle"]),
        ("received", ["busy", "anew", "idle"]),
        ("conns", ["idle", "anew", "busy"]), ("name", ["anew", "busy", "idle"]),
    ])
    func onceIsATableInOrder(sort: String, expected: [String]) throws {
        let server = try StandIn(answer: Self.answer)
        let run = server.run(["top", "--once", "--interval", "1s", "--sort", sort])
        #expect(run.code == 0)
        #expect(order(run.output).map(String.init) == expected)
        #expect(!run.output.contains("\u{1b}"))
        #expect(server.requests.map(\.path) == ["/v1/devices", "/v1/devices"])
    }

    @Test func ratesAreOfTheTimeBetweenTheLooks() throws {
        let server = try StandIn(answer: Self.answer)
        let items = try #require(server.run(["top", "--once", "--interval", "1s", "-o", "json"]).json?.array)
        let busy = try #require(items.first { $0["device_id"] == "busy" })
        let sent = try #require(busy["sent_per_second"]?.number)
        let received = try #require(busy["received_per_second"]?.number)
        // The second between the looks may have been longer, but not shorter.
        #expect(sent > 0 && sent <= 2_048)
        #expect((received / sent - 4).magnitude < 0.01)
        let idle = try #require(items.first { $0["device_id"] == "idle" })
        #expect(idle["sent_per_second"]?.number == 0)
        #expect(
            server.run(["top", "--once", "--interval", "1s", "--limit", "2", "-o", "json"]).json?.array?.count
                == 2)
    }

    @Test func withoutATerminalItIsOnce() throws {
        let server = try StandIn(answer: Self.answer)
        #expect(order(server.run(["top", "nodes", "--interval", "1s"]).output) == ["pop-1", "pop-2"])
        let dumb = server.run(
            ["top", "conns", "--interval", "1s"], environment: ["TERM": "dumb"],
            console: TestConsole(columns: 100))
        #expect(order(dumb.output) == ["conn-1"])
        #expect(!dumb.output.contains("\u{1b}"))
    }

    @Test func refusalIsAFault() throws {
        let server = try StandIn { _ in Canned(status: 401, json: ["code": "unauthorized"]) }
        #expect(server.run(["top", "--once"]).code == 1)
        let console = TestConsole(columns: 80)
        #expect(server.run(["top"], console: console).code == 1)
        #expect(console.output == "")
        #expect(console.watches == 0)
    }

    @Test(arguments: [Int64.min, .max])
    func noNumberOfAServerIsTooMuch(number: Int64) throws {
        let odd = JSONValue.integer(number)
        let answer: @Sendable (Asked, Int) -> Canned = { _, before in
            let value: JSONValue = before % 2 == 0 ? odd : 1
            let item: JSONValue = [
                "node_id": "a", "device_id": "a", "conn_id": "a", "bytes_sent": value, "bytes_received": odd,
                "devices_online": odd, "conns_active": odd, "idle_seconds": odd, "cpu_utilization": odd,
                "session_id": "s",
            ]
            return .list(item, item)
        }
        let server = try StandIn(answer: answer)
        for view in ["nodes", "devices", "conns"] {
            #expect(server.run(["top", view, "--once", "--interval", "1s"]).code == 0)
            #expect(server.run([view, "list"]).code == 0)
            let run = try live(["top", view], answer: answer) { _, _, _, happening in
                happening.send(.interrupted)
            }
            #expect(run.code == 0)
        }
    }

    // MARK: Live

    /// Runs it on a terminal; `react` is given each drawing, as lines without attributes, and its number.
    private func live(
        _ arguments: [String], columns: Int = 80, rows: Int = 12,
        answer: @escaping @Sendable (Asked, Int) -> Canned = Self.answer,
        react: @escaping (_ lines: [String], _ drawing: Int, TestConsole, Mailbox<ConsoleEvent>) -> Void
    ) throws -> Outcome {
        let happening = try Mailbox<ConsoleEvent>()
        let console = TestConsole(columns: columns, rows: rows, happening: happening)
        var drawings = 0
        console.written = { [weak console] text in
            guard text.hasPrefix("\u{1b}[H"), let console else { return }
            let plain = text.dropFirst(3).split(separator: "\r\n", omittingEmptySubsequences: false).map {
                line in
                ["\u{1b}[K", "\u{1b}[7m", "\u{1b}[0m", "\u{1b}[1m"].reduce(String(line)) { text, code in
                    text.split(separator: code, omittingEmptySubsequences: false).joined()
                }
            }
            react(plain, drawings, console, happening)
            drawings += 1
        }
        let run = try StandIn(answer: answer).run(arguments, console: console)
        #expect(console.watches == 0)
        return run
    }

    @Test func screenIsDrawnAndGivenBack() throws {
        var first: [String] = []
        let run = try live(["top"]) { lines, drawing, _, happening in
            first = drawing == 0 ? lines : first
            happening.send(.keys(Array("q".utf8)))
        }
        #expect(run.code == 0)
        #expect(run.errors == "")
        #expect(run.output.hasPrefix("\u{1b}[?1049h\u{1b}[?25l"))
        #expect(run.output.hasSuffix("\u{1b}[?25h\u{1b}[?1049l"))
        #expect(first.count == 12)
        #expect(first[0].hasPrefix("popctl top devices  http://127.0.0.1:"))
        #expect(first[1] == "2 nodes (1 not active)  4 devices  9 conns")
        #expect(first[3].hasPrefix("DEVICE  SENT/S"))
        #expect(first[4].hasPrefix("idle"))
        #expect(first[11].contains("q quit"))
    }

    @Test func keysChooseWhatIsShown() throws {
        var titles: [String] = []
        var keys: [String] = []
        let run = try live(["top", "conns", "--sort", "name"]) { lines, drawing, _, happening in
            titles.append(String(lines[0].split(separator: " ")[2]))
            keys.append(lines[11])
            // Another view is drawn once without items, and once with them.
            let pressed = ["n", "", "s", "d", "", "q"]
            happening.send(.keys(Array(pressed[min(drawing, 5)].utf8)))
        }
        #expect(run.code == 0)
        #expect(titles.first == "conns")
        #expect(titles.contains("nodes"))
        #expect(titles.last == "devices")
        #expect(keys.first?.contains("sort: name") == true)
        #expect(keys.last?.contains("sort: traffic") == true)
    }

    @Test func itFollowsTheTerminalsSize() throws {
        let sizes = [(80, 24), (20, 6), (200, 50), (1, 1), (40, 3)]
        _ = try live(["top"]) { lines, drawing, console, happening in
            let size = console.outputSize ?? TerminalSize(columns: 0, rows: 0)
            #expect(lines.count == size.rows)
            #expect(lines.allSatisfy { $0.count <= max(0, size.columns - 1) }, "\(size)")
            guard drawing < sizes.count else { return happening.send(.interrupted) }
            console.outputSize = TerminalSize(columns: sizes[drawing].0, rows: sizes[drawing].1)
            happening.send(.resized)
        }
    }

    @Test func suspendedItGivesTheScreenBackAndTakesItAgain() throws {
        let run = try live(["top"]) { _, drawing, _, happening in
            if drawing == 0 {
                happening.send(.suspending)
                happening.send(.resumed)
            } else {
                happening.send(.interrupted)
            }
        }
        #expect(run.code == 0)
        #expect(run.output.components(of: "\u{1b}[?1049h") == 2)
        #expect(run.output.components(of: "\u{1b}[?1049l") == 2)
    }

    @Test func outageIsShownUntilItIsOver() throws {
        var isTold = false
        let run = try live(
            ["top", "nodes"],
            answer: { asked, before in
                before == 1
                    ? Canned(status: 503, json: ["code": "starting", "detail": "Not yet."]) : Self.nodes
            }
        ) { lines, drawing, _, happening in
            let isTrouble = lines[0] == "starting: Not yet. (503); trying again"
            if isTrouble { isTold = true }
            if drawing == 0 || isTrouble {
                happening.send(.keys(Array(" ".utf8)))
            } else if isTold {
                happening.send(.keys(Array("q".utf8)))
            }
        }
        #expect(run.code == 0)
        #expect(isTold)
    }
}

extension String {
    /// How often `part` stands in it.
    fileprivate func components(of part: String) -> Int {
        split(separator: part, omittingEmptySubsequences: false).count - 1
    }
}
