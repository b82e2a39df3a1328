import AdminAPI
import Domain
import Fleet
import HTTP1
import JSON
import Store
import Testing

struct AdminAuditTests {
    private let bench: AdminBench

    init() throws {
        bench = try AdminBench()
    }

    @Test func everyUnsafeCallLeavesALine() throws {
        bench.backend.conns = [liveConn(1)]
        let conn = "/v1/conns/\(liveConn(1).connID)"
        let answer = try bench.send(
            .delete, conn + "?reason=abuse", token: "operate-token", fields: ["X-Request-Id": "r-1"])
        #expect(answer.status == 204)
        let line = try #require(bench.backend.audit.first)
        #expect(line.actor == "operate")
        #expect(line.tokenID == someToken("operate"))
        #expect(line.remoteAddress.hasPrefix("127.0.0.1:"))
        #expect(line.requestID == "r-1")
        #expect(line.method == "DELETE")
        #expect(line.path == conn)
        #expect(line.status == 204)
        #expect(line.reason == "abuse")
        _ = try bench.send(
            .post, "/v1/conns/close?reason=other", body: #"{"device_id":"x","reason":"of the body"}"#,
            token: "bootstrap-token")
        #expect(bench.backend.audit.last?.reason == "of the body")
        #expect(bench.backend.audit.last?.actor == "bootstrap")
        #expect(bench.backend.audit.last?.tokenID == nil)
    }

    @Test func refusedCallsLeaveALineToo() throws {
        let drain = "/v1/nodes/self/drain"
        let calls: [(HTTPMethod, String, String, String?, UInt16)] = [
            (.post, drain, "", nil, 401), (.post, drain, "", "nobody", 401),
            (.post, drain, "", "read-token", 403), (.post, "/v1/nothing", "", nil, 404),
            (.patch, drain, "", "admin-token", 405), ("BREW", "/livez", "", nil, 405),
            (.post, "/v1/conns/close", "{", "admin-token", 400),
            (.post, drain, #"{"force":1}"#, "admin-token", 422),
            (.post, "/v1/devices/d/disconnect", "", "admin-token", 503),
        ]
        for (method, path, body, token, status) in calls {
            let answer = try bench.send(method, path + "?reason=why", body: body, token: token)
            #expect(answer.status == status)
            let line = try #require(bench.backend.audit.last)
            #expect(line.method == method.name && line.path == path && line.status == Int(status))
            #expect(line.reason == "why")
            let isKnown = token != nil && token != "nobody"
            #expect(line.actor.isEmpty != isKnown, "\(status)")
        }
        #expect(bench.backend.audit.count == calls.count)
    }

    @Test func everyUnsafeOperationIsRefusedAndRecordedWithoutAToken() throws {
        for route in bench.api.routes where route.method.isUnsafe {
            let path = route.path.split(separator: "/").map { $0.hasPrefix("{") ? "x" : String($0) }
            let target = "/" + path.joined(separator: "/")
            for (token, status) in [(nil, 401), ("read-token", 403)] {
                let answer = try bench.send(route.method, target, token: token)
                #expect(Int(answer.status) == status, "\(route.method) \(route.path)")
                let line = try #require(bench.backend.audit.last)
                #expect(line.method == route.method.name && line.path == target && line.status == status)
                #expect(line.actor == (token == nil ? "" : "read"))
            }
        }
        #expect(bench.backend.questions.isEmpty)
    }

    @Test func whatTheServerRefusesByItselfLeavesALineAndHasAnId() throws {
        let big = String(repeating: "x", count: (1 << 20) + 1)
        let answer = try bench.send(
            .post, "/v1/conns/close?reason=why", body: big, fields: ["X-Request-Id": "r-2"])
        #expect(answer.status == 413)
        #expect(answer.code == "content_too_large")
        #expect(answer.fields["content-type"] == "application/problem+json")
        #expect(answer.fields["x-request-id"] == "r-2")
        #expect(answer.json["request_id"] == "r-2")
        let line = try #require(bench.backend.audit.last)
        #expect(line.status == 413 && line.path == "/v1/conns/close" && line.requestID == "r-2")
        #expect(line.reason == "why")
    }

    @Test func safeCallsLeaveNone() throws {
        for method in [HTTPMethod.get, .head, .options] {
            _ = try bench.send(method, "/v1/conns")
            _ = try bench.send(method, "/v1/nothing", token: nil)
        }
        #expect(bench.backend.audit.isEmpty)
    }

    @Test func theTrailIsShownToAdministrators() throws {
        let record = AuditRecord(
            auditID: AuditID(high: 1, low: 2), at: someTime, actor: "ci", tokenID: someToken("read"),
            remoteAddress: "192.0.2.7:51000", requestID: "r", method: "POST", path: "/v1/x", status: 202,
            reason: "upgrade")
        bench.backend.database = { _ in
            .audit(ListPage(items: [AuditRow(record: record, nodeID: someNode("pop-1"))], next: nil))
        }
        #expect(try bench.get("/v1/audit", token: "operate-token").status == 403)
        let answer = try bench.send(
            .get,
            "/v1/audit?actor=ci&method=POST&path=/v1&status=202&node_id=self&from=2026-01-01T00:00:00Z"
                + "&to=2026-02-01T00:00:00Z&limit=7")
        #expect(
            bench.backend.questions == [
                .audit(
                    AuditListQuery(
                        actor: "ci", method: "POST", pathPrefix: "/v1", status: 202,
                        nodeID: someNode("pop-1"), from: WallTime(rfc3339: "2026-01-01T00:00:00Z"),
                        to: WallTime(rfc3339: "2026-02-01T00:00:00Z"), limit: 7))
            ])
        #expect(
            answer.items == [
                [
                    "audit_id": .string(record.auditID.description), "at": "2026-01-31T09:05:00.120Z",
                    "actor": "ci", "token_id": .string(someToken("read").description),
                    "remote_address": "192.0.2.7:51000", "node_id": "pop-1", "request_id": "r",
                    "method": "POST", "path": "/v1/x", "status": 202, "reason": "upgrade",
                ]
            ])
        let wrong = try bench.send(.get, "/v1/audit?status=99&from=x&cursor=y")
        #expect(Set(wrong.faults) == ["status", "from", "cursor"])
    }
}
