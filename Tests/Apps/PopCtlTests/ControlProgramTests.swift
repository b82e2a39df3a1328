import EventLoop
import Glibc
import JSON
import PopCtl
import TLS
import Testing

private let device: JSONValue = [
    "device_id": "dev1", "status": "online", "health": "whole", "node_id": "pop-1", "location": "eu",
    "tags": ["a", "b"], "active_conns": 3, "rtt_ms": .double(12.34), "bytes_sent": 1_536, "bytes_received": 0,
]

private func list(_ items: JSONValue..., next: String? = nil) -> Canned {
    Canned(json: ["items": .array(items), "next_cursor": next.map { .string($0) } ?? .null])
}

struct ControlProgramTests {
    @Test func listIsATableAndCarriesTheToken() throws {
        let server = try StandIn { _ in list(device) }
        let run = server.run(["devices", "list"])
        #expect(run.code == 0)
        #expect(run.errors == "")
        #expect(
            run.output == """
                DEVICE  STATUS  HEALTH  NODE   LOCATION  TAGS  CONNS      RTT     SENT  RECEIVED
                dev1    online  whole   pop-1  eu        a,b       3  12.3 ms  1.5 KiB       0 B

                """)
        #expect(
            server.requests == [
                Asked(
                    method: "GET", target: "/v1/devices?limit=100", authorization: "Bearer secret", body: "")
            ])
    }

    @Test func optionsMayStandBeforeAndBehindTheNounAndVerb() throws {
        let server = try StandIn { _ in list(device) }
        let url = "http://127.0.0.1:\(server.port)"
        for arguments in [
            ["--server", url, "--token", "t", "-o", "json", "devices", "list"],
            ["devices", "--server", url, "list", "--token", "t", "-o", "json"],
            ["devices", "list", "--server", url, "--token", "t", "--output", "json"],
        ] {
            let run = Outcome(arguments, environment: ["POP_TOKEN": "other"])
            #expect(run.code == 0)
            #expect(try JSONValue(parsing: Array(run.output.utf8)) == [device])
        }
        #expect(server.requests.allSatisfy { $0.authorization == "Bearer t" })
    }

    @Test func filtersAreEncoded() throws {
        let server = try StandIn { _ in list() }
        _ = server.run([
            "devices", "list", "--tag", "a b", "--tag", "c&d", "--status", "online", "--prefix", "é",
        ])
        _ = server.run(["conns", "list", "--user", "al=ice", "--limit", "5"])
        _ = server.run(["nodes", "show", "a/b"])
        #expect(
            server.requests.map(\.target) == [
                "/v1/devices?status=online&q=%C3%A9&tag=a%20b&tag=c%26d&limit=100",
                "/v1/conns?user=al%3Dice&limit=5", "/v1/nodes/a%2Fb",
            ])
    }

    @Test func allFollowsEveryPageAndLimitStopsAtItsNumber() throws {
        let server = try StandIn { asked in
            asked.target.contains("cursor=two") ? list(device) : list(device, next: "two")
        }
        let all = server.run(["-o", "json", "conns", "list", "--all"])
        #expect(try JSONValue(parsing: Array(all.output.utf8)).array?.count == 2)
        #expect(server.requests.map(\.target) == ["/v1/conns?limit=1000", "/v1/conns?limit=1000&cursor=two"])
        let one = server.run(["-o", "json", "conns", "list", "--limit", "1"])
        #expect(try JSONValue(parsing: Array(one.output.utf8)).array?.count == 1)
        #expect(one.errors.contains("--all"))
    }

    @Test func listThatDoesNotGoOnIsAnError() throws {
        let server = try StandIn { _ in list(device, next: "same") }
        #expect(server.run(["conns", "list", "--all"]).code == 1)
    }

    @Test func tableFitsTheTerminal() throws {
        let server = try StandIn { _ in
            list([
                "device_id": .string(String(repeating: "d", count: 100)), "location": "\u{1b}[2Jevil\n",
                "status": "online",
            ])
        }
        let run = server.run(["devices", "list"], width: 100)
        let lines = run.output.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.allSatisfy { $0.count <= 100 })
        #expect(run.output.contains("d…"))
        #expect(run.output.contains("?[2Jevil?"))
    }

    @Test func showIsFieldsOrTheRawItem() throws {
        let server = try StandIn { _ in Canned(json: device) }
        #expect(server.run(["devices", "show", "dev1"]).output.contains("device_id       dev1\n"))
        let raw = server.run(["-o", "json", "devices", "show", "dev1"])
        #expect(try JSONValue(parsing: Array(raw.output.utf8)) == device)
    }

    @Test func unsafeCallsSayWhatTheyDid() throws {
        let server = try StandIn { asked in
            switch asked.target {
            case "/v1/devices/dev1/disconnect": Canned(status: 202, json: ["session_id": "s1"])
            case "/v1/conns/close": Canned(json: ["closed": 2])
            default: Canned(status: 204)
            }
        }
        #expect(server.run(["devices", "disconnect", "dev1"]).output == "dev1: session s1 ends\n")
        #expect(server.run(["conns", "close", "c1", "c2"]).output == "c1 closed\nc2 closed\n")
        #expect(
            server.run(["conns", "close", "--device", "dev1", "--reason", "abuse"]).output == "2 closed\n")
        #expect(
            server.requests.map { "\($0.method) \($0.target) \($0.body)" } == [
                "POST /v1/devices/dev1/disconnect ", "DELETE /v1/conns/c1 ", "DELETE /v1/conns/c2 ",
                #"POST /v1/conns/close {"device_id":"dev1","reason":"abuse"}"#,
            ])
    }

    @Test func drainWaitsUntilItIsDone() throws {
        let states = ["handover", "settling", "drained"]
        let server = try StandIn { asked in
            let looks = asked.method == "POST" ? 0 : 1
            return Canned(
                status: asked.method == "POST" ? 202 : 200,
                json: [
                    "state": .string(looks == 0 ? states[0] : states[2]), "devices_total": 4,
                    "devices_moved": .integer(looks == 0 ? 1 : 4), "conns_remaining": 0,
                ])
        }
        let run = server.run(["nodes", "drain", "self", "--deadline-seconds", "9", "--wait"])
        #expect(run.code == 0)
        #expect(run.errors == "self: handover, 1 of 4 devices moved, 0 conns left\n")
        #expect(run.output == "self: drained, 4 of 4 devices moved, 0 conns left\n")
        #expect(server.requests.map(\.method) == ["POST", "GET"])
        #expect(server.requests.first?.body == #"{"deadline_seconds":9}"#)
    }

    @Test func drainThatIsCanceledMeanwhileFails() throws {
        let server = try StandIn { _ in Canned(json: ["state": "canceled"]) }
        #expect(server.run(["nodes", "drain", "self", "--wait"]).code == 1)
        #expect(server.run(["nodes", "undrain", "self"]).code == 0)
        #expect(server.requests.last?.method == "DELETE")
    }

    @Test func refusalIsToldFromTheProblemDocument() throws {
        let server = try StandIn { _ in
            Canned(
                status: 422,
                json: [
                    "code": "validation_failed", "detail": "The request has 1 invalid value(s).",
                    "errors": [["field": "limit", "message": "must be\u{1b}small"]],
                ])
        }
        let run = server.run(["devices", "list"])
        #expect(run.code == 1)
        #expect(run.output == "")
        #expect(
            run.errors
                == "popctl: validation_failed: The request has 1 invalid value(s). (422)\n  limit: must be?small\n"
        )
    }

    @Test func answersThatAreNoJSONAreErrors() throws {
        let refusing = try StandIn { _ in Canned(status: 502) }
        #expect(refusing.run(["nodes", "list"]).errors == "popctl: error: the server answered 502 (502)\n")
        let odd = try StandIn { _ in Canned(json: ["things": []]) }
        #expect(odd.run(["nodes", "list"]).code == 1)
    }

    @Test func missingTokenIsExplained() throws {
        let server = try StandIn { _ in Canned(status: 401, json: ["code": "unauthorized", "detail": "No."]) }
        let run = server.run(["nodes", "list"], environment: ["POP_TOKEN": ""])
        #expect(run.code == 1)
        #expect(run.errors.contains("POP_TOKEN"))
        #expect(server.requests.first?.authorization == nil)
    }

    @Test func serverThatIsNotThereIsNamed() {
        let run = Outcome(["nodes", "list"], environment: ["POP_SERVER": "http://127.0.0.1:1"])
        #expect(run.code == 1)
        #expect(run.errors.hasPrefix("popctl: can't reach http://127.0.0.1:1: "))
    }

    @Test(arguments: [
        ["frobnicate"], ["devices", "frobnicate"], ["devices", "show"], ["devices", "list", "--limit", "0"],
        ["devices", "list", "--limit", "x"], ["-o", "xml", "nodes", "list"], ["conns", "close"],
        ["conns", "close", "c1", "--device", "d"], ["--server", "ftp://x", "nodes", "list"],
        ["--server", "http://x/path", "nodes", "list"], ["--token", "a b", "nodes", "list"], [], ["nodes"],
    ])
    func wrongUsageIs64(arguments: [String]) {
        let run = Outcome(arguments, environment: [:])
        #expect(run.code == 64)
        #expect(run.output == "")
        #expect(!run.errors.isEmpty)
        #expect(!run.errors.contains("a b"))
    }

    @Test func helpAndVersionAreClean() {
        #expect(Outcome(["--version"], environment: [:]).output == ControlProgram.version)
        let help = Outcome(["nodes", "drain", "--help"], environment: [:])
        #expect(help.code == 0)
        #expect(help.output.contains("--wait"))
    }
}

