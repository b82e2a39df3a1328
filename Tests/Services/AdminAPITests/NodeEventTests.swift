import Domain
import EventLoop
import Fleet
import HTTP1
import JSON
import Store
import Testing

@testable import AdminAPI

/// Events between nodes: one bench follows, what the other node says is the test's.
@Suite struct NodeEventTests {
    /// The other node, and the rows between.
    private final class Other {
        var states = [nodeRow("pop-1"), nodeRow("pop-2")]
        var life: UInt64 = 7
        var number: UInt64 = 0
        var since: UInt64 = 0
        var outcome: NodeOutcome?
        var batches: [EventBatch] = []
        private(set) var asked: [String] = []

        func answer(_ query: StoreQuery) -> StoreAnswer? {
            switch query {
            case .nodes: return .nodes(states)
            case .askNode(let question):
                asked.append(question.target)
                let place = #"{"life":"\#(String(life, radix: 16))","number":\#(number),"since":\#(since)}"#
                return .nodeAsked(
                    outcome ?? .answered(NodeAnswer(status: 200, media: "application/json", body: place)))
            case .events(let positions):
                return .events(
                    batches.filter { batch in
                        positions.contains {
                            $0.node == batch.node && $0.life == batch.life && $0.number < batch.number
                        }
                    })
            default: return nil
            }
        }

        func tell(_ number: UInt64, _ state: String, life: UInt64? = nil) {
            let data = #"{"at":"2026-01-31T09:05:00.120Z","node_id":"pop-2","state":"\#(state)"}"#
            batches.append(
                EventBatch(
                    node: someNode("pop-2"), life: life ?? self.life, number: number,
                    body: "node.state \(data)\nfuture.kind {}\n"))
        }
    }

    private let bench: AdminBench
    private let other = Other()

    init() throws {
        bench = try AdminBench()
        bench.backend.database = { [other] in other.answer($0) }
    }

    private func open(_ target: String = "/v1/events", after id: String? = nil) -> EventStream {
        let stream = EventStream(bench, target, fields: id.map { ["Last-Event-ID": $0] } ?? [:])
        #expect(bench.run { !stream.ids.isEmpty || stream.hasEnded })
        return stream
    }

    private func told(_ stream: EventStream) -> [String] {
        stream.events.map { event in
            let what = event.data["state"]?.string ?? event.data["cause"]?.string ?? ""
            return "\(event.data["node_id"]?.string ?? "") \(event.type ?? "") \(what)"
        }
    }

    // MARK: Following

    @Test func whatAnotherNodeTellsIsPassedOnInItsOrder() throws {
        other.number = 4
        let stream = open()
        #expect(other.asked.count == 1)
        #expect(other.asked[0].hasPrefix("/internal/events?types=device.online,"))
        other.tell(4, "old")
        other.tell(5, "cordoned")
        other.tell(6, "active")
        bench.api.eventsTold()
        bench.api.eventsTold()
        #expect(bench.run { stream.events.count >= 2 })
        #expect(told(stream) == ["pop-2 node.state cordoned", "pop-2 node.state active"])
    }

    /// The other node has told of it once, and does not again.
    @Test func whatCouldNotBeReadAtFirstIsReadLater() throws {
        let stream = open("/v1/events?types=node.state")
        other.tell(1, "cordoned")
        var failures = 1
        bench.backend.database = { [other] query in
            if case .events = query, failures > 0 {
                failures -= 1
                return nil
            }
            return other.answer(query)
        }
        bench.api.eventsTold()
        #expect(bench.run { !stream.events.isEmpty })
        #expect(told(stream) == ["pop-2 node.state cordoned"])
    }

