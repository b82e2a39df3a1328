import AdminAPI
import Fleet
import HTTP1
import JSON
import Store
import Testing

/// What every operation has in common.
struct AdminProtocolTests {
    @Test func callsNeedATokenOfTheirScope() throws {
        let bench = try AdminBench()
        let none = try bench.get("/v1/conns", token: nil)
        #expect(none.status == 401)
        #expect(none.code == "unauthorized")
        #expect(none.fields["www-authenticate"] == #"Bearer realm="pop""#)
        let wrong = try bench.get("/v1/conns", token: "read-tokeN")
        #expect(wrong.status == 401)
        #expect(wrong.code == "invalid_token")
        #expect(try bench.get("/v1/conns", token: "read").status == 401)
        #expect(
            try bench.get("/v1/conns", token: nil, fields: ["Authorization": "Basic cmVhZA=="]).status == 401)
        let weak = try bench.send(.post, "/v1/nodes/self/drain", token: "read-token")
        #expect(weak.status == 403)
        #expect(weak.code == "forbidden")
        #expect(bench.backend.drainRequests.isEmpty)
        #expect(try bench.send(.post, "/v1/nodes/self/drain", token: "operate-token").status == 202)
        #expect(try bench.get("/v1/conns", token: "admin-token").status == 200)
    }

    @Test func problemsAreDocumentsWithAStableCode() throws {
        let answer = try AdminBench().get("/v1/nothing", fields: ["X-Request-Id": "abc 123"])
        #expect(answer.status == 404)
        #expect(answer.fields["content-type"] == "application/problem+json")
        #expect(answer.fields["x-request-id"] == "abc 123")
        #expect(
            answer.json == [
                "type": "about:blank", "title": "Not Found", "status": 404, "code": "not_found",
                "detail": "There is nothing at this path.", "request_id": "abc 123",
            ])
    }

    @Test func requestIDIsMadeWhenItIsMissingOrUnfit() throws {
        let bench = try AdminBench()
        let made = try #require(try bench.get("/livez").fields["x-request-id"])
        #expect(made.utf8.count == 32)
        #expect(try bench.get("/livez").fields["x-request-id"] != made)
        let long = String(repeating: "x", count: 129)
        #expect(try bench.get("/livez", fields: ["X-Request-Id": long]).fields["x-request-id"] != long)
        let longest = String(repeating: "x", count: 128)
        #expect(try bench.get("/livez", fields: ["X-Request-Id": longest]).fields["x-request-id"] == longest)
    }

    @Test(arguments: ["/v1", "/v1/", "/v1/conns/", "/v2/conns", "/v1//conns", "/v1/devices/a/b"])
    func unknownPathIs404(path: String) throws {
        #expect(try AdminBench().get(path).status == 404)
    }

    @Test func wrongMethodIs405AndNamesTheOthers() throws {
        let bench = try AdminBench()
        let answer = try bench.send(.patch, "/v1/nodes/self/drain")
        #expect(answer.status == 405)
        #expect(answer.code == "method_not_allowed")
        #expect(answer.fields["allow"] == "GET, HEAD, POST, DELETE, OPTIONS")
        #expect(try bench.send(.post, "/livez").fields["allow"] == "GET, HEAD, OPTIONS")
        #expect(try bench.send(.put, "/v1/devices/dev1").fields["allow"]?.hasPrefix("GET, HEAD") == true)
        // A word of the path that could be a value of the path beside it is none.
        #expect(try bench.send(.put, "/v1/conns/close").fields["allow"] == "POST, OPTIONS")
        #expect(try bench.get("/v1/conns/close").status == 405)
    }

    @Test func optionsNamesTheMethods() throws {
        let bench = try AdminBench()
        let answer = try bench.send(.options, "/v1/nodes/self/drain", token: nil)
        #expect(answer.status == 204)
        #expect(answer.fields["allow"] == "GET, HEAD, POST, DELETE, OPTIONS")
        #expect(answer.body.isEmpty)
        #expect(try bench.send(.options, "/v1/nothing").status == 404)
        #expect(try bench.send(.options, "*", token: nil).status == 204)
        #expect(try bench.send("BREW", "/livez").status == 405)
        #expect(try bench.send("get", "/livez").status == 405)
    }

    @Test func onlyUTF8IsJSON() throws {
        let bench = try AdminBench()
        func close(_ fields: HTTPFields) throws -> UInt16 {
            try bench.send(.post, "/v1/conns/close", body: #"{"user":"x"}"#, fields: fields).status
        }
        #expect(try close(["Content-Type": "application/json;charset=\"UTF-8\""]) == 200)
        #expect(try close(["Content-Type": "application/json; charset=latin1"]) == 415)
        #expect(try close(["Content-Type": "application/json", "Content-Encoding": "gzip"]) == 415)
        let odd = try bench.send(.post, "/v1/conns/close", body: "{\"user\":\"\\ud800\"}")
        #expect(odd.status == 400)
    }

    @Test func everyGetHasHead() throws {
        let bench = try AdminBench()
        bench.backend.database = { _ in .nodes([]) }
        for path in ["/livez", "/metrics", "/v1/nodes", "/v1/conns", "/v1/openapi.yaml"] {
            let full = try bench.get(path)
            let head = try bench.send(.head, path)
            #expect(head.status == 200)
            #expect(head.body.isEmpty)
            #expect(head.fields["content-length"] == "\(full.body.count)")
        }
    }

    @Test func unknownRepeatedAndWrongParametersAreNamed() throws {
        let bench = try AdminBench()
        let unknown = try bench.get("/v1/conns?color=red&size=1")
        #expect(unknown.status == 422)
        #expect(unknown.code == "validation_failed")
        #expect(unknown.faults == ["color", "size"])
        let many = try bench.get("/v1/conns?" + (0..<400).map { "p\($0)" }.joined(separator: "&"))
        #expect(many.faults == (0..<50).map { "p\($0)" })
        #expect(try bench.get("/v1/conns?user=a&user=b").faults == ["user"])
        #expect(try bench.get("/v1/conns/\(liveConn(1).connID)?reason=x").faults == ["reason"])
        for limit in ["0", "1001", "-1", "x", "", "99999999999999999999", "1.0"] {
            let answer = try bench.get("/v1/conns?limit=\(limit)")
            #expect(answer.status == 422)
            #expect(answer.faults == ["limit"])
        }
        #expect(try bench.get("/v1/conns?limit=1000").status == 200)
        #expect(try bench.get("/v1/conns?user=%ff").status == 400)
        #expect(try bench.get("/v1/conns/%00").status == 400)
    }

    @Test func everyFaultOfARequestIsNamedAtOnce() throws {
        let bench = try AdminBench()
        #expect(
            try bench.get("/v1/devices?color=red&limit=0&status=up&sort=name&cursor=x&node_id=%20").faults
                == ["color", "status", "node_id", "sort", "limit", "cursor"])
        #expect(try bench.get("/v1/sessions?from=a&to=b&open=1").faults == ["from", "to", "open"])
        let drain = try bench.send(
            .post, "/v1/nodes/self/drain?force=1",
            body: #"{"deadline_seconds":-1,"devices_per_second":null,"on_deadline":"x","reason":1,"by":2}"#)
        #expect(
            drain.faults
                == ["force", "reason", "by", "deadline_seconds", "devices_per_second", "on_deadline"])
        #expect(drain.json["detail"] == "The request has 6 invalid values.")
        let close = try bench.send(
            .post, "/v1/conns/close", body: #"{"device_id":"a b","protocol":"tcp","user":1}"#)
        #expect(Set(close.faults) == ["device_id", "protocol", "user"])
        #expect(bench.backend.drainRequests.isEmpty)
    }

    @Test func everyOperationRefusesParametersThatItDoesNotKnow() throws {
        let bench = try AdminBench()
        for route in bench.api.routes {
            let path = route.path.split(separator: "/").map { $0.hasPrefix("{") ? "x" : $0 }
            let answer = try bench.send(
                route.method, "/" + path.joined(separator: "/") + "?no_such_parameter=1",
                body: route.method == .get ? "" : "{}")
            #expect(answer.status == 422, "\(route.method) \(route.path)")
            #expect(answer.faults.first == "no_such_parameter", "\(route.method) \(route.path)")
        }
    }

    @Test func acceptIsHonoured() throws {
        let bench = try AdminBench()
        let taken = [
            "application/json", "*/*", "text/html, application/*;q=0.5", "APPLICATION/JSON",
            "*/*;q=0, application/json",
        ]
        for accept in taken {
            #expect(try bench.get("/v1/conns", fields: ["Accept": accept]).status == 200)
        }
        for accept in ["text/html", "application/json;q=0", "image/*", "application/json;q=0, */*"] {
            let answer = try bench.get("/v1/conns", fields: ["Accept": accept])
            #expect(answer.status == 406)
            #expect(answer.code == "not_acceptable")
        }
        #expect(try bench.get("/metrics", fields: ["Accept": "application/json"]).status == 406)
    }

    @Test func bodiesAreCheckedBeforeAnythingIsDone() throws {
        let bench = try AdminBench()
        bench.backend.conns = [liveConn(1)]
        func close(_ body: String, _ type: String = "application/json") throws -> AdminBench.Answer {
            try bench.send(.post, "/v1/conns/close", body: body, fields: ["Content-Type": type])
        }
        #expect(try close(#"{"device_id":"#).status == 400)
        #expect(try close(#"{"device_id":"#).code == "invalid_json")
        #expect(try close("").status == 400)
        #expect(try close(#"{"user":"a","user":"b"}"#).status == 400)
        #expect(try close("[]").status == 422)
        #expect(try close("{}").status == 422)
        #expect(try close(#"{"reason":"x"}"#).status == 422)
        #expect(try close(#"{"device":"dev1"}"#).faults == ["device"])
        #expect(try close(#"{"device_id":1}"#).faults == ["device_id"])
        #expect(try close(#"{"device_id":"a b"}"#).faults == ["device_id"])
        #expect(try close(#"{"device_id":"dev1"}"#, "text/plain").status == 415)
        #expect(try close(#"{"device_id":"dev1"}"#, "application/x-www-form-urlencoded").status == 415)
        #expect(bench.backend.closed.isEmpty)
        #expect(try close(#"{"device_id":"dev1"}"#, "Application/JSON; charset=utf-8").status == 200)
        #expect(bench.backend.closed.count == 1)
        let big = #"{"user":""# + String(repeating: "x", count: 1 << 20) + #""}"#
        #expect(try close(big).status == 413)
    }

    @Test func unsafeCallsTakeAReasonAndNothingElse() throws {
        let bench = try AdminBench()
        bench.backend.conns = [liveConn(1)]
        let path = "/v1/conns/\(liveConn(1).connID)"
        #expect(try bench.send(.delete, path, body: #"{"why":"x"}"#).faults == ["why"])
        #expect(try bench.send(.delete, path, body: #"{"reason":7}"#).faults == ["reason"])
        #expect(try bench.send(.delete, path + "?reason=abuse", body: #"{"reason":"x"}"#).status == 204)
    }

    @Test func everythingThatNeedsTheDatabaseSaysSoWithoutIt() throws {
        let bench = try AdminBench()
        let paths = [
            "/v1/nodes", "/v1/nodes/other", "/v1/devices", "/v1/devices/dev1", "/v1/devices/dev1/sessions",
            "/v1/sessions", "/v1/devices/dev1/load", "/v1/nodes/other/drain",
            // Without it nobody knows who else is there.
            "/v1/conns", "/v1/conns/00000000-0000-8000-8000-000000000001",
        ]
        bench.backend.nodes = nil
        for path in paths {
            let answer = try bench.get(path)
            #expect(answer.status == 503)
            #expect(answer.code == "database_unavailable")
            #expect(answer.fields["retry-after"] == "2")
            #expect(!String(decoding: answer.body, as: UTF8.self).contains("hunter2"))
        }
    }

    @Test func refusedQueryIs500WithoutItsText() throws {
        let bench = try AdminBench()
        bench.backend.failure = .failed("SELECT secret")
        let answer = try bench.get("/v1/devices")
        #expect(answer.status == 500)
        #expect(answer.code == "internal_error")
        #expect(!String(decoding: answer.body, as: UTF8.self).contains("secret"))
        bench.backend.failure = .invalidCursor
        #expect(try bench.get("/v1/devices").faults == ["cursor"])
    }
}

