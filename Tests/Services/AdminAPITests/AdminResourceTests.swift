import AdminAPI
import DeviceProtocol
import Domain
import Fleet
import HTTP1
import JSON
import Store
import Testing

struct AdminNodeTests {
    @Test func nodesAreListedByIDInPages() throws {
        let bench = try AdminBench()
        bench.backend.database = { _ in
            .nodes([nodeRow("pop-3"), nodeRow("pop-1", state: .down), nodeRow("pop-2")])
        }
        let first = try bench.get("/v1/nodes?limit=2")
        #expect(first.items.compactMap { $0["node_id"]?.string } == ["pop-1", "pop-2"])
        #expect(first.items.first?["state"] == "active")
        let cursor = try #require(first.json["next_cursor"]?.string)
        let second = try bench.get("/v1/nodes?limit=2&cursor=\(cursor)")
        #expect(second.items.compactMap { $0["node_id"]?.string } == ["pop-3"])
        #expect(second.json["next_cursor"] == .null)
        #expect(try bench.get("/v1/nodes?cursor=zz").faults == ["cursor"])
    }

    @Test func ownNodeIsShownWithoutTheDatabase() throws {
        let bench = try AdminBench()
        for id in ["self", "pop-1"] {
            let answer = try bench.get("/v1/nodes/\(id)")
            #expect(answer.status == 200)
            #expect(
                answer.json == [
                    "node_id": "pop-1", "state": "active", "location": "eu", "advertise_host": nil,
                    "wss_port": 443, "quic_port": 443, "version": "0.1.0",
                    "started_at": "2026-01-31T09:05:00.120Z", "last_seen_at": "2026-01-31T09:05:00.120Z",
                    "age_seconds": .double(0),
                    "devices_online": 1, "conns_active": 2, "bytes_sent": 3, "bytes_received": 4,
                    "cpu_utilization": .double(0.5), "memory_used_bytes": 6, "max_devices": 50,
                ])
        }
    }

    @Test func otherNodesAreKnownOrNot() throws {
        let bench = try AdminBench()
        bench.backend.database = { query in
            switch query {
            case .askNode(let question): .nodeAsked(question.node == someNode("pop-2") ? .down : .unknownNode)
            case .node(let id): .node(id == someNode("pop-2") ? nodeRow("pop-2") : nil)
            default: nil
            }
        }
        #expect(try bench.get("/v1/nodes/pop-2").json["node_id"] == "pop-2")
        #expect(try bench.get("/v1/nodes/pop-9").code == "node_not_found")
        #expect(try bench.get("/v1/nodes/a%20b").code == "node_not_found")
        #expect(try bench.send(.post, "/v1/nodes/pop-2/drain").code == "node_unreachable")
        #expect(try bench.send(.post, "/v1/nodes/pop-9/drain").code == "node_not_found")
    }

    @Test func eligibilityCordonsAndUncordons() throws {
        let bench = try AdminBench()
        func put(_ body: String) throws -> AdminBench.Answer {
            try bench.send(.put, "/v1/nodes/self/eligibility", body: body)
        }
        #expect(try put(#"{"eligible":false,"reason":"disk"}"#).json["state"] == "cordoned")
        #expect(try put(#"{"eligible":true}"#).json["state"] == "active")
        #expect(try put(#"{"eligible":1}"#).faults == ["eligible"])
        #expect(try put(#"{"reason":"x"}"#).faults == ["eligible"])
        #expect(try put("").status == 400)
        bench.backend.state = .draining
        #expect(try put(#"{"eligible":true}"#).code == "node_draining")
        #expect(bench.backend.state == .draining)
    }

    @Test func drainBeginsIsShownAndIsCanceled() throws {
        let bench = try AdminBench()
        let before = try bench.get("/v1/nodes/self/drain")
        #expect(before.json["state"] == "none")
        #expect(before.json["devices_total"] == 0)
        #expect(before.json["actor"] == .null)
        let started = try bench.send(.post, "/v1/nodes/self/drain", token: "operate-token")
        #expect(started.status == 202)
        #expect(started.json["state"] == "handover")
        #expect(started.json["eta_seconds"] == 3)
        #expect(started.json["actor"] == "operate")
        #expect(bench.backend.drainRequests == [DrainRequest()])
        _ = try bench.send(
            .post, "/v1/nodes/self/drain",
            body: #"{"deadline_seconds":5.0,"devices_per_second":9e0,"on_deadline":"cut","reason":"upgrade"}"#
        )
        #expect(
            bench.backend.drainRequests.last
                == DrainRequest(deadline: .seconds(5), reason: "upgrade", devicesPerSecond: 9))
        let canceled = try bench.send(.delete, "/v1/nodes/self/drain")
        #expect(canceled.status == 200)
        #expect(canceled.json["state"] == "canceled")
        #expect(bench.backend.state == .active)
        _ = try bench.send(.delete, "/v1/nodes/self/drain?eligibility=keep")
        #expect(bench.backend.state == .cordoned)
        #expect(try bench.send(.delete, "/v1/nodes/self/drain?eligibility=drop").faults == ["eligibility"])
    }

    @Test func drainSendsDevicesToNodesThatCanBeReached() throws {
        let bench = try AdminBench()
        bench.backend.database = { _ in
            .nodes([
                nodeRow("pop-1", host: "one"), nodeRow("pop-2", host: "two.example"), nodeRow("pop-3"),
                nodeRow("pop-4", host: "2001:db8::1"),
            ])
        }
        let wrong = try bench.send(
            .post, "/v1/nodes/self/drain", body: #"{"redirect_to":["pop-2","pop-9","pop-1","pop-3"]}"#)
        #expect(wrong.status == 422)
        #expect(wrong.faults == ["redirect_to[1]", "redirect_to[2]", "redirect_to[3]"])
        #expect(bench.backend.drainRequests.isEmpty)
        #expect(
            try bench.send(.post, "/v1/nodes/self/drain", body: #"{"redirect_to":["pop-2","pop-4"]}"#).status
                == 202)
        #expect(
            bench.backend.drainRequests.last?.redirectTo == [someNode("pop-2"), someNode("pop-4")])
    }

    @Test func wrongDrainOrdersAreNamed() throws {
        let bench = try AdminBench()
        let wrong = [
            #"{"deadline_seconds":-1}"#: "deadline_seconds",
            #"{"deadline_seconds":1.5}"#: "deadline_seconds",
            #"{"deadline_seconds":1e300}"#: "deadline_seconds",
            #"{"devices_per_second":0}"#: "devices_per_second",
            #"{"redirect_to":[1]}"#: "redirect_to", #"{"on_deadline":"keep"}"#: "on_deadline",
            #"{"reason":1}"#: "reason", #"{"force":true}"#: "force",
        ]
        for (body, field) in wrong {
            #expect(try bench.send(.post, "/v1/nodes/self/drain", body: body).faults == [field])
        }
        #expect(bench.backend.drainRequests.isEmpty)
    }

    @Test func staleDrainVersionIs412() throws {
        let bench = try AdminBench()
        let tag = try #require(try bench.get("/v1/nodes/self/drain").fields["etag"])
        #expect(try bench.send(.post, "/v1/nodes/self/drain", fields: ["If-Match": tag]).status == 202)
        let stale = try bench.send(.delete, "/v1/nodes/self/drain", fields: ["If-Match": tag])
        #expect(stale.status == 412)
        #expect(stale.code == "precondition_failed")
        #expect(bench.backend.state == .draining)
        let current = try #require(try bench.get("/v1/nodes/self/drain").fields["etag"])
        #expect(
            try bench.send(.delete, "/v1/nodes/self/drain", fields: ["If-Match": current]).status == 200)
        #expect(
            try bench.send(.delete, "/v1/nodes/self/drain", fields: ["If-Match": current]).status == 412)
    }

    /// It may have counted as many orders as its life before.
    @Test func aTagOfADrainFitsNoDrainOfAnotherLife() throws {
        func begun() throws -> (bench: AdminBench, tag: String) {
            let bench = try AdminBench()
            return (bench, try #require(try bench.send(.post, "/v1/nodes/self/drain").fields["etag"]))
        }
        let (past, present) = (try begun(), try begun())
        let stale = try present.bench.send(
            .delete, "/v1/nodes/self/drain", fields: ["If-Match": past.tag])
        #expect(stale.status == 412)
        #expect(present.bench.backend.state == .draining)
    }

    /// A client that names no tag at all has not said that any will do.
    @Test func anEmptyIfMatchFitsNothing() throws {
        let bench = try AdminBench()
        for tags in ["", ",", " , "] {
            #expect(try bench.send(.post, "/v1/nodes/self/drain", fields: ["If-Match": tags]).status == 412)
        }
        #expect(bench.backend.drainRequests.isEmpty)
    }
}

