package import DevicePlane
package import Domain
package import EventLoop
internal import Fleet
package import Store

/// Keeps the fleet informed of the other nodes, where devices that can't stay here may go.
///
/// While the database is away the last word stands: devices try the nodes that they are told one after the
/// other, and each that can't take them names others.
package final class TakerWatch {
    /// Rows of nodes are renewed every two seconds; a drain paces itself by them.
    private static let drainInterval = Duration.seconds(2)
    /// Only those that are turned away need to know.
    private static let interval = Duration.seconds(5)
    private static let afterwards = Duration.seconds(5)
    /// Before the database has answered once.
    private static let firstInterval = Duration.milliseconds(250)

    private let nodeID: NodeID
    private let loop: EventLoop
    private let plane: DevicePlane
    private let store: any StorePort
    private var timer: LoopTimer?
    private var hasLooked = false
    /// Whether no other node was live when the database was last heard of.
    package private(set) var isAlone = false
    private var lastDraining: Instant?

    package init(_ nodeID: NodeID, on loop: EventLoop, plane: DevicePlane, store: any StorePort) {
        self.nodeID = nodeID
        self.loop = loop
        self.plane = plane
        self.store = store
        timer = loop.makeTimer { [weak self] in self?.look() }
        timer?.arm(at: loop.now + Self.firstInterval)
    }

    deinit {
        timer?.cancel()
    }

    /// Looks at once: a drain begins.
    package func hasten() {
        timer?.arm(at: loop.now)
    }

    private func look() {
        // Who has arrived is asked before how much room is left: nobody is counted in neither.
        guard let since = plane.drainSnapshot.startedAt, isFollowing else { return lookAtNodes() }
        store.ask(.drainArrivals(of: nodeID, since: since)) { [weak self] result in
            guard let self else { return }
            if case .success(.drainArrivals(let arrivals)) = result {
                plane.devicesArrived(
                    Dictionary(arrivals.map { ($0.nodeID, $0.devices) }) { $1 },
                    moved: arrivals.flatMap(\.openSessions))
            }
            lookAtNodes()
        }
    }

    /// The last devices of a drain are seen at other nodes a moment after they have left.
    private var isFollowing: Bool {
        if plane.nodeState == .draining { lastDraining = loop.now }
        return lastDraining.map { loop.now - $0 <= Self.afterwards } ?? false
    }

    private func lookAtNodes() {
        store.ask(.nodes) { [weak self] result in self?.received(result) }
    }

    private func received(_ result: Result<StoreAnswer, StoreFailure>) {
        if case .success(.nodes(let rows)) = result {
            hasLooked = true
            isAlone = !rows.contains { $0.nodeID != nodeID && $0.state != .down }
            plane.takersChanged(rows.filter { $0.nodeID != nodeID }.compactMap(Taker.init))
        }
        let pause =
            !hasLooked ? Self.firstInterval : isFollowing ? Self.drainInterval : Self.interval
        timer?.arm(at: loop.now + pause)
    }
}

extension Taker {
    /// Nil for a node that is down, or whose address nobody knows.
    init?(_ row: NodeRow) {
        guard row.state != .down, let url = row.deviceURL else { return nil }
        self.init(
            nodeID: row.nodeID, url: url, room: row.room, isOpen: row.state == .active,
            isBusy: Self.isBusy(
                registrationMilliseconds: row.registrationMilliseconds, lagMilliseconds: row.lagMilliseconds))
    }
}
