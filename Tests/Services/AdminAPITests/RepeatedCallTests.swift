import Domain
import Fleet
import HTTP1
import JSON
import Store
import Testing

/// Calls with an Idempotency-Key, over keys that are kept as the database keeps them.
struct RepeatedCallTests {
    private let bench: AdminBench
    private let keys = Keys()

    private final class Keys {
        var rows: [String: (claim: KeyClaim, answer: KeyedAnswer?)] = [:]

        func answer(_ query: StoreQuery) -> StoreAnswer? {
            switch query {
            case .claimKey(let claim):
                let name = claim.owner + "/" + claim.key
                guard let row = rows[name] else {
                    rows[name] = (claim, nil)
                    return .keyState(.claimed)
                }
                guard row.claim.requestSHA256 == claim.requestSHA256 else { return .keyState(.otherRequest) }
                return .keyState(row.answer.map { .answered($0) } ?? .inFlight)
            case .settleKey(let claim, let answer):
                rows[claim.owner + "/" + claim.key]?.answer = answer
                return .changed(true)
            case .releaseKey(let claim):
                rows[claim.owner + "/" + claim.key] = nil
                return .changed(true)
            default: return nil
            }
        }
    }

    init() throws {
        bench = try AdminBench()
        bench.backend.database = { [keys] in keys.answer($0) }
    }

    private func drain(_ key: String, body: String = "", token: String = "operate-token") throws
        -> AdminBench.Answer
    {
        try bench.send(
            .post, "/v1/nodes/self/drain", body: body, token: token, fields: ["Idempotency-Key": key])
    }