struct AdminDeviceTests {
    @Test func filtersReachTheDatabase() throws {
        let bench = try AdminBench()
        bench.backend.database = { _ in .devices(ListPage(items: [], next: nil)) }
        _ = try bench.get(
            "/v1/devices?status=online&node_id=self&location=eu&tag=a&tag=b&q=de&sort=active_conns&order=desc"
                + "&limit=7")
        #expect(
            bench.backend.questions == [
                .devices(
                    DeviceListQuery(
                        online: true, nodeID: someNode("pop-1"), location: "eu", tags: ["a", "b"],
                        prefix: "de",
                        sort: .activeConns, descending: true, limit: 7))
            ])
        for query in ["status=up", "sort=name", "order=down", "node_id=a%20b", "cursor=x"] {
            #expect(try bench.get("/v1/devices?\(query)").status == 422)
        }
    }

    @Test func liveStateLiesOverTheRow() throws {
        let bench = try AdminBench()
        bench.backend.sessions = [liveSession(1, device: "dev1")]
        bench.backend.database = { _ in
            .devices(
                ListPage(
                    items: [
                        deviceRow("dev1"), deviceRow("dev2", online: true, node: "pop-2"), deviceRow("dev3"),
                    ],
                    next: nil))
        }
        let items = try bench.get("/v1/devices").items
        #expect(items.compactMap { $0["status"]?.string } == ["online", "online", "offline"])
        #expect(items[0]["node_id"] == "pop-1")
        #expect(items[0]["active_conns"] == 9)
        #expect(items[0]["bytes_sent"] == 100)
        #expect(items[0]["health"] == "control_only")
        #expect(items[0]["remote_address"] == "192.0.2.7:51000")
        #expect(items[1]["node_id"] == "pop-2")
    }

    @Test func liveStateNeverBreaksWhatAListIsFilteredOrSortedBy() throws {
        let bench = try AdminBench()
        bench.backend.sessions = [liveSession(1, device: "live")]
        var known = deviceRow("live", online: true, node: "pop-1")
        known.connectedAt = someTime
        known.location = "us"
        known.tags = ["b"]
        known.activeConns = 2
        var older = known
        older.connectedAt = WallTime(microseconds: 0)
        older.sessionEpoch = 1
        let gone = deviceRow("gone", online: true, node: "pop-1")
        let other = deviceRow("other", online: true, node: "pop-2")
        func list(_ query: String, _ rows: DeviceRow...) throws -> [JSONValue] {
            bench.backend.database = { _ in .devices(ListPage(items: rows, next: nil)) }
            return try bench.get("/v1/devices?\(query)").items
        }
        func ids(_ items: [JSONValue]) -> [String?] { items.map { $0["device_id"]?.string } }
        #expect(ids(try list("status=online", known, gone, other)) == ["live", "other"])
        #expect(ids(try list("status=offline", known, gone)) == ["gone"])
        #expect(ids(try list("location=eu", known, gone)) == ["gone"])
        #expect(ids(try list("tag=a", known, gone)) == ["gone"])
        #expect(ids(try list("node_id=pop-2", known, other)) == ["other"])
        // As it is now, but for what the list is sorted by.
        #expect(try list("", known).first?["active_conns"] == 9)
        let byConns = try list("sort=active_conns", known).first
        #expect(byConns?["active_conns"] == 2 && byConns?["bytes_sent"] == 100)
        // A session that is not on record yet has its own place in the list.
        let byTime = try list("sort=connected_at", older).first
        #expect(byTime?["connected_at"] == "1970-01-01T00:00:00.000Z" && byTime?["session_epoch"] == 1)
        #expect(try list("", older).first?["session_epoch"] == 7)
    }

    @Test func deviceThatHasJustGoneIsOffline() throws {
        let bench = try AdminBench()
        bench.backend.database = { _ in .device(deviceRow("dev1", online: true, node: "pop-1")) }
        let answer = try bench.get("/v1/devices/dev1")
        #expect(answer.json["status"] == "offline")
        #expect(answer.fields["etag"] == "\"7\"")
        #expect(answer.json["age_seconds"] == .null)
        #expect(answer.json.object?.count == 25)
    }

    @Test func connectedDeviceIsAnsweredFromMemoryOnceItsFirstSightIsKnown() throws {
        let bench = try AdminBench()
        var live = liveSession(1, device: "dev1")
        live.quicRemoteAddress = someAddress
        live.lastHeartbeatAt = someTime
        live.load = LoadReport(
            sampledAtUnixMilliseconds: 0, activeConns: 1, bytesSent: 2, bytesReceived: 3,
            cpuUtilization: 0.25, memoryUsedBytes: 4, memoryTotalBytes: 5)
        bench.backend.sessions = [live]
        // The database is down and has told nothing: all but one field is known.
        let unknown = try bench.get("/v1/devices/dev1")
        #expect(unknown.status == 200)
        #expect(unknown.json["first_seen_at"] == .null)
        #expect(bench.backend.questions == [.device(someDevice("dev1"))])
        bench.backend.database = { _ in .device(deviceRow("dev1")) }
        #expect(try bench.get("/v1/devices/dev1").json["first_seen_at"] == "2026-01-31T09:05:00.120Z")
        bench.backend.database = nil
        bench.backend.questions = []
        let answer = try bench.get("/v1/devices/dev1")
        #expect(bench.backend.questions.isEmpty)
        #expect(answer.fields["etag"] == "\"7\"")
        #expect(
            answer.json == [
                "device_id": "dev1", "status": "online", "enabled": true, "node_id": "pop-1",
                "session_id": "00000000-0000-0001-0000-000000000001", "location": "us", "tags": ["b"],
                "capacity": 5, "agent_version": "2", "remote_address": "192.0.2.7:51000",
                "quic_remote_address": "192.0.2.7:51000", "health": "control_only", "session_epoch": 7,
                "connected_at": "2026-01-31T09:05:00.120Z", "last_heartbeat_at": "2026-01-31T09:05:00.120Z",
                "rtt_ms": .double(1.5), "active_conns": 9, "bytes_sent": 100, "bytes_received": 200,
                "cpu_utilization": .double(0.25), "memory_used_bytes": 4, "memory_total_bytes": 5,
                "first_seen_at": "2026-01-31T09:05:00.120Z", "last_seen_at": "2026-01-31T09:05:07.120Z",
                "age_seconds": .double(0),
            ])
    }

    @Test func unknownDeviceIs404() throws {
        let bench = try AdminBench()
        bench.backend.database = { query in
            switch query {
            case .sessions: .sessions(ListPage(items: [], next: nil))
            case .load: .load([])
            default: .device(nil)
            }
        }
        for path in ["", "/sessions", "/load"] {
            let answer = try bench.get("/v1/devices/dev1\(path)")
            #expect(answer.status == 404)
            #expect(answer.code == "device_not_found")
        }
        #expect(try bench.get("/v1/devices/a%20b").code == "device_not_found")
        #expect(try bench.send(.post, "/v1/devices/dev1/disconnect").code == "device_not_found")
    }

    @Test func disconnectEndsALiveSessionWithoutTheDatabase() throws {
        let bench = try AdminBench()
        bench.backend.sessions = [liveSession(1, device: "dev1")]
        let stale = try bench.send(.post, "/v1/devices/dev1/disconnect", fields: ["If-Match": "\"6\""])
        #expect(stale.status == 412)
        #expect(bench.backend.disconnected.isEmpty)
        let answer = try bench.send(.post, "/v1/devices/dev1/disconnect", fields: ["If-Match": "\"7\""])
        #expect(answer.status == 202)
        #expect(answer.json["device_id"] == "dev1")
        #expect(bench.backend.disconnected == [someDevice("dev1")])
    }

    @Test func disconnectOfAnOfflineDeviceIs409() throws {
        let bench = try AdminBench()
        bench.backend.database = { _ in .device(deviceRow("dev1")) }
        let answer = try bench.send(.post, "/v1/devices/dev1/disconnect")
        #expect(answer.status == 409)
        #expect(answer.code == "device_offline")
        bench.backend.database = { query in
            if case .askNode = query { return .nodeAsked(.withdrawn) }
            return .device(deviceRow("dev1", online: true, node: "pop-2"))
        }
        #expect(try bench.send(.post, "/v1/devices/dev1/disconnect").code == "node_unreachable")
    }

    @Test func sessionsAreFilteredAndOpenOnesCounted() throws {
        let bench = try AdminBench()
        bench.backend.sessions = [liveSession(1, device: "dev1")]
        bench.backend.database = { _ in
            .sessions(
                ListPage(
                    items: [sessionRow(1, device: "dev1"), sessionRow(2, device: "dev1", isOpen: false)],
                    next: nil))
        }
        let answer = try bench.get(
            "/v1/devices/dev1/sessions?open=true&from=2026-01-01T00:00:00%2B02:00&limit=5")
        #expect(
            bench.backend.questions == [
                .sessions(
                    SessionListQuery(
                        deviceID: someDevice("dev1"), open: true,
                        from: WallTime(rfc3339: "2025-12-31T22:00:00Z"),
                        limit: 5))
            ])
        #expect(answer.items.map { $0["bytes_sent"] } == [100, 1])
        #expect(answer.items.map { $0["end_reason"] } == [.null, "goodbye"])
        _ = try bench.get("/v1/sessions?device_id=dev2&node_id=self&to=2026-01-01T00:00:00+00:00")
        #expect(
            bench.backend.questions.last
                == .sessions(
                    SessionListQuery(
                        deviceID: someDevice("dev2"), nodeID: someNode("pop-1"),
                        to: WallTime(rfc3339: "2026-01-01T00:00:00Z"))))
        for query in ["from=yesterday", "open=1", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"] {
            #expect(try bench.get("/v1/sessions?\(query)").status == 422)
        }
    }

    @Test func loadIsASeries() throws {
        let bench = try AdminBench()
        bench.backend.database = { _ in
            .load([
                LoadPoint(
                    at: someTime, activeConns: 1.5, bytesSent: 2, bytesReceived: 3, cpuUtilization: 0.25,
                    memoryUsedBytes: 4, memoryTotalBytes: 5, roundTripMilliseconds: nil)
            ])
        }
        let answer = try bench.get(
            "/v1/devices/dev1/load?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&step_seconds=60")
        #expect(
            answer.json["items"] == [
                [
                    "sampled_at": "2026-01-31T09:05:00.120Z", "active_conns": .double(1.5), "bytes_sent": 2,
                    "bytes_received": 3, "cpu_utilization": .double(0.25), "memory_used_bytes": 4,
                    "memory_total_bytes": 5, "rtt_ms": nil,
                ]
            ])
        guard case .load(let query) = bench.backend.questions.first else {
            Issue.record("another question")
            return
        }
        #expect(query.stepSeconds == 60)
        #expect(query.to.microseconds - query.from.microseconds == 86_400_000_000)
        #expect(try bench.get("/v1/devices/dev1/load?step_seconds=0").faults == ["step_seconds"])
        #expect(try bench.get("/v1/devices/dev1/load").status == 200)
    }
}

