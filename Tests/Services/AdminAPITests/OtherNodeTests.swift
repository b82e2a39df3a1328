import Domain
import EventLoop
import Fleet
import HTTP1
import JSON
import Store
import TestKit
import Testing

@testable import AdminAPI

/// Calls about what other nodes hold.
@Suite struct OtherNodeTests {
    private let bench: AdminBench

    init() throws {
        bench = try AdminBench()
    }

    /// Has the other nodes, all live, answer with `answer`.
    private func cluster(_ names: String..., answer: @escaping (NodeQuestion) -> NodeOutcome) {
        bench.backend.nodes = [nodeRow("pop-1")] + names.map { nodeRow($0) }
        bench.backend.database = { query in
            if case .askNode(let question) = query { .nodeAsked(answer(question)) } else { nil }
        }
    }

    private var questions: [NodeQuestion] {
        bench.backend.questions.compactMap { if case .askNode(let question) = $0 { question } else { nil } }
    }

    // MARK: Without the database

    @Test func aNodeThatIsAloneListsAndClosesConnsWithoutTheDatabase() throws {
        bench.backend.database = { _ in nil }
        bench.backend.nodes = nil
        bench.backend.conns = [liveConn(1)]
        #expect(try bench.send(.get, "/v1/conns").code == "database_unavailable")
        bench.backend.isAlone = true
        let list = try bench.send(.get, "/v1/conns")
        #expect(list.status == 200)
        #expect(list.items.count == 1)
        let closed = try bench.send(.post, "/v1/conns/close", body: #"{"protocol":"socks5"}"#)
        #expect(closed.json == ["closed": 1])
        let unknown = "00000000-0000-8000-0000-000000000001"
        #expect(try bench.get("/v1/conns/\(unknown)").status == 404)
        bench.backend.isAlone = false
        #expect(try bench.get("/v1/conns/\(unknown)").code == "database_unavailable")
        // No node of ours makes such ids.
        #expect(try bench.get("/v1/conns/00000000-0000-4000-8000-000000000001").status == 404)
    }

    // MARK: Asking

    @Test func aCallIsPassedOnWithAllThatItIs() throws {
        cluster("pop-2") { _ in
            .answered(
                NodeAnswer(
                    status: 202, fields: [.init("ETag", "\"3\"")], media: "application/json",
                    body: #"{"state":"handover"}"#))
        }
        let answer = try bench.send(
            .post, "/v1/nodes/pop-2/drain?reason=a%26b", body: #"{"deadline_seconds":9}"#,
            token: "operate-token",
            fields: ["If-Match": "\"2\"", "X-Request-Id": "r-1"])
        #expect(answer.status == 202)
        #expect(answer.fields["etag"] == "\"3\"")
        #expect(answer.fields["x-request-id"] == "r-1")
        #expect(answer.json == ["state": "handover"])
        let question = try #require(questions.first)
        #expect(question.node == someNode("pop-2"))
        #expect(question.method == "POST")
        #expect(question.target == "/v1/nodes/pop-2/drain?reason=a%26b")
        #expect(question.body == #"{"deadline_seconds":9}"#)
        #expect(question.fields == [.init("if-match", "\"2\"")])
        #expect(question.actor == "operate" && question.scope == "operate" && question.tokenID != nil)
        #expect(question.remoteAddress.hasPrefix("127.0.0.1:"))
        #expect(question.requestID == "r-1")
        // This node's line, with the outcome.
        #expect(bench.backend.audit.map(\.status) == [202])
    }

    @Test(arguments: [
        (NodeOutcome.unknownNode, 404, "node_not_found"), (.down, 503, "node_unreachable"),
        (.withdrawn, 503, "node_unreachable"), (.tooMany, 503, "too_many_node_requests"),
        (.unanswered, 504, "node_timeout"),
    ])
    func whyThereIsNoAnswerIsTold(outcome: NodeOutcome, status: UInt16, code: String) throws {
        cluster("pop-2") { _ in outcome }
        let answer = try bench.get("/v1/nodes/pop-2/drain")
        #expect(answer.status == status)
        #expect(answer.code == code)
        #expect(answer.fields.contains("retry-after") == (status == 503))
    }

    @Test func aCallThatMayHaveBeenDoneKeepsItsKey() throws {
        func settled(_ outcome: NodeOutcome) throws -> [StoreQuery] {
            bench.backend.questions = []
            bench.backend.database = { query in
                switch query {
                case .claimKey: .keyState(.claimed)
                case .askNode: .nodeAsked(outcome)
                default: .changed(true)
                }
            }
            _ = try bench.send(
                .put, "/v1/nodes/pop-2/eligibility", body: #"{"eligible":false}"#,
                fields: ["Idempotency-Key": "k"])
            return bench.backend.questions.filter {
                switch $0 {
                case .settleKey, .releaseKey: true
                default: false
                }
            }
        }
        #expect(try settled(.unanswered).isEmpty)
        guard case .releaseKey? = try settled(.withdrawn).first else {
            Issue.record("nothing was done, and the key is not free")
            return
        }
        guard case .settleKey? = try settled(.answered(NodeAnswer(status: 200))).first else {
            Issue.record("the answer is not kept")
            return
        }
    }

    // MARK: Being asked

    private func claimed(
        _ method: String, _ target: String, body: String = "", scope: String = "operate",
        fields: [NodeQuestion.Field] = [], deadline: Duration = .seconds(4)
    ) -> ClaimedQuestion {
        ClaimedQuestion(
            id: SessionID(high: 1, low: 2),
            question: NodeQuestion(
                node: bench.backend.nodeID, method: method, target: target, fields: fields, body: body,
                actor: "carol", scope: scope, remoteAddress: "192.0.2.1:99", requestID: "r-2"),
            askedBy: someNode("pop-2"), deadline: SystemClock.now + deadline)
    }

    private func perform(_ question: ClaimedQuestion) throws -> NodeAnswer {
        var answer: NodeAnswer?
        bench.api.perform(question) { answer = $0 }
        bench.run { answer != nil }
        return try #require(answer)
    }

    @Test func whatAnotherNodeAsksIsAnsweredByTheSameHandlersAndAuditedThere() throws {
        let drained = try perform(claimed("POST", "/v1/nodes/pop-1/drain", body: #"{"reason":"upgrade"}"#))
        #expect(drained.status == 202)
        #expect(drained.media == "application/json")
        #expect(drained.fields.contains { $0.name == "ETag" })
        #expect(try JSONValue(parsing: Array(drained.body.utf8))["actor"] == "carol")
        #expect(bench.backend.drainRequests.map(\.reason) == ["upgrade"])
        let stale = try perform(
            claimed("DELETE", "/v1/nodes/pop-1/drain", fields: [.init("if-match", "\"77\"")]))
        #expect(stale.status == 412)
        #expect(stale.body.contains("r-2"))
        #expect(bench.backend.audit.isEmpty)
    }

    @Test func noQuestionGoesInCircles() throws {
        bench.backend.database = { _ in .device(deviceRow("dev1", online: true, node: "pop-3")) }
        #expect(try perform(claimed("POST", "/v1/nodes/pop-3/drain")).status == 404)
        #expect(try perform(claimed("GET", "/v1/conns/\(liveConn(1).connID)")).status == 404)
        let moved = try perform(claimed("POST", "/v1/devices/dev1/disconnect"))
        #expect(moved.status == 409 && moved.body.contains("device_moved") && moved.isPassing)
        bench.backend.conns = [liveConn(1)]
        let page = try perform(claimed("GET", "/v1/conns"))
        #expect(page.status == 200 && page.body.contains(liveConn(1).connID.description))
        #expect(questions.isEmpty)
    }

    @Test func aQuestionHasTheScopeOfWhoCalls() throws {
        #expect(try perform(claimed("POST", "/v1/nodes/pop-1/drain", scope: "read")).status == 404)
        #expect(try perform(claimed("GET", "/v1/nodes/pop-1/drain", scope: "root")).status == 400)
        #expect(try perform(claimed("GET", "/v1/events")).status == 404)
        #expect(bench.backend.drainRequests.isEmpty)
    }

    @Test func nothingIsBegunAfterTheDeadline() throws {
        bench.backend.nodes = [nodeRow("pop-1"), nodeRow("pop-2")]
        let late = claimed(
            "POST", "/v1/nodes/pop-1/drain", body: #"{"redirect_to":["pop-2"]}"#, deadline: .zero)
        // The database has answered too late.
        #expect(try perform(late).status == 503)
        #expect(bench.backend.drainRequests.isEmpty)
    }

    // MARK: All nodes

    /// What a node with these conns answers.
    private func holder(_ conns: [ConnSnapshot]) throws -> (NodeQuestion) -> NodeOutcome {
        let node = try AdminBench()
        node.backend.conns = conns
        return { question in
            var answer: NodeAnswer?
            node.api.perform(
                ClaimedQuestion(
                    id: SessionID(high: 1, low: 2), question: question.asked(of: node.backend.nodeID),
                    askedBy: someNode("pop-1"), deadline: SystemClock.now + .seconds(4))
            ) { answer = $0 }
            node.run { answer != nil }
            return answer.map { .answered($0) } ?? .unanswered
        }
    }

    @Test(arguments: [1, 2, 3, 7, 1_000])
    func pagesOfAllNodesMakeOneList(limit: Int) throws {
        var random = SeededRandom.ofEnvironment()
        let seed = random.seed
        var shares: [[ConnSnapshot]] = [[], [], []]
        for serial in 0..<40 {
            // Within few milliseconds, so that many are equal and only the ids tell them apart.
            let conn = liveConn(random.next(), opened: Int64.random(in: 0..<9_000, using: &random))
            shares[serial % 3].append(conn)
        }
        bench.backend.conns = shares[0]
        let (second, third) = (try holder(shares[1]), try holder(shares[2]))
        cluster("pop-2", "pop-3") { $0.node == someNode("pop-2") ? second($0) : third($0) }
        var ids: [String] = []
        var cursor: String?
        repeat {
            let page = try bench.get("/v1/conns?limit=\(limit)" + (cursor.map { "&cursor=\($0)" } ?? ""))
            #expect(page.status == 200)
            #expect(page.items.count <= limit)
            ids += page.items.compactMap { $0["conn_id"]?.string }
            cursor = page.json["next_cursor"]?.string
        } while cursor != nil
        let wanted = shares.joined().sorted {
            ($0.openedAt.milliseconds, $0.connID.high, $0.connID.low)
                < ($1.openedAt.milliseconds, $1.connID.high, $1.connID.low)
        }
        #expect(ids == wanted.map(\.connID.description), "seed \(seed)")
    }

    @Test func filtersGoAlongAndANodeThatIsGoneHoldsNothing() throws {
        cluster("pop-2", "pop-3") { $0.node == someNode("pop-2") ? .down : .unknownNode }
        bench.backend.conns = [liveConn(1)]
        let page = try bench.get("/v1/conns?target=example.com%3A443&limit=5")
        #expect(page.items.count == 1)
        #expect(
            questions.map(\.target) == [
                "/v1/conns?target=example.com%3A443&limit=5&node_id=pop-2",
                "/v1/conns?target=example.com%3A443&limit=5&node_id=pop-3",
            ])
        #expect(try bench.get("/v1/conns?node_id=pop-2").items.isEmpty)
        #expect(questions.last?.target == "/v1/conns?node_id=pop-2")
        let count = questions.count
        #expect(try bench.get("/v1/conns?node_id=self").items.count == 1)
        #expect(questions.count == count)
    }

    @Test(arguments: [
        (NodeOutcome.unanswered, 504, "node_timeout"), (.withdrawn, 503, "node_unreachable"),
        (.tooMany, 503, "too_many_node_requests"),
    ])
    func aListWithoutALiveNodeIsNone(outcome: NodeOutcome, status: UInt16, code: String) throws {
        cluster("pop-2", "pop-3") { question in
            question.node == someNode("pop-2")
                ? .answered(
                    NodeAnswer(
                        status: 200, media: "application/json", body: #"{"items":[],"next_cursor":null}"#))
                : outcome
        }
        let answer = try bench.get("/v1/conns")
        #expect(answer.status == status)
        #expect(answer.code == code)
        #expect(answer.json["nodes"] == ["pop-3"])
        #expect(answer.fields.contains("retry-after") == (status == 503))
    }

    @Test func oneNodeThatMayHaveDoneItMakesTheWholeUncertain() throws {
        cluster("pop-2", "pop-3") { $0.node == someNode("pop-2") ? .unanswered : .tooMany }
        let answer = try bench.send(.post, "/v1/conns/close", body: #"{"user":"alice"}"#)
        #expect(answer.status == 504)
        #expect(answer.json["nodes"] == ["pop-2", "pop-3"])
    }

    @Test func whatWasClosedIsToldWhenANodeWasNotAsked() throws {
        cluster("pop-2") { _ in .tooMany }
        bench.backend.conns = [liveConn(1, user: "alice")]
        let answer = try bench.send(.post, "/v1/conns/close", body: #"{"user":"alice"}"#)
        #expect(answer.status == 503)
        #expect(answer.code == "too_many_node_requests")
        #expect(answer.json["closed"] == 1)
        #expect(answer.json["nodes"] == ["pop-2"])
    }

    @Test func whatOtherNodesHaveClosedIsTold() throws {
        cluster("pop-2", "pop-3") { question in
            question.node == someNode("pop-2")
                ? .answered(NodeAnswer(status: 200, media: "application/json", body: #"{"closed":4}"#))
                : .unanswered
        }
        bench.backend.conns = [liveConn(1, user: "alice")]
        let answer = try bench.send(
            .post, "/v1/conns/close", body: #"{"user":"alice","reason":"abuse"}"#)
        #expect(answer.status == 504)
        #expect(answer.json["closed"] == 5)
        #expect(answer.json["nodes"] == ["pop-3"])
        #expect(
            questions.map(\.body) == [
                #"{"user":"alice","node_id":"pop-2","reason":"abuse"}"#,
                #"{"user":"alice","node_id":"pop-3","reason":"abuse"}"#,
            ])
    }

    @Test func aConnIsAskedOfTheNodeThatItsIdTells() throws {
        var random = SeededRandom(seed: 1)
        let id = ConnID(of: someNode("pop-3"), using: &random)
        cluster("pop-2", "pop-3") { _ in .answered(NodeAnswer(status: 204)) }
        #expect(try bench.send(.delete, "/v1/conns/\(id)").status == 204)
        #expect(questions.map(\.node) == [someNode("pop-3")])
        let stranger = ConnID(of: someNode("pop-9"), using: &random)
        #expect(try bench.send(.delete, "/v1/conns/\(stranger)").code == "conn_not_found")
        #expect(questions.count == 1)
    }
}

extension NodeQuestion {
    /// The same, asked of another node.
    fileprivate func asked(of other: NodeID) -> NodeQuestion {
        var question = self
        question.node = other
        question.target = target.replacing("node_id=\(node)", with: "node_id=\(other)")
        return question
    }
}
