import Domain
import EventLoop
import Postgres
import Store
import TemporaryPostgres
import TestKit
import Testing

/// Many events at once, as of ten thousand devices: each becomes one row, also when the database goes away
/// between two batches.
@Suite struct StoreRateTests {
    private let directory: TemporaryDirectory
    private let store: StoreHarness
    private let sql: BlockingConnection
    private var records = Records()

    private static let devices = 500
    /// Load reports and ended conns of three seconds at 10,000 and 5,000 a second, in steps of 5 ms.
    private static let steps = 600
    private static let loadsPerStep = 50
    private static let connsPerStep = 25

    init() throws {
        let url = try TemporaryPostgres.makeDatabase()
        directory = TemporaryDirectory()
        store = try StoreHarness(url, flushInterval: .milliseconds(250), outbox: directory)
        sql = try BlockingConnection(url)
    }

    @Test(arguments: [false, true])
    mutating func manyEventsAreWrittenOnceEach(connectionsAreCut: Bool) throws {
        let sessions = try (0..<Self.devices).map { try records.session("rate-\($0)") }
        var started = 0
        for session in sessions { store.client.startSession(session) { started += 1 } }
        #expect(store.pump { started == sessions.count && store.client.health.isConnected })
        try store.claim(sessions)
        for step in 0..<Self.steps {
            send(step, sessions)
            if connectionsAreCut, step % 100 == 50 { try cutTheWriter() }
            store.loop.runOnce(waitingAtMost: .milliseconds(5))
        }
        #expect(store.pump(rounds: 5_000) { store.client.health.waitingEvents == 0 })

        #expect(try count("pop.device_load") == Self.steps * Self.loadsPerStep)
        #expect(try count("pop.conns") == Self.steps * Self.connsPerStep)
        let rolledUp = try sql.scalar("SELECT sum(conns) FROM pop.conn_rollups WHERE step_seconds = 60")
        #expect(rolledUp == "\(Self.steps * Self.connsPerStep)")
        #expect(try count("pop.device_sessions WHERE ended_at IS NULL") == Self.devices)
        #expect(try count("pop.devices WHERE status = 'online'") == Self.devices)
        let last = Self.steps - 1
        #expect(try count("pop.devices WHERE active_conns = \(last)") == Self.devices)
        #expect(store.client.health.droppedEvents == 0)
        #expect(store.client.health.refusedEvents == 0)
    }

    private mutating func send(_ step: Int, _ sessions: [SessionRecord]) {
        let now = SystemClock.wall
        for number in 0..<Self.loadsPerStep {
            let session = sessions[(step * Self.loadsPerStep + number) % sessions.count]
            // No two reports of a device are of one instant.
            let at = WallTime(microseconds: now.microseconds + Int64(step * Self.loadsPerStep + number))
            store.client.record(.loadReport(records.load(of: session, at: at)))
        }
        for number in 0..<Self.connsPerStep {
            let session = sessions[(step * Self.connsPerStep + number) % sessions.count]
            store.client.record(.connEnded(records.conn(of: session)))
        }
        guard step % 100 == 99 else { return }
        for session in sessions {
            store.client.record(
                .deviceState(
                    DeviceState(
                        deviceID: session.deviceID, sessionID: session.sessionID, at: now, health: .whole,
                        activeConns: UInt64(step))))
        }
    }

    private func cutTheWriter() throws {
        try sql.query(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'pop-node writer'
            """)
    }

    private func count(_ rows: String) throws -> Int {
        try #require(try sql.scalar("SELECT count(*) FROM \(rows)").flatMap { Int($0) })
    }
}
