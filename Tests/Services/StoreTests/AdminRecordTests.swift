import Domain
import EventLoop
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

/// Admin tokens, the audit trail, repeated calls and drains.
@Suite struct AdminRecordTests {
    private let store: StoreHarness
    private let sql: BlockingConnection
    private var random = SystemRandom()

    init() throws {
        store = try StoreHarness()
        sql = try BlockingConnection(store.databaseURL)
        store.pump { store.client.health.isConnected }
    }

    // MARK: Tokens

    private mutating func newToken(_ name: String, expiresAt: WallTime? = nil) -> NewAdminToken {
        NewAdminToken(
            tokenID: TokenID(using: &random), name: name, scope: "operate",
            sha256: (0..<32).map { _ in UInt8.random(in: 0...255, using: &random) }, createdBy: "bootstrap",
            expiresAt: expiresAt)
    }

    private func book() throws -> AdminTokenBook {
        guard case .adminTokenBook(let book) = try store.ask(.adminTokenBook) else {
            throw StoreFailure.failed("kind")
        }
        return book
    }

    @Test mutating func adminTokensAreMadeListedAndRevoked() throws {
        #expect(try book() == AdminTokenBook(revision: 0, keys: []))
        let expiry = WallTime(microseconds: SystemClock.wall.microseconds + 60_000_000)
        let token = newToken("ci", expiresAt: expiry)
        guard case .adminToken(let row?) = try store.ask(.createAdminToken(token)) else {
            Issue.record("no token")
            return
        }
        #expect(row.name == "ci" && row.scope == "operate" && row.createdBy == "bootstrap")
        #expect(row.expiresAt == expiry)
        #expect(row.lastUsedAt == nil)
        #expect(try store.ask(.adminToken(token.tokenID)) == .adminToken(row))
        #expect(
            try book()
                == AdminTokenBook(
                    revision: 1,
                    keys: [
                        AdminTokenKey(
                            tokenID: token.tokenID, name: "ci", scope: "operate", sha256: token.sha256,
                            expiresAt: expiry)
                    ]))
        #expect(try store.ask(.deleteAdminToken(token.tokenID)) == .changed(true))
        #expect(try store.ask(.deleteAdminToken(token.tokenID)) == .changed(false))
        #expect(try store.ask(.adminToken(token.tokenID)) == .adminToken(nil))
        #expect(try book().keys.isEmpty)
        #expect(try book().revision >= 2)
    }

    @Test mutating func adminTokensArePagedNewestFirst() throws {
        var ids: [TokenID] = []
        for number in 0..<7 {
            let token = newToken("t\(number)")
            ids.insert(token.tokenID, at: 0)
            _ = try store.ask(.createAdminToken(token))
        }
        var seen: [TokenID] = []
        var cursor: ListCursor?
        repeat {
            guard case .adminTokens(let page) = try store.ask(.adminTokens(limit: 3, cursor: cursor)) else {
                throw StoreFailure.failed("kind")
            }
            seen += page.items.map(\.tokenID)
            cursor = page.next
        } while cursor != nil
        #expect(seen == ids)
        #expect(throws: StoreFailure.invalidCursor) {
            try store.ask(.adminTokens(limit: 3, cursor: ListCursor(list: "audit", key: "", id: "x")))
        }
    }

    @Test mutating func useOfATokenIsNotedWithoutAChangeOfRevision() throws {
        let token = newToken("used")
        _ = try store.ask(.createAdminToken(token))
        let revision = try book().revision
        let at = SystemClock.wall
        let earlier = WallTime(microseconds: at.microseconds - 5_000_000)
        store.client.record(
            .adminTokensUsed([
                AdminTokenUse(tokenID: token.tokenID, at: at),
                AdminTokenUse(tokenID: token.tokenID, at: earlier),
                AdminTokenUse(tokenID: TokenID(using: &random), at: at),
            ]))
        #expect(store.waitForWritten(1))
        store.client.record(.adminTokensUsed([AdminTokenUse(tokenID: token.tokenID, at: earlier)]))
        #expect(store.waitForWritten(2))
        guard case .adminToken(let row?) = try store.ask(.adminToken(token.tokenID)) else {
            Issue.record("no token")
            return
        }
        #expect(row.lastUsedAt == at)
        #expect(try book().revision == revision)
    }

    @Test mutating func theNumberOfTokensIsBounded() throws {
        try sql.query(
            """
            INSERT INTO pop.admin_tokens (token_id, name, scope, token_sha256)
            SELECT gen_random_uuid(), 'many', 'read', sha256(n::text::bytea) FROM generate_series(1, 10000) n
            """)
        #expect(try store.ask(.createAdminToken(newToken("one too many"))) == .adminToken(nil))
        #expect(try book().keys.count == 10_000)
    }

    // MARK: Audit trail

    private mutating func line(
        _ actor: String, _ method: String, _ path: String, status: Int, at: WallTime
    ) -> AuditRecord {
        AuditRecord(
            auditID: AuditID(using: &random), at: at, actor: actor,
            tokenID: actor.isEmpty ? nil : TokenID(high: 1, low: 2), remoteAddress: "127.0.0.1:5",
            requestID: "r", method: method, path: path, status: status, reason: "because")
    }

    private func audit(_ query: AuditListQuery) throws -> ListPage<AuditRow> {
        guard case .audit(let page) = try store.ask(.audit(query)) else { throw StoreFailure.failed("kind") }
        return page
    }

    @Test mutating func theAuditTrailIsFilteredAndPagedNewestFirst() throws {
        let base = SystemClock.wall.microseconds
        let lines = [
            line("ann", "POST", "/v1/tokens", status: 201, at: WallTime(microseconds: base)),
            line("ann", "DELETE", "/v1/conns/x", status: 204, at: WallTime(microseconds: base + 1)),
            line("", "POST", "/v1/tokens", status: 401, at: WallTime(microseconds: base + 2)),
            line("bob", "POST", "/v1/conns/close", status: 200, at: WallTime(microseconds: base + 3)),
        ]
        for line in lines { store.client.record(.audited(line)) }
        // A batch whose answer was lost is written again.
        store.client.record(.audited(lines[0]))
        #expect(store.waitForWritten(5))
        let all = try audit(AuditListQuery())
        #expect(all.items.map(\.record) == lines.reversed())
        #expect(all.items.allSatisfy { $0.nodeID.description == "n1" })
        func statuses(_ query: AuditListQuery) throws -> [Int] { try audit(query).items.map(\.record.status) }
        #expect(try statuses(AuditListQuery(actor: "ann")) == [204, 201])
        #expect(try statuses(AuditListQuery(actor: "")) == [401])
        #expect(try statuses(AuditListQuery(method: "POST", pathPrefix: "/v1/conns")) == [200])
        #expect(try statuses(AuditListQuery(pathPrefix: "/v1/con%")) == [])
        #expect(try statuses(AuditListQuery(status: 201)) == [201])
        #expect(try statuses(AuditListQuery(nodeID: named("n2"))) == [])
        #expect(
            try statuses(AuditListQuery(from: lines[1].at, to: lines[3].at)) == [401, 204])
        let first = try audit(AuditListQuery(limit: 3))
        let rest = try audit(AuditListQuery(limit: 3, cursor: first.next))
        #expect((first.items + rest.items).map(\.record) == lines.reversed())
        #expect(rest.next == nil)
    }

    // MARK: Repeated calls

    private mutating func claim(_ key: String = "k1", owner: String = "o", request: UInt8 = 1) -> KeyClaim {
        KeyClaim(
            owner: owner, key: key, requestSHA256: [UInt8](repeating: request, count: 32),
            claim: SessionID(using: &random))
    }

    private func state(_ claim: KeyClaim) throws -> KeyState {
        guard case .keyState(let state) = try store.ask(.claimKey(claim)) else {
            throw StoreFailure.failed("kind")
        }
        return state
    }

    @Test mutating func aKeyIsClaimedOnceAndThenAnswers() throws {
        let first = claim()
        #expect(try state(first) == .claimed)
        #expect(try state(claim()) == .inFlight)
        #expect(try state(claim(request: 2)) == .otherRequest)
        #expect(try state(claim(owner: "another")) == .claimed)
        let answer = KeyedAnswer(status: 202, location: "/v1/x", etag: "\"7\"", body: "{\"a\":\"é\"}")
        #expect(try store.ask(.settleKey(first, answer)) == .changed(true))
        #expect(try state(claim()) == .answered(answer))
        #expect(try state(claim(request: 2)) == .otherRequest)
        #expect(try store.ask(.releaseKey(claim())) == .changed(false))
    }

    @Test mutating func aReleasedKeyIsFree() throws {
        let first = claim()
        #expect(try state(first) == .claimed)
        #expect(try store.ask(.releaseKey(first)) == .changed(true))
        #expect(try state(claim(request: 2)) == .claimed)
    }

    @Test mutating func anAttemptThatDiedIsTakenOverAndCannotSettleLater() throws {
        let dead = claim()
        #expect(try state(dead) == .claimed)
        try sql.query("UPDATE pop.idempotency_keys SET claimed_at = now() - interval '61 seconds'")
        #expect(try state(claim(request: 2)) == .otherRequest)
        let next = claim()
        #expect(try state(next) == .claimed)
        let late = KeyedAnswer(status: 500, location: nil, etag: nil, body: nil)
        #expect(try store.ask(.settleKey(dead, late)) == .changed(false))
        #expect(try store.ask(.releaseKey(dead)) == .changed(false))
        let answer = KeyedAnswer(status: 204, location: nil, etag: nil, body: nil)
        #expect(try store.ask(.settleKey(next, answer)) == .changed(true))
        #expect(try state(claim()) == .answered(answer))
    }

    @Test mutating func anAnswerIsKeptForADay() throws {
        let first = claim()
        #expect(try state(first) == .claimed)
        let answer = KeyedAnswer(status: 204, location: nil, etag: nil, body: nil)
        _ = try store.ask(.settleKey(first, answer))
        try sql.query("UPDATE pop.idempotency_keys SET claimed_at = now() - interval '23 hours 59 minutes'")
        try sql.query("SELECT pop.drop_expired_records(30)")
        #expect(try state(claim()) == .answered(answer))
        try sql.query("UPDATE pop.idempotency_keys SET claimed_at = now() - interval '24 hours 1 second'")
        #expect(try state(claim(request: 2)) == .claimed)
        try sql.query("UPDATE pop.idempotency_keys SET claimed_at = now() - interval '24 hours 1 second'")
        try sql.query("SELECT pop.drop_expired_records(30)")
        #expect(try sql.scalar("SELECT count(*) FROM pop.idempotency_keys") == "0")
    }

    // MARK: Upkeep

    @Test mutating func upkeepDropsStrangersCallsAndExpiredTokensOnly() throws {
        let old = WallTime(microseconds: SystemClock.wall.microseconds - 31 * 86_400_000_000)
        for actor in ["", "ann"] {
            for at in [old, SystemClock.wall] {
                store.client.record(.audited(line(actor, "POST", "/v1/x", status: 401, at: at)))
            }
        }
        #expect(store.waitForWritten(4))
        for expiry in [nil, old, SystemClock.wall] {
            _ = try store.ask(.createAdminToken(newToken("t", expiresAt: expiry)))
        }
        try sql.query("SELECT pop.drop_expired_records(30)")
        #expect(try audit(AuditListQuery()).items.map(\.record.actor).sorted() == ["", "ann", "ann"])
        #expect(try book().keys.count == 2)
    }

    // MARK: Drains

    private mutating func drain(startedAt: WallTime) -> DrainRecord {
        DrainRecord(
            drainID: DrainID(using: &random), state: "handover", version: 1, startedAt: startedAt,
            deadlineAt: WallTime(microseconds: startedAt.microseconds + 300_000_000), endedAt: nil,
            deadlineSeconds: 300, devicesPerSecond: 50, redirectTo: ["n2"], onDeadline: "cut", reason: "up",
            actor: "ann", etaSeconds: 3, devicesTotal: 120, devicesMoved: 0, devicesRemaining: 120,
            connsRemaining: 9, connsCut: 0, blockers: [], targets: ["n2"], updatedAt: startedAt)
    }

    private func drains(_ query: DrainListQuery) throws -> ListPage<DrainRow> {
        guard case .drains(let page) = try store.ask(.drains(query)) else {
            throw StoreFailure.failed("kind")
        }
        return page
    }

    @Test mutating func theNewestWordAboutADrainStays() throws {
        let base = SystemClock.wall.microseconds
        var first = drain(startedAt: WallTime(microseconds: base))
        let second = drain(startedAt: WallTime(microseconds: base + 1))
        store.client.record(.drainChanged(first))
        store.client.record(.drainChanged(second))
        #expect(store.waitForWritten(2))
        let stale = first
        first.state = "drained"
        first.devicesMoved = 120
        first.updatedAt = WallTime(microseconds: base + 5)
        first.endedAt = first.updatedAt
        store.client.record(.drainChanged(first))
        #expect(store.waitForWritten(3))
        store.client.record(.drainChanged(stale))
        #expect(store.waitForWritten(4))
        #expect(try drains(DrainListQuery()).items.map(\.record) == [second, first])
        let page = try drains(DrainListQuery(limit: 1))
        #expect(try drains(DrainListQuery(cursor: page.next)).items.map(\.record) == [first])
        #expect(try drains(DrainListQuery(nodeID: named("n2"))).items.isEmpty)
    }

    @Test mutating func aDrainEndsWithItsNodesLife() throws {
        let started = WallTime(microseconds: SystemClock.wall.microseconds - 1_000_000)
        store.client.record(.drainChanged(drain(startedAt: started)))
        #expect(store.waitForWritten(1))
        store.client.stop()
        let next = try StoreHarness(store.databaseURL)
        next.pump { next.client.health.isConnected }
        guard case .drains(let page) = try next.ask(.drains(DrainListQuery())) else {
            throw StoreFailure.failed("kind")
        }
        #expect(page.items.map(\.record.state) == ["canceled"])
        #expect(page.items.first?.record.endedAt != nil)
    }
}
