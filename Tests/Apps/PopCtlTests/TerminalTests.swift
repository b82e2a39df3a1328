import Foundation
import Glibc
import JSON
import PopCtl
import Testing

/// The real program on a real terminal: drawing, keys, signals, and the terminal given back.
struct TerminalTests {
    private static func answer(_ asked: Asked) -> Canned {
        switch asked.path {
        case "/v1/nodes": .list(["node_id": "pop-1", "state": "active"])
        case "/v1/devices": .list(["device_id": "dev-1"])
        case "/v1/events": .stream("event: node.state\ndata: {\"state\":\"active\"}\n\n", ending: .open)
        default: Canned(json: ["state": "handover", "devices_total": 2, "devices_moved": 1])
        }
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
    func topGivesTheTerminalBack(signal: Int32) throws {
        let server = try StandIn(Self.answer)
        let terminal = try Terminal(["top"], server: server.url)
        try terminal.wait("it is drawn") { $0.contains("dev-1") && $0.contains("q quit") }
        #expect(!terminal.isAsBefore)
        terminal.resize(columns: 30, rows: 5)
        terminal.signal(SIGWINCH)
        try terminal.wait("it is drawn anew") { $0.contains("q quit  n nodes  d devices  …") }
        terminal.signal(signal)
        #expect(terminal.end() == 0)
        #expect(terminal.screen.hasSuffix("\u{1b}[?25h\u{1b}[?1049l"))
        #expect(terminal.isAsBefore)
    }

    @Test func topObeysKeysAtOnce() throws {
        let server = try StandIn(Self.answer)
        let terminal = try Terminal(["top", "--interval", "1d"], server: server.url)
        try terminal.wait("it is drawn") { $0.contains("dev-1") }
        terminal.type("n")
        try terminal.wait("nodes are shown") { $0.contains("pop-1") }
        terminal.type("q")
        #expect(terminal.end() == 0)
        #expect(terminal.isAsBefore)
    }

    @Test func eventsEndCleanly() throws {
        let server = try StandIn(Self.answer)
        let terminal = try Terminal(["events"], server: server.url)
        try terminal.wait("an event is shown") { $0.contains("state=active") }
        terminal.signal(SIGINT)
        #expect(terminal.end() == 0)
        #expect(terminal.screen.split(separator: "\r\n").count == 1)
    }

    @Test func interruptedWaitTakesItsBarAwayAndSaysWhatGoesOn() throws {
        let server = try StandIn(Self.answer)
        let terminal = try Terminal(["nodes", "drain", "pop-1", "--wait"], server: server.url)
        try terminal.wait("the bar is drawn") { $0.contains("50%") }
        terminal.signal(SIGINT)
        #expect(terminal.end() == 1)
        #expect(terminal.screen.contains("\u{1b}[Jpopctl: interrupted; the drain of pop-1 goes on"))
    }

    @Test func passwordIsNotShown() throws {
        let server = try StandIn { _ in Canned(status: 201, json: [:]) }
        let terminal = try Terminal(["users", "create", "alice"], server: server.url)
        for prompt in ["Password: ", "Again: "] {
            try terminal.wait("it asks") { $0.hasSuffix(prompt) }
            #expect(!terminal.isAsBefore)
            terminal.type("correct horse\r")
        }
        #expect(terminal.end() == 0)
        #expect(!terminal.screen.contains("horse"))
        #expect(terminal.isAsBefore)
        #expect(server.lines == [#"POST /v1/users {"name":"alice","password":"correct horse"}"#])
    }

    @Test func passwordPromptIsLeftByCtrlC() throws {
        let server = try StandIn { _ in Canned(status: 201, json: [:]) }
        let terminal = try Terminal(["users", "create", "alice"], server: server.url)
        try terminal.wait("it asks") { $0.hasSuffix("Password: ") }
        terminal.signal(SIGINT)
        #expect(terminal.end() == 1)
        #expect(terminal.isAsBefore)
        #expect(server.lines == [])
    }
}

/// The real program between pipes.
struct PipeTests {
    private func run(_ arguments: [String], server: String, input: String? = nil, output: Any) throws
        -> Process
    {
        let process = Process()
        process.executableURL = popctlProgram
        process.arguments = arguments
        process.environment = ["POP_SERVER": server, "POP_TOKEN": "secret"]
        let pipe = Pipe()
        try pipe.fileHandleForWriting.write(contentsOf: Data((input ?? "").utf8))
        try pipe.fileHandleForWriting.close()
        process.standardInput = pipe
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    @Test func readerThatLeavesEndsItQuietly() throws {
        let event = "event: node.state\ndata: {\"state\":\"active\"}\n\n"
        let server = try StandIn { _ in
            .stream(String(repeating: event, count: 20_000), ending: .open)
        }
        let output = Pipe()
        let process = try run(["events"], server: server.url, output: output)
        _ = try output.fileHandleForReading.read(upToCount: 100)
        try output.fileHandleForReading.close()
        process.waitUntilExit()
        // As every program that writes to a closed pipe: by the signal, or by the error that it is without.
        #expect([SIGPIPE, 1].contains(process.terminationStatus))
    }

    @Test func fullDiskIsAFault() throws {
        let server = try StandIn { _ in .list(["node_id": "pop-1"]) }
        let full = try FileHandle(forWritingTo: URL(filePath: "/dev/full"))
        let process = try run(["nodes", "list"], server: server.url, output: full)
        process.waitUntilExit()
        #expect(process.terminationStatus == 1)
    }

    @Test func passwordComesFromStandardInput() throws {
        let server = try StandIn { _ in Canned(status: 201, json: [:]) }
        let process = try run(
            ["users", "create", "alice", "--password-stdin"], server: server.url, input: "secret words\nmore",
            output: FileHandle.nullDevice)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        #expect(server.lines == [#"POST /v1/users {"name":"alice","password":"secret words"}"#])
    }
}
