internal import Domain
internal import JSON
internal import Store

/// What a run of the store's write path has shown.
package struct StoreBenchResult: Sendable {
    package struct Sent: Sendable, Hashable {
        package var loads: UInt64
        package var conns: UInt64
        package var sessions: UInt64
        package var devices: UInt64
    }

    /// How it stood at one moment.
    package struct Point: Sendable, Hashable {
        package var at: Duration
        /// Events not in the database yet, those on disk among them.
        package var waiting: Int
        package var onDisk: Int
        package var written: UInt64
        package var isConnected: Bool
    }

    let plan: StoreBenchPlan
    let sent: Sent
    /// Handed over under load, of all kinds.
    let events: UInt64
    /// From the load's beginning until all was written.
    let elapsed: Duration
    let controlLoopNanoseconds: UInt64
    let storeThreadNanoseconds: UInt64
    /// Processor seconds of PostgreSQL by what its processes are there for.
    let server: [String: Double]
    let before: DatabaseFigures
    let after: DatabaseFigures
    let store: StoreFigures
    let points: [Point]
    let waitingAtEnd: Int
    /// From the load's end until all was written.
    let drain: Duration

    /// Whether every row is there, once, but for what was given up for lack of room.
    package var isExact: Bool {
        let dropped = store.health.droppedEvents
        return after.loadReports <= sent.loads && after.conns <= sent.conns
            && sent.loads - after.loadReports + sent.conns - after.conns <= dropped
            && after.connsInRollups == after.conns && after.sessions == sent.sessions
            && after.openSessions == sent.devices && after.devicesOnline == sent.devices
            && store.health.refusedEvents == 0
    }

    private var serverSeconds: Double { server.values.reduce(0, +) }
    private var controlLoopSeconds: Double { Double(controlLoopNanoseconds) / 1e9 }
    private var storeThreadSeconds: Double { Double(storeThreadNanoseconds) / 1e9 }

    private func perTenThousand(_ value: Double) -> Double {
        events == 0 ? 0 : value / Double(events) * 10_000
    }

    private var walBytes: UInt64 { after.walBytes - min(before.walBytes, after.walBytes) }
    private var walBytesPerEvent: Double { events == 0 ? 0 : Double(walBytes) / Double(events) }
    private var updates: UInt64 { after.deviceUpdates - min(before.deviceUpdates, after.deviceUpdates) }
    private var updatesInPlace: UInt64 {
        after.deviceUpdatesInPlace - min(before.deviceUpdatesInPlace, after.deviceUpdatesInPlace)
    }
    private var inPlaceShare: Double { updates == 0 ? 1 : Double(updatesInPlace) / Double(updates) }

    private static func mean(_ distribution: Distribution) -> Double {
        distribution.count == 0 ? 0 : Double(distribution.sum) / Double(distribution.count)
    }

    private var batchEvents: Double { Self.mean(store.writes.batchEvents) }
    private var batchMilliseconds: Double { Self.mean(store.writes.batchTimes) / 1e6 }
    private var mostWaiting: Int { points.map(\.waiting).max() ?? 0 }

    // MARK: For machines

    var json: JSONValue {
        .object([
            JSONMember("benchmark", .string("store")),
            JSONMember("plan", planObject),
            JSONMember("events", integer(events)),
            JSONMember("elapsed_seconds", .double(seconds(elapsed))),
            JSONMember("drain_seconds", .double(seconds(drain))),
            JSONMember("cpu", processors),
            JSONMember("waiting", waiting),
            JSONMember("batches", batches),
            JSONMember("database", database),
            JSONMember("rows", rows),
        ])
    }

    private var planObject: JSONValue {
        .object([
            JSONMember("devices", .integer(Int64(plan.devices))),
            JSONMember("loads_per_second", .integer(Int64(plan.loadsPerSecond))),
            JSONMember("conns_per_second", .integer(Int64(plan.connsPerSecond))),
            JSONMember("churn_per_second", .integer(Int64(plan.churnPerSecond))),
            JSONMember("seconds", .double(seconds(plan.duration))),
            JSONMember("outage_seconds", .double(plan.outage.map { seconds($0.duration) } ?? 0)),
            JSONMember("flush_interval_ms", .integer(plan.flushInterval.milliseconds)),
        ])
    }

    private var processors: JSONValue {
        .object([
            JSONMember("control_loop_seconds", .double(controlLoopSeconds)),
            JSONMember("store_thread_seconds", .double(storeThreadSeconds)),
            JSONMember("postgresql_seconds", .double(serverSeconds)),
            JSONMember(
                "postgresql_by_process",
                .object(server.sorted { $0.key < $1.key }.map { JSONMember($0.key, .double($0.value)) })),
            JSONMember(
                "node_seconds_per_10000_events",
                .double(perTenThousand(controlLoopSeconds + storeThreadSeconds))),
            JSONMember("postgresql_seconds_per_10000_events", .double(perTenThousand(serverSeconds))),
        ])
    }

    private var waiting: JSONValue {
        .object([
            JSONMember("at_end", .integer(Int64(waitingAtEnd))),
            JSONMember("most", .integer(Int64(mostWaiting))),
            JSONMember(
                "over_time",
                .array(
                    points.map { point in
                        .object([
                            JSONMember("at_seconds", .double(seconds(point.at))),
                            JSONMember("waiting", .integer(Int64(point.waiting))),
                            JSONMember("on_disk", .integer(Int64(point.onDisk))),
                            JSONMember("written", integer(point.written)),
                            JSONMember("is_connected", .bool(point.isConnected)),
                        ])
                    })),
        ])
    }

    private var batches: JSONValue {
        .object([
            JSONMember("count", integer(store.writes.batchEvents.count)),
            JSONMember("mean_events", .double(batchEvents)),
            JSONMember("mean_milliseconds", .double(batchMilliseconds)),
        ])
    }

    private var database: JSONValue {
        .object([
            JSONMember("wal_bytes", integer(walBytes)),
            JSONMember("wal_bytes_per_event", .double(walBytesPerEvent)),
            JSONMember("device_updates", integer(updates)),
            JSONMember("device_updates_in_place", .double(inPlaceShare)),
            JSONMember("dead_device_rows", integer(after.deadDevices)),
            JSONMember("device_table_bytes", integer(after.deviceTableBytes)),
            JSONMember("database_bytes", integer(after.databaseBytes)),
        ])
    }

    private var rows: JSONValue {
        .object([
            JSONMember("is_exact", .bool(isExact)),
            JSONMember("dropped", integer(store.health.droppedEvents)),
            JSONMember("refused", integer(store.health.refusedEvents)),
            JSONMember("load_reports_sent", integer(sent.loads)),
            JSONMember("load_reports", integer(after.loadReports)),
            JSONMember("conns_sent", integer(sent.conns)),
            JSONMember("conns", integer(after.conns)),
            JSONMember("conns_in_rollups", integer(after.connsInRollups)),
            JSONMember("sessions_sent", integer(sent.sessions)),
            JSONMember("sessions", integer(after.sessions)),
            JSONMember("devices_online", integer(after.devicesOnline)),
        ])
    }

    // MARK: For people

    var table: String {
        var lines = [
            row("events handed over", "\(events), \(rounded(Double(events) / seconds(plan.duration), 0))/s"),
            row("waiting at most / at the end", "\(mostWaiting) / \(waitingAtEnd) events"),
            row("written after the end within", "\(rounded(seconds(drain), 2)) s"),
            row(
                "batches",
                "\(store.writes.batchEvents.count) of \(rounded(batchEvents, 0)) events, "
                    + "\(rounded(batchMilliseconds, 1)) ms"),
            row("CPU of the control loop", cost(controlLoopSeconds)),
            row("CPU of the store's thread", cost(storeThreadSeconds)),
            row("CPU of PostgreSQL", cost(serverSeconds)),
        ]
        for (role, value) in server.sorted(by: { $0.value > $1.value }) {
            lines.append(row("  \(role)", cost(value)))
        }
        lines += [
            row("WAL", "\(walBytes >> 20) MiB, \(rounded(walBytesPerEvent, 0)) bytes/event"),
            row(
                "updates of devices",
                "\(updates), in place \(rounded(inPlaceShare * 100, 1)) %, dead rows \(after.deadDevices), "
                    + "\(after.deviceTableBytes >> 20) MiB"),
            row("database", "\(after.databaseBytes >> 20) MiB"),
            row("load reports sent / rows", "\(sent.loads) / \(after.loadReports)"),
            row("conns sent / rows / in rollups", "\(sent.conns) / \(after.conns) / \(after.connsInRollups)"),
            row("sessions sent / rows", "\(sent.sessions) / \(after.sessions)"),
            row("dropped / refused", "\(store.health.droppedEvents) / \(store.health.refusedEvents)"),
        ]
        return lines.joined(separator: "\n")
    }

    private func row(_ name: String, _ value: String) -> String {
        name + String(repeating: " ", count: max(1, 34 - name.count)) + value
    }

    private func cost(_ value: Double) -> String {
        "\(rounded(value, 2)) s, \(rounded(perTenThousand(value), 4)) s per 10,000 events"
    }

    private func rounded(_ value: Double, _ places: Int) -> String {
        var scale = 1.0
        for _ in 0..<places { scale *= 10 }
        let result = (value * scale).rounded() / scale
        return places == 0 ? "\(Int(result))" : "\(result)"
    }

    private func seconds(_ duration: Duration) -> Double { Double(duration.nanoseconds) / 1e9 }

    private func integer(_ value: UInt64) -> JSONValue { .integer(Int64(clamping: value)) }
}

extension StoreBenchResult.Sent {
    init(_ load: StoreLoad) {
        self.init(
            loads: load.sentLoads, conns: load.sentConns, sessions: load.startedSessions,
            devices: UInt64(load.deviceCount))
    }
}
