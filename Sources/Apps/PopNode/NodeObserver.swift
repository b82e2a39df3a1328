internal import AdminAPI
internal import ClusterMember
internal import DevicePlane
internal import Domain
internal import Fleet
internal import Store

/// Passes on what happens to devices and conns to all who want to know.
final class NodeObserver: DevicePlaneObserver {
    let known = KnownDevices()
    /// Set once there is an admin API.
    weak var events: AdminEvents?
    weak var drains: DrainJournal?
    weak var takers: TakerWatch?
    /// Called when no device is left.
    var drained: (() -> Void)?
    weak var standing: StandingKeeper?
    private let record: StoreObserver
    private unowned let plane: DevicePlane

    init(plane: DevicePlane, store: StoreClient) {
        self.plane = plane
        record = StoreObserver(store: store)
    }

    func sessionStarted(_ session: SessionSnapshot, recorded: @escaping () -> Void) {
        events?.sessionStarted(session) { plane.session($0) != nil }
        record.sessionStarted(session, recorded: recorded)
    }

    func sessionUpdated(_ session: SessionSnapshot) {
        record.sessionUpdated(session)
        noteDrain()
    }

    func sessionEnded(_ session: SessionSnapshot, reason: SessionEndReason, at: WallTime) {
        record.sessionEnded(session, reason: reason, at: at)
        if plane.session(of: session.deviceID) == nil { known.forget(session.deviceID) }
        events?.sessionEnded(session, reason: reason, at: at)
        noteDrain()
    }

    func loadReported(_ load: ReportedLoad) {
        record.loadReported(load)
        // An idle device says no more than this for hours; its row still tells when it was last heard of.
        if let session = plane.session(load.sessionID) { record.stateChanged(session) }
    }

    func connOpened(_ conn: ConnSnapshot) {
        record.connOpened(conn)
        events?.connOpened(conn)
        noteDrain()
    }

    func connEnded(_ conn: ConnSnapshot, reason: CloseReason, at: WallTime) {
        record.connEnded(conn, reason: reason, at: at)
        events?.connEnded(conn, reason: reason, at: at)
        noteDrain()
    }

    func nodeStateChanged(_ state: NodeState) {
        record.nodeStateChanged(state)
        standing?.nodeStateChanged(state)
        events?.nodeStateChanged(state)
        if state == .draining { takers?.hasten() }
        noteDrain()
        if state == .drained { drained?() }
    }

    func drainProgressed() {
        noteDrain()
    }

    private func noteDrain() {
        guard plane.knowsDrain else { return }
        let drain = plane.drainSnapshot
        events?.drainChanged(drain)
        drains?.changed(drain)
    }
}
