internal import Domain
internal import EventLoop
internal import Store

/// What connected devices and their clients make a node write: made in time with the clock, as evenly as the
/// caller comes by.
struct StoreLoad {
    private(set) var sentLoads: UInt64 = 0
    private(set) var sentConns: UInt64 = 0
    private(set) var sentOthers: UInt64 = 0
    private(set) var startedSessions: UInt64 = 0

    private struct Device {
        let id: DeviceID
        var session: SessionID
        var epoch: UInt64
        var counters = SessionCounters()
        var activeConns: UInt64 = 0
        var isChanged = false
    }

    /// Whole things due at a rate.
    private struct Pace {
        let perSecond: Int
        private var done: UInt64 = 0

        init(perSecond: Int) { self.perSecond = perSecond }

        mutating func due(at elapsed: Duration) -> Int {
            let total = UInt64(max(0, elapsed.nanoseconds)) / 1_000 * UInt64(perSecond) / 1_000_000
            defer { done = max(done, total) }
            return Int(total > done ? total - done : 0)
        }
    }

    private var random = SystemRandom()
    private var devices: [Device] = []
    private var loads: Pace
    private var conns: Pace
    private var churn: Pace
    private var heartbeats: Pace
    private var seconds = Pace(perSecond: 1)
    private var counts = Pace(perSecond: 5)
    private var nextLoad = 0
    private var nextConn = 0
    private var nextChurn = 0
    private var nextHeartbeat = 0
    private var changed: [Int] = []
    private var counted: Set<Int> = []

    /// How often a device's heartbeat is (`device.heartbeat_interval_seconds`), and a node's sample.
    private static let heartbeatSeconds = 30
    private static let nodeSampleSeconds = 10
    private static let tags = ["residential", "linux"]

    init(_ plan: StoreBenchPlan) {
        loads = Pace(perSecond: plan.loadsPerSecond)
        conns = Pace(perSecond: plan.connsPerSecond)
        churn = Pace(perSecond: plan.churnPerSecond)
        heartbeats = Pace(perSecond: plan.devices / Self.heartbeatSeconds)
        for number in 0..<plan.devices {
            guard let id = DeviceID("device-\(number)") else { continue }
            devices.append(Device(id: id, session: SessionID(using: &random), epoch: 1))
        }
    }

    var deviceCount: Int { devices.count }

    mutating func start(_ place: Int, at now: WallTime) -> SessionRecord {
        startedSessions += 1
        let device = devices[place]
        return SessionRecord(
            sessionID: device.session, deviceID: device.id, sessionEpoch: device.epoch, startedAt: now,
            remoteAddress: Self.address(place), location: place % 3 == 0 ? "eu-west" : "us-east",
            tags: Self.tags, capacity: 100, agentVersion: "0.1.0")
    }

    /// Events that are due.
    mutating func due(
        at elapsed: Duration, _ now: WallTime
    ) -> (events: [StoreEvent], counts: [SessionUpdate], starts: [SessionRecord]) {
        var events: [StoreEvent] = []
        for _ in 0..<loads.due(at: elapsed) { events.append(load(at: now)) }
        for _ in 0..<conns.due(at: elapsed) { events.append(conn(at: now)) }
        for _ in 0..<heartbeats.due(at: elapsed) {
            events.append(state(of: nextHeartbeat, at: now))
            nextHeartbeat = (nextHeartbeat + 1) % devices.count
        }
        if seconds.due(at: elapsed) > 0 {
            for place in changed {
                devices[place].isChanged = false
                events.append(state(of: place, at: now))
            }
            changed.removeAll(keepingCapacity: true)
            if Int(elapsed.components.seconds) % Self.nodeSampleSeconds == 0 {
                events.append(sample(at: now))
            }
        }
        var starts: [SessionRecord] = []
        for _ in 0..<churn.due(at: elapsed) {
            let place = nextChurn
            nextChurn = (nextChurn + 1) % devices.count
            events.append(end(place, at: now))
            starts.append(start(place, at: now))
        }
        sentOthers += UInt64(starts.count)
        var updates: [SessionUpdate] = []
        if counts.due(at: elapsed) > 0 {
            updates = counted.map { place in
                SessionUpdate(
                    sessionID: devices[place].session, at: now, counters: devices[place].counters)
            }
            counted.removeAll(keepingCapacity: true)
        }
        return (events, updates, starts)
    }