struct AdminServiceTests {
    @Test func livenessAndReadinessNeedNoToken() throws {
        let bench = try AdminBench()
        #expect(try bench.get("/livez", token: nil).json == ["status": "ok"])
        #expect(try bench.get("/readyz", token: nil).status == 200)
        bench.backend.checks = [
            ReadinessCheck(name: "database", isPassing: false, isRequired: false, detail: "down"),
            ReadinessCheck(name: "state", isPassing: false, isRequired: true, detail: "draining"),
        ]
        let unready = try bench.get("/readyz?verbose", token: nil)
        #expect(unready.status == 503)
        #expect(unready.code == "not_ready")
        #expect(unready.json["checks"]?.array?.count == 2)
        bench.backend.checks.removeLast()
        let verbose = try bench.get("/readyz?verbose=true", token: nil)
        #expect(verbose.status == 200)
        #expect(
            verbose.json["checks"] == [
                ["name": "database", "ok": false, "required": false, "detail": "down"]
            ])
    }

    @Test func metricsAreTextAndPublicOnlyWhenConfigured() throws {
        let bench = try AdminBench()
        #expect(try bench.get("/metrics", token: nil).status == 401)
        let answer = try bench.get("/metrics")
        #expect(answer.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
        #expect(answer.body == Array("pop_test 1\n".utf8))
        #expect(try AdminBench(isMetricsPublic: true).get("/metrics", token: nil).status == 200)
    }

    @Test func statisticsAreJSON() throws {
        #expect(try AdminBench().get("/v1/stats").json["node_id"] == "pop-1")
    }
}
