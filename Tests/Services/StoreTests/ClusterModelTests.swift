import ClusterModel
import Domain
import EventLoop
import Membership
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

/// The database that the simulation of the cluster plays with does what the SQL does: random things are
/// done to both, and both have the same rows then.
@Suite struct ClusterModelTests {
    @Test func theModelDoesWhatTheSQLDoes() throws {
        let random = SeededRandom.ofEnvironment()
        let pair = try ModelPair(random)
        for step in 0..<600 {
            let what = try pair.step()
            let (found, expected) = (try pair.rows(), pair.modelRows())
            guard found == expected else {
                let difference = found.symmetricDifference(expected).sorted().joined(separator: "\n")
                Issue.record("seed \(random.seed), step \(step), \(what):\n\(difference)")
                return
            }
        }
    }
}

private final class ModelPair {
    private var random: SeededRandom
    private var model = ModelDatabase()
    private let sql: BlockingConnection
    private var clock = DatabaseClock()
    private var lives: [ModelDatabase.Life] = []
    private var pastLives: [ModelDatabase.Life] = []
    private var sessions: [(record: SessionRecord, life: ModelDatabase.Life)] = []

    init(_ random: SeededRandom) throws {
        self.random = random
        let database = try TemporaryPostgres.makeDatabase()
        // Makes the schema, and is gone before anything begins.
        let store = try StoreHarness(database, nodeID: "none")
        store.pump { store.client.health.isConnected }
        store.client.stop()
        sql = try BlockingConnection(database)
        try sql.query("DELETE FROM pop.nodes")
        for index in 0..<3 { lives.append(try life("n\(index)")) }
        for life in lives { try begin(life) }
    }

    private func life(_ name: String) throws -> ModelDatabase.Life {
        ModelDatabase.Life(node: try named(name), incarnation: SessionID(using: &random))
    }

    private func asNodeLife(_ life: ModelDatabase.Life) -> NodeLife {
        NodeLife(id: life.node, incarnation: life.incarnation)
    }

    /// The database's time, which the clock of the nodes knows then.
    private func now() throws -> Int64 {
        let row = try #require(try sql.query("SELECT clock_timestamp() AS at").rows.first)
        let time = try row.time("at")
        clock = DatabaseClock()
        _ = clock.note(time, sentAt: Self.noon, receivedAt: Self.noon)
        return time.microseconds
    }

    private static let noon = Instant(nanoseconds: 1_000_000_000_000_000)

    private func chance(_ percent: Int) -> Bool { Int.random(in: 1...100, using: &random) <= percent }

    // MARK: Steps

    func step() throws -> String {
        let life = lives[Int.random(in: 0..<lives.count, using: &random)]
        switch Int.random(in: 0..<12, using: &random) {
        case 0, 1, 2, 3: return try enter(life)
        case 4: return try again()
        case 5, 6: return try claim(life)
        case 7: return try end()
        case 8: return try lapse(life)
        case 9: return try renew(life)
        case 10: return try settle(life)
        default: return chance(30) ? try restart(life) : try regain(life)
        }
    }

    private func node(_ life: ModelDatabase.Life) -> NodeRecord {
        NodeRecord(
            nodeID: life.node, location: "", advertiseHost: nil, wssPort: 1, quicPort: 1, version: "1",
            startedAt: SystemClock.wall)
    }

    private func begin(_ life: ModelDatabase.Life) throws {
        let time = try now()
        try sql.transaction(NodeWrites.begin(asNodeLife(life), node(life), .active))
        _ = model.begin(life, .active, at: time)
    }

    private func restart(_ life: ModelDatabase.Life) throws -> String {
        let next = try self.life(life.node.description)
        lives = lives.map { $0 == life ? next : $0 }
        pastLives.append(life)
        try begin(next)
        return "begin \(life.node)"
    }

    private func write(_ record: SessionRecord, _ life: ModelDatabase.Life) throws {
        let time = try now()
        let isPresent = lives.contains(life)
        var statements = [
            SessionWrites.enter([record], asNodeLife(life), clock, ofThisLife: isPresent)
        ]
        if !isPresent, let present = lives.first(where: { $0.node == life.node }) {
            statements += NodeWrites.close(asNodeLife(life), before: asNodeLife(present), node(life))
        }
        try sql.transaction(statements)
        _ = model.enter(life, [entry(record, isPresent: isPresent, takesDevice: true)], at: time)
        if !isPresent { model.close(life) }
    }

    private func entry(
        _ record: SessionRecord, isPresent: Bool, takesDevice: Bool
    ) -> ModelDatabase.Entry {
        ModelDatabase.Entry(
            session: record.sessionID, device: record.deviceID, epoch: record.sessionEpoch,
            beganAt: isPresent ? record.began.flatMap { clock.time(at: $0)?.microseconds } : nil,
            startedAt: record.startedAt.microseconds, takesDevice: takesDevice)
    }

    /// When a session began, told from now: at once, some time ago, or nobody knows.
    private func someBeginning() -> Instant? {
        switch Int.random(in: 0..<4, using: &random) {
        case 0, 1: Self.noon
        case 2: Self.noon + .seconds(-Int64.random(in: 100...100_000, using: &random))
        default: nil
        }
    }

