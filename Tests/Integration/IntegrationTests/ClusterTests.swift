import Foundation
import TemporaryPostgres
import Testing

/// Three nodes on one PostgreSQL: any of them answers for all.
@Suite(.serialized) struct ClusterTests {
    @Test func everyNodeListsTheSameNodes() throws {
        let cluster = try Cluster()
        for node in cluster.nodes {
            let names = try node.get("/v1/nodes").items.compactMap { $0["node_id"] as? String }
            #expect(names == ["a", "b", "c"])
        }
    }

    /// What of an answer does not depend on the moment at which it is asked.
    private static let lasting = [
        "node_id", "state", "device_id", "status", "enabled", "session_id", "location", "conn_id", "target",
        "drain_id", "reason", "actor", "token_id", "name", "audit_id", "path", "code", "end_reason",
    ]

    @Test func everyCallHasTheSameAnswerFromEachNode() throws {
        let cluster = try Cluster()
        let b = cluster.nodes[1]
        try b.startDevice("d1", arguments: ["--location", "eu"])
        let echo = try TestServer.echo()
        let client = try b.connect(to: echo.port)
        try client.write("x")
        _ = try client.read(exactly: 1)
        let conn = try #require(try b.conns().first?["conn_id"] as? String)
        #expect(try b.call("POST", "/v1/tokens", ["name": "t", "scope": "read"]).status == 201)
        let calls: [(method: String, path: String, status: Int)] = [
            ("GET", "/v1/nodes", 200), ("GET", "/v1/nodes/b", 200), ("GET", "/v1/nodes/nobody", 404),
            ("GET", "/v1/nodes/b/drain", 200), ("GET", "/v1/nodes/nobody/drain", 404),
            ("DELETE", "/v1/nodes/b/drain?eligibility=never", 422), ("GET", "/v1/drains", 200),
            ("GET", "/v1/devices", 200), ("GET", "/v1/devices?node_id=b", 200),
            ("GET", "/v1/devices/d1", 200),
            ("GET", "/v1/devices/nobody", 404), ("POST", "/v1/devices/nobody/disconnect", 404),
            ("GET", "/v1/devices/d1/sessions", 200), ("GET", "/v1/sessions?open=true", 200),
            ("GET", "/v1/conns", 200), ("GET", "/v1/conns?node_id=b", 200),
            ("GET", "/v1/conns?node_id=a", 200),
            ("GET", "/v1/conns/\(conn)", 200), ("DELETE", "/v1/conns/\(UUID().uuidString)", 404),
            ("GET", "/v1/tokens", 200), ("PATCH", "/v1/devices/d1", 422),
        ]
        for call in calls {
            let body: [String: Any]? = call.method == "PATCH" ? [:] : nil
            try b.wait("\(call.method) \(call.path) has one answer") {
                let answers = try cluster.nodes.map { try $0.call(call.method, call.path, body) }
                return answers.allSatisfy { $0.status == call.status }
                    && Set(answers.map(Self.lastingText)).count == 1
            }
        }
        withExtendedLifetime(client) {}
    }

    private static func lastingText(_ answer: Fixture.Answer) -> String {
        let objects = answer.object["items"] == nil ? [answer.object] : answer.items
        return objects.map { object in
            lasting.map { "\($0)=\(object[$0] ?? "")" }.joined(separator: " ")
        }.joined(separator: "\n") + (answer.etag ?? "")
    }

    @Test func connsOfANodeAreSeenAndClosedFromEveryOther() throws {
        let cluster = try Cluster()
        let (a, b, c) = (cluster.nodes[0], cluster.nodes[1], cluster.nodes[2])
        try b.startDevice("at-b")
        try c.startDevice("at-c")
        let echo = try TestServer.echo()
        let clients = try [b, b, c, b].map { node in
            let client = try node.connect(to: echo.port)
            try client.write("x")
            _ = try client.read(exactly: 1)
            return client
        }
        let listed = try cluster.nodes.map { node in
            try node.conns().compactMap { $0["conn_id"] as? String }
        }
        #expect(listed[0].count == 4)
        #expect(listed.allSatisfy { $0 == listed[0] })
        for node in cluster.nodes {
            let ofB = try node.get("/v1/conns?node_id=b").items
            #expect(ofB.count == 3)
            #expect(ofB.allSatisfy { $0["node_id"] as? String == "b" })
            #expect(try node.get("/v1/conns?device_id=at-c").items.count == 1)
            #expect(try node.get("/v1/conns?device_id=nobody").items.isEmpty)
        }
        #expect(try a.pages(of: "/v1/conns", by: 1) == listed[0])
        #expect(try b.pages(of: "/v1/conns", by: 3) == listed[0])

        let ids = listed[0]
        for node in cluster.nodes {
            let shown = try node.get("/v1/conns/\(ids[0])")
            #expect(shown.status == 200)
            #expect(shown.object["device_id"] as? String == "at-b")
        }
        #expect(try a.call("DELETE", "/v1/conns/\(ids[0])").status == 204)
        #expect(throws: TestSocket.Failure.self) { try clients[0].readToEnd() }
        for node in cluster.nodes {
            try node.wait("the conn is gone") {
                try node.get("/v1/conns/\(ids[0])").object["code"] as? String == "conn_not_found"
            }
        }
        let strange = try c.call("DELETE", "/v1/conns/\(UUID().uuidString)")
        #expect(strange.status == 404)
        let closed = try c.call("POST", "/v1/conns/close", ["target": "127.0.0.1:\(echo.port)"])
        #expect(closed.object["closed"] as? Int == 3)
        try a.wait("the closed conns are gone") { try a.conns().isEmpty }
        withExtendedLifetime(clients) {}
    }

