import HTTP1
import JSON
import PopCtl
import Testing

/// Calls that change something, refusals, and connections that break.
struct CallTests {
    @Test func unsafeCallsSayWhatTheyDid() throws {
        let server = try StandIn { asked in
            switch asked.path {
            case "/v1/devices/dev1/disconnect": Canned(status: 202, json: ["session_id": "s1"])
            case "/v1/conns/close": Canned(json: ["closed": 2])
            case "/v1/nodes/self/eligibility": Canned(json: ["node_id": "pop-1"])
            default: Canned(status: 204)
            }
        }
        for (arguments, output) in [
            (["devices", "disconnect", "dev1"], "dev1: session s1 ends\n"),
            (["devices", "disable", "dev1", "--reason", "lost"], "dev1 is kept out\n"),
            (["devices", "enable", "dev1"], "dev1 may connect\n"),
            (["devices", "revoke", "dev1"], "the token of dev1 is void\n"),
            (["conns", "close", "c1", "c2"], "c1 closed\nc2 closed\n"),
            (["conns", "close", "--device", "dev1", "--reason", "abuse"], "2 closed\n"),
            (["nodes", "cordon", "self", "--reason", "disk"], "pop-1 takes no new devices and conns\n"),
            (["nodes", "uncordon", "self"], "pop-1 takes devices and conns again\n"),
            (["nodes", "undrain", "pop-1"], "pop-1 takes devices again\n"),
            (["nodes", "undrain", "pop-1", "--keep-cordoned"], "pop-1 stays cordoned\n"),
            (["tokens", "revoke", "t1"], "token t1 is void\n"),
            (["users", "update", "alice", "--max-conns", "0", "--rate", "1MiB"], "user alice changed\n"),
            (["users", "delete", "alice"], "user alice deleted\n"),
        ] {
            #expect(server.run(arguments).output == output)
        }
        #expect(
            server.lines == [
                "POST /v1/devices/dev1/disconnect",
                #"PATCH /v1/devices/dev1?reason=lost {"enabled":false}"#,
                #"PATCH /v1/devices/dev1 {"enabled":true}"#,
                "DELETE /v1/devices/dev1/token", "DELETE /v1/conns/c1", "DELETE /v1/conns/c2",
                #"POST /v1/conns/close {"device_id":"dev1","reason":"abuse"}"#,
                #"PUT /v1/nodes/self/eligibility {"eligible":false,"reason":"disk"}"#,
                #"PUT /v1/nodes/self/eligibility {"eligible":true}"#,
                "DELETE /v1/nodes/pop-1/drain", "DELETE /v1/nodes/pop-1/drain?eligibility=keep",
                "DELETE /v1/tokens/t1",
                #"PATCH /v1/users/alice {"max_conns":0,"rate_bytes_per_second":1048576}"#,
                "DELETE /v1/users/alice",
            ])
    }

    @Test func outputForProgramsIsOneDocumentOrNothing() throws {
        let server = try StandIn { asked in
            asked.method == "DELETE" ? Canned(status: 204) : Canned(json: ["closed": 2])
        }
        #expect(server.run(["-o", "json", "conns", "close", "c1", "c2"]).json == ["closed": 2])
        #expect(server.run(["-o", "json", "conns", "close", "--user", "u"]).json == ["closed": 2])
        #expect(server.run(["-o", "json", "devices", "revoke", "d"]).output == "")
    }

    // MARK: Secrets

    @Test func secretsStandAloneOnStandardOutput() throws {
        let server = try StandIn { asked in
            Canned(status: 201, json: ["token_id": "t1", "token": "s3cret", "device_id": "dev1"])
        }
        let enrolled = server.run(["devices", "enroll", "dev1"])
        #expect(enrolled.output == "s3cret\n")
        let created = server.run(["tokens", "create", "ci", "--scope", "operate", "--expires", "12h"])
        #expect(created.output == "s3cret\n")
        #expect(created.errors == "popctl: token t1: keep its value, it is not shown again\n")
        #expect(server.run(["-o", "json", "devices", "enroll", "dev1"]).json?["token"] == "s3cret")
        #expect(
            server.lines.prefix(2) == [
                "POST /v1/devices/dev1/token",
                #"POST /v1/tokens {"name":"ci","scope":"operate","expires_at":"2026-01-31T21:05:00.000Z"}"#,
            ])
    }

    @Test func answerWithoutItsSecretIsAnError() throws {
        let server = try StandIn { _ in Canned(status: 201, json: ["device_id": "dev1"]) }
        #expect(server.run(["devices", "enroll", "dev1"]).code == 1)
    }

    // MARK: Refusals

    @Test func refusalIsToldFromTheProblemDocument() throws {
        let server = try StandIn { _ in
            Canned(
                status: 422,
                json: [
                    "code": "validation_failed", "detail": "The request has 1 invalid value(s).",
                    "errors": [["field": "limit", "message": "must be\u{1b}small"]], "request_id": "r1",
                ])
        }
        let run = server.run(["devices", "list"])
        #expect(run.code == 1)
        #expect(run.output == "")
        #expect(
            run.errors == """
                popctl: validation_failed: The request has 1 invalid value(s). (422)
                  limit: must be?small
                  request id: r1

                """)
    }

    @Test func answersThatAreNoJSONAreErrors() throws {
        let refusing = try StandIn { _ in Canned(status: 502) }
        #expect(refusing.run(["nodes", "list"]).errors == "popctl: error: the server answered 502 (502)\n")
        let odd = try StandIn { _ in Canned(json: ["things": []]) }
        #expect(odd.run(["nodes", "list"]).code == 1)
    }

    @Test func aNodeThatDoesNotAnswerLeavesTheRestToBeSaid() throws {
        let server = try StandIn { _ in
            Canned(
                status: 504,
                json: [
                    "code": "node_timeout", "detail": "No answer in time from b.", "closed": 3,
                    "nodes": ["b"],
                ], fields: ["Content-Type": "application/problem+json"])
        }
        let run = server.run(["conns", "close", "--user", "alice"])
        #expect(run.code == 1)
        #expect(run.errors.contains("node_timeout: No answer in time from b. (504)"))
        #expect(run.errors.contains("the other nodes closed 3"))
    }

    @Test(arguments: [
        (401, "POP_TOKEN"), (403, "scope"), (429, "try again in 7 s"), (503, "try again in 7 s"),
    ])
    func refusalSaysWhatToDo(status: UInt16, hint: String) throws {
        let server = try StandIn { _ in
            Canned(
                status: status, json: ["code": "some_code", "detail": "No."],
                fields: ["Content-Type": "application/problem+json", "Retry-After": "7"])
        }
        let run = server.run(["nodes", "list"], environment: ["POP_TOKEN": "t0k3n"])
        #expect(run.code == 1)
        #expect(run.errors.contains(hint))
        #expect(!run.errors.contains("t0k3n"))
    }

    @Test func withoutATokenNoneIsSent() throws {
        let server = try StandIn { _ in Canned(status: 401, json: ["code": "unauthorized"]) }
        _ = server.run(["nodes", "list"], environment: ["POP_TOKEN": ""])
        #expect(server.requests.first?.fields.contains("authorization") == false)
    }

    // MARK: Broken connections

    @Test func lostCallIsMadeOnceMoreWithTheSameKey() throws {
        let server = try StandIn { _, before in
            before == 0 ? .cut : Canned(status: 202, json: ["session_id": "s1"])
        }
        #expect(server.run(["devices", "disconnect", "dev1"]).code == 0)
        let keys = server.requests.map { $0.fields["idempotency-key"] }
        #expect(keys.count == 2)
        #expect(keys[0]?.count == 32)
        #expect(keys[0] == keys[1])
        _ = server.run(["devices", "disconnect", "dev1"])
        #expect(server.requests.last?.fields["idempotency-key"] != keys[0])
    }

    @Test func callIsGivenUpWhenItIsLostTwice() throws {
        let server = try StandIn { _ in .cut }
        let run = server.run(["nodes", "list"])
        #expect(run.code == 1)
        #expect(run.errors.hasPrefix("popctl: can't reach \(server.url): "))
        #expect(server.requests.count == 2)
        #expect(server.requests.allSatisfy { !$0.fields.contains("idempotency-key") })
    }

    @Test func callThatTheNodeIsStillAtIsWaitedFor() throws {
        let server = try StandIn { _, before in
            switch before {
            case 0: .cut
            case 1: Canned(status: 409, json: ["code": "idempotency_key_in_flight"])
            default: Canned(status: 202, json: ["session_id": "s1"])
            }
        }
        #expect(server.run(["devices", "disconnect", "dev1"]).output == "dev1: session s1 ends\n")
        #expect(Set(server.requests.map { $0.fields["idempotency-key"] }).count == 1)
        #expect(server.requests.count == 3)
    }

    @Test func withoutTheNodesDatabaseACallIsMadeWithoutItsKey() throws {
        let server = try StandIn { asked in
            asked.fields.contains("idempotency-key")
                ? Canned(status: 503, json: ["code": "database_unavailable"])
                : Canned(status: 202, json: ["session_id": "s1"])
        }
        #expect(server.run(["devices", "disconnect", "dev1"]).code == 0)
        #expect(server.requests.count == 2)
        let down = try StandIn { _ in Canned(status: 503, json: ["code": "database_unavailable"]) }
        #expect(down.run(["devices", "enroll", "dev1"]).code == 1)
        #expect(down.run(["nodes", "list"]).code == 1)
        #expect(down.requests.count == 3)
    }

    @Test func callThatMayHaveBeenDoneKeepsItsKey() throws {
        let server = try StandIn { _, before in
            before == 0 ? .cut : Canned(status: 503, json: ["code": "database_unavailable"])
        }
        #expect(server.run(["devices", "disconnect", "dev1"]).code == 1)
        #expect(server.requests.count == 2)
        #expect(server.requests.allSatisfy { $0.fields.contains("idempotency-key") })
    }

    @Test func callWithoutItsKeyIsNotRepeated() throws {
        let server = try StandIn { asked in
            asked.fields.contains("idempotency-key")
                ? Canned(status: 503, json: ["code": "database_unavailable"]) : .cut
        }
        #expect(server.run(["devices", "disconnect", "dev1"]).code == 1)
        #expect(server.requests.count == 2)
    }

    @Test func lostSecretIsToldAsLost() throws {
        let server = try StandIn { _, before in
            before == 0
                ? .cut
                : Canned(
                    status: 409, json: ["code": "secret_shown_once", "detail": "It was shown."],
                    fields: ["Content-Type": "application/problem+json", "Location": "/v1/tokens/t1"])
        }
        let run = server.run(["tokens", "create", "ci", "--scope", "read"])
        #expect(run.code == 1)
        #expect(run.errors.contains("lost on its way; what it is of: /v1/tokens/t1"))
    }

    @Test func refusedCallIsNotRepeated() throws {
        let server = try StandIn { _ in Canned(status: 503) }
        #expect(server.run(["devices", "disconnect", "dev1"]).code == 1)
        #expect(server.requests.count == 1)
    }
}
