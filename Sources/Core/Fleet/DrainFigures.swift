package import Domain

/// How a node is to be drained.
package struct DrainRequest: Sendable, Hashable {
    package enum DeadlineAction: String, Sendable, Hashable, CaseIterable {
        /// What is left is closed.
        case cut
        /// What is left stays.
        case hold
    }

    package var deadline: Duration
    package var onDeadline: DeadlineAction
    /// The nodes that devices are sent to; empty for all that take devices.
    package var redirectTo: [NodeID]
    package var reason: String
    /// Devices begin to move at this pace.
    package var devicesPerSecond: Int

    package init(
        deadline: Duration = .seconds(300), onDeadline: DeadlineAction = .cut, redirectTo: [NodeID] = [],
        reason: String = "", devicesPerSecond: Int = 50
    ) {
        self.deadline = deadline
        self.onDeadline = onDeadline
        self.redirectTo = redirectTo
        self.reason = reason
        self.devicesPerSecond = devicesPerSecond
    }
}

/// Why devices are not told to move as fast as they were to be.
package enum DrainHindrance: String, Sendable, Hashable, CaseIterable {
    /// No other node is known; devices go to POPs of their own configuration, or stay.
    case noTaker = "no_taker"
    /// No node that devices may go to takes any.
    case takersClosed = "takers_closed"
    case takersFull = "takers_full"
    case takersBusy = "takers_busy"
}

/// How long a drain goes on, and how that is known.
package struct DrainEstimate: Sendable, Hashable {
    package enum Basis: String, Sendable, Hashable, CaseIterable {
        case none
        /// Devices moved in the last seconds.
        case measuredRate = "measured_rate"
        /// The pace that devices are told at, before the first of them has moved.
        case setRate = "set_rate"
        /// The pace that the takers can be sent devices at, where it is below the set one.
        case takerRate = "taker_rate"
        /// The longer a conn has lasted, the longer it is going to.
        case oldestConn = "oldest_conn"
        /// What is left ends then, or can't be told before.
        case deadline
    }

    package var time: Duration
    package var basis: Basis

    package init(time: Duration, basis: Basis) {
        self.time = time
        self.basis = basis
    }

    /// Rounded up: 0 is for what is over.
    package var seconds: Int {
        Int(clamping: (max(.zero, time).nanoseconds + 999_999_999) / 1_000_000_000)
    }
}

/// How far a drain has come (contract section 5).
package struct DrainSnapshot: Sendable, Hashable {
    package enum State: String, Sendable, Hashable, CaseIterable {
        case none
        /// Devices are still to be told to leave.
        case handover
        /// All have been told; conns end in peace.
        case settling
        /// The deadline is over: what is left is being closed.
        case forcing
        case drained
        /// The deadline is over, and what is left stays.
        case held
        case canceled
    }

    package var state: State
    package var startedAt: WallTime?
    package var deadlineAt: WallTime?
    package var endedAt: WallTime?
    package var devicesTotal: Int
    /// Left after they were told to, or are known to be connected elsewhere.
    package var devicesMoved: Int
    package var devicesRemaining: Int
    /// Those of them that have not been told yet.
    package var devicesWaiting: Int
    /// Went in any other way: cut at the deadline, gone silent, disconnected.
    package var devicesLost: Int
    package var connsRemaining: Int
    package var connsCut: Int
    /// As things are, the takers' own pace considered.
    package var devicesPerSecond: Double
    package var hindrance: DrainHindrance?
    package var reason: String

    package init(
        state: State, startedAt: WallTime? = nil, deadlineAt: WallTime? = nil, endedAt: WallTime? = nil,
        devicesTotal: Int = 0, devicesMoved: Int = 0, devicesRemaining: Int = 0, devicesWaiting: Int = 0,
        devicesLost: Int = 0, connsRemaining: Int = 0, connsCut: Int = 0, devicesPerSecond: Double = 0,
        hindrance: DrainHindrance? = nil, reason: String = ""
    ) {
        self.state = state
        self.startedAt = startedAt
        self.deadlineAt = deadlineAt
        self.endedAt = endedAt
        self.devicesTotal = devicesTotal
        self.devicesMoved = devicesMoved
        self.devicesRemaining = devicesRemaining
        self.devicesWaiting = devicesWaiting
        self.devicesLost = devicesLost
        self.connsRemaining = connsRemaining
        self.connsCut = connsCut
        self.devicesPerSecond = devicesPerSecond
        self.hindrance = hindrance
        self.reason = reason
    }
}

/// What takes an answer about a drain longer to find out: it looks at every conn and device that is left.
package struct DrainDetails: Sendable, Hashable {
    package var estimate: DrainEstimate
    /// Those that hold the drain up, the longest first; bounded.
    package var blockers: [ConnSnapshot]
    package var targets: [DrainTarget]
    /// Devices that were told and did not move.
    package var unmovedTotal: Int
    /// Bounded.
    package var unmoved: [DeviceID]

    package init(
        estimate: DrainEstimate, blockers: [ConnSnapshot] = [], targets: [DrainTarget] = [],
        unmovedTotal: Int = 0, unmoved: [DeviceID] = []
    ) {
        self.estimate = estimate
        self.blockers = blockers
        self.targets = targets
        self.unmovedTotal = unmovedTotal
        self.unmoved = unmoved
    }
}

/// A drain of an earlier life of this node.
package struct PastDrain: Sendable, Hashable {
    package var startedAt: WallTime
    package var deadlineAt: WallTime
    package var endedAt: WallTime
    package var devicesTotal: Int
    package var devicesMoved: Int
    package var connsCut: Int
    package var reason: String

    package init(
        startedAt: WallTime, deadlineAt: WallTime, endedAt: WallTime, devicesTotal: Int, devicesMoved: Int,
        connsCut: Int, reason: String
    ) {
        self.startedAt = startedAt
        self.deadlineAt = deadlineAt
        self.endedAt = endedAt
        self.devicesTotal = devicesTotal
        self.devicesMoved = devicesMoved
        self.connsCut = connsCut
        self.reason = reason
    }
}

/// How often something happened in the last seconds.
struct RateMeter: Sendable, Hashable {
    /// Whole seconds that are looked back at.
    private static let window: UInt64 = 10

    private var counts: [UInt64: Int] = [:]
    private var first: UInt64?

    mutating func note(at now: Instant) {
        let second = now.nanoseconds / 1_000_000_000
        if first == nil { first = second }
        counts[second, default: 0] += 1
        if counts.count > Int(Self.window) + 1 {
            counts = counts.filter { $0.key + Self.window >= second }
        }
    }

    /// Over the whole seconds before this one; 0 while there is none.
    func perSecond(at now: Instant) -> Double {
        let second = now.nanoseconds / 1_000_000_000
        guard let first, first < second else { return 0 }
        let oldest = max(first, second > Self.window ? second - Self.window : 0)
        let sum = counts.reduce(0) { $1.key >= oldest && $1.key < second ? $0 + $1.value : $0 }
        return Double(sum) / Double(second - oldest)
    }
}