struct AdminConnTests {
    @Test func connsAreListedOldestFirstAndPagesSurviveChange() throws {
        let bench = try AdminBench()
        bench.backend.conns = (1...5).map { liveConn($0, opened: Int64($0)) }.shuffled()
        let first = try bench.get("/v1/conns?limit=2")
        let cursor = try #require(first.json["next_cursor"]?.string)
        bench.backend.conns.removeAll { $0.connID.low <= 3 }
        bench.backend.conns.append(liveConn(9, opened: 9))
        let second = try bench.get("/v1/conns?limit=3&cursor=\(cursor)")
        let ids = (first.items + second.items).compactMap { $0["conn_id"]?.string }
        #expect(ids == [1, 2, 4, 5, 9].map { liveConn($0).connID.description })
        #expect(second.json["next_cursor"] == .null)
    }

    @Test func connIsShownWhole() throws {
        let bench = try AdminBench()
        bench.backend.conns = [liveConn(1, user: "alice")]
        var json = try bench.get("/v1/conns/\(liveConn(1).connID)").json.object ?? []
        #expect(json.popLast()?.name == "idle_seconds")
        #expect(
            JSONValue.object(json) == [
                "conn_id": .string(liveConn(1).connID.description), "node_id": "pop-1", "device_id": "dev1",
                "session_id": .string(SessionID(high: 1, low: 1).description), "user": "alice",
                "protocol": "socks5", "client_address": "192.0.2.7:51000", "target": "example.com:443",
                "resolved_address": "192.0.2.9:443", "state": "open", "opened_at": "2026-01-31T09:05:00.120Z",
                "bytes_sent": 5, "bytes_received": 6,
            ])
        #expect(try bench.get("/v1/conns/\(liveConn(2).connID)").code == "conn_not_found")
        #expect(try bench.get("/v1/conns/x").code == "conn_not_found")
    }

    @Test(arguments: [
        ("device_id=dev2", [2]), ("user=alice", [3]), ("protocol=socks5", [1, 2, 3, 4]), ("protocol=udp", []),
        ("target=example.com", [1, 2, 3]), ("target=example.com:443", [1, 2, 3]),
        ("target=example.com:80", []),
        ("target=2001:db8::1", [4]), ("node_id=self", [1, 2, 3, 4]), ("node_id=pop-1", [1, 2, 3, 4]),
        ("user=alice&device_id=dev2", []),
    ])
    func filtersSelect(query: String, serials: [UInt64]) throws {
        let bench = try AdminBench()
        bench.backend.conns = [
            liveConn(1, opened: 1), liveConn(2, device: "dev2", opened: 2),
            liveConn(3, user: "alice", opened: 3),
            liveConn(4, target: "[2001:db8::1]:443", opened: 4),
        ]
        let items = try bench.get("/v1/conns?\(query)").items
        #expect(items.compactMap { $0["conn_id"]?.string } == serials.map { liveConn($0).connID.description })
    }

    @Test func closingIsTold() throws {
        let bench = try AdminBench()
        bench.backend.conns = [liveConn(1), liveConn(2, device: "dev2")]
        #expect(try bench.send(.delete, "/v1/conns/\(liveConn(1).connID)").status == 204)
        #expect(try bench.send(.delete, "/v1/conns/\(liveConn(8).connID)").status == 404)
        #expect(bench.backend.closed == [liveConn(1).connID])
        let answer = try bench.send(.post, "/v1/conns/close", body: #"{"device_id":"dev2","reason":"abuse"}"#)
        #expect(answer.json == ["closed": 1])
        #expect(bench.backend.closed.last == liveConn(2).connID)
    }
}
