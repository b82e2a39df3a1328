package import DevicePlane
internal import Domain
package import EventLoop
internal import Fleet
internal import Observability
package import Store

/// Puts a sample of the node on record every 10 seconds (contract section 6, `pop.node_load`), lets the store
/// note what the sessions carry, so that a `kill -9` costs no more than the last second's byte counts, and keeps
/// the rows of devices with conns current: lists are sorted by them.
package final class NodeSampler {
    private static let interval = Duration.seconds(10)
    /// With the data loops' 400 ms and the store's 150, well below a second.
    private static let countInterval = Duration.milliseconds(200)
    private static let stateInterval = Duration.seconds(1)
    /// As often as the node's lease is renewed.
    private static let vitalsInterval = Duration.seconds(2)

    private let loop: EventLoop
    private let plane: DevicePlane
    private let store: any StorePort
    private let machine = MachineLoad()
    private var timer: LoopTimer?
    private var countTimer: LoopTimer?
    /// Sessions whose device's row is behind.
    private var changed: Set<SessionID> = []
    private var nextStates: Instant
    private var nextVitals: Instant
    private var nextCount: Instant
    private var lag = Duration.zero

    package init(on loop: EventLoop, plane: DevicePlane, store: any StorePort) {
        self.loop = loop
        self.plane = plane
        self.store = store
        nextStates = loop.now + Self.stateInterval
        nextVitals = loop.now + Self.vitalsInterval
        nextCount = loop.now + Self.countInterval
        timer = loop.makeTimer { [weak self] in self?.sample() }
        timer?.arm(at: loop.now + Self.interval)
        countTimer = loop.makeTimer { [weak self] in self?.count() }
        countTimer?.arm(at: loop.now + Self.countInterval)
    }

    deinit {
        timer?.cancel()
        countTimer?.cancel()
    }

    private func count() {
        lag = max(lag, loop.now - nextCount)
        nextCount = loop.now + Self.countInterval
        countTimer?.arm(at: nextCount)
        if loop.now >= nextVitals { tellVitals() }
        let sessions = plane.takeCountedSessions()
        if !sessions.isEmpty { count(sessions) }
        // What changes all the time need not wait on disk for a database that is away.
        if loop.now >= nextStates, store.health.isConnected { recordStates() }
    }

    private func tellVitals() {
        nextVitals = loop.now + Self.vitalsInterval
        store.record(
            .nodeVitals(
                NodeVitals(
                    devicesOnline: UInt64(plane.sessionCount), connsActive: UInt64(plane.connCount),
                    registrationMilliseconds: Double(plane.takeRegistrationWait().nanoseconds) / 1e6,
                    lagMilliseconds: Double(lag.nanoseconds) / 1e6)))
        lag = .zero
    }

    private func recordStates() {
        nextStates = loop.now + Self.stateInterval
        let now = SystemClock.wall
        for id in changed {
            if let session = plane.session(id) { store.record(.deviceState(DeviceState(session, at: now))) }
        }
        changed.removeAll(keepingCapacity: true)
    }

    private func count(_ sessions: [SessionSnapshot]) {
        for session in sessions { changed.insert(session.sessionID) }
        // While the database is away nobody takes out those that have ended.
        if changed.count > 2 * max(plane.sessionCount, sessions.count) {
            changed = changed.filter { plane.session($0) != nil }
        }
        let now = SystemClock.wall
        store.count(
            sessions.map { session in
                SessionUpdate(sessionID: session.sessionID, at: now, counters: SessionCounters(session))
            })
    }

    private func sample() {
        timer?.arm(at: loop.now + Self.interval)
        let load = machine.sample(now: loop.now)
        let totals = plane.totals
        store.record(
            .nodeSample(
                NodeSample(
                    sampledAt: SystemClock.wall, devicesOnline: UInt64(plane.sessionCount),
                    connsActive: UInt64(plane.connCount), bytesSent: totals.bytesSent,
                    bytesReceived: totals.bytesReceived, cpuUtilization: load.cpuUtilization,
                    memoryUsedBytes: load.memory?.usedBytes ?? 0)))
    }
}
