import Domain
import EventLoop
import Membership
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

/// Devices move while both nodes write of them: whoever waits for a device has none that comes after it.
@Suite struct LockOrderTests {
    enum Pair: CaseIterable {
        case stateAndLoad, stateAndEnd, twoEnds, startAndState
    }

    @Test(arguments: Pair.allCases) func aBatchLocksItsDevicesInOneOrder(pair: Pair) throws {
        let store = try StoreHarness()
        let sql = try BlockingConnection(store.databaseURL)
        let writer = try BlockingConnection(store.databaseURL) { $0.settings = StoreWriter.plannerSettings }
        let other = try BlockingConnection(store.databaseURL)
        var records = Records()
        let first = try records.session("a")
        let last = try records.session("z")
        #expect(store.start(first) && store.start(last))

        let events: [StoreEvent] =
            // Of the later device comes first what its statement would lock at once.
            switch pair {
            case .stateAndLoad: [state(of: last), .loadReport(records.load(of: first))]
            case .stateAndEnd: [state(of: last), end(of: first)]
            case .twoEnds: [end(of: last), end(of: first)]
            case .startAndState:
                [.sessionStarted(try records.session("z"), acknowledgement: nil), state(of: first)]
            }
        let life = NodeLife(id: try named("n1"), incarnation: first.sessionID)
        let batch = WriteBatch(events: events, life: life)

        try other.query("BEGIN")
        try other.query("SELECT FROM pop.devices WHERE device_id = 'a' FOR UPDATE")
        var outcome: Result<[PostgresResult], PostgresError>?
        writer.connection.submit(batch.statements(DatabaseClock(), isOfThisLife: true)) { outcome = $0 }
        #expect(
            writer.pump {
                let waiting = try? sql.scalar(
                    """
                    SELECT count(*)::text FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'
                    """)
                return waiting == "1"
            })
        // What the batch would have locked before, it waits for.
        try other.query("SELECT FROM pop.devices WHERE device_id = 'z' FOR UPDATE NOWAIT")
        try other.query("COMMIT")
        #expect(writer.pump { outcome != nil })
        let results = try #require(outcome).get()
        #expect(try batch.entries(in: results).count == (pair == .startAndState ? 1 : 0))
    }

    private func state(of session: SessionRecord) -> StoreEvent {
        .deviceState(
            DeviceState(
                deviceID: session.deviceID, sessionID: session.sessionID, at: SystemClock.wall,
                health: .whole, lastHeartbeatAt: nil, roundTripMilliseconds: nil, quicRemoteAddress: nil,
                activeConns: 1, bytesSent: 1, bytesReceived: 1))
    }

    private func end(of session: SessionRecord) -> StoreEvent {
        .sessionEnded(
            SessionEnd(
                sessionID: session.sessionID, endedAt: SystemClock.wall, reason: .drained,
                counters: SessionCounters()))
    }
}
