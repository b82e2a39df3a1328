internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Store

/// Keeps the fleet informed of the other nodes, where devices that can't stay here may go.
///
/// While the database is away the last word stands: devices try the nodes that they are told one after the
/// other, and each that can't take them names others.
final class TakerWatch {
    /// Rows of nodes are renewed every two seconds; a drain paces itself by them.
    private static let drainInterval = Duration.seconds(2)
    /// Only those that are turned away need to know.
    private static let interval = Duration.seconds(5)
    /// Before the database has answered once.
    private static let firstInterval = Duration.milliseconds(250)

    private let nodeID: NodeID
    private let loop: EventLoop
    private let plane: DevicePlane
    private let store: any StorePort
    private var timer: LoopTimer?
    private var hasLooked = false

    init(_ nodeID: NodeID, on loop: EventLoop, plane: DevicePlane, store: any StorePort) {
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
    func hasten() {
        timer?.arm(at: loop.now)
    }

    private func look() {
        store.ask(.nodes) { [weak self] result in self?.received(result) }
    }

    private func received(_ result: Result<StoreAnswer, StoreFailure>) {
        if case .success(.nodes(let rows)) = result {
            hasLooked = true
            plane.takersChanged(rows.filter { $0.nodeID != nodeID }.compactMap(Taker.init))
        }
        let pause =
            if !hasLooked { Self.firstInterval } else if plane.nodeState == .draining {
                Self.drainInterval
            } else { Self.interval }
        timer?.arm(at: loop.now + pause)
    }
}

extension Taker {
    /// Nil for a node that is down, or whose address nobody knows.
    init?(_ row: NodeRow) {
        guard row.state != .down, let url = row.deviceURL else { return nil }
        self.init(nodeID: row.nodeID, url: url, room: row.room, isOpen: row.state == .active)
    }
}