    @Test func aNodeIsCordonedDrainedAndTakenBackByAnother() throws {
        let cluster = try Cluster()
        let (a, b, c) = (cluster.nodes[0], cluster.nodes[1], cluster.nodes[2])
        let cordoned = try a.call("PUT", "/v1/nodes/b/eligibility", ["eligible": false, "reason": "test"])
        #expect(cordoned.status == 200)
        #expect(cordoned.object["node_id"] as? String == "b")
        #expect(cordoned.object["state"] as? String == "cordoned")
        #expect(try b.get("/readyz").status == 503)
        #expect(try c.call("PUT", "/v1/nodes/b/eligibility", ["eligible": true]).status == 200)
        #expect(try b.get("/readyz").status == 200)

        let before = try cluster.nodes.map { try $0.get("/v1/nodes/b/drain") }
        #expect(before.allSatisfy { $0.object["state"] as? String == "none" && $0.etag == before[1].etag })
        let preview = try c.call("POST", "/v1/nodes/b/drain/preview", ["deadline_seconds": 5])
        let targets = preview.object["targets"] as? [[String: Any]] ?? []
        #expect(targets.compactMap { $0["node_id"] as? String } == ["a", "c"])
        let stale = try a.call("POST", "/v1/nodes/b/drain", [:], fields: ["If-Match": "\"77\""])
        #expect(stale.status == 412)
        let tag = try #require(before[0].etag)
        let fields = ["If-Match": tag, "X-Request-Id": "drain-1"]
        let drain = try a.call("POST", "/v1/nodes/b/drain", ["reason": "upgrade"], fields: fields)
        #expect(drain.status == 202)
        #expect(drain.head.contains("X-Request-Id: drain-1"))
        for node in cluster.nodes {
            let shown = try node.get("/v1/nodes/b/drain")
            #expect(shown.object["reason"] as? String == "upgrade")
            #expect(shown.object["actor"] as? String == "bootstrap")
            #expect(shown.etag == drain.etag)
        }
        #expect(try c.call("DELETE", "/v1/nodes/b/drain").status == 200)
        #expect(try b.get("/readyz").status == 200)
        #expect(try a.get("/v1/nodes/nobody/drain").status == 404)
        let invalid = try a.call("POST", "/v1/nodes/b/drain", ["redirect_to": ["b"]])
        #expect(invalid.status == 422)

        // One line each, of the node that was called.
        try a.wait("the calls are on record") { try a.audit(of: "/v1/nodes/b/drain").count == 5 }
        let lines = try a.audit(of: "/v1/nodes/b/drain")
        #expect(lines.map { $0["node_id"] as? String } == ["a", "c", "a", "a", "c"])
        #expect(lines.map { $0["status"] as? Int } == [422, 200, 202, 412, 200])
        #expect(lines[2]["request_id"] as? String == "drain-1")
        #expect((lines[2]["remote_address"] as? String)?.hasPrefix("127.0.0.1:") == true)
    }

    @Test func aDeviceIsDisconnectedKeptOutAndLetInFromAnotherNode() throws {
        let cluster = try Cluster()
        let (a, b, c) = (cluster.nodes[0], cluster.nodes[1], cluster.nodes[2])
        try b.startDevice("d1")
        let first = try b.session("d1")
        try a.wait("the device is on record") { try a.device("d1")["session_id"] as? String == first }
        let disconnected = try a.call("POST", "/v1/devices/d1/disconnect")
        #expect(disconnected.status == 202)
        #expect(disconnected.object["session_id"] as? String == first)
        try b.waitUntilWhole("d1", sessionOtherThan: first)
        try c.wait("its end is on record") {
            try c.endReason(device: "d1", session: first) == "operator"
        }
        let second = try b.session("d1")
        #expect(try c.call("PATCH", "/v1/devices/d1", ["enabled": false]).status == 200)
        try c.wait("the other node has ended its session") {
            try c.endReason(device: "d1", session: second) == "disabled"
        }
        #expect(try a.call("POST", "/v1/devices/d1/disconnect").status == 409)
    }

