import Domain
import EventLoop
import Membership
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

/// Leases that are over, and nodes that come back, on a real database.
@Suite struct LostNodeTests {
    private let sql: BlockingConnection
    private let database: String
    private let store: StoreHarness
    private var records = Records()
    private let news: News

    final class News {
        var lost: [Int64] = []
        var entered: [SessionEntry] = []
        var taken: [SessionID] = []
    }

    init() throws {
        database = try TemporaryPostgres.makeDatabase()
        store = try StoreHarness(database)
        sql = try BlockingConnection(database)
        let news = News()
        self.news = news
        store.client.sessionNews = {
            switch $0 {
            case .lease(.lost(let term)): news.lost.append(term)
            case .entered(let entries): news.entered += entries
            case .takenOver(let sessions): news.taken += sessions
            case .lease(.connected), .undated: break
            }
        }
        #expect(store.pump { store.client.health.isConnected })
    }

    /// Lets the node's lease be over, as after a pause of its process, and others notice.
    private func lose(_ node: String = "n1", steps: Int = 1, atOnce: Int = 1_000) throws {
        try sql.transaction([
            PostgresStatement(
                "UPDATE pop.nodes SET last_seen_at = now() - interval '11 seconds' WHERE node_id = $1",
                [.text(node)]),
            PostgresStatement("SELECT pop.reap_lost_nodes(\(atOnce))"),
        ])
    }

    private func rows(_ text: String) throws -> [String] {
        try sql.query("SELECT (\(text))::text AS row").rows.map { try $0.string("row") }
    }

    private func claim(_ claims: [SessionClaim]) throws -> [SessionEntry] {
        guard case .claimed(let entries) = try store.ask(.claimSessions(claims)) else {
            throw StoreFailure.failed("kind")
        }
        return entries
    }

    private func sessionStates() throws -> [String] {
        try sql.query(
            """
            SELECT device_id || ' ' || coalesce(end_reason, 'open') AS state FROM pop.device_sessions
            ORDER BY started_at, device_id
            """
        ).rows.map { try $0.string("state") }
    }

    private func nodeState(_ node: String = "n1") throws -> String? {
        try sql.scalar("SELECT state FROM pop.nodes WHERE node_id = $1", [.text(node)])
    }

