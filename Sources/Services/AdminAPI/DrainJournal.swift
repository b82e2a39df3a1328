internal import Domain
internal import EventLoop
package import Fleet
internal import Store

/// What an operator wants of a drain.
struct DrainOrder {
    var deadlineSeconds: Int
    var devicesPerSecond: Int
    var redirectTo: [String]
    var onDeadline: DrainRequest.DeadlineAction
    var reason: String
}

/// Remembers who has ordered the drain of this node and how, and puts on record how it goes.
///
/// A drain is a new one when the node was not draining; an order while it is changes the one in force.
package final class DrainJournal {
    /// Numbers of a drain change with every conn; the record of how it goes may be this old.
    private static let interval = Duration.seconds(5)

    /// Grows with each order about draining this node, for `ETag`.
    private(set) var version = 0
    /// The drain in force or the last one.
    private(set) var record: DrainRecord?

    private let loop: EventLoop
    /// The node behind the API; it outlives the API.
    private unowned let backend: any AdminBackend
    private var random = SystemRandom()
    private var told: DrainRecord?
    private var timer: LoopTimer?

    init(on loop: EventLoop, backend: any AdminBackend) {
        self.loop = loop
        self.backend = backend
        timer = loop.makeTimer { [weak self] in self?.tell() }
    }

    deinit {
        timer?.cancel()
    }

    /// Seconds that the devices which are still here take to be moved.
    static func eta(_ devices: Int, devicesPerSecond: Int) -> Int {
        let pace = max(1, devicesPerSecond)
        return (max(0, devices) + pace - 1) / pace
    }

    // MARK: Orders

    /// To be called before the drain begins or is changed.
    func ordered(_ order: DrainOrder, by actor: String) {
        version += 1
        let now = SystemClock.wall
        let isNew = backend.node.state != .draining || record == nil
        let deadline = now.microseconds + Int64(order.deadlineSeconds) * 1_000_000
        record = DrainRecord(
            drainID: isNew ? DrainID(using: &random) : record?.drainID ?? DrainID(using: &random),
            state: DrainSnapshot.State.handover.rawValue, version: Int64(version),
            startedAt: isNew ? now : record?.startedAt ?? now, deadlineAt: WallTime(microseconds: deadline),
            endedAt: nil, deadlineSeconds: order.deadlineSeconds, devicesPerSecond: order.devicesPerSecond,
            redirectTo: order.redirectTo, onDeadline: order.onDeadline.rawValue, reason: order.reason,
            actor: actor,
            etaSeconds: 0, devicesTotal: 0, devicesMoved: 0, devicesRemaining: 0, connsRemaining: 0,
            connsCut: 0, blockers: [], targets: order.redirectTo, updatedAt: now)
    }

    /// To be called before the drain is canceled.
    func canceled() {
        version += 1
        record?.version = Int64(version)
    }

    // MARK: Progress

    /// To be called whenever the numbers of the drain may have changed, and after each order.
    package func changed(_ drain: DrainSnapshot) {
        guard var record, record.endedAt == nil, drain.state != .none else { return }
        let now = SystemClock.wall
        record.state = drain.state.rawValue
        record.startedAt = drain.startedAt ?? record.startedAt
        record.deadlineAt = drain.deadlineAt ?? record.deadlineAt
        record.etaSeconds = Self.eta(drain.devicesRemaining, devicesPerSecond: record.devicesPerSecond)
        record.devicesTotal = drain.devicesTotal
        record.devicesMoved = drain.devicesMoved
        record.devicesRemaining = drain.devicesRemaining
        record.connsRemaining = drain.connsRemaining
        record.connsCut = drain.connsCut
        record.updatedAt = now
        if drain.state == .drained || drain.state == .canceled { record.endedAt = now }
        self.record = record
        if record.state != told?.state || record.version != told?.version {
            tell()
        } else if timer?.isArmed != true {
            timer?.arm(at: loop.now + Self.interval)
        }
    }

    private func tell() {
        timer?.cancel()
        guard let record, record != told else { return }
        told = record
        backend.record(.drainChanged(record))
    }
}