struct ControlTLSTests {
    @Test func serverMustBeVouchedFor() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["127.0.0.1"])
        let server = try StandIn(identity: identity) { _ in list(device) }
        let path = "/tmp/popctl-ca-\(getpid())-\(SystemRandom().next()).pem"
        try Files.write(identity.certificateChainPEM, to: path)
        defer { unlink(path) }
        let url = "https://127.0.0.1:\(server.port)"
        let trusted = server.run(["--server", url, "--ca-file", path, "devices", "list"])
        #expect(trusted.code == 0)
        #expect(trusted.output.contains("dev1"))
        let stranger = server.run(["--server", url, "devices", "list"])
        #expect(stranger.code == 1)
        #expect(stranger.errors.hasPrefix("popctl: can't reach \(url): "))
        let missing = server.run(["--server", url, "--ca-file", "/nonexistent", "devices", "list"])
        #expect(missing.code == 1)
        #expect(missing.errors.contains("/nonexistent"))
        #expect(server.requests.count == 1)
    }
}

struct ServerAddressTests {
    @Test(arguments: [
        ("http://h", false, "h", 80, "h"), ("https://h/", true, "h", 443, "h"),
        ("http://h:9080", false, "h", 9_080, "h:9080"), ("https://[::1]:1", true, "::1", 1, "[::1]:1"),
        ("https://[::1]", true, "::1", 443, "[::1]"),
    ])
    func wellFormedAddressesAreRead(
        text: String, isSecure: Bool, host: String, port: UInt16, authority: String
    ) throws {
        let address = try #require(ServerAddress(text))
        #expect(address.isSecure == isSecure)
        #expect(address.host == host)
        #expect(address.port == port)
        #expect(address.authority == authority)
    }

    @Test(arguments: [
        "", "h", "h:1", "http://", "http://u:p@h", "http://h/x", "http://h?x", "http://h:0", "http://h:99999",
    ])
    func othersAreNot(text: String) {
        #expect(ServerAddress(text) == nil)
    }
}
