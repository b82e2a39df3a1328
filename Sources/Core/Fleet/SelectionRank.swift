internal import DeviceProtocol
internal import Domain

/// The rank of a session among those that take conns; the lowest is picked.
struct SelectionRank: Comparable, Hashable {
    let primary: UInt64
    let lastPick: UInt64

    init(primary: UInt64, lastPick: UInt64) {
        self.primary = primary
        self.lastPick = lastPick
    }

    init(_ session: DeviceSession, strategy: SelectionStrategy) {
        lastPick = session.lastPick
        let conns = UInt64(session.conns.count)
        switch strategy {
        // Latency compares two by lot when it picks; what it costs is nothing to be kept in order.
        case .roundRobin, .latency:
            primary = 0
        case .leastConns:
            primary = conns
        case .weighted:
            // A device without a limit weighs as one of 1,000 conns; a busy processor takes weight away.
            let capacity = Double(session.registration.capacity == 0 ? 1_000 : session.registration.capacity)
            let busy = session.load.map { $0.cpuUtilization.isFinite ? $0.cpuUtilization : 1 } ?? 0
            let weight = max(1, capacity * (1 - 0.9 * min(1, max(0, busy))))
            primary = UInt64(Double(conns + 1) * 1_000_000 / weight)
        }
    }

    static func < (lhs: SelectionRank, rhs: SelectionRank) -> Bool {
        (lhs.primary, lhs.lastPick) < (rhs.primary, rhs.lastPick)
    }
}

/// An exponentially weighted moving average of waits, which fades: what was slow long ago is tried again.
struct LatencyAverage: Hashable {
    private var milliseconds: Double?
    private var notedAt = Instant(nanoseconds: 0)

    /// What one sample counts for.
    private static let share = 0.2
    /// After so long without a sample half of it is forgotten.
    private static let halfLife = Duration.seconds(30)

    mutating func note(_ wait: Duration, at now: Instant) {
        let sample = Double(max(0, wait.nanoseconds)) / 1e6
        let average = milliseconds ?? sample
        milliseconds = average + (sample - average) * Self.share
        notedAt = now
    }

    /// Nil without a sample.
    func estimate(at now: Instant) -> Double? {
        guard let milliseconds else { return nil }
        let halvings = (now - notedAt).nanoseconds / Self.halfLife.nanoseconds
        return milliseconds / Double(UInt64(1) << UInt64(min(40, max(0, halvings))))
    }
}

extension DeviceSession {
    /// What a conn of the `latency` strategy costs here: the wait for a target times those that share it.
    func latencyCost(at now: Instant) -> Double {
        let wait = max(openTime.estimate(at: now) ?? 0, roundTripMilliseconds ?? 0, 1)
        return wait * Double(conns.count + 1)
    }
}
