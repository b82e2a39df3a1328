import EventLoop
import JSON
import PopCtl
import Testing

/// Draining a node, and waiting for it.
struct DrainTests {
    private static func drain(
        _ state: String, moved: Int64 = 0, conns: Int64 = 0, adding members: [JSONMember] = []
    ) -> JSONValue {
        .object(
            [
                JSONMember("state", .string(state)), JSONMember("devices_total", 4),
                JSONMember("devices_moved", .integer(moved)), JSONMember("conns_remaining", .integer(conns)),
            ] + members)
    }

    @Test func drainCarriesItsWholeSpec() throws {
        let server = try StandIn { _ in Canned(status: 202, json: Self.drain("handover", conns: 2)) }
        let run = server.run([
            "nodes", "drain", "pop-1", "--deadline", "10m", "--rate", "20", "--redirect-to", "pop-2",
            "--redirect-to", "pop-3", "--on-deadline", "hold", "--reason", "update",
        ])
        #expect(run.output == "pop-1: handover, 0 of 4 devices moved, 2 conns left\n")
        #expect(
            server.lines == [
                #"POST /v1/nodes/pop-1/drain {"deadline_seconds":600,"devices_per_second":20,"#
                    + #""redirect_to":["pop-2","pop-3"],"on_deadline":"hold","reason":"update"}"#
            ])
    }

    @Test func previewChangesNothing() throws {
        let server = try StandIn { _ in
            Canned(json: [
                "devices_total": 7, "eta_seconds": 1,
                "targets": [["node_id": "pop-2", "devices_taken": 7, "devices_after": 9]],
            ])
        }
        let run = server.run(["nodes", "drain", "self", "--preview", "--rate", "9"])
        #expect(
            run.output == """
                devices_total  7
                eta_seconds    1

                TARGET  DEVICES TAKEN  DEVICES AFTER
                pop-2               7              9

                """)
        #expect(server.lines == [#"POST /v1/nodes/self/drain/preview {"devices_per_second":9}"#])
    }

    @Test func waitTellsInLinesUntilItIsDone() throws {
        let server = try StandIn { asked, before in
            before == 0
                ? Canned(
                    status: 202,
                    json: Self.drain(
                        "handover", moved: 1, conns: 3,
                        adding: [
                            JSONMember("eta_seconds", 90),
                            JSONMember(
                                "blockers", [["device_id": "dev7", "target": "example.com:443"], "dev8"]),
                        ]))
                : Canned(json: Self.drain("drained", moved: 4))
        }
        let run = server.run(["nodes", "drain", "self", "--deadline", "9", "--wait"])
        #expect(run.code == 0)
        #expect(
            run.errors == "self: handover, 1 of 4 devices moved, 3 conns left, about 90s to go; "
                + "waiting for dev7 example.com:443, dev8\n")
        #expect(run.output == "self: drained, 4 of 4 devices moved, 0 conns left\n")
        #expect(
            server.lines == [
                #"POST /v1/nodes/self/drain {"deadline_seconds":9}"#, "GET /v1/nodes/self/drain",
            ])
    }

    private static let troubled = [
        JSONMember("eta_seconds", 90), JSONMember("eta_basis", "taker_rate"),
        JSONMember("hindrance", "takers_busy"), JSONMember("devices_unmoved", 9),
        JSONMember("unmoved", ["dev1", "dev2"]),
        JSONMember(
            "targets",
            [
                [
                    "node_id": "pop-2", "state": "busy", "assigned": 20, "arrived": 18,
                    "devices_per_second": .double(2.5),
                ],
                ["node_id": "pop-3", "state": "open", "assigned": 5, "arrived": 5, "devices_per_second": 50],
                [
                    "node_id": "pop-4", "state": "closed", "assigned": 0, "arrived": 0,
                    "devices_per_second": 0,
                ],
            ]),
        JSONMember(
            "blockers",
            [
                [
                    "conn_id": "c1", "device_id": "dev7", "user": "alice", "target": "example.com:443",
                    "age_seconds": 81, "bytes_sent": 900, "bytes_received": 70_000, "idle_seconds": 2,
                ]
            ]),
    ]

    @Test func whyItIsSlowAndWhoDoesNotMoveIsTold() throws {
        let server = try StandIn { _, before in
            Canned(
                json: before == 0
                    ? Self.drain("handover", moved: 1, conns: 3, adding: Self.troubled)
                    : Self.drain("held", moved: 2, adding: Self.troubled))
        }
        let run = server.run(["nodes", "drain", "self", "--wait"])
        #expect(
            run.errors.hasPrefix(
                "self: handover, 1 of 4 devices moved, 3 conns left, about 90s to go at the rate that other nodes "
                    + "take; the other nodes are busy; told and not moved: dev1, dev2 and 7 more; "
                    + "waiting for dev7 c1 example.com:443 alice\n"))
        #expect(
            run.output
                == "self: held, 2 of 4 devices moved, 0 conns left; told and not moved: dev1, dev2 and 7 more\n"
        )
        let drawn = try StandIn { _, before in
            Canned(json: Self.drain(before == 0 ? "handover" : "drained", moved: 1, adding: Self.troubled))
        }
        let console = TestConsole(columns: 100)
        let drawing = drawn.run(["nodes", "drain", "self", "--wait"], console: console).errors
        #expect(drawing.contains("  ETA at the rate that other nodes take, waiting for dev7"))
        #expect(drawing.contains("  the other nodes are busy; arrived: pop-2 18/20 busy, pop-3 5/5"))
        #expect(drawing.contains("  told and not moved: dev1, dev2 and 7 more"))
    }

    @Test(arguments: [
        ("no_taker", "there is no other node"), ("takers_closed", "no other node takes devices"),
        ("takers_full", "the other nodes are full"), ("of a later version", "of a later version"),
    ])
    func everyHindranceHasItsWords(hindrance: String, words: String) throws {
        let server = try StandIn { _ in
            Canned(json: Self.drain("handover", adding: [JSONMember("hindrance", .string(hindrance))]))
        }
        #expect(server.run(["nodes", "drain", "pop-1"]).output.hasSuffix("; \(words)\n"))
    }

    @Test func aDrainIsShownWithItsTargetsAndBlockersAsTables() throws {
        let server = try StandIn { _ in Canned(json: Self.drain("handover", adding: Self.troubled)) }
        let output = server.run(["drains", "show", "pop-1"]).output
        #expect(output.contains("unmoved          dev1,dev2\n"))
        #expect(!output.contains("targets") && !output.contains("blockers"))
        #expect(
            output.hasSuffix(
                """

                TARGET  STATE   ASSIGNED  ARRIVED  DEVICES/S
                pop-2   busy          20       18       2.50
                pop-3   open           5        5         50
                pop-4   closed         0        0          0

                CONN  DEVICE  USER   TARGET           AGE   SENT  RECEIVED  IDLE
                c1    dev7    alice  example.com:443  81s  900 B  68.4 KiB    2s

                """))
    }

    @Test func aPreviewSaysForHowManyThereIsNoRoom() throws {
        let server = try StandIn { _ in
            Canned(json: [
                "devices_total": 7, "eta_seconds": 300, "eta_basis": "deadline",
                "targets": [["node_id": "pop-2", "devices_taken": 5, "devices_after": 9]],
            ])
        }
        let run = server.run(["nodes", "drain", "self", "--preview"])
        #expect(run.output.contains("eta_basis      deadline\n"))
        #expect(run.errors == "popctl: the targets have no room for 2 of the devices; those stay\n")
    }

    @Test func waitDrawsABarOnATerminal() throws {
        let server = try StandIn { _, before in
            let members = [
                JSONMember("deadline_at", "2026-01-31T09:10:00.000Z"), JSONMember("blockers", ["dev7"]),
            ]
            return Canned(
                json: before < 2
                    ? Self.drain("handover", moved: Int64(before), conns: 3, adding: members)
                    : Self.drain("drained", moved: 4))
        }
        let console = TestConsole(columns: 80)
        let run = server.run(["nodes", "drain", "self", "--wait"], console: console)
        #expect(run.code == 0)
        let drawings = run.errors.split(separator: "\u{1b}[J").map { String($0) }
        #expect(drawings.count == 3)
        #expect(drawings[0].contains("[----------"))
        #expect(drawings[0].contains("] 0%  0/4 devices  3 conns left"))
        #expect(drawings[0].contains("deadline in 5m, waiting for dev7"))
        #expect(drawings[1].hasPrefix("\r\u{1b}[1A"))
        #expect(drawings[1].contains("25%"))
        #expect(drawings[1].contains("[#######-"))
        #expect(drawings[2] == "\r\u{1b}[1A")
        #expect(run.output == "self: drained, 4 of 4 devices moved, 0 conns left\n")
        #expect(console.watches == 0)
    }

    @Test(arguments: [10, 20, 40, 60, 80, 200])
    func barFitsEveryTerminal(columns: Int) throws {
        let server = try StandIn { _, before in
            Canned(json: Self.drain(before == 0 ? "handover" : "drained", moved: 2, conns: 123))
        }
        let run = server.run(["nodes", "drain", "pop-1", "--wait"], console: TestConsole(columns: columns))
        let drawing = run.errors.split(separator: "\u{1b}").first?.drop { $0 == "\r" } ?? ""
        #expect(drawing.count < columns)
    }

    @Test(arguments: [Int64.min, .max])
    func noNumberOfAServerIsTooMuch(number: Int64) throws {
        let server = try StandIn { _, before in
            Canned(json: [
                "state": before == 0 ? "handover" : "drained", "devices_total": 1,
                "devices_moved": .integer(number), "conns_remaining": .integer(number),
                "conns_cut": .integer(number), "eta_seconds": .integer(number),
                "deadline_at": "0000-01-01T00:00:00Z",
            ])
        }
        #expect(server.run(["nodes", "drain", "a", "--wait"], console: TestConsole(columns: 80)).code == 0)
    }

    @Test func outageInTheMiddleIsToldAndEndured() throws {
        let server = try StandIn { _, before in
            switch before {
            case 0: Canned(status: 202, json: Self.drain("handover"))
            case 1: Canned(status: 503, json: ["code": "starting", "detail": "Not yet."])
            case 2, 3: .cut
            default: Canned(json: Self.drain("drained", moved: 4))
            }
        }
        let run = server.run(["nodes", "drain", "self", "--wait"])
        #expect(run.code == 0)
        #expect(run.errors.contains("self: starting: Not yet. (503); trying again\n"))
    }

    @Test func refusalInTheMiddleEndsTheWaiting() throws {
        let server = try StandIn { _, before in
            before == 0
                ? Canned(json: Self.drain("handover")) : Canned(status: 401, json: ["code": "invalid_token"])
        }
        let run = server.run(["nodes", "drain", "self", "--wait"])
        #expect(run.code == 1)
        #expect(run.errors.contains("invalid_token"))
        #expect(run.errors.contains("the drain of self goes on"))
    }

    @Test(arguments: ["canceled", "held", "none"])
    func drainThatEndsOtherwiseFails(state: String) throws {
        let server = try StandIn { _ in Canned(json: Self.drain(state)) }
        #expect(server.run(["nodes", "drain", "self", "--wait"]).code == 1)
    }

    @Test func interruptLeavesTheDrainRunningAndSaysSo() throws {
        let happening = try Mailbox<ConsoleEvent>()
        let server = try StandIn { _, before in
            if before == 1 { happening.send(.interrupted) }
            return Canned(json: Self.drain("handover"))
        }
        let console = TestConsole(happening: happening)
        let run = server.run(["nodes", "drain", "pop-1", "--wait"], console: console)
        #expect(run.code == 1)
        #expect(run.output == "")
        #expect(
            run.errors.hasSuffix(
                "popctl: interrupted; the drain of pop-1 goes on, popctl drains show pop-1 --wait follows it\n"
            ))
        #expect(server.requests.allSatisfy { $0.method != "DELETE" })
        #expect(console.watches == 0)
    }

    @Test func waitGivesUpAtItsTimeout() throws {
        let server = try StandIn { _ in Canned(json: Self.drain("settling")) }
        let run = server.run(["nodes", "drain", "pop-1", "--wait", "--timeout", "0s"])
        #expect(run.code == 1)
        #expect(run.errors.contains("not in 0s; the drain of pop-1 goes on"))
    }

    @Test func selfIsFollowedUnderItsName() throws {
        let server = try StandIn { _, before in
            let members = [JSONMember("node_id", "pop-1")]
            return Canned(json: Self.drain(before == 0 ? "handover" : "drained", adding: members))
        }
        let run = server.run(["nodes", "drain", "self", "--wait"])
        #expect(run.output.hasPrefix("pop-1: drained"))
        #expect(server.requests.map(\.path) == ["/v1/nodes/self/drain", "/v1/nodes/pop-1/drain"])
    }

    @Test func drainUnderWayIsFollowedWithoutTouchingIt() throws {
        let server = try StandIn { _, before in
            Canned(json: Self.drain(before == 0 ? "settling" : "drained"))
        }
        #expect(server.run(["drains", "show", "pop-1", "--wait"]).code == 0)
        #expect(server.run(["drains", "show", "pop-1"]).output.contains("state            drained\n"))
        #expect(Set(server.lines) == ["GET /v1/nodes/pop-1/drain"])
    }
}

