import HTTP1
import JSON
import PopCtl
import Testing

/// Lists over pages, as tables and as JSON, and single items.
struct ListTests {
    private static let device: JSONValue = [
        "device_id": "dev1", "status": "online", "health": "whole", "enabled": true, "node_id": "pop-1",
        "location": "eu", "tags": ["a", "b"], "active_conns": 3, "rtt_ms": .double(12.34),
        "bytes_sent": 1_536, "bytes_received": 0, "connected_at": "2026-01-31T09:00:00.000Z",
        "first_seen_at": "2026-02-01T09:05:00.000Z",
    ]

    @Test func listIsATableAndCarriesTheToken() throws {
        let server = try StandIn { _ in .list(Self.device) }
        let run = server.run(["devices", "list"])
        #expect(run.code == 0)
        #expect(run.errors == "")
        #expect(
            run.output == """
                DEVICE  STATUS  HEALTH  ENABLED  NODE   LOCATION  TAGS  CONNS      RTT     SENT  RECEIVED  SINCE
                dev1    online  whole   yes      pop-1  eu        a,b       3  12.3 ms  1.5 KiB       0 B  5m

                """)
        #expect(server.lines == ["GET /v1/devices?limit=100"])
        #expect(server.requests.first?.fields["authorization"] == "Bearer secret")
        #expect(
            server.run(["devices", "list", "--no-headers"]).output.hasPrefix("dev1    online  whole   yes"))
    }

    @Test func filtersAreEncoded() throws {
        let server = try StandIn { _ in .list() }
        _ = server.run([
            "devices", "list", "--tag", "a b", "--tag", "c&d", "--status", "online", "--prefix", "é",
            "--sort", "active_conns", "--order", "desc",
        ])
        _ = server.run(["conns", "list", "--user", "al=ice", "--protocol", "udp", "--limit", "5"])
        _ = server.run(["sessions", "list", "--device", "d", "--ended", "--from", "1h30m", "--to", "60"])
        _ = server.run([
            "audit", "list", "--actor", "ci", "--method", "POST", "--path", "/v1", "--status", "403",
        ])
        _ = server.run(["nodes", "show", "a/b"])
        #expect(
            server.requests.map(\.target) == [
                "/v1/devices?status=online&q=%C3%A9&sort=active_conns&order=desc&tag=a%20b&tag=c%26d&limit=100",
                "/v1/conns?user=al%3Dice&protocol=udp&limit=5",
                "/v1/sessions?device_id=d&open=false&from=2026-01-31T07%3A35%3A00.000Z"
                    + "&to=2026-01-31T09%3A04%3A00.000Z&limit=100",
                "/v1/audit?actor=ci&method=POST&path=%2Fv1&status=403&limit=100",
                "/v1/nodes/a%2Fb",
            ])
    }

    @Test(arguments: [
        ("nodes", "/v1/nodes"), ("devices", "/v1/devices"), ("conns", "/v1/conns"),
        ("sessions", "/v1/sessions"), ("drains", "/v1/drains"), ("users", "/v1/users"),
        ("tokens", "/v1/tokens"), ("audit", "/v1/audit"),
    ])
    func everyListShowsWhatIsMissingAsADash(noun: String, path: String) throws {
        let server = try StandIn { _ in .list([:]) }
        let run = server.run([noun, "list"])
        #expect(run.code == 0)
        #expect(server.requests.map(\.path) == [path[...]])
        let lines = run.output.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.last?.split(separator: " ").allSatisfy { $0 == "-" } == true)
    }

    // MARK: Pages

    @Test func allFollowsEveryPageAndLimitStopsAtItsNumber() throws {
        let server = try StandIn { asked in
            asked.target.contains("cursor=two") ? .list(Self.device) : .list(Self.device, next: "two")
        }
        let all = server.run(["-o", "json", "conns", "list", "--all"])
        #expect(all.json?.array?.count == 2)
        #expect(all.errors == "")
        #expect(server.requests.map(\.target) == ["/v1/conns?limit=1000", "/v1/conns?limit=1000&cursor=two"])
        let one = server.run(["-o", "json", "conns", "list", "--limit", "1"])
        #expect(one.json?.array?.count == 1)
        #expect(one.errors == "popctl: there are more; --all shows them\n")
    }

    @Test func pagesAreOneTableUnderOneHeader() throws {
        let server = try StandIn { asked in
            asked.target.contains("cursor") ? .list(["node_id": "b"]) : .list(["node_id": "a"], next: "c")
        }
        let lines = server.run(["nodes", "list", "--all"]).output.split(separator: "\n")
        #expect(lines.map { $0.prefix(4) } == ["NODE", "a   ", "b   "])
    }

    @Test func eachPageIsPrintedBeforeTheNextIsAsked() throws {
        let server = try StandIn { asked in
            asked.target.contains("cursor") ? Canned(status: 503) : .list(Self.device, next: "two")
        }
        let run = server.run(["devices", "list", "--all"])
        #expect(run.code == 1)
        #expect(run.output.contains("dev1"))
    }

    @Test func limitHoldsForServersThatSayMore() throws {
        let server = try StandIn { _ in .list(Self.device, Self.device) }
        let run = server.run(["-o", "json", "devices", "list", "--limit", "1"])
        #expect(run.json?.array?.count == 1)
        #expect(run.errors.contains("--all"))
    }

    @Test func listThatDoesNotGoOnIsAnError() throws {
        let server = try StandIn { _ in .list(Self.device, next: "same") }
        #expect(server.run(["conns", "list", "--all"]).code == 1)
    }

    @Test func emptyListIsAnEmptyArray() throws {
        let server = try StandIn { _ in .list() }
        #expect(server.run(["-o", "json", "nodes", "list"]).output == "[]\n")
    }

    // MARK: One item

    @Test func showIsFieldsOrTheRawItem() throws {
        let server = try StandIn { _ in Canned(json: Self.device) }
        let output = server.run(["devices", "show", "dev1"]).output
        #expect(output.contains("device_id       dev1\n"))
        #expect(output.contains("bytes_sent      1536 (1.5 KiB)\n"))
        #expect(output.contains("connected_at    2026-01-31T09:00:00.000Z (5m ago)\n"))
        #expect(output.contains("first_seen_at   2026-02-01T09:05:00.000Z (in 24h)\n"))
        #expect(server.run(["-o", "json", "devices", "show", "dev1"]).json == Self.device)
    }

    @Test func loadIsATableOverTime() throws {
        let server = try StandIn { _ in
            Canned(json: [
                "items": [["sampled_at": "2026-01-31T09:00:00.000Z", "active_conns": .double(1.5)]]
            ])
        }
        let run = server.run(["devices", "load", "dev1", "--from", "1h", "--step", "5m"])
        #expect(run.output.contains("2026-01-31T09:00:00.000Z   1.50"))
        #expect(
            server.lines == [
                "GET /v1/devices/dev1/load?from=2026-01-31T08%3A05%3A00.000Z&step_seconds=300"
            ])
        #expect(server.run(["-o", "json", "devices", "load", "dev1"]).json?.array?.count == 1)
    }
}
