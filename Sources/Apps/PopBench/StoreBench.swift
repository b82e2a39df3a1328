internal import Domain
internal import EmbeddedPostgres
internal import EventLoop
internal import Glibc
internal import Logging
internal import Observability
internal import ProgramKit
internal import Store

/// What to measure of the store's write path.
package struct StoreBenchPlan: Sendable, Hashable {
    package struct Outage: Sendable, Hashable {
        package var after: Duration
        package var duration: Duration
    }

    package var devices: Int
    package var loadsPerSecond: Int
    package var connsPerSecond: Int
    package var churnPerSecond: Int
    package var duration: Duration
    package var outage: Outage?
    package var flushInterval: Duration
    package var directory: String
}

/// A store with its PostgreSQL, and this thread in the place of a node's control loop.
final class StoreBench {
    private let plan: StoreBenchPlan
    private let loop: EventLoop
    private let server: PausableServer
    private let client: StoreClient
    private var load: StoreLoad
    private var handingOver: UInt64 = 0
    private var points: [StoreBenchResult.Point] = []
    private var recordedSessions: UInt64 = 0

    /// A node's loop comes by at least so often while it has something to do.
    private static let step = Duration.milliseconds(5)
    /// What is left at the end must be written by then.
    private static let drainLimit = Duration.seconds(600)
    private static let startLimit = Duration.seconds(120)
    private static let queryTimeout = Duration.seconds(30)

    static func run(_ plan: StoreBenchPlan) throws -> StoreBenchResult {
        ProcessSettings.prepareDaemon()
        let directory = try makeDirectory(in: plan.directory)
        defer { remove(directory) }
        return try StoreBench(plan, directory).measure()
    }

    private init(_ plan: StoreBenchPlan, _ directory: String) throws {
        self.plan = plan
        loop = try EventLoop()
        load = StoreLoad(plan)
        server = try PausableServer(directory + "/postgres")
        guard let nodeID = NodeID("bench") else { throw StoreBenchError.impossible }
        let node = NodeRecord(
            nodeID: nodeID, location: "bench", advertiseHost: nil, wssPort: 443, quicPort: 443,
            version: Release.version, startedAt: SystemClock.wall, maximumDevices: plan.devices)
        client = try StoreClient(
            on: loop,
            StoreConfiguration(
                databaseURL: server.connectionString, node: node, poolSize: 2,
                flushInterval: plan.flushInterval, queryTimeout: Self.queryTimeout,
                outboxPath: directory + "/outbox.sqlite"),
            log: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() })
    }

    private func measure() throws -> StoreBenchResult {
        defer {
            client.stop()
            server.stop()
        }
        try connectDevices()
        let before = try Reading(server, databaseURL: server.connectionString)
        let firstSent = sent
        let handedOver = handingOver
        let begun = SystemClock.now
        serve(for: plan.duration, since: begun)
        let sentUnderLoad = sent - firstSent
        let atEnd = SystemClock.now
        let waitingAtEnd = client.health.waitingEvents
        guard wait(atMost: Self.drainLimit, { [client] in client.health.waitingEvents == 0 }) else {
            throw StoreBenchError.notWritten(client.health.waitingEvents)
        }
        let drained = SystemClock.now - atEnd
        tellFigures()
        let after = try Reading(server, databaseURL: server.connectionString)
        return StoreBenchResult(
            plan: plan, sent: StoreBenchResult.Sent(load), events: sentUnderLoad,
            elapsed: SystemClock.now - begun, controlLoopNanoseconds: handingOver - handedOver,
            storeThreadNanoseconds: after.storeThread - before.storeThread,
            server: after.server(since: before), before: before.database, after: after.database,
            store: client.figures, points: points, waitingAtEnd: waitingAtEnd, drain: drained)
    }

    private var sent: UInt64 { load.sentLoads + load.sentConns + load.sentOthers }

    // MARK: Load

    private func connectDevices() throws {
        guard wait(atMost: Self.startLimit, { [client] in client.health.isConnected }) else {
            throw StoreBenchError.noStart(client.health.failure ?? "the store did not start")
        }
        for place in 0..<load.deviceCount { start(load.start(place, at: SystemClock.wall)) }
        let count = load.startedSessions
        guard wait(atMost: Self.startLimit, { self.recordedSessions >= count }) else {
            throw StoreBenchError.noStart("sessions were not recorded")
        }
    }

    private func start(_ record: SessionRecord) {
        var record = record
        record.began = SystemClock.now
        client.startSession(record) { [weak self] in self?.recordedSessions += 1 }
    }

    private func serve(for duration: Duration, since begun: Instant) {
        var nextPoint = Duration.zero
        while true {
            let elapsed = SystemClock.now - begun
            guard elapsed < duration else { return }
            handOver(at: elapsed)
            if let outage = plan.outage { server.follow(outage, at: elapsed) }
            if elapsed >= nextPoint {
                nextPoint = nextPoint + .seconds(1)
                note(at: elapsed)
            }
            loop.runOnce(waitingAtMost: Self.step)
        }
    }

    /// What the events are made of costs a node as well, but elsewhere: only the handing over is counted.
    private func handOver(at elapsed: Duration) {
        let due = load.due(at: elapsed, SystemClock.wall)
        let before = ProcessorUse.ofThisThread
        for event in due.events { client.record(event) }
        for record in due.starts { start(record) }
        if !due.counts.isEmpty { client.count(due.counts) }
        handingOver += ProcessorUse.ofThisThread - before
    }

    private func note(at elapsed: Duration) {
        let health = client.health
        points.append(
            StoreBenchResult.Point(
                at: elapsed, waiting: health.waitingEvents, onDisk: health.outbox?.events ?? 0,
                written: health.writtenEvents, isConnected: health.isConnected))
    }

    private func tellFigures() {
        var isTold = false
        client.refresh { isTold = true }
        _ = wait(atMost: Self.startLimit) { isTold }
    }

    private func wait(atMost limit: Duration, _ condition: () -> Bool) -> Bool {
        let deadline = SystemClock.now + limit
        while !condition(), SystemClock.now < deadline { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        return condition()
    }

    // MARK: Directory

    private static func makeDirectory(in parent: String) throws -> String {
        let random = SystemRandom()
        let path = "\(parent)/pop-bench-\(getpid())-\(random.next() % 1_000_000)"
        guard mkdir(path, 0o755) == 0 else { throw SystemError(call: "mkdir \(path)", errorNumber: errno) }
        // PostgreSQL does not run as root: its own account must find its way.
        chmod(path, 0o755)
        return path
    }

    private static func remove(_ path: String) {
        guard let remover = try? ChildProcess.spawn("/bin/rm", arguments: ["rm", "-rf", "--", path]),
            let loop = try? EventLoop()
        else { return }
        while remover.exitCode() == nil { loop.runOnce(waitingAtMost: .milliseconds(2)) }
    }
}

