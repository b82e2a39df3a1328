import EventLoop
import HTTP1
import JSON
import PopCtl
import Testing

/// `popctl events`: printing, going on where a stream broke, and ending.
struct EventsTests {
    private static func event(_ id: Int, _ type: String, _ data: String) -> String {
        "id: \(id)\nevent: \(type)\ndata: \(data)\n\n"
    }

    private static let offline = event(
        1, "device.offline",
        #"{"at":"2026-01-31T09:05:00.000Z","node_id":"pop-1","device_id":"dev7","end_reason":"goodbye"}"#)
    private static let closed = event(
        2, "conn.closed",
        #"{"at":"2026-01-31T09:05:01.000Z","node_id":"pop-1","conn_id":"c1","device_id":"dev7","user":null,"#
            + #""target":"example.com:443","bytes_sent":2048,"state":"open"}"#)

    @Test func eachEventIsALine() throws {
        let odd =
            Self.event(3, "odd.event", #"{"node_id":"pop-1","what":"\u001b[2J"}"#)
            + Self.event(4, "odd.event", "text")
        let server = try StandIn { _ in .stream(": hello\n\n", Self.offline, Self.closed + odd, ending: .open)
        }
        let run = server.run([
            "events", "--types", "device.offline,conn.closed", "--types", "node.state", "--after", "9",
            "--limit", "4",
        ])
        #expect(run.code == 0)
        #expect(run.errors == "")
        #expect(
            run.output == """
                2026-01-31T09:05:00.000Z  device.offline  pop-1  device_id=dev7  end_reason=goodbye
                2026-01-31T09:05:01.000Z  conn.closed     pop-1  conn_id=c1  device_id=dev7  \
                target=example.com:443  bytes_sent=2.0 KiB
                -                         odd.event       pop-1  what=?[2J
                odd.event  text

                """)
        #expect(server.lines == ["GET /v1/events?types=device.offline%2Cconn.closed%2Cnode.state"])
        #expect(server.requests[0].fields["last-event-id"] == "9")
        #expect(server.requests[0].fields["accept"] == "text/event-stream")
    }

    @Test func forProgramsEachEventIsAnObject() throws {
        let stream = Self.offline + "data: no JSON\n\n"
        let server = try StandIn { _ in .stream(stream, ending: .open) }
        let run = server.run(["events", "-o", "json", "--limit", "2"])
        #expect(
            run.output == """
                {"id":"1","type":"device.offline","data":{"at":"2026-01-31T09:05:00.000Z","node_id":"pop-1",\
                "device_id":"dev7","end_reason":"goodbye"}}
                {"id":"1","type":"message","data":"no JSON"}

                """)
    }

    @Test func streamThatBreaksIsTakenUpWhereItBroke() throws {
        let server = try StandIn { _, before in
            switch before {
            case 0: .stream("retry: 1\n", Self.offline, "id: 5\nevent: lo", ending: .cut)
            case 1: Canned(status: 503, json: ["code": "starting"])
            default: .stream(Self.closed, ending: .whole)
            }
        }
        let run = server.run(["events", "--limit", "2"])
        #expect(run.code == 0)
        #expect(run.output.split(separator: "\n").count == 2)
        #expect(server.requests.map { $0.fields["last-event-id"] } == [nil, "1", "1"])
        let notes = run.errors.split(separator: "\n")
        #expect(notes.count == 2)
        #expect(notes.first?.hasSuffix("; trying again") == true)
        #expect(notes.last == "popctl: connected again")
    }

    @Test func whatNeverWorkedIsNotTriedAgain() throws {
        let server = try StandIn { _ in Canned(status: 403, json: ["code": "forbidden", "detail": "No."]) }
        let run = server.run(["events"])
        #expect(run.code == 1)
        #expect(run.errors.hasPrefix("popctl: forbidden: No. (403)\n"))
        #expect(server.requests.count == 1)
        #expect(Outcome(["events"], environment: ["POP_SERVER": "http://127.0.0.1:1"]).code == 1)
    }

    @Test func refusalAfterABreakEndsIt() throws {
        let server = try StandIn { _, before in
            before == 0
                ? .stream(Self.offline, ending: .cut) : Canned(status: 401, json: ["code": "invalid_token"])
        }
        let run = server.run(["events"])
        #expect(run.code == 1)
        #expect(run.errors.contains("invalid_token"))
    }

    @Test func interruptEndsItWithoutAFault() throws {
        let happening = try Mailbox<ConsoleEvent>()
        let server = try StandIn { _ in .stream(Self.offline, ending: .open) }
        let console = TestConsole(happening: happening)
        console.written = { _ in happening.send(.interrupted) }
        let run = server.run(["events"], console: console)
        #expect(run.code == 0)
        #expect(run.errors == "")
        #expect(run.output.contains("dev7"))
        #expect(console.watches == 0)
    }

    @Test func endlessEventIsAFault() throws {
        let piece = "data: " + String(repeating: "x", count: 600_000) + "\n"
        let server = try StandIn { _ in .stream(piece, piece, ending: .open) }
        let run = server.run(["events"])
        #expect(run.code == 1)
        #expect(run.errors.contains("too long"))
    }
}
