import AdminAPI
import Domain
import HTTP1
import JSON
import Store
import TLS
import Testing

/// Admin tokens, who they let in, and what keeps strangers from guessing them.
struct AdminTokenTests {
    private let bench: AdminBench

    init() throws {
        bench = try AdminBench()
    }

    private func row(_ token: NewAdminToken) -> AdminTokenRow {
        AdminTokenRow(
            tokenID: token.tokenID, name: token.name, scope: token.scope, createdAt: someTime,
            createdBy: token.createdBy, expiresAt: token.expiresAt, lastUsedAt: nil)
    }

    @Test func aTokenIsShownOnceAndStoredAsItsHash() throws {
        var made: NewAdminToken?
        bench.backend.database = { query in
            guard case .createAdminToken(let token) = query else { return nil }
            made = token
            return .adminToken(row(token))
        }
        let answer = try bench.send(
            .post, "/v1/tokens",
            body:
                #"{"name":"ci","scope":"operate","expires_at":"2999-01-01T00:00:00Z","reason":"new runner"}"#)
        #expect(answer.status == 201)
        let token = try #require(made)
        #expect(answer.fields["location"] == "/v1/tokens/\(token.tokenID)")
        #expect(answer.json["token_id"]?.string == token.tokenID.description)
        #expect(answer.json["name"] == "ci" && answer.json["scope"] == "operate")
        #expect(answer.json["expires_at"] == "2999-01-01T00:00:00.000Z")
        #expect(answer.json["created_by"] == "admin")
        let secret = try #require(answer.json["token"]?.string)
        #expect(secret.utf8.count > 64)
        #expect(token.sha256 == SHA256.digest(Array(secret.utf8)))
        // Good at once, before the copy is read again.
        #expect(try bench.send(.post, "/v1/nodes/self/drain", token: secret).status == 202)
        #expect(try bench.get("/v1/tokens", token: secret).status == 403)
        let texts = bench.backend.events.map { "\($0)" }
        #expect(!texts.contains { $0.contains(secret) })
    }

    @Test func wrongTokensAreNamed() throws {
        let answer = try bench.send(
            .post, "/v1/tokens",
            body: #"{"name":"","scope":"root","expires_at":"2001-01-01T00:00:00Z","by":1}"#)
        #expect(answer.status == 422)
        #expect(Set(answer.faults) == ["name", "scope", "expires_at", "by"])
        #expect(try bench.send(.post, "/v1/tokens", body: "{}").faults == ["name", "scope"])
        let odd = #"{"name":"a\nb","scope":"read","expires_at":7}"#
        #expect(try bench.send(.post, "/v1/tokens", body: odd).faults == ["name", "expires_at"])
        #expect(bench.backend.questions.isEmpty)
        bench.backend.database = { _ in .adminToken(nil) }
        let full = try bench.send(
            .post, "/v1/tokens", body: #"{"name":"x","scope":"read","expires_at":null}"#)
        #expect(full.code == "too_many_tokens")
    }

    @Test func tokensAreListedAndShownWithoutTheirSecret() throws {
        let listed = AdminTokenRow(
            tokenID: someToken("read"), name: "read", scope: "read", createdAt: someTime,
            createdBy: "bootstrap",
            expiresAt: nil, lastUsedAt: nil)
        bench.backend.database = { query in
            switch query {
            case .adminTokens: .adminTokens(ListPage(items: [listed], next: nil))
            case .adminToken(let id): .adminToken(id == listed.tokenID ? listed : nil)
            default: nil
            }
        }
        #expect(
            try bench.get("/v1/tokens?limit=5", token: "bootstrap-token").items == [
                [
                    "token_id": .string(listed.tokenID.description), "name": "read", "scope": "read",
                    "created_at": "2026-01-31T09:05:00.120Z", "created_by": "bootstrap", "expires_at": nil,
                    "last_used_at": nil,
                ]
            ])
        #expect(bench.backend.questions == [.adminTokens(limit: 5, cursor: nil)])
        #expect(try bench.get("/v1/tokens").status == 403)
        // A use that has not been written yet shows all the same.
        let shown = try bench.send(.get, "/v1/tokens/\(listed.tokenID)").json
        #expect(shown["name"] == "read")
        #expect(shown["last_used_at"]?.string != nil)
        #expect(try bench.send(.get, "/v1/tokens/\(someToken("operate"))").code == "token_not_found")
        #expect(try bench.send(.get, "/v1/tokens/x").code == "token_not_found")
    }

    @Test func aRevokedTokenIsNoGoodAtOnce() throws {
        bench.backend.database = { query in if case .deleteAdminToken = query { .changed(true) } else { nil }
        }
        #expect(try bench.get("/v1/conns", token: "operate-token").status == 200)
        #expect(try bench.send(.delete, "/v1/tokens/\(someToken("operate"))").status == 204)
        #expect(try bench.get("/v1/conns", token: "operate-token").code == "invalid_token")
        bench.backend.database = { _ in .changed(false) }
        #expect(try bench.send(.delete, "/v1/tokens/\(someToken("operate"))").code == "token_not_found")
    }

    @Test func theCopyFollowsTheDatabaseAndOutlivesIt() throws {
        bench.load([storedToken("admin")])
        #expect(try bench.get("/v1/conns", token: "read-token").status == 401)
        // Away: what is known stays good.
        bench.api.noticed(tokenRevision: 99)
        #expect(try bench.get("/v1/conns", token: "admin-token").status == 200)
        #expect(try bench.get("/v1/conns", token: "bootstrap-token").status == 200)
    }

    @Test func anExpiredTokenIsNoGood() throws {
        bench.load([
            storedToken("read", expiresAt: WallTime(microseconds: 1)),
            storedToken("admin", expiresAt: WallTime(rfc3339: "2999-01-01T00:00:00Z")),
        ])
        #expect(try bench.get("/v1/conns", token: "read-token").status == 401)
        #expect(try bench.get("/v1/conns", token: "admin-token").status == 200)
    }

    @Test func useIsPutOnRecordInSets() throws {
        for _ in 0..<3 { _ = try bench.get("/v1/conns", token: "read-token") }
        _ = try bench.get("/v1/conns", token: "bootstrap-token")
        #expect(bench.backend.events.isEmpty)
        bench.api.stop()
        guard case .adminTokensUsed(let uses)? = bench.backend.events.first else {
            Issue.record("no uses")
            return
        }
        #expect(uses.map(\.tokenID) == [someToken("read")])
        bench.api.stop()
        #expect(bench.backend.events.count == 1)
    }

    // MARK: Guessing

    @Test func aLongBootstrapTokenIsNotHeldUpByThoseWhoGuess() throws {
        let bench = try AdminBench(bootstrapToken: "sixteen-or-more-b")
        for number in 0..<60 { _ = try bench.get("/v1/conns", token: "wrong-\(number)") }
        #expect(try bench.get("/v1/conns", token: "wrong").status == 429)
        #expect(try bench.get("/v1/conns", token: "sixteen-or-more-b").status == 200)
    }

    @Test func tooManyWrongTokensHoldTheirAddressUp() throws {
        var last = try bench.get("/v1/conns", token: "wrong-0")
        var tries = 1
        while last.status == 401, tries < 100 {
            last = try bench.get("/v1/conns", token: "wrong-\(tries)")
            tries += 1
        }
        #expect(tries == 51)
        #expect(last.status == 429)
        #expect(last.code == "too_many_failures")
        let seconds = try #require(last.fields["retry-after"].flatMap { Int($0) })
        #expect(seconds == 1)
        // Nobody's token, and no token at all, are told apart.
        #expect(try bench.get("/v1/conns", token: nil).status == 401)
        // A short bootstrap token is one that people think of: not even the right one.
        #expect(try bench.get("/v1/conns", token: "bootstrap-token").status == 429)
        // A token that can't be guessed is not held up by those who guess.
        #expect(try bench.get("/v1/conns", token: "read-token").status == 200)
        #expect(try bench.get("/livez", token: nil).status == 200)
    }

    @Test func whoWasRightBeforeIsNotHeldUp() throws {
        #expect(try bench.get("/v1/conns", token: "bootstrap-token").status == 200)
        for number in 0..<60 { _ = try bench.get("/v1/conns", token: "wrong-\(number)") }
        #expect(try bench.get("/v1/conns", token: "wrong").status == 429)
        #expect(try bench.get("/v1/conns", token: "bootstrap-token").status == 200)
    }
}