    // MARK: Events

    private mutating func load(at now: WallTime) -> StoreEvent {
        let place = nextLoad
        nextLoad = (nextLoad + 1) % devices.count
        sentLoads += 1
        // Two reports of a device can't be of one instant.
        let sampledAt = WallTime(microseconds: now.microseconds + Int64(sentLoads % 1_000))
        return .loadReport(
            LoadSample(
                deviceID: devices[place].id, sessionID: devices[place].session, sampledAt: sampledAt,
                receivedAt: now, activeConns: devices[place].activeConns,
                bytesSent: devices[place].counters.bytesSent,
                bytesReceived: devices[place].counters.bytesReceived,
                cpuUtilization: Double(sentLoads % 997) / 997,
                memoryUsedBytes: 1_000_000_000 + sentLoads % 1_000 * 4_096, memoryTotalBytes: 8_000_000_000,
                roundTripMilliseconds: 10 + Double(sentLoads % 331) / 7))
    }

    private mutating func conn(at now: WallTime) -> StoreEvent {
        let place = nextConn
        nextConn = (nextConn + 1) % devices.count
        sentConns += 1
        devices[place].counters.connsTotal += 1
        devices[place].counters.bytesSent += 1_200
        devices[place].counters.bytesReceived += 48_000 + sentConns % 4_096
        devices[place].activeConns = sentConns / UInt64(devices.count) % 4
        if !devices[place].isChanged {
            devices[place].isChanged = true
            changed.append(place)
        }
        counted.insert(place)
        return .connEnded(
            ConnRecord(
                connID: ConnID(using: &random), deviceID: devices[place].id,
                sessionID: devices[place].session,
                userName: "user-\(sentConns % 100)", clientProtocol: .socks5,
                clientAddress: Self.address(Int(sentConns % 50_000)),
                target: "host-\(sentConns % 5_000).example.org:443",
                resolvedAddress: "203.0.113.\(sentConns % 250):443",
                openedAt: WallTime(microseconds: now.microseconds - Int64(sentConns % 90_000) * 1_000),
                endedAt: now, bytesSent: 1_200, bytesReceived: 48_000 + sentConns % 4_096,
                endReason: sentConns % 20 == 0 ? .clientReset : .finished))
    }

    private mutating func state(of place: Int, at now: WallTime) -> StoreEvent {
        sentOthers += 1
        let device = devices[place]
        return .deviceState(
            DeviceState(
                deviceID: device.id, sessionID: device.session, at: now, health: .whole, lastHeartbeatAt: now,
                roundTripMilliseconds: 12.5, quicRemoteAddress: Self.address(place),
                activeConns: device.activeConns, bytesSent: device.counters.bytesSent,
                bytesReceived: device.counters.bytesReceived))
    }

    private mutating func end(_ place: Int, at now: WallTime) -> StoreEvent {
        sentOthers += 1
        let ended = SessionEnd(
            sessionID: devices[place].session, endedAt: now, reason: .controlLost,
            counters: devices[place].counters)
        devices[place].session = SessionID(using: &random)
        devices[place].epoch += 1
        devices[place].counters = SessionCounters()
        devices[place].activeConns = 0
        return .sessionEnded(ended)
    }

    private mutating func sample(at now: WallTime) -> StoreEvent {
        sentOthers += 1
        return .nodeSample(
            NodeSample(
                sampledAt: now, devicesOnline: UInt64(devices.count), connsActive: UInt64(devices.count),
                bytesSent: sentConns * 1_200, bytesReceived: sentConns * 48_000, cpuUtilization: 0.5,
                memoryUsedBytes: 1_000_000_000))
    }

    private static func address(_ number: Int) -> SocketAddress {
        SocketAddress(
            ip: .v4(IPv4Address(0xc612_0000 + UInt32(truncatingIfNeeded: number) & 0xffff)),
            port: UInt16(truncatingIfNeeded: 1_024 + number % 60_000))
    }
}
