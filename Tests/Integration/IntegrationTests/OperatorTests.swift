import Foundation
import Testing

/// popctl against a running node: what operators type, and what comes of it.
@Suite(.serialized) struct OperatorTests {
    private func popctl(
        _ fixture: Fixture, _ arguments: String..., token: String = Fixture.token
    ) throws -> (code: Int32, output: String, errors: String) {
        try runProgram("popctl", arguments, environment: Self.environment(fixture, token))
    }

    private static func environment(_ fixture: Fixture, _ token: String) -> [String: String] {
        ["POP_SERVER": "http://127.0.0.1:\(fixture.adminPort)", "POP_TOKEN": token]
    }

    @Test func itShowsAndRefuses() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        for noun in ["nodes", "devices", "conns", "sessions", "tokens", "audit"] {
            let list = try popctl(fixture, noun, "list")
            #expect(list.code == 0, "\(list.errors)")
            let json = try popctl(fixture, noun, "list", "-o", "json")
            #expect(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) is [Any])
        }
        #expect(try popctl(fixture, "devices", "list").output.contains("d1"))
        let missing = try popctl(fixture, "devices", "show", "nobody")
        #expect(missing.code == 1)
        #expect(missing.errors.contains("not_found"))
        #expect(try popctl(fixture, "nodes", "list", token: "wrong").code == 1)
        #expect(try popctl(fixture, "devices", "frobnicate").code == 64)
    }

    @Test func aDeviceIsEnrolledAndRevoked() throws {
        let fixture = try Fixture(settings: ["device": ["auth": "token"]])
        let enrolled = try popctl(fixture, "devices", "enroll", "d1")
        #expect(enrolled.code == 0)
        #expect(enrolled.errors == "")
        let token = enrolled.output.dropLast()
        #expect(enrolled.output.hasSuffix("\n") && !token.contains("\n"))
        try fixture.startDevice("d1", arguments: ["--token", String(token)])
        let disconnected = try popctl(fixture, "devices", "disconnect", "d1", "--wait")
        #expect(disconnected.output.hasSuffix("has ended\n"))
        try fixture.waitUntilWhole("d1")
        #expect(try popctl(fixture, "devices", "revoke", "d1", "--wait", "--timeout", "20s").code == 0)
        #expect(try fixture.device("d1")["status"] as? String == "offline")
        #expect(try !popctl(fixture, "devices", "list").output.contains(token))
    }

    @Test func usersAreMadeChangedAndDeleted() throws {
        let fixture = try Fixture(settings: ["ingress": ["auth": "password"]])
        try fixture.startDevice("d1", arguments: ["--location", "eu"])
        let echo = try TestServer.echo()
        let file = fixture.folder.appending(path: "password").path
        func keep(_ password: String) throws {
            try Data("\(password)\n".utf8).write(to: URL(filePath: file))
        }
        func status(_ password: String) throws -> Int? {
            try ConnectLogin.status(fixture, "alice", password, to: echo.port)
        }
        try keep("secret 1")
        let made = try popctl(
            fixture, "users", "create", "alice", "--password-file", file, "--max-conns", "5",
            "--bytes-quota", "1MiB", "--allow-location", "eu")
        #expect(made.code == 0, "\(made.errors)")
        #expect(made.output == "user alice made\n")
        #expect(try popctl(fixture, "users", "create", "alice", "--password-file", file).code == 1)
        #expect(try status("secret 1") == 200)
        let list = try popctl(fixture, "users", "list")
        #expect(list.output.contains("alice") && list.output.contains("1.0 MiB"))
        #expect(!list.output.contains("secret"))
        let shown = try popctl(fixture, "users", "show", "alice", "-o", "json")
        let user = try #require(
            try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any])
        #expect(user["max_conns"] as? Int == 5 && user["bytes_quota"] as? Int == 1 << 20)
        #expect(user["allowed_locations"] as? [String] == ["eu"])
        #expect(user["password"] == nil && user["password_hash"] == nil)
        // A limit and a password at once: what is not given stays.
        try keep("secret 2")
        let changed = try popctl(
            fixture, "users", "update", "alice", "--password-file", file, "--max-conns", "0")
        #expect(changed.output == "user alice changed\n")
        try fixture.wait("the limit holds") { try status("secret 2") == 429 }
        #expect(try status("secret 1") == 407)
        #expect(try fixture.get("/v1/users/alice").object["bytes_quota"] as? Int == 1 << 20)
        #expect(try popctl(fixture, "users", "delete", "alice").output == "user alice deleted\n")
        #expect(try popctl(fixture, "users", "delete", "alice").code == 1)
        #expect(try status("secret 2") == 407)
        #expect(fixture.node?.logText.contains("secret ") == false)
    }

    @Test func aTokensScopeIsItsLimit() throws {
        let fixture = try Fixture()
        let created = try popctl(fixture, "tokens", "create", "reader", "--scope", "read", "--expires", "1h")
        #expect(created.code == 0)
        let token = String(created.output.dropLast())
        #expect(try popctl(fixture, "nodes", "list", token: token).code == 0)
        let refused = try popctl(fixture, "nodes", "cordon", "self", token: token)
        #expect(refused.code == 1)
        #expect(refused.errors.contains("scope"))
        #expect(!refused.errors.contains(token))
        try fixture.wait("the refusal is in the audit trail") {
            try popctl(fixture, "audit", "list", "--actor", "reader").output.contains("eligibility")
        }
    }

    @Test func aNodeIsCordonedDrainedAndUndrained() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        #expect(try popctl(fixture, "nodes", "cordon", "self", "--reason", "test").code == 0)
        #expect(try fixture.get("/readyz").status == 503)
        #expect(try popctl(fixture, "nodes", "uncordon", "self").code == 0)
        let drained = try popctl(fixture, "nodes", "drain", "self", "--deadline", "1s", "--wait")
        #expect(drained.code == 0, "\(drained.errors)")
        #expect(drained.output.contains("drained"))
        #expect(throws: TestSocket.Failure.self) { try client.readToEnd() }
        #expect(try popctl(fixture, "nodes", "undrain", "self").code == 0)
        try fixture.wait("the node is ready again") { try fixture.get("/readyz").status == 200 }
    }

    @Test func anInterruptedWaitLeavesTheDrain() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        let waiting = try RunningProgram(
            "popctl", ["nodes", "drain", "self", "--deadline", "10m", "--wait"],
            environment: Self.environment(fixture, Fixture.token), folder: fixture.folder)
        try fixture.wait("it shows progress") { waiting.logText.contains("devices moved") }
        #expect(waiting.stop(SIGINT) == 1)
        #expect(waiting.logText.contains(" goes on, popctl drains show "))
        let drain = try fixture.get("/v1/nodes/self/drain").object
        #expect(["handover", "settling"].contains(drain["state"] as? String))
        withExtendedLifetime(client) {}
    }

    @Test func eventsAreShownAcrossARestartOfTheNode() throws {
        let fixture = try Fixture()
        let events = try RunningProgram(
            "popctl", ["events", "--types", "device.online,device.offline"],
            environment: Self.environment(fixture, Fixture.token), folder: fixture.folder)
        // Nothing tells when the stream is open: devices come until one is seen.
        var number = 0
        try fixture.wait("an event is shown") {
            number += 1
            try fixture.startDevice("early-\(number)")
            return events.logText.contains("device.online")
        }
        #expect(fixture.node?.stop() == 0)
        try fixture.startNode()
        try fixture.waitUntilWhole("early-1")
        try fixture.wait("the stream was taken up again") {
            let text = events.logText
            return text.contains("connected again") && text.contains("gap")
        }
        #expect(events.stop(SIGINT) == 0)
    }

    @Test func topShowsTheBusiest() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let top = try popctl(fixture, "top", "devices", "--once", "--interval", "1s")
        #expect(top.code == 0)
        #expect(top.output.contains("d1"))
        #expect(try popctl(fixture, "top", "nodes", "--once", "--interval", "1s", "-o", "json").code == 0)
    }
}