    @Test func aRepeatedCallIsAnsweredWithoutBeingDone() throws {
        let first = try drain("k1", body: #"{"reason":"a"}"#)
        #expect(first.status == 202)
        #expect(first.fields["idempotency-replayed"] == nil)
        let again = try drain("k1", body: #"{"reason":"a"}"#)
        #expect(again.status == 202)
        #expect(again.body == first.body)
        #expect(again.fields["etag"] == first.fields["etag"])
        #expect(again.fields["content-type"] == first.fields["content-type"])
        #expect(again.fields["idempotency-replayed"] == "true")
        #expect(bench.backend.drainRequests.count == 1)
        #expect(bench.backend.audit.map(\.status) == [202, 202])
    }

    @Test func aKeyIsForOneCallOfOneToken() throws {
        #expect(try drain("k1").status == 202)
        let other = try drain("k1", body: #"{"reason":"b"}"#)
        #expect(other.status == 422)
        #expect(other.code == "idempotency_key_reused")
        let path = try bench.send(
            .post, "/v1/conns/close", body: #"{"user":"x"}"#, token: "operate-token",
            fields: ["Idempotency-Key": "k1"])
        #expect(path.code == "idempotency_key_reused")
        #expect(try drain("k1", token: "admin-token").fields["idempotency-replayed"] == nil)
        #expect(bench.backend.drainRequests.count == 2)
    }

    @Test func whatIsKeptOfACallTellsNothingWithoutItsToken() throws {
        let body = #"{"reason":"a guess"}"#
        _ = try drain("k1", body: body, token: "operate-token")
        _ = try drain("k1", body: body, token: "admin-token")
        #expect(Set(keys.rows.values.map(\.claim.requestSHA256)).count == 2)
    }

    @Test func aCallThatIsBeingDoneIsNotDoneBesideItself() throws {
        _ = try drain("k1")
        keys.rows = keys.rows.mapValues { ($0.claim, nil) }
        let second = try drain("k1")
        #expect(second.status == 409)
        #expect(second.code == "idempotency_key_in_flight")
        #expect(second.fields["retry-after"] == "1")
        #expect(bench.backend.drainRequests.count == 1)
    }

    @Test func aConflictIsRepeatedButFaultsAreNotKept() throws {
        bench.backend.database = { [keys] query in
            if case .device = query { return .device(deviceRow("d")) }
            return keys.answer(query)
        }
        func disconnect(_ body: String = "") throws -> AdminBench.Answer {
            try bench.send(.post, "/v1/devices/d/disconnect", body: body, fields: ["Idempotency-Key": "k"])
        }
        #expect(try disconnect(#"{"why":1}"#).status == 422)
        let first = try disconnect()
        #expect(first.code == "device_offline")
        bench.backend.sessions = [liveSession(1, device: "d")]
        let again = try disconnect()
        #expect(again.body == first.body)
        #expect(again.fields["content-type"] == "application/problem+json")
        #expect(bench.backend.disconnected.isEmpty)
    }

    @Test func anAnswerWithoutContentIsRepeated() throws {
        bench.backend.conns = [liveConn(1)]
        for replayed in [nil, "true"] {
            let answer = try bench.send(
                .delete, "/v1/conns/\(liveConn(1).connID)", fields: ["Idempotency-Key": "k"])
            #expect(answer.status == 204)
            #expect(answer.body.isEmpty)
            #expect(answer.fields["idempotency-replayed"] == replayed)
            bench.backend.conns = []
        }
        #expect(bench.backend.closed.count == 1)
    }

    @Test func withoutTheDatabaseNothingIsDone() throws {
        bench.backend.database = nil
        let answer = try drain("k1")
        #expect(answer.code == "database_unavailable")
        #expect(bench.backend.drainRequests.isEmpty)
        #expect(try bench.send(.post, "/v1/nodes/self/drain").status == 202)
    }

    @Test func aFailureOfOursIsNotKept() throws {
        bench.backend.database = { [keys] query in
            if case .device = query { return nil }
            return keys.answer(query)
        }
        let answer = try bench.send(.post, "/v1/devices/d/disconnect", fields: ["Idempotency-Key": "k"])
        #expect(answer.status == 503)
        #expect(keys.rows.isEmpty)
    }

    /// The key stays taken: another attempt could make the change twice.
    @Test func aChangeThatMayHaveBeenMadeKeepsItsKey() throws {
        bench.backend.failure = .inDoubt("no answer in time")
        bench.backend.database = { [keys] query in
            if case .createAdminToken = query { return nil }
            return keys.answer(query)
        }
        func create() throws -> AdminBench.Answer {
            try bench.send(
                .post, "/v1/tokens", body: #"{"name":"t","scope":"read"}"#, fields: ["Idempotency-Key": "k"])
        }
        let first = try create()
        #expect(first.status == 503)
        #expect(first.code == "outcome_unknown")
        #expect(try create().code == "idempotency_key_in_flight")
    }

    @Test func aSecretIsNotRepeated() throws {
        bench.backend.database = { [keys] query in
            guard case .createAdminToken(let token) = query else { return keys.answer(query) }
            return .adminToken(
                AdminTokenRow(
                    tokenID: token.tokenID, name: token.name, scope: token.scope, createdAt: someTime,
                    createdBy: "", expiresAt: nil, lastUsedAt: nil))
        }
        func create() throws -> AdminBench.Answer {
            try bench.send(
                .post, "/v1/tokens", body: #"{"name":"x","scope":"read"}"#,
                fields: ["Idempotency-Key": "k"])
        }
        let first = try create()
        #expect(first.status == 201)
        let secret = try #require(first.json["token"]?.string)
        let again = try create()
        #expect(again.status == 409)
        #expect(again.code == "secret_shown_once")
        #expect(again.fields["location"] == first.fields["location"])
        #expect(again.fields["idempotency-replayed"] == "true")
        #expect(!"\(keys.rows)".contains(secret))
    }

    @Test(arguments: ["", String(repeating: "k", count: 256), "k\u{e9}", "a b"])
    func aMalformedKeyIsAFault(key: String) throws {
        let answer = try drain(key, body: #"{"force":1}"#)
        #expect(Set(answer.faults) == ["Idempotency-Key", "force"])
        #expect(
            try bench.send(.delete, "/v1/conns/\(liveConn(1).connID)", fields: ["Idempotency-Key": key])
                .faults == ["Idempotency-Key"])
        #expect(bench.backend.questions.isEmpty)
    }

    @Test func safeCallsHaveNoUseForAKey() throws {
        #expect(try bench.get("/v1/conns", fields: ["Idempotency-Key": "k"]).status == 200)
        #expect(keys.rows.isEmpty)
    }
}
