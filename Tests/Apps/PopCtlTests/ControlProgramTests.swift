import EventLoop
import Glibc
import HTTP1
import JSON
import PopCtl
import ProgramKit
import TLS
import Testing

/// The command line itself: options, where the API is, help and exit codes.
struct ControlProgramTests {
    private static let device: JSONValue = ["device_id": "dev1", "status": "online"]

    @Test func optionsMayStandBeforeAndBehindTheNounAndVerb() throws {
        let server = try StandIn { _ in .list(Self.device) }
        for arguments in [
            ["--server", server.url, "--token", "t", "-o", "json", "devices", "list"],
            ["devices", "--server", server.url, "list", "--token", "t", "-o", "json"],
            ["devices", "list", "--server", server.url, "--token", "t", "--output", "json"],
        ] {
            let run = Outcome(arguments, environment: ["POP_TOKEN": "other"])
            #expect(run.code == 0)
            #expect(run.json == [Self.device])
        }
        #expect(server.requests.allSatisfy { $0.fields["authorization"] == "Bearer t" })
    }

    @Test func tokenMayStandInAFile() throws {
        let server = try StandIn { _ in .list() }
        let path = try temporaryFile("from-file\n")
        defer { unlink(path) }
        #expect(server.run(["nodes", "list", "--token-file", path]).code == 0)
        #expect(server.requests.first?.fields["authorization"] == "Bearer from-file")
        let missing = server.run(["nodes", "list", "--token-file", "/nonexistent"])
        #expect(missing.code == 1)
        #expect(missing.errors.contains("/nonexistent"))
    }

    @Test func serverThatIsNotThereIsNamed() {
        let run = Outcome(["nodes", "list"], environment: ["POP_SERVER": "http://127.0.0.1:1"])
        #expect(run.code == 1)
        #expect(run.errors.hasPrefix("popctl: can't reach http://127.0.0.1:1: "))
    }

    @Test(arguments: [
        ["frobnicate"], ["devices", "frobnicate"], ["devices", "show"], ["devices", "list", "--limit", "0"],
        ["devices", "list", "--limit", "x"], ["devices", "list", "--status", "asleep"],
        ["devices", "list", "--frobnicate"], ["-o", "xml", "nodes", "list"], ["conns", "close"],
        ["conns", "close", "c1", "--device", "d"], ["--server", "ftp://x", "nodes", "list"],
        ["--server", "http://x/path", "nodes", "list"], ["--token", "a b", "nodes", "list"],
        ["--token", "a", "--token-file", "b", "nodes", "list"], ["--cert-file", "c", "nodes", "list"],
        ["nodes", "drain", "self", "--deadline", "soon"], ["nodes", "drain", "self", "--rate", "0"],
        ["nodes", "drain", "self", "--preview", "--wait"], ["nodes", "drain", "self", "--timeout", "5s"],
        ["sessions", "list", "--from", "yesterday"], ["sessions", "list", "--open", "--ended"],
        ["tokens", "create", "x"], ["tokens", "create", "x", "--scope", "root"], ["users", "create"],
        ["users", "update", "x"], ["users", "create", "x", "--bytes-quota", "10XB"],
        ["users", "create", "x"],
        ["users", "create", "x", "--password-file", "f", "--password-stdin"], ["completions", "tcsh"],
        ["events", "--types", "device.online,odd"], ["events", "--limit", "0"], ["events", "--after", "a b"],
        ["top", "users"], ["top", "--interval", "0s"], ["top", "--sort", "size"], ["top", "--limit", "0"],
        [], ["nodes"], ["tokens"],
    ])
    func wrongUsageIs64(arguments: [String]) {
        let run = Outcome(arguments, environment: [:])
        #expect(run.code == 64)
        #expect(run.output == "")
        #expect(!run.errors.isEmpty)
        #expect(!run.errors.contains("a b"))
    }

    @Test func helpAndVersionAreClean() {
        #expect(Outcome(["--version"], environment: [:]).output == Release.version + "\n")
        let help = Outcome(["nodes", "drain", "--help"], environment: [:])
        #expect(help.code == 0)
        #expect(help.output.contains("--wait"))
        #expect(help.errors == "")
    }

    @Test(arguments: ["bash", "zsh", "fish"])
    func completionScriptsArePrinted(shell: String) {
        let run = Outcome(["completions", shell], environment: [:])
        #expect(run.code == 0)
        #expect(run.output.contains("popctl"))
        #expect(run.output.contains("disconnect"))
    }
}

struct ControlTLSTests {
    @Test func serverMustBeVouchedFor() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["127.0.0.1"])
        let server = try StandIn(identity: identity) { _, _ in .list(["device_id": "dev1"]) }
        let path = try temporaryFile(identity.certificateChainPEM)
        defer { unlink(path) }
        let url = "https://127.0.0.1:\(server.port)"
        let trusted = server.run(["--server", url, "--ca-file", path, "devices", "list"])
        #expect(trusted.code == 0)
        #expect(trusted.output.contains("dev1"))
        let stranger = server.run(["--server", url, "devices", "list"])
        #expect(stranger.code == 1)
        #expect(stranger.errors.hasPrefix("popctl: can't reach \(url): its certificate is refused: "))
        #expect(stranger.errors.contains("--ca-file"))
        let missing = server.run(["--server", url, "--ca-file", "/nonexistent", "devices", "list"])
        #expect(missing.code == 1)
        #expect(missing.errors.contains("/nonexistent"))
        #expect(server.requests.count == 1)
    }

    @Test func ownCertificateIsShown() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["127.0.0.1"])
        let own = try SelfSignedCertificate.make(hosts: ["operator"])
        let server = try StandIn(identity: identity, clientAuthoritiesPEM: own.certificateChainPEM) { _, _ in
            .list()
        }
        let files = try [
            identity.certificateChainPEM, own.certificateChainPEM, own.privateKeyPEM,
        ].map { try temporaryFile($0) }
        defer { for file in files { unlink(file) } }
        let arguments = [
            "--server", "https://127.0.0.1:\(server.port)", "--ca-file", files[0], "nodes", "list",
        ]
        let known = server.run(arguments + ["--cert-file", files[1], "--key-file", files[2]])
        #expect(known.code == 0, "\(known.errors)")
        let unknown = server.run(arguments)
        #expect(unknown.code == 1)
        #expect(unknown.errors.contains("asks for a certificate: --cert-file"))
        #expect(server.requests.count == 1)
    }
}

/// A file that the caller removes.
func temporaryFile(_ text: String) throws -> String { try temporaryFile(Array(text.utf8)) }

func temporaryFile(_ bytes: [UInt8]) throws -> String {
    let path = "/tmp/popctl-test-\(getpid())-\(SystemRandom().next())"
    try Files.write(bytes, to: path)
    return path
}
