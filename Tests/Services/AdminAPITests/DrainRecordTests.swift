import AdminAPI
import Domain
import EventLoop
import Fleet
import HTTP1
import JSON
import Store
import Testing

/// What is kept of drains, and what one would do.
struct DrainRecordTests {
    private let bench: AdminBench

    init() throws {
        bench = try AdminBench()
    }

    private var records: [DrainRecord] {
        bench.backend.events.compactMap { if case .drainChanged(let record) = $0 { record } else { nil } }
    }

    private func drain(_ body: String = "") throws -> AdminBench.Answer {
        try bench.send(.post, "/v1/nodes/self/drain", body: body, token: "operate-token")
    }

    @Test func aDrainIsOnRecordFromItsOrderToItsEnd() throws {
        let started = try drain(#"{"deadline_seconds":60,"devices_per_second":9,"reason":"upgrade"}"#)
        let first = try #require(records.first)
        #expect(records.count == 1)
        #expect(started.json["drain_id"]?.string == first.drainID.description)
        #expect(first.state == "handover" && first.version == 1 && first.endedAt == nil)
        #expect(first.deadlineSeconds == 60 && first.devicesPerSecond == 9)
        #expect(first.actor == "operate" && first.reason == "upgrade")
        #expect(first.devicesTotal == 120 && first.devicesRemaining == 101 && first.etaSeconds == 12)
        // Changed: the same drain.
        _ = try drain(#"{"deadline_seconds":5}"#)
        #expect(records.count == 2)
        #expect(records[1].drainID == first.drainID && records[1].version == 2)
        #expect(records[1].deadlineSeconds == 5)
        // Goes on: not for each device.
        bench.backend.drain.devicesRemaining = 100
        bench.api.drains.changed(bench.backend.drain)
        #expect(records.count == 2)
        bench.backend.drain.state = .settling
        bench.api.drains.changed(bench.backend.drain)
        #expect(records.last?.state == "settling" && records.last?.devicesRemaining == 100)
        bench.backend.drain.state = .drained
        bench.api.drains.changed(bench.backend.drain)
        #expect(records.last?.endedAt != nil)
        bench.api.drains.changed(bench.backend.drain)
        #expect(records.count == 4)
        // The next one is another.
        bench.backend.state = .drained
        _ = try drain()
        #expect(records.last?.drainID != first.drainID)
        _ = try bench.send(.delete, "/v1/nodes/self/drain")
        #expect(records.last?.state == "canceled" && records.last?.endedAt != nil)
    }

    /// Others may take the node for lost meanwhile, and its drain for canceled.
    @Test func aDrainIsToldAgainAsLongAsItGoesOn() throws {
        _ = try drain()
        let first = try #require(records.last)
        #expect(bench.run { records.count > 1 })
        #expect(records.last == first)
    }

    @Test func drainsAreListedAsTheyAreByNow() throws {
        _ = try drain(#"{"reason":"upgrade"}"#)
        let own = try #require(records.first)
        var other = own
        other.drainID = DrainID(high: 1, low: 1)
        other.state = "drained"
        other.endedAt = someTime
        bench.backend.drain.devicesRemaining = 1
        bench.api.drains.changed(bench.backend.drain)
        bench.backend.database = { [other] _ in
            .drains(
                ListPage(
                    items: [
                        DrainRow(record: own, nodeID: someNode("pop-1")),
                        DrainRow(record: other, nodeID: someNode("pop-2")),
                    ], next: nil))
        }
        bench.backend.questions = []
        let answer = try bench.get("/v1/drains?limit=2&node_id=self")
        #expect(
            bench.backend.questions == [.drains(DrainListQuery(nodeID: someNode("pop-1"), limit: 2))])
        #expect(answer.items.map { $0["devices_remaining"] } == [1, 101])
        #expect(answer.items.map { $0["node_id"] } == ["pop-1", "pop-2"])
        #expect(answer.items[1]["ended_at"] == "2026-01-31T09:05:00.120Z")
        #expect(answer.items[0].object?.count == 27)
        #expect(try bench.get("/v1/drains?state=none&cursor=x").faults == ["state", "cursor"])
    }

    @Test func aPreviewTellsWhoWouldGoWhere() throws {
        let now = SystemClock.wall.microseconds
        bench.backend.conns = [10, 299, 301, 4_000].enumerated().map { index, age in
            liveConn(UInt64(index), opened: now - Int64(age) * 1_000_000 - someTime.microseconds)
        }
        var rows = [
            nodeRow("pop-1", host: "one"), nodeRow("pop-2", host: "two"), nodeRow("pop-3", host: "three"),
            nodeRow("pop-4"), nodeRow("pop-5", state: .draining, host: "five"),
        ]
        rows[1].devicesOnline = 0
        rows[1].maximumDevices = 75
        rows[2].maximumDevices = 26
        bench.backend.devicesOnline = 80
        bench.backend.database = { _ in .nodes(rows) }
        func preview(_ body: String = "") throws -> AdminBench.Answer {
            try bench.send(.post, "/v1/nodes/self/drain/preview", body: body, token: "operate-token")
        }
        #expect(
            try preview(#"{"devices_per_second":30}"#).json == [
                "devices_total": 80, "eta_seconds": 3, "eta_basis": "set_rate", "conns_total": 4,
                "conns_likely_cut": 2,
                "targets": [
                    ["node_id": "pop-2", "devices_taken": 60, "devices_after": 60],
                    ["node_id": "pop-3", "devices_taken": 20, "devices_after": 21],
                ],
            ])
        #expect(try preview(#"{"deadline_seconds":0}"#).json["conns_likely_cut"] == 4)
        let one = try preview(#"{"redirect_to":["pop-3"]}"#)
        #expect(
            one.json["targets"] == [["node_id": "pop-3", "devices_taken": 25, "devices_after": 26]])
        // There is no room for the others.
        #expect(one.json["eta_seconds"] == 300 && one.json["eta_basis"] == "deadline")
        rows[1].registrationMilliseconds = 1_001
        rows[2].lagMilliseconds = 501
        let slow = try preview(#"{"devices_per_second":30}"#).json
        #expect(slow["eta_seconds"] == 3 && slow["eta_basis"] == "set_rate")
        let half = try preview(#"{"devices_per_second":30,"redirect_to":["pop-2"]}"#).json
        #expect(half["eta_basis"] == "deadline")
        rows[1].maximumDevices = 1_000
        let alone = try preview(#"{"devices_per_second":30,"redirect_to":["pop-2"]}"#).json
        #expect(alone["eta_seconds"] == 6 && alone["eta_basis"] == "taker_rate")
        let most = try preview(#"{"devices_per_second":100000,"redirect_to":["pop-2"]}"#).json
        #expect(most["eta_seconds"] == 1 && most["eta_basis"] == "taker_rate")
        bench.backend.devicesOnline = 0
        #expect(try preview().json["eta_basis"] == "none")
        #expect(try preview(#"{"redirect_to":["pop-5"]}"#).json["targets"] == [])
        #expect(try preview(#"{"redirect_to":["pop-9","pop-9"]}"#).faults == ["redirect_to[1]"])
        #expect(bench.backend.drainRequests.isEmpty)
        #expect(records.isEmpty)
        bench.backend.database = nil
        bench.backend.nodes = nil
        #expect(try preview().status == 503)
        #expect(try bench.send(.post, "/v1/nodes/self/drain/preview", token: "read-token").status == 403)
    }

    @Test func theStatusTellsWhatHoldsItUpAndWhereDevicesGo() throws {
        _ = try drain()
        bench.backend.drain.hindrance = .takersBusy
        bench.backend.drain.devicesPerSecond = 12.345
        bench.backend.drain.devicesLost = 3
        bench.backend.details = DrainDetails(
            estimate: DrainEstimate(time: .milliseconds(2_001), basis: .oldestConn),
            blockers: [
                liveConn(7, opened: SystemClock.wall.microseconds - 61_000_000 - someTime.microseconds)
            ],
            targets: [
                DrainTarget(
                    nodeID: someNode("pop-2"), state: .busy, assigned: 19, arrived: 18, devicesPerSecond: 2.5)
            ],
            unmovedTotal: 2, unmoved: [try #require(DeviceID("dev-9"))])
        bench.backend.drain.state = .settling
        bench.api.drains.changed(bench.backend.drain)
        let status = try bench.get("/v1/nodes/self/drain").json
        #expect(status["eta_seconds"] == 3 && status["eta_basis"] == "oldest_conn")
        #expect(status["hindrance"] == "takers_busy" && status["devices_lost"] == 3)
        #expect(status["current_devices_per_second"]?.number == 12.35)
        #expect(status["devices_unmoved"] == 2 && status["unmoved"] == ["dev-9"])
        let target = try #require(status["targets"]?.array?.first)
        #expect(target["node_id"] == "pop-2" && target["state"] == "busy")
        #expect(target["assigned"] == 19 && target["arrived"] == 18)
        let blocker = try #require(status["blockers"]?.array?.first)
        #expect(try #require(blocker["age_seconds"]?.integer) >= 61)
        #expect(blocker["device_id"] != nil && blocker["user"] != nil && blocker["idle_seconds"] != nil)
        let kept = try #require(records.last)
        #expect(kept.targets == ["pop-2"] && kept.blockers.count == 1 && kept.devicesLost == 3)
        #expect(kept.details["hindrance"] == "takers_busy")
    }

    @Test func aStopOfTheNodeLeavesADrainUnderWayAlone() throws {
        bench.api.drains.nodeStops(DrainRequest(deadline: .seconds(5), reason: "stop"))
        #expect(records.last?.actor == "node" && records.last?.deadlineSeconds == 5)
        bench.backend.state = .active
        _ = try drain(#"{"reason":"upgrade"}"#)
        let count = records.count
        bench.api.drains.nodeStops(DrainRequest(deadline: .seconds(5), reason: "stop"))
        #expect(records.count == count && records.last?.reason == "upgrade")
    }
}
