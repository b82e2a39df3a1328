import Domain
import EventLoop
import Logging
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

/// Questions between nodes on a real database, with both ends on one loop.
@Suite struct NodeRequestTests {
    private let database: String
    private let sql: BlockingConnection
    private let loop: EventLoop

    init() throws {
        database = try TemporaryPostgres.makeDatabase()
        _ = try MigrationCommand.up(databaseURL: database)
        sql = try BlockingConnection(database)
        loop = try EventLoop()
        for node in ["a", "b"] { try begin(node) }
    }

    private final class Node {
        let wake: WakeLink
        let requests: NodeRequests
        var claimed: [ClaimedQuestion] = []

        init(_ wake: WakeLink, _ requests: NodeRequests) {
            self.wake = wake
            self.requests = requests
        }

        deinit { wake.close() }
    }

    private func begin(_ node: String) throws {
        try sql.query(
            """
            INSERT INTO pop.nodes (node_id, incarnation, state, wss_port, quic_port, version, started_at)
            VALUES ($1, gen_random_uuid(), 'active', 0, 0, '1', now())
            """, [.text(node)])
    }

    /// - Parameter takes: whether it takes questions; if not it is a node that stands still.
    private func node(
        _ name: String, takes: Bool = true, times: NodeRequests.Times = NodeRequests.Times(),
        interval: Duration = .seconds(3_600)
    ) throws -> Node {
        let log = Logger(label: "store-test") { _ in SwiftLogNoOpLogHandler() }
        let id = try named(name)
        let wake = WakeLink(on: loop, databaseURL: database, node: id, log: log, interval: interval)
        wake.isPrepared = { true }
        var random = SystemRandom()
        let requests = NodeRequests(
            on: loop, wake: wake, life: NodeLife(id: id, incarnation: SessionID(using: &random)), log: log,
            times: times)
        let node = Node(wake, requests)
        if takes { requests.claimed = { [weak node] in node?.claimed += $0 } }
        wake.open()
        #expect(pump { wake.isReady })
        return node
    }

    private func pump(until condition: () throws -> Bool) rethrows -> Bool {
        for _ in 0..<2_000 where try !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        return try condition()
    }

    private func question(_ node: String, method: String = "POST", _ target: String = "/x") throws
        -> NodeQuestion
    {
        NodeQuestion(
            node: try named(node), method: method, target: target,
            fields: [.init("if-match", "\"1\", \"a\\b\""), .init("x", "")], body: #"{"a":"ü\n"}"#,
            actor: "carol",
            tokenID: TokenID(high: 1, low: 2), scope: "operate", remoteAddress: "192.0.2.1:9", requestID: "r")
    }

    private func rows() throws -> Int {
        try #require(Int(sql.scalar("SELECT count(*) FROM pop.node_requests") ?? ""))
    }

    private static let answer = NodeAnswer(
        status: 202, fields: [.init("ETag", "\"2\"")], media: "application/json", body: #"{"b":"{é}"}"#,
        isPassing: true)

    @Test func aQuestionArrivesWholeAndItsAnswerComesBackWhole() throws {
        let (a, b) = (try node("a"), try node("b"))
        var outcome: NodeResult?
        a.requests.ask(try question("b")) { outcome = $0 }
        // Neither of them polls: both were woken.
        #expect(pump { b.claimed.count == 1 })
        let claimed = try #require(b.claimed.first)
        #expect(claimed.question == (try question("b")))
        #expect(claimed.askedBy == (try named("a")))
        #expect(claimed.deadline > SystemClock.now && claimed.deadline < SystemClock.now + .seconds(4))
        b.requests.answer(claimed.id, Self.answer)
        #expect(pump { outcome != nil })
        #expect(outcome == .success(.answered(Self.answer)))
        #expect(try rows() == 0)
        #expect(a.requests.figures.asked[.answered] == 1)
        #expect(pump { b.requests.figures.performed[.answered] == 1 })
    }