/// Why there is no result.
enum StoreBenchError: Error, CustomStringConvertible {
    case impossible
    case noStart(String)
    case notWritten(Int)

    var description: String {
        switch self {
        case .impossible: "the bench's own node has no name"
        case .noStart(let cause): cause
        case .notWritten(let count): "\(count) events were not written in time after the load's end"
        }
    }
}

/// Processor times and rows at one moment.
private struct Reading {
    let storeThread: UInt64
    let database: DatabaseFigures
    private let titles: [String: UInt64]
    private let retired: [String: UInt64]

    init(_ server: PausableServer, databaseURL: String) throws {
        // The question's own cost, of counting all rows at the end, stays out.
        storeThread = ProcessorUse.ofThread(named: "store") ?? 0
        titles = server.processorTicks
        retired = server.retiredTicks
        database = try DatabaseFigures.read(databaseURL: databaseURL)
    }

    /// Seconds by what a process is there for.
    func server(since earlier: Reading) -> [String: Double] {
        var seconds: [String: Double] = [:]
        let ticks = Double(ProcessorUse.ticksPerSecond)
        for (role, value) in Self.byRole(titles) { seconds[role, default: 0] += Double(value) / ticks }
        for (role, value) in Self.byRole(retired) { seconds[role, default: 0] += Double(value) / ticks }
        for (role, value) in Self.byRole(earlier.titles) {
            seconds[role, default: 0] -= Double(value) / ticks
        }
        return seconds.filter { $0.value > 0.001 }
    }

    private static func byRole(_ titles: [String: UInt64]) -> [String: UInt64] {
        var roles: [String: UInt64] = [:]
        for (title, value) in titles { roles[role(title), default: 0] += value }
        return roles
    }

    private static func role(_ title: String) -> String {
        if title.isEmpty { return "ended" }
        guard title.hasPrefix("postgres: ") else { return "postmaster" }
        let name = title.dropFirst("postgres: ".count)
        for role in ["walwriter", "checkpointer", "background writer", "autovacuum", "stats", "startup"]
        where name.hasPrefix(role) {
            return role
        }
        return "backends"
    }
}