    @Test func aNodeThatStandsStillIsToldInTimeAndNeverDoesWhatWasTakenBack() throws {
        let cluster = try Cluster()
        let (a, b, c) = (cluster.nodes[0], cluster.nodes[1], cluster.nodes[2])
        try c.startDevice("at-c")
        let echo = try TestServer.echo()
        let client = try c.connect(to: echo.port)
        try client.write("x")
        _ = try client.read(exactly: 1)
        b.node?.signal(SIGSTOP)
        // All at once: the node's lease is not to run out meanwhile.
        let calls = [
            Call { try a.call("PUT", "/v1/nodes/b/eligibility", ["eligible": false]) },
            Call { try c.get("/v1/nodes/b/drain") },
            Call { try a.get("/v1/conns") },
            Call { try a.call("POST", "/v1/conns/close", ["protocol": "socks5"]) },
        ]
        let answers = try calls.map { try $0.wait() }
        b.node?.signal(SIGCONT)
        #expect(answers.map(\.status) == [503, 503, 503, 503])
        let codes = answers.map { $0.object["code"] as? String }
        #expect(codes.allSatisfy { $0 == "node_unreachable" }, "\(codes)")
        #expect(answers[0].head.contains("Retry-After: "))
        #expect(answers[2].object["nodes"] as? [String] == ["b"])
        #expect(answers[3].object["closed"] as? Int == 1)
        #expect(throws: TestSocket.Failure.self) { try client.readToEnd() }
        try a.wait("the node answers again") { try a.get("/v1/nodes/b/drain").status == 200 }
        #expect(try a.get("/v1/conns").status == 200)
        // What is asked now comes behind all that was asked before.
        #expect(try b.get("/readyz").status == 200)
    }

    @Test func aNodeWhoseLeaseIsOverIsNotAsked() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        _ = b.node?.stop()
        try a.wait("the node is down") { try a.get("/v1/nodes/b").object["state"] as? String == "down" }
        let answer = try a.call("PUT", "/v1/nodes/b/eligibility", ["eligible": false])
        #expect(answer.status == 503)
        #expect(answer.object["code"] as? String == "node_unreachable")
        #expect(try a.get("/v1/conns").status == 200)
        #expect(try a.get("/v1/conns?node_id=b").items.isEmpty)
        try b.startNode()
        #expect(try a.get("/v1/nodes/b/drain").status == 200)
    }

    /// Each order of a drain counts its version up by one, so the version tells how many were performed.
    @Test func whileTheDatabaseRestartsNothingIsDoneTwice() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        let isOver = Outcome<Bool>()
        let orders = (0..<4).map { _ in
            Call {
                var answers: [Fixture.Answer] = []
                repeat {
                    answers.append(try a.call("POST", "/v1/nodes/b/drain", ["deadline_seconds": 0]))
                } while isOver.current == nil
                return answers
            }
        }
        try a.wait("orders arrive") { try b.version >= 5 }
        for end in [{ cluster.database.stop() }, { cluster.database.crash() }] {
            end()
            // What a crash leaves of the server's processes takes a moment to go.
            try a.wait("the database starts") { (try? cluster.database.start()) != nil }
            let version = try b.version
            try a.wait("orders arrive again") { try b.version >= version + 5 }
        }
        isOver.set(true)
        let answers = try orders.flatMap { try $0.wait() }
        let done = answers.filter { $0.status == 202 }.compactMap(\.etag)
        let perhaps = answers.count { $0.status == 504 }
        #expect(Set(done).count == done.count)
        #expect(done.count > 10)
        #expect(answers.allSatisfy { [202, 503, 504].contains($0.status) })
        let performed = try b.version
        #expect(done.count <= performed && performed <= done.count + perhaps)
    }
}

/// What is done on a thread of its own.
private final class Call<Value: Sendable>: Sendable {
    private let outcome = Outcome<Result<Value, any Error>>()

    init(_ work: @escaping () throws -> Value) {
        nonisolated(unsafe) let work = work
        let outcome = outcome
        Thread.detachNewThread { outcome.set(Result { try work() }) }
    }

    func wait() throws -> Value {
        guard let result = outcome.wait() else {
            throw Fixture.TimedOut(what: "a call is done", logs: "")
        }
        return try result.get()
    }
}

extension Fixture.Answer {
    fileprivate var etag: String? {
        head.components(separatedBy: "\r\n").first { $0.hasPrefix("ETag: ") }.map { String($0.dropFirst(6)) }
    }
}

extension Fixture {
    /// How many orders about its drain the node has performed.
    fileprivate var version: Int {
        get throws {
            let tag = try get("/v1/nodes/self/drain").etag ?? ""
            // The drain's id stands before it, of the first drain on.
            return tag == #""none""#
                ? 0 : try #require(tag.dropLast().split(separator: ".").last.flatMap { Int($0) })
        }
    }

    /// The ids of all conns, page by page.
    fileprivate func pages(of path: String, by limit: Int) throws -> [String] {
        var ids: [String] = []
        var cursor = ""
        repeat {
            let page = try get("\(path)?limit=\(limit)\(cursor.isEmpty ? "" : "&cursor=\(cursor)")")
            ids += page.items.compactMap { $0["conn_id"] as? String }
            cursor = page.object["next_cursor"] as? String ?? ""
        } while !cursor.isEmpty && ids.count < 100
        return ids
    }

    /// Lines of the audit trail, newest first.
    fileprivate func audit(of path: String) throws -> [[String: Any]] {
        try get("/v1/audit?path=\(path)").items
    }
}