    @Test func nodesThatAreUnknownOrDownAreNotAsked() throws {
        try begin("c")
        try sql.query("UPDATE pop.nodes SET last_seen_at = now() - interval '11 s' WHERE node_id = 'c'")
        let a = try node("a")
        var outcomes: [NodeResult] = []
        a.requests.ask(try question("nobody")) { outcomes.append($0) }
        a.requests.ask(try question("c")) { outcomes.append($0) }
        #expect(pump { outcomes.count == 2 })
        #expect(outcomes == [.success(.unknownNode), .success(.down)])
        #expect(try rows() == 0)
    }

    @Test func aQuestionThatNobodyTakesIsTakenBackForGood() throws {
        let times = NodeRequests.Times(
            claimBy: .milliseconds(50), answerBy: .seconds(5), settleBy: .seconds(6))
        let (a, b) = (try node("a", times: times), try node("b", takes: false))
        var outcome: NodeResult?
        a.requests.ask(try question("b")) { outcome = $0 }
        #expect(pump { outcome != nil })
        #expect(outcome == .success(.withdrawn))
        b.requests.claimed = { [weak b] in b?.claimed += $0 }
        try sql.transaction([WakeLink.wake(.requests)])
        var later: NodeResult?
        a.requests.ask(try question("b", "/later")) { later = $0 }
        #expect(pump { !b.claimed.isEmpty || later != nil })
        #expect(b.claimed.allSatisfy { $0.question.target == "/later" })
    }

    @Test func aQuestionThatIsTakenAndNotAnsweredIsToldAsSuch() throws {
        let times = NodeRequests.Times(
            claimBy: .milliseconds(300), answerBy: .milliseconds(350), settleBy: .seconds(6))
        let (a, b) = (try node("a", times: times), try node("b"))
        var outcome: NodeResult?
        a.requests.ask(try question("b")) { outcome = $0 }
        #expect(pump { outcome != nil })
        // On a machine that is busy beyond measure it may not have been taken.
        #expect(outcome == .success(b.claimed.isEmpty ? .withdrawn : .unanswered))
        for claimed in b.claimed { b.requests.answer(claimed.id, Self.answer) }
        #expect(pump { b.requests.figures.performed.total == UInt64(b.claimed.count) })
        #expect(try rows() == 0)
    }

    @Test func expiredQuestionsAreTakenByNobodyAndRemoved() throws {
        let a = try node("a")
        var random = SystemRandom()
        let life = NodeLife(id: try named("a"), incarnation: SessionID(using: &random))
        let ids = (0..<2).map { _ in SessionID(using: &random) }
        for id in ids {
            try sql.transaction(
                NodeRequestStatements.ask(id, try question("b"), of: life, lifetime: .seconds(4)))
        }
        try sql.query("UPDATE pop.node_requests SET expires_at = now()")
        let b = try node("b")
        try sql.query(
            "UPDATE pop.node_requests SET expires_at = now() - interval '31 s' WHERE request_id = $1::uuid",
            [.uuid(ids[0])])
        try sql.transaction([NodeRequestStatements.dropAbandoned])
        #expect(try rows() == 1)
        var outcome: NodeResult?
        a.requests.ask(try question("b", "/new")) { outcome = $0 }
        #expect(pump { !b.claimed.isEmpty })
        #expect(b.claimed.map(\.question.target) == ["/new"])
        #expect(outcome == nil)
    }

    @Test func noMoreWaitForANodeThanItIsUpTo() throws {
        let (a, b) = (try node("a"), try node("b", takes: false))
        try sql.query(
            """
            INSERT INTO pop.node_requests (request_id, asking_node, asking_incarnation, asked_node, method,
                target, fields, body, actor, scope, remote_address, http_request_id, expires_at)
            SELECT gen_random_uuid(), 'x', gen_random_uuid(), 'b', 'GET', '/', '{}', '', '', 'read', '', '',
                now() + interval '1 hour'
            FROM generate_series(1, $1::integer)
            """, [.integer(Int64(NodeRequestStatements.mostWaiting))])
        var outcome: NodeResult?
        a.requests.ask(try question("b")) { outcome = $0 }
        #expect(pump { outcome != nil })
        #expect(outcome == .success(.tooMany))
        withExtendedLifetime(b) {}
    }

