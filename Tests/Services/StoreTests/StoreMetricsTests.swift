import Domain
import EventLoop
import Observability
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

@Suite struct StoreMetricsTests {
    private var records = Records()

    /// The values of a scrape by their samples' names and labels, as they are written.
    private func scrape(_ store: StoreHarness) throws -> [String: Double] {
        var isDone = false
        store.client.refresh { isDone = true }
        try #require(store.pump { isDone })
        var page = MetricPage()
        store.client.write(on: &page)
        var values: [String: Double] = [:]
        for line in String(decoding: page.text, as: UTF8.self).split(separator: "\n") {
            guard !line.hasPrefix("#"), let space = line.lastIndex(of: " ") else { continue }
            values[String(line[..<space])] = Double(line[line.index(after: space)...])
        }
        return values
    }

    @Test mutating func whatIsWrittenAndAskedIsCounted() throws {
        let store = try StoreHarness()
        let session = try records.session("d1")
        #expect(store.start(session))
        store.client.record(.connEnded(records.conn(of: session)))
        store.client.record(.loadReport(records.load(of: session)))
        #expect(store.waitForWritten(3))
        #expect(try store.device("d1") != nil)
        #expect(store.pump { (try? scrape(store)["pop_store_schema_version"] ?? 0) ?? 0 > 0 })
        let values = try scrape(store)
        #expect(values[#"pop_store_events_written_total{kind="session_started"}"#] == 1)
        #expect(values[#"pop_store_events_written_total{kind="conn_ended"}"#] == 1)
        #expect(values[#"pop_store_events_written_total{kind="load_report"}"#] == 1)
        #expect(values["pop_store_batch_events_sum"] == 3)
        let batches = values[#"pop_store_batches_total{outcome="committed"}"#]
        #expect(batches == values["pop_store_batch_seconds_count"])
        #expect(values["pop_store_session_record_seconds_count"] == 1)
        #expect(values[#"pop_store_query_seconds_count{kind="device"}"#] == 1)
        #expect(values["pop_store_connected"] == 1)
        #expect(values["pop_store_queue_events"] == 0)
        #expect(values["pop_store_queue_age_seconds"] == 0)
        #expect(values["pop_store_lease_age_seconds"] ?? -1 >= 0)
        #expect(values["pop_store_schema_version"] == Double(embeddedMigrations.count))
        #expect(values[#"pop_loop_turn_seconds_count{loop="store"}"#] ?? 0 > 0)
    }

    @Test mutating func anEventThatIsRefusedIsCountedByItsKind() throws {
        let store = try StoreHarness()
        #expect(store.pump { store.client.health.isConnected })
        // The schema refuses a location of more than 128 bytes.
        let bad = try records.session("bad", location: String(repeating: "x", count: 200))
        store.client.startSession(bad) {}
        store.client.startSession(try records.session("good")) {}
        #expect(
            store.pump { store.client.health.refusedEvents == 1 && store.client.health.waitingEvents == 0 })
        let values = try scrape(store)
        #expect(values[#"pop_store_events_refused_total{kind="session_started"}"#] == 1)
        #expect(values[#"pop_store_events_written_total{kind="session_started"}"#] == 1)
        #expect(values[#"pop_store_batches_total{outcome="refused"}"#] == 1)
    }

    @Test mutating func aDatabaseThatIsAwayShows() throws {
        let store = try StoreHarness("postgresql://127.0.0.1:1/nowhere?connect_timeout=1")
        store.client.record(.loadReport(records.load(of: try records.session("d"))))
        #expect(store.pump { store.client.health.failure != nil })
        #expect(throws: StoreFailure.self) { try store.ask(.nodes) }
        let values = try scrape(store)
        #expect(values["pop_store_connected"] == 0)
        #expect(values["pop_store_readers_ready"] == 0)
        #expect(values["pop_store_connections_lost_total"] ?? 0 > 0)
        #expect(values["pop_store_lease_age_seconds"] == -1)
        #expect(values["pop_store_queue_events"] == 1)
        #expect(values["pop_store_queue_age_seconds"] ?? 0 > 0)
        #expect(values[#"pop_store_queries_failed_total{cause="unavailable"}"#] == 1)
    }

    @Test mutating func whatIsOnDiskShows() throws {
        let folder = TemporaryDirectory()
        let store = try StoreHarness("postgresql://127.0.0.1:1/nowhere?connect_timeout=1", outbox: folder)
        #expect(store.start(try records.session("d")))
        let values = try scrape(store)
        #expect(values["pop_outbox_events"] == 1)
        #expect(values["pop_outbox_used_bytes"] ?? 0 > 0)
        #expect(values["pop_outbox_failing"] == 0)
        #expect(values["pop_store_session_record_seconds_count"] == 1)
    }

    @Test func aStoreThatHasStoppedIsNotWaitedFor() throws {
        let store = try StoreHarness("postgresql://127.0.0.1:1/nowhere?connect_timeout=1")
        store.client.stop(within: .seconds(1))
        var isDone = false
        store.client.refresh { isDone = true }
        #expect(isDone)
    }
}