/// Waiting for a device's session to end.
struct DeviceWaitTests {
    @Test func disconnectWaitsUntilTheSessionIsAnother() throws {
        let server = try StandIn { asked, before in
            asked.method == "POST"
                ? Canned(status: 202, json: ["session_id": "s1"])
                : Canned(json: ["status": "online", "session_id": before == 1 ? "s1" : "s2"])
        }
        let run = server.run(["devices", "disconnect", "dev1", "--wait"])
        #expect(run.output == "dev1: session s1 has ended\n")
        #expect(server.requests.map(\.method) == ["POST", "GET", "GET"])
    }

    @Test(arguments: [("disable", "PATCH"), ("revoke", "DELETE")])
    func otherVerbsLookUpTheSessionFirst(verb: String, method: String) throws {
        let server = try StandIn { asked, before in
            asked.method == "GET"
                ? Canned(json: ["status": before == 0 ? "online" : "offline", "session_id": "s1"])
                : Canned(json: [:])
        }
        #expect(server.run(["devices", verb, "dev1", "--wait"]).code == 0)
        #expect(server.requests.map(\.method) == ["GET", method, "GET"])
    }

    @Test func deviceThatWasNeverThereNeedsNoWaiting() throws {
        let server = try StandIn { asked in
            asked.method == "GET" ? Canned(status: 404, json: ["code": "not_found"]) : Canned(status: 204)
        }
        #expect(server.run(["devices", "revoke", "dev1", "--wait"]).code == 0)
        #expect(server.requests.map(\.method) == ["GET", "DELETE"])
    }

    @Test func sessionThatStaysIsToldAtTheTimeout() throws {
        let server = try StandIn { _ in Canned(json: ["status": "online", "session_id": "s1"]) }
        let run = server.run(["devices", "disconnect", "dev1", "--wait", "--timeout", "0"])
        #expect(run.code == 1)
        #expect(run.errors == "popctl: dev1 still has session s1: not in 0s\n")
    }
}