    @Test func aMissingBatchIsAGapOfItsNode() throws {
        let stream = open("/v1/events?types=node.state")
        other.tell(1, "cordoned")
        other.tell(3, "active")
        bench.api.eventsTold()
        #expect(bench.run { stream.events.count >= 3 })
        #expect(
            told(stream) == [
                "pop-2 node.state cordoned", "pop-2 gap events_lost", "pop-2 node.state active",
            ])
    }

    @Test func aNodeThatDoesNotAnswerIsAGapForEveryKindOfReader() throws {
        other.outcome = .withdrawn
        let stream = open("/v1/events?types=device.online")
        #expect(bench.run { !stream.events.isEmpty })
        #expect(told(stream) == ["pop-2 gap node_silent"])
    }

    @Test func withoutTheDatabaseNobodyKnowsWhatIsMissing() throws {
        bench.backend.database = nil
        bench.backend.nodes = nil
        let stream = open()
        #expect(bench.run { !stream.events.isEmpty })
        #expect(told(stream) == ["pop-1 gap database_unavailable"])
    }

    @Test func theEndAndTheReturnOfANodeAreSeen() throws {
        let stream = open()
        other.states[1].state = .down
        #expect(bench.run { stream.events.count >= 2 })
        #expect(told(stream) == ["pop-2 gap node_lost", "pop-2 node.state down"])
        other.states[1].state = .active
        other.life = 8
        #expect(bench.run { stream.events.count >= 3 && other.asked.count >= 2 })
        #expect(told(stream).last == "pop-2 node.state active")
        other.tell(1, "cordoned")
        bench.run {
            bench.api.eventsTold(); return stream.events.count >= 4
        }
        #expect(told(stream).last == "pop-2 node.state cordoned")
    }

    @Test func itsOwnWordOnItsEndIsEnough() throws {
        let stream = open()
        other.tell(1, "down")
        bench.api.eventsTold()
        #expect(bench.run { stream.events.count >= 1 })
        other.states[1].state = .down
        other.states.append(nodeRow("pop-3"))
        // By then it has looked again.
        #expect(bench.run { other.asked.count >= 2 })
        #expect(told(stream) == ["pop-2 node.state down"])
    }

    @Test func whoWasNotFollowedMeanwhileIsToldAsAGap() throws {
        let first = open("/v1/events?types=device.online")
        let id = try #require(first.ids.last)
        first.leave()
        let same = open("/v1/events?types=device.online", after: id)
        bench.api.events.nodeStateChanged(.cordoned)
        let wider = open("/v1/events", after: id)
        #expect(bench.run { wider.events.count >= 2 })
        #expect(told(wider) == ["pop-1 gap unfollowed", "pop-1 node.state cordoned"])
        #expect(same.events.isEmpty)
        #expect(other.asked == ["/internal/events?types=device.online", other.asked[1]])
        #expect(other.asked[1].contains("conn.opened"))
    }

    /// Another reader wants more of the other nodes; of what this one wants nothing is missing.
    @Test func aReaderOfWhatWasFollowedHasMissedNothing() throws {
        let first = open("/v1/events?types=device.online")
        let id = try #require(first.ids.last)
        bench.api.events.nodeStateChanged(.cordoned)
        let wider = open("/v1/events?types=device.online,node.state")
        other.tell(1, "active")
        bench.api.eventsTold()
        #expect(bench.run { wider.events.count >= 1 })
        first.leave()
        let same = open("/v1/events?types=device.online", after: id)
        bench.api.events.sessionStarted(liveSession(1, device: "dev1")) { _ in false }
        #expect(bench.run { !same.events.isEmpty })
        #expect(same.types == ["device.online"])
    }

    // MARK: Places

    @Test func aReaderOfWhatIsRareKeepsItsPlace() throws {
        let stream = open("/v1/events?types=node.state")
        let first = try #require(stream.ids.last)
        for _ in 0..<10_050 { bench.api.events.connOpened(liveConn(1)) }
        bench.api.events.beat()
        #expect(bench.run { stream.ids.count >= 2 })
        #expect(stream.events.isEmpty)
        // Neither with the place that a heartbeat has told nor without it.
        for id in [first, try #require(stream.ids.last)] {
            let again = open("/v1/events?types=node.state", after: id)
            bench.api.events.nodeStateChanged(.active)
            #expect(bench.run { !again.events.isEmpty })
            #expect(!again.types.contains("gap"))
        }
    }

    // MARK: Telling

    private func listen(_ node: String, _ types: String = "node.state") throws -> JSONValue {
        var answer: NodeAnswer?
        bench.api.perform(
            ClaimedQuestion(
                id: SessionID(high: 1, low: 2),
                question: NodeQuestion(
                    node: bench.backend.nodeID, method: "GET", target: "/internal/events?types=\(types)",
                    actor: "", scope: "read", remoteAddress: "", requestID: ""),
                askedBy: someNode(node), deadline: SystemClock.now + .seconds(4))
        ) { answer = $0 }
        #expect(bench.run { answer != nil })
        return try JSONValue(parsing: Array((answer?.body ?? "").utf8))
    }

    private var batches: [EventBatch] {
        bench.backend.questions.compactMap { if case .tellEvents(let batch) = $0 { batch } else { nil } }
    }

    @Test func whatIsWantedIsToldInBatchesAndNothingElse() throws {
        bench.api.events.nodeStateChanged(.active)
        #expect(try listen("pop-2")["number"] == 0)
        bench.api.events.connOpened(liveConn(1))
        bench.api.events.nodeStateChanged(.cordoned)
        bench.api.events.nodeStateChanged(.active)
        #expect(bench.run { !batches.isEmpty })
        let batch = try #require(batches.first)
        #expect(batch.number == 1)
        let events = EventTeller.events(in: batch.body)
        #expect(events.map(\.kind) == [.nodeState, .nodeState])
        #expect(try events.map { try JSONValue(parsing: $0.data)["state"] } == ["cordoned", "active"])
        let place = try listen("pop-3", "conn.opened")
        #expect(place["number"] == 1)
        #expect(place["since"] == 1)
        #expect(try listen("pop-2")["since"] == 0)
        bench.api.events.connOpened(liveConn(1))
        #expect(bench.run { batches.count == 2 })
        #expect(batches.last?.number == 2)
    }

    @Test func moreThanThereIsRoomForLeavesANumberOut() throws {
        bench.backend.database = nil
        _ = try listen("pop-2", "conn.opened")
        var count = 0
        while bench.api.teller.lostBatches == 0, count < 100_000 {
            bench.api.events.connOpened(liveConn(1))
            count += 1
        }
        // The first batch is on its way, what came behind it had no room in the end.
        bench.api.events.connOpened(liveConn(2))
        #expect(bench.run { batches.count == 2 })
        #expect(batches.map(\.number) == [1, 3])
        #expect(EventTeller.events(in: batches[1].body).count == 1)
    }

    @Test func noClientReachesTheRouteBetweenNodes() throws {
        for method in [HTTPMethod.get, .post, .options] {
            #expect(try bench.send(method, "/internal/events").status == 404)
        }
        #expect(!bench.api.routes.contains { $0.path.hasPrefix("/internal") })
    }
}