    private func enter(_ life: ModelDatabase.Life) throws -> String {
        let past = pastLives.randomElement(using: &random)
        let life = chance(10) ? past ?? life : life
        let record = SessionRecord(
            sessionID: SessionID(using: &random),
            deviceID: try #require(DeviceID("d\(Int.random(in: 0..<4, using: &random))")),
            sessionEpoch: .random(in: 1...1_000_000, using: &random), startedAt: SystemClock.wall,
            remoteAddress: SocketAddress(ip: .v4(IPv4Address(1)), port: 1), began: someBeginning())
        sessions.append((record, life))
        try write(record, life)
        return "enter \(record.sessionID) of \(record.deviceID) at \(life.node)"
    }

    /// A batch whose answer was lost.
    private func again() throws -> String {
        guard let (record, life) = sessions.suffix(20).randomElement(using: &random) else { return "nothing" }
        try write(record, life)
        return "enter again \(record.sessionID)"
    }

    private func claim(_ life: ModelDatabase.Life) throws -> String {
        let own = sessions.filter { $0.life == life }.suffix(10)
        guard var record = own.randomElement(using: &random)?.record else { return "nothing" }
        record.began = someBeginning() ?? Self.noon + .seconds(-50)
        let isCurrent = chance(80)
        let time = try now()
        try sql.transaction([
            SessionWrites.claim([SessionClaim(record: record, isCurrent: isCurrent)], asNodeLife(life), clock)
        ])
        _ = model.claim(life, [entry(record, isPresent: true, takesDevice: isCurrent)], at: time)
        return "claim \(record.sessionID) of \(record.deviceID) at \(life.node)"
    }

    private func end() throws -> String {
        guard let (record, _) = sessions.suffix(10).randomElement(using: &random) else { return "nothing" }
        let at = SystemClock.wall
        let end = SessionEnd(
            sessionID: record.sessionID, endedAt: at, reason: .goodbye, counters: SessionCounters())
        try sql.transaction([SessionWrites.end([end]), SessionWrites.releaseDevices([end])])
        model.end(record.sessionID, .goodbye, at: at.microseconds)
        return "end \(record.sessionID)"
    }

    private func lapse(_ life: ModelDatabase.Life) throws -> String {
        let time = try now()
        try sql.transaction([
            PostgresStatement(
                "UPDATE pop.nodes SET last_seen_at = now() - interval '10.1 seconds' WHERE node_id = $1",
                [.text(life.node.description)]),
            NodeWrites.reapLostNodes,
        ])
        model.lapse(life.node, at: time)
        model.reap(at: time)
        return "lapse \(life.node)"
    }

    private func renew(_ life: ModelDatabase.Life) throws -> String {
        let time = try now()
        try sql.transaction([NodeWrites.renewLease(asNodeLife(life), .active)])
        _ = model.renew(life, .active, at: time)
        return "renew \(life.node)"
    }

    private func regain(_ life: ModelDatabase.Life) throws -> String {
        let term = (model.nodes[life.node]?.term ?? 0) - (chance(30) ? 1 : 0)
        let time = try now()
        try sql.transaction([NodeWrites.regainLease(asNodeLife(life), .active, term: term)])
        _ = model.regain(life, .active, term: term, at: time)
        return "regain \(life.node)"
    }

    private func settle(_ life: ModelDatabase.Life) throws -> String {
        let settled = model.takeovers(of: life.node)
        try sql.transaction([NodeWrites.settleTakeovers(settled, asNodeLife(life))])
        model.settle(settled, of: life.node)
        return "settle \(life.node)"
    }

    // MARK: Rows

    func rows() throws -> Set<String> {
        let rows = try sql.query(
            """
            SELECT concat_ws(' ', 'node', node_id, state, lease_term, lost_at IS NOT NULL) AS row FROM pop.nodes
            UNION ALL SELECT concat_ws(' ', 'session', session_id, device_id, node_id, session_epoch,
                coalesce(end_reason, 'open')) FROM pop.device_sessions
            UNION ALL SELECT concat_ws(' ', 'device', device_id, status, node_id, session_id, session_epoch,
                session_began_at = '-infinity') FROM pop.devices
            UNION ALL SELECT concat_ws(' ', 'takeover', node_id, session_id) FROM pop.session_takeovers
            """
        ).rows
        return Set(try rows.map { try $0.string("row") })
    }

    func modelRows() -> Set<String> {
        func text(_ value: Bool) -> String { value ? "t" : "f" }
        var rows: Set<String> = []
        for (id, node) in model.nodes {
            rows.insert("node \(id) \(node.state.rawValue) \(node.term) \(text(node.lostAt != nil))")
        }
        for (id, session) in model.sessions {
            rows.insert(
                "session \(id) \(session.device) \(session.life.node) \(session.epoch) "
                    + (session.endReason?.rawValue ?? "open"))
        }
        for (id, device) in model.devices {
            let owner = [device.node?.description, device.session?.description].compactMap { $0 }
            rows.insert(
                (["device", "\(id)", device.isOnline ? "online" : "offline"] + owner
                    + ["\(device.epoch)", text(device.beganAt == .min)]).joined(separator: " "))
        }
        for takeover in model.takeovers { rows.insert("takeover \(takeover.node) \(takeover.session)") }
        return rows
    }
}
