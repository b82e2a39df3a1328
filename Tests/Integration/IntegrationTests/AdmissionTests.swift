import Foundation
import Testing

/// Who may come in, and admin tokens, over a cluster of two nodes on one database.
@Suite(.serialized) struct AdmissionTests {
    /// A second node on the database of the first.
    private func other(_ first: Fixture, settings: [String: [String: Any]] = [:]) throws -> Fixture {
        var settings = settings
        let url = try String(
            contentsOf: first.folder.appending(path: "data/database.url"), encoding: .utf8)
        settings["database"] = ["url": url.trimmingCharacters(in: .whitespacesAndNewlines)]
        return try Fixture(settings: settings)
    }

    private func session(_ fixture: Fixture, _ device: String) throws -> [String: Any] {
        try #require(try fixture.get("/v1/devices/\(device)/sessions").items.first)
    }

    @Test func aDisabledDeviceIsCutAndKeptOutAtWhicheverNodeItIs() throws {
        let one = try Fixture()
        let two = try other(one)
        try two.startDevice("d1")
        let epoch = try #require(try two.device("d1")["session_epoch"] as? Int)
        let stale = try one.call(
            "PATCH", "/v1/devices/d1", ["enabled": false], fields: ["If-Match": "\"\(epoch - 1)\""])
        #expect(stale.status == 412)
        let answer = try one.call(
            "PATCH", "/v1/devices/d1", ["enabled": false, "reason": "stolen"],
            fields: ["If-Match": "\"\(epoch)\""])
        #expect(answer.status == 200)
        #expect(answer.object["enabled"] as? Bool == false)
        try two.wait("the other node has cut it") {
            try session(two, "d1")["end_reason"] as? String == "disabled"
        }
        // Kept out by both, also of one that starts anew.
        #expect(one.node?.stop() == 0)
        try one.startNode()
        try one.startDevice("d1", waiting: false)
        try one.wait("the device is refused") {
            one.node?.logText.contains("the device is disabled") == true
        }
        #expect(try one.device("d1")["status"] as? String == "offline")
        #expect(one.devices["d1"]?.stop() == 0)
        #expect(two.devices["d1"]?.stop() == 0)
        // The database is the first node's and restarted with it: 503 until the other node is connected anew.
        var enabled = 503
        try two.wait("the other node has its database again") {
            enabled = try two.call("PATCH", "/v1/devices/d1", ["enabled": true]).status
            return enabled != 503
        }
        #expect(enabled == 200)
        try two.startDevice("d1")
        #expect(two.devices["d1"]?.stop() == 0)
        try one.wait("the other node lets it in") {
            let refusals = one.devices["d1"]?.logText.contains("registration refused") ?? true
            if refusals {
                _ = one.devices["d1"]?.stop()
                try one.startDevice("d1", waiting: false)
            }
            return try one.device("d1")["status"] as? String == "online"
        }
    }

    @Test func aRevokedTokenCutsItsDeviceAndIsNoGoodAnyMore() throws {
        let settings: [String: [String: Any]] = ["device": ["auth": "token"]]
        let one = try Fixture(settings: settings)
        let two = try other(one, settings: settings)
        let enrolled = try one.call("POST", "/v1/devices/d1/token", ["reason": "new"])
        #expect(enrolled.status == 201)
        let token = try #require(enrolled.object["token"] as? String)
        try two.startDevice("d1", arguments: ["--token", token])
        #expect(try one.call("DELETE", "/v1/devices/d1/token").status == 204)
        try two.wait("the other node has cut it") {
            try session(two, "d1")["end_reason"] as? String == "revoked"
        }
        #expect(two.devices["d1"]?.stop() == 0)
        try one.startDevice("d1", arguments: ["--token", token], waiting: false)
        try one.wait("the token is refused") { one.node?.logText.contains("status=401") == true }
        for fixture in [one, two] {
            #expect(fixture.node?.logText.contains(token) == false)
        }
    }

    @Test func anAdminTokenIsGoodAtEveryNodeUntilItIsRevoked() throws {
        let one = try Fixture()
        let two = try other(one)
        let made = try one.call("POST", "/v1/tokens", ["name": "ci", "scope": "operate"])
        #expect(made.status == 201)
        let token = try #require(made.object["token"] as? String)
        let id = try #require(made.object["token_id"] as? String)
        #expect(try one.call("GET", "/v1/conns", token: token).status == 200)
        try two.wait("the other node knows it") {
            try two.call("GET", "/v1/conns", token: token).status == 200
        }
        #expect(
            try two.call("POST", "/v1/tokens", ["name": "x", "scope": "read"], token: token).status == 403)
        try one.wait("its use is on record") {
            try one.get("/v1/tokens/\(id)").object["last_used_at"] is String
        }
        #expect(try two.call("DELETE", "/v1/tokens/\(id)?reason=left").status == 204)
        // Asking in vain above may have held this address up.
        #expect([401, 429].contains(try two.call("GET", "/v1/conns", token: token).status))
        try one.wait("the first node has noticed") {
            try one.call("GET", "/v1/conns", token: token).status == 401
        }
        try one.wait("the audit trail tells of it") {
            let lines = try one.get("/v1/audit?path=/v1/tokens").items
            return lines.compactMap { $0["status"] as? Int } == [204, 403, 201]
                && lines.first?["reason"] as? String == "left" && lines[1]["actor"] as? String == "ci"
        }
    }

    @Test func aRepeatedCallIsAnsweredByEveryNode() throws {
        let one = try Fixture()
        let two = try other(one)
        let key = ["Idempotency-Key": "close-1"]
        let body = ["device_id": "nobody"]
        let first = try one.call("POST", "/v1/conns/close", body, fields: key)
        #expect(first.status == 200)
        let again = try two.call("POST", "/v1/conns/close", body, fields: key)
        #expect(again.status == 200)
        #expect(again.body == first.body)
        #expect(again.head.contains("Idempotency-Replayed: true"))
        #expect(try two.call("POST", "/v1/conns/close", ["device_id": "x"], fields: key).status == 422)
    }
}
