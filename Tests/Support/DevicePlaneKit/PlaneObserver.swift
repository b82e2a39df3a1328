internal import DevicePlane
package import Domain
package import Fleet

/// Writes down what the plane tells; records sessions at once, or when told to.
package final class PlaneObserver: DevicePlaneObserver {
    package var recordsAtOnce = true
    package private(set) var unrecorded: [() -> Void] = []
    package private(set) var started: [SessionSnapshot] = []
    package private(set) var updated: [SessionSnapshot] = []
    package private(set) var ended: [(session: SessionSnapshot, reason: SessionEndReason)] = []
    package private(set) var loads: [ReportedLoad] = []
    package private(set) var openedConns: [ConnSnapshot] = []
    package private(set) var endedConns: [(conn: ConnSnapshot, reason: CloseReason)] = []
    package private(set) var states: [NodeState] = []

    package init() {}

    package func sessionStarted(_ session: SessionSnapshot, recorded: @escaping () -> Void) {
        started.append(session)
        if recordsAtOnce {
            recorded()
        } else {
            unrecorded.append(recorded)
        }
    }

    package func sessionUpdated(_ session: SessionSnapshot) { updated.append(session) }

    package func sessionEnded(_ session: SessionSnapshot, reason: SessionEndReason, at: WallTime) {
        ended.append((session, reason))
    }

    package func loadReported(_ load: ReportedLoad) { loads.append(load) }
    package func connOpened(_ conn: ConnSnapshot) { openedConns.append(conn) }

    package func connEnded(_ conn: ConnSnapshot, reason: CloseReason, at: WallTime) {
        endedConns.append((conn, reason))
    }

    package func nodeStateChanged(_ state: NodeState) { states.append(state) }
    package func drainProgressed() {}
}