    @Test func aLostConnectionCostsNoSecondTimeAndSaysWhatIsKnown() throws {
        let times = NodeRequests.Times(claimBy: .seconds(2), answerBy: .seconds(3), settleBy: .seconds(4))
        let a = try node("a", times: times, interval: .milliseconds(50))
        let b = try node("b", interval: .milliseconds(50))
        var outcomes: [NodeResult] = []
        for index in 0..<20 {
            a.requests.ask(try question("b", "/\(index)")) { outcomes.append($0) }
            if index % 7 == 3 {
                try sql.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        + "WHERE application_name = 'pop-node wake' AND datname = current_database()")
            }
        }
        var answered = 0
        #expect(
            pump {
                while answered < b.claimed.count {
                    b.requests.answer(b.claimed[answered].id, Self.answer)
                    answered += 1
                }
                return outcomes.count == 20
            })
        let targets = b.claimed.map(\.question.target)
        #expect(Set(targets).count == targets.count)
        let done = outcomes.count { $0 == .success(.answered(Self.answer)) }
        #expect(done <= targets.count)
        #expect(targets.count <= done + outcomes.count { $0 == .success(.unanswered) })
    }

    /// Claims of two lives of a node and the asker's settling, all at once and in any order: each question has
    /// exactly one fate.
    @Test func everyQuestionHasOneFateWhoeverIsFirst() throws {
        var random = SeededRandom.ofEnvironment()
        let seed = random.seed
        let connections = try (0..<3).map { _ in try BlockingConnection(database) }
        let asker = NodeLife(id: try named("a"), incarnation: SessionID(using: &random))
        let asked = NodeLife(id: try named("b"), incarnation: SessionID(using: &random))
        for round in 0..<15 {
            let ids = (0..<8).map { _ in SessionID(using: &random) }
            for id in ids {
                try sql.transaction(
                    NodeRequestStatements.ask(id, try question("b"), of: asker, lifetime: .seconds(60)))
            }
            var claims: [SessionID: Int] = [:]
            var withdrawn: Set<SessionID> = []
            var works: [() -> Void] = []
            var pending = 0
            for connection in connections.prefix(2) {
                for _ in 0..<4 {
                    works.append {
                        pending += 1
                        connection.connection.submit([NodeRequestStatements.claim(for: asked, limit: 3)]) {
                            pending -= 1
                            for row in (try? $0.get().first?.rows) ?? [] {
                                guard let id = try? row.value("request_id", { SessionID($0) }) else {
                                    continue
                                }
                                claims[id, default: 0] += 1
                            }
                        }
                    }
                }
            }
            for id in ids {
                works.append {
                    pending += 1
                    connections[2].connection.submit([NodeRequestStatements.settle(id, atLast: false)]) {
                        pending -= 1
                        guard let result = try? $0.get().first,
                            let outcome = try? NodeRequestStatements.decodeSettled(result)
                        else { return }
                        #expect(outcome == .withdrawn)
                        withdrawn.insert(id)
                    }
                }
            }
            for work in works.shuffled(using: &random) { work() }
            for _ in 0..<1_000 where pending > 0 {
                for connection in connections { connection.pump(rounds: 1) { pending == 0 } }
            }
            #expect(pending == 0)
            for id in ids {
                let fates = (claims[id] ?? 0) + (withdrawn.contains(id) ? 1 : 0)
                #expect(fates == 1, "seed \(seed), round \(round)")
            }
            try sql.query("DELETE FROM pop.node_requests")
        }
    }
}

private typealias NodeResult = Result<NodeOutcome, StoreFailure>
