internal import Domain
internal import EventLoop
package import Fleet
package import Store

/// What an operator wants of a drain.
struct DrainOrder {
    var deadlineSeconds: Int
    var devicesPerSecond: Int
    var redirectTo: [String]
    var onDeadline: DrainRequest.DeadlineAction
    var reason: String

    /// - Parameter targets: the nodes that `redirectTo` names.
    func request(to targets: [NodeID]) -> DrainRequest {
        DrainRequest(
            deadline: .seconds(deadlineSeconds), onDeadline: onDeadline, redirectTo: targets,
            reason: reason, devicesPerSecond: devicesPerSecond)
    }
}

/// Remembers who has ordered the drain of this node and how, and puts on record how it goes.
///
/// A drain is a new one when the node was not draining; an order while it is changes the one in force.
package final class DrainJournal {
    /// Numbers of a drain change with every conn; the record of how it goes may be this old.
    private static let interval = Duration.seconds(5)
    /// What takes a look at every conn is looked at this often at most.
    private static let detailsInterval = Duration.milliseconds(500)
    /// Conns and devices that an answer names: more than people read, and little to send.
    private static let mostNamed = 20

    /// Grows with each order about draining this node.
    private var version = 0
    /// The drain in force or the last one, as it was put on record.
    private(set) var record: DrainRecord?
    /// Called with what is put on record, when it is.
    package var told: ((DrainRecord) -> Void)?

    private let loop: EventLoop
    /// The node behind the API; it outlives the API.
    private unowned let backend: any AdminBackend
    private var random = SystemRandom()
    private var lastTold: DrainRecord?
    private var details: (of: DrainDetails, at: Instant)?
    private var timer: LoopTimer?

    init(on loop: EventLoop, backend: any AdminBackend) {
        self.loop = loop
        self.backend = backend
        timer = loop.makeTimer { [weak self] in self?.tell() }
    }

    deinit {
        timer?.cancel()
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
            actor: actor, etaSeconds: 0, devicesTotal: 0, devicesMoved: 0, devicesRemaining: 0,
            connsRemaining: 0, connsCut: 0, updatedAt: now)
        details = nil
    }

    /// To be called before the drain is canceled.
    func canceled() {
        version += 1
        record?.version = Int64(version)
    }

    /// Drains this node because it is told to stop: what is in force already stays as it is.
    package func nodeStops(_ request: DrainRequest) {
        guard backend.node.state != .draining else { return }
        ordered(
            DrainOrder(
                deadlineSeconds: Int(clamping: request.deadline.components.seconds),
                devicesPerSecond: request.devicesPerSecond, redirectTo: [], onDeadline: request.onDeadline,
                reason: request.reason),
            by: "node")
        backend.startDrain(request)
        changed(backend.drain)
    }

    /// An earlier life of this node had begun it; it is in force, and over.
    package func restore(_ past: DrainRecord) {
        version = max(0, Int(clamping: past.version))
        record = past
        lastTold = nil
        tell()
    }

    // MARK: Progress

    /// The entity tag of the drain as it was last ordered. The drain's id is in it: a node that was started again
    /// may count its orders from the beginning, and a tag of an earlier life must not fit then.
    var tag: String { record.map { "\"\($0.drainID).\($0.version)\"" } ?? "\"none\"" }

    /// The drain as it is now; nil where there was none.
    func latest() -> DrainRecord? {
        guard let record else { return nil }
        return refreshed(record, backend.drain)
    }

    /// To be called whenever the numbers of the drain may have changed, and after each order.
    package func changed(_ drain: DrainSnapshot) {
        guard let record, drain.state != .none else { return }
        guard drain.state.rawValue != lastTold?.state || record.version != lastTold?.version else {
            if timer?.isArmed != true { timer?.arm(at: loop.now + Self.interval) }
            return
        }
        details = nil
        tell()
    }

    private func refreshed(_ old: DrainRecord, _ drain: DrainSnapshot) -> DrainRecord {
        guard drain.state != .none else { return old }
        if details.map({ loop.now - $0.at >= Self.detailsInterval }) ?? true {
            details = (backend.drainDetails(atMost: Self.mostNamed), loop.now)
        }
        guard let details = details?.of else { return old }
        let now = SystemClock.wall
        var record = old
        record.state = drain.state.rawValue
        record.startedAt = drain.startedAt ?? record.startedAt
        record.deadlineAt = drain.deadlineAt ?? record.deadlineAt
        record.etaSeconds = details.estimate.seconds
        record.devicesTotal = drain.devicesTotal
        record.devicesMoved = drain.devicesMoved
        record.devicesRemaining = drain.devicesRemaining
        record.devicesLost = drain.devicesLost
        record.connsRemaining = drain.connsRemaining
        record.connsCut = drain.connsCut
        record.blockers = details.blockers.map(\.connID.description)
        record.targets = details.targets.map(\.nodeID.description)
        record.details = details.json(drain, now: loop.now, wall: now)
        if drain.state == .drained || drain.state == .canceled {
            record.endedAt = record.endedAt ?? drain.endedAt ?? now
        }
        if record != old { record.updatedAt = now }
        return record
    }

    private func tell() {
        timer?.cancel()
        guard let old = record else { return }
        let record = refreshed(old, backend.drain)
        self.record = record
        // Told again as long as it goes on: others may have taken this node for lost, and its drain for canceled.
        if record.endedAt == nil { timer?.arm(at: loop.now + Self.interval) }
        guard record != lastTold || record.endedAt == nil else { return }
        lastTold = record
        backend.record(.drainChanged(record))
        told?(record)
    }
}