    @Test mutating func aNodeWhoseLeaseIsOverIsDownWithItsSessionsAndDrains() throws {
        for number in 0..<3 { #expect(store.start(try records.session("d\(number)"))) }
        try sql.query(
            """
            INSERT INTO pop.drains (drain_id, node_id, state, started_at, deadline_at, deadline_seconds,
                devices_per_second, on_deadline)
            VALUES (gen_random_uuid(), 'n1', 'handover', now(), now() + interval '1 hour', 3600, 50, 'cut')
            """)
        try lose()
        #expect(try sessionStates() == ["d0 node_lost", "d1 node_lost", "d2 node_lost"])
        #expect(try rows("SELECT count(*) FROM pop.devices WHERE status = 'online'") == ["0"])
        #expect(try rows("SELECT state FROM pop.drains WHERE ended_at IS NOT NULL") == ["canceled"])
        #expect(try rows("SELECT count(*) FROM pop.device_sessions WHERE ended_at < started_at") == ["0"])
    }

    @Test mutating func aLargeNodeIsDealtWithInSteps() throws {
        for number in 0..<5 { #expect(store.start(try records.session("d\(number)"))) }
        try lose(atOnce: 2)
        #expect(try sessionStates().count { $0.hasSuffix("open") } == 3)
        for left in [1, 0] {
            try lose(atOnce: 2)
            #expect(try sessionStates().count { $0.hasSuffix("open") } == left)
        }
        #expect(try nodeState() == "down")
    }

    @Test func aLeaseThatStandsIsLeftAloneAndAStoppedNodeToo() throws {
        try sql.query("SELECT pop.reap_lost_nodes(10)")
        #expect(try nodeState() == "active")
        store.client.stop()
        try lose()
        #expect(try rows("SELECT lease_term FROM pop.nodes WHERE lost_at IS NULL").count == 1)
    }

    @Test func oneCallerAtATimeLooks() throws {
        let other = try BlockingConnection(database)
        try other.query("SELECT pg_advisory_lock(hashtext('pop.reap_lost_nodes'))")
        try lose()
        #expect(try rows("SELECT lost_at IS NULL FROM pop.nodes") == ["true"])
    }

    @Test mutating func aNodeThatComesBackIsDownUntilWhatLivesThereIsOpenAgain() throws {
        let lives = try records.session("lives")
        let ends = try records.session("ends")
        #expect(store.start(lives) && store.start(ends))
        store.client.record(
            .sessionUpdated(
                SessionUpdate(
                    sessionID: lives.sessionID, at: SystemClock.wall,
                    counters: SessionCounters(bytesSent: 5, connsTotal: 2))))
        #expect(store.waitForWritten(3))
        try lose()
        #expect(store.pump { !news.lost.isEmpty })
        #expect(try nodeState() == "down")
        // An end that only this node knows takes the place of what the others guessed.
        store.client.record(
            .sessionEnded(
                SessionEnd(
                    sessionID: ends.sessionID, endedAt: SystemClock.wall, reason: .goodbye,
                    counters: SessionCounters())))
        #expect(store.waitForWritten(4))
        let entries = try claim([SessionClaim(record: lives, isCurrent: true)])
        #expect(entries.map(\.isOwner) == [true])
        #expect(try sessionStates() == ["lives open", "ends goodbye"])
        #expect(try store.device("lives")?.online == true)
        #expect(try store.device("ends")?.online == false)
        #expect(try rows("SELECT bytes_sent FROM pop.device_sessions WHERE end_reason IS NULL") == ["5"])
        #expect(try nodeState() == "down")
        let term = try #require(news.lost.last)
        #expect(try store.ask(.regainLease(term: term - 1)) == .changed(false))
        #expect(try store.ask(.regainLease(term: term)) == .changed(true))
        #expect(try nodeState() == "active")
        // Nothing is amiss any more.
        #expect(try claim([SessionClaim(record: lives, isCurrent: true)]).isEmpty)
    }

    @Test mutating func aNodeThatIsLostAgainWhileItComesBackBeginsAnew() throws {
        let session = try records.session("d")
        #expect(store.start(session))
        try lose()
        #expect(store.pump { !news.lost.isEmpty })
        let first = try #require(news.lost.last)
        _ = try claim([SessionClaim(record: session, isCurrent: true)])
        try lose()
        #expect(try sessionStates() == ["d node_lost"])
        #expect(try store.ask(.regainLease(term: first)) == .changed(false))
        #expect(store.pump { news.lost.last != first })
        _ = try claim([SessionClaim(record: session, isCurrent: true)])
        #expect(try store.ask(.regainLease(term: try #require(news.lost.last))) == .changed(true))
        #expect(try sessionStates() == ["d open"])
    }

    @Test mutating func aSessionThatEndedIsNotOpenedByALateClaim() throws {
        let session = try records.session("d")
        #expect(store.start(session))
        store.client.record(
            .sessionEnded(
                SessionEnd(
                    sessionID: session.sessionID, endedAt: SystemClock.wall, reason: .goodbye,
                    counters: SessionCounters())))
        #expect(store.waitForWritten(2))
        _ = try claim([SessionClaim(record: session, isCurrent: true)])
        #expect(try sessionStates() == ["d goodbye"])
        #expect(try store.device("d")?.online == false)
    }

    // MARK: Two nodes

    @Test mutating func theNodeWhoseSessionWasTakenOverIsToldOfItAndTheOtherWaitsForNobody() throws {
        let other = try StoreHarness(database, nodeID: "n2")
        let old = try records.session("d", epoch: 9_000_000_000_000_000)
        #expect(store.start(old))
        let new = try records.session("d", epoch: 5)
        var entries: [SessionEntry] = []
        other.client.sessionNews = { if case .entered(let told) = $0 { entries += told } }
        #expect(other.start(new))
        // The other node's clock is years behind: its session is the newer one all the same.
        #expect(entries.map(\.isOwner) == [true])
        #expect(entries.map(\.epoch) == [9_000_000_000_000_001])
        #expect(
            try rows("SELECT session_epoch FROM pop.device_sessions WHERE node_id = 'n2'")
                == ["9000000000000001"])
        #expect(store.pump { news.taken == [old.sessionID] })
        #expect(try store.ask(.settleTakeovers([old.sessionID])) == .changed(true))
        #expect(try rows("SELECT count(*) FROM pop.session_takeovers") == ["0"])
        // Said again, as after a lost answer, it changes nothing.
        let row = try #require(try store.device("d"))
        try sql.transaction([try again(new, at: "n2")])
        var repeated = try #require(try store.device("d"))
        // It goes on counting.
        repeated.age = row.age
        #expect(repeated == row)
    }

    /// The start of a session as its node writes it.
    private func again(_ record: SessionRecord, at node: String) throws -> PostgresStatement {
        let text = try #require(
            try sql.scalar("SELECT incarnation::text FROM pop.nodes WHERE node_id = $1", [.text(node)]))
        return SessionWrites.enter(
            [record], NodeLife(id: try named(node), incarnation: try #require(SessionID(text))),
            try clock(), ofThisLife: true)
    }

    private func clock() throws -> DatabaseClock {
        var clock = DatabaseClock()
        let asked = SystemClock.now
        let row = try #require(try sql.query("SELECT clock_timestamp() AS at").rows.first)
        _ = clock.note(try row.time("at"), sentAt: asked, receivedAt: SystemClock.now)
        return clock
    }

    @Test mutating func aStartThatIsSaidAgainDoesNotTakeTheDeviceBack() throws {
        let other = try StoreHarness(database, nodeID: "n2")
        let first = try records.session("d")
        #expect(store.start(first))
        let second = try records.session("d")
        #expect(other.start(second))
        try sql.transaction([try again(first, at: "n1")])
        #expect(try store.device("d")?.sessionID == second.sessionID)
    }

    @Test mutating func aLateStartLosesToOneThatBeganAfterItWhateverTheEpochs() throws {
        let other = try StoreHarness(database, nodeID: "n2")
        let late = try records.session(
            "d", epoch: 9_000_000_000_000_000, began: SystemClock.now + .seconds(-60))
        let present = try records.session("d", epoch: 5)
        #expect(other.start(present))
        #expect(store.start(late))
        #expect(news.entered.map(\.isOwner) == [false])
        #expect(try store.device("d")?.sessionID == present.sessionID)
        #expect(try rows("SELECT count(*) FROM pop.session_takeovers") == ["0"])
        // When that one has ended, what still lives may have the device, with an epoch above it.
        other.client.record(
            .sessionEnded(
                SessionEnd(
                    sessionID: present.sessionID, endedAt: SystemClock.wall, reason: .goodbye,
                    counters: SessionCounters())))
        #expect(other.waitForWritten(2))
        let entries = try claim([SessionClaim(record: late, isCurrent: true)])
        #expect(entries.map(\.isOwner) == [true])
        #expect(try store.device("d")?.online == true)
    }

    @Test mutating func aSessionThatBeganWithoutTheDatabaseWinsOverAnOlderOneByAClaim() throws {
        let other = try StoreHarness(database, nodeID: "n2")
        let old = try records.session(
            "d", epoch: 9_000_000_000_000_000, began: SystemClock.now + .seconds(-60))
        #expect(store.start(old))
        // As the disk gives it back: without a word of when it began.
        var new = try records.session("d", epoch: 5, began: nil)
        var entered: [SessionEntry] = []
        other.client.sessionNews = { if case .entered(let told) = $0 { entered += told } }
        #expect(other.start(new))
        #expect(try store.device("d")?.sessionID == old.sessionID)
        // Nobody says that it has lost its device before it was asked when it began.
        #expect(entered.isEmpty)
        new.began = SystemClock.now + .seconds(-10)
        guard
            case .claimed(let entries) = try other.ask(
                .claimSessions([SessionClaim(record: new, isCurrent: true)]))
        else { throw StoreFailure.failed("kind") }
        #expect(entries.map(\.isOwner) == [true])
        #expect(entries.map(\.epoch) == [9_000_000_000_000_001])
        #expect(store.pump { news.taken == [old.sessionID] })
    }

    /// A session's place is where it began: one that was written at once is not newer for the time that took.
    @Test mutating func aSessionThatBeganBeforeAnOlderOneWasWrittenCounts() throws {
        let other = try StoreHarness(database, nodeID: "n2")
        #expect(other.pump { other.client.health.isConnected })
        let began = SystemClock.now
        let older = try records.session("d", began: began + .milliseconds(-50))
        let newer = try records.session("d", began: began + .milliseconds(-25))
        #expect(store.start(older))
        #expect(try other.claim([newer]).map(\.isOwner) == [true])
        #expect(store.pump { news.taken == [older.sessionID] })
    }

    @Test mutating func oneThatWasToldToLeaveLivesBesideTheDevicesNewSession() throws {
        let other = try StoreHarness(database, nodeID: "n2")
        let leaving = try records.session("d", began: SystemClock.now + .seconds(-60))
        #expect(store.start(leaving))
        let new = try records.session("d")
        #expect(other.start(new))
        try lose()
        #expect(store.pump { !news.lost.isEmpty })
        #expect(try claim([SessionClaim(record: leaving, isCurrent: false)]).isEmpty)
        #expect(try sessionStates() == ["d open", "d open"])
        #expect(try store.device("d")?.sessionID == new.sessionID)
    }

    @Test mutating func aDeviceThatMovedWhileItsNodeWasAwayStaysWhereItIs() throws {
        let other = try StoreHarness(database, nodeID: "n2")
        let old = try records.session("d", began: SystemClock.now + .seconds(-60))
        #expect(store.start(old))
        try lose()
        #expect(other.start(try records.session("d")))
        #expect(try claim([SessionClaim(record: old, isCurrent: true)]).map(\.isOwner) == [false])
        #expect(try sessionStates() == ["d node_lost", "d open"])
    }
}
