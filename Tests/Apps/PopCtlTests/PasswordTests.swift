import EventLoop
import Glibc
import JSON
import PopCtl
import Testing

/// Where the password of an ingress user comes from.
struct PasswordTests {
    private func create(_ arguments: [String], console: TestConsole) throws -> (Outcome, [String]) {
        let server = try StandIn { _ in Canned(status: 201, json: ["name": "alice"]) }
        return (server.run(["users", "create", "alice"] + arguments, console: console), server.lines)
    }

    private static let call = #"POST /v1/users {"name":"alice","password":"pa ss"}"#

    @Test func firstLineOfStandardInput() throws {
        let (run, lines) = try create(["--password-stdin"], console: TestConsole(input: "pa ss\r\nmore\n"))
        #expect(run.code == 0)
        #expect(run.output == "user alice made\n")
        #expect(lines == [Self.call])
    }

    @Test func firstLineOfAFile() throws {
        let path = try temporaryFile("pa ss")
        defer { unlink(path) }
        let (_, lines) = try create(
            ["--password-file", path, "--max-conns", "5", "--bytes-quota", "2GiB", "--allow-location", "eu"],
            console: TestConsole())
        #expect(
            lines == [
                #"POST /v1/users {"name":"alice","password":"pa ss","max_conns":5,"bytes_quota":2147483648,"#
                    + #""allowed_locations":["eu"]}"#
            ])
    }

    @Test func emptyPasswordIsRefused() throws {
        let (run, lines) = try create(["--password-stdin"], console: TestConsole(input: "\n"))
        #expect(run.code == 1)
        #expect(lines == [])
    }

    @Test func askedForTwiceAndNotShown() throws {
        let keys = try Mailbox<ConsoleEvent>()
        let console = TestConsole(columns: 80, happening: keys)
        console.written = { text in
            guard text.hasSuffix(": ") else { return }
            // A mistake, Ctrl-U; "é", backspace; then the password in pieces.
            for typed in ["wrong", "\u{15}pax", "é", "\u{7f}\u{7f}", " ss", "\r"] {
                keys.send(.keys(Array(typed.utf8)))
            }
        }
        let (run, lines) = try create([], console: console)
        #expect(run.code == 0)
        #expect(lines == [Self.call])
        #expect(run.errors == "Password: \nAgain: \n")
        #expect(console.watches == 0)
    }

    @Test func twoDifferentPasswordsAreRefused() throws {
        let keys = try Mailbox<ConsoleEvent>()
        let console = TestConsole(columns: 80, happening: keys)
        console.written = { text in
            if text.hasSuffix(": ") { keys.send(.keys(Array("\(text)\r".utf8))) }
        }
        let (run, lines) = try create([], console: console)
        #expect(run.code == 1)
        #expect(lines == [])
        #expect(!run.errors.contains("Again: Again"))
    }

    @Test func interruptedPromptAsksNothing() throws {
        let keys = try Mailbox<ConsoleEvent>()
        let console = TestConsole(columns: 80, happening: keys)
        console.written = { _ in keys.send(.interrupted) }
        let (run, lines) = try create([], console: console)
        #expect(run.code == 1)
        #expect(lines == [])
        #expect(console.watches == 0)
    }
}
