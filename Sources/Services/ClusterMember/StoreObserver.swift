internal import DevicePlane
internal import DeviceProtocol
package import Domain
internal import EventLoop
package import Fleet
package import Store

/// Puts what happens to devices and conns on record.
package final class StoreObserver: DevicePlaneObserver {
    private let store: any StorePort

    package init(store: any StorePort) {
        self.store = store
    }

    package func sessionStarted(_ session: SessionSnapshot, recorded: @escaping () -> Void) {
        store.startSession(SessionRecord(session), durable: recorded)
    }

    package func sessionUpdated(_ session: SessionSnapshot) {
        stateChanged(session)
        store.record(
            .sessionUpdated(
                SessionUpdate(
                    sessionID: session.sessionID, at: SystemClock.wall, counters: SessionCounters(session))))
    }

    /// What the device's row shows has changed.
    package func stateChanged(_ session: SessionSnapshot) {
        store.record(.deviceState(DeviceState(session, at: SystemClock.wall)))
    }

    package func sessionEnded(_ session: SessionSnapshot, reason: SessionEndReason, at: WallTime) {
        store.record(
            .sessionEnded(
                SessionEnd(
                    sessionID: session.sessionID, endedAt: at, reason: reason,
                    counters: SessionCounters(session))))
    }

    package func loadReported(_ load: ReportedLoad) {
        let report = load.report
        store.record(
            .loadReport(
                LoadSample(
                    deviceID: load.deviceID, sessionID: load.sessionID,
                    sampledAt: WallTime(milliseconds: report.sampledAtUnixMilliseconds),
                    receivedAt: load.receivedAt, activeConns: UInt64(report.activeConns),
                    bytesSent: report.bytesSent, bytesReceived: report.bytesReceived,
                    cpuUtilization: report.cpuUtilization, memoryUsedBytes: report.memoryUsedBytes,
                    memoryTotalBytes: report.memoryTotalBytes,
                    roundTripMilliseconds: load.roundTripMilliseconds)))
    }

    package func connOpened(_ conn: ConnSnapshot) {}

    package func connEnded(_ conn: ConnSnapshot, reason: CloseReason, at: WallTime) {
        store.record(.connEnded(ConnRecord(conn, reason: reason, endedAt: at)))
    }

    package func nodeStateChanged(_ state: NodeState) {
        store.record(.nodeState(state))
    }

    package func drainProgressed() {}
}

extension SessionRecord {
    init(_ session: SessionSnapshot) {
        self.init(
            sessionID: session.sessionID, deviceID: session.deviceID, sessionEpoch: session.epoch,
            startedAt: session.connectedAt, remoteAddress: session.remoteAddress,
            location: session.location, tags: session.tags, capacity: session.capacity,
            agentVersion: session.agentVersion, began: session.began)
    }
}

extension SessionCounters {
    init(_ session: SessionSnapshot) {
        self.init(
            bytesSent: session.bytesSent, bytesReceived: session.bytesReceived,
            connsTotal: session.connsTotal, resumes: session.resumes, migrations: session.migrations)
    }
}

extension DeviceState {
    init(_ session: SessionSnapshot, at: WallTime) {
        self.init(
            deviceID: session.deviceID, sessionID: session.sessionID, at: at, health: session.health,
            lastHeartbeatAt: session.lastHeartbeatAt,
            roundTripMilliseconds: session.roundTripMilliseconds,
            quicRemoteAddress: session.quicRemoteAddress, activeConns: UInt64(max(0, session.activeConns)),
            bytesSent: session.bytesSent, bytesReceived: session.bytesReceived)
    }
}

extension ConnRecord {
    init(_ conn: ConnSnapshot, reason: CloseReason, endedAt: WallTime) {
        let clientProtocol: ClientProtocol =
            switch conn.clientProtocol {
            case .socks5: .socks5
            case .http: .http
            case .udp: .udp
            }
        self.init(
            connID: conn.connID, deviceID: conn.deviceID, sessionID: conn.sessionID,
            userName: conn.user ?? "", clientProtocol: clientProtocol, clientAddress: conn.clientAddress,
            target: conn.target.description, resolvedAddress: conn.resolvedAddress,
            openedAt: conn.openedAt, endedAt: endedAt, bytesSent: conn.bytesSent,
            bytesReceived: conn.bytesReceived, endReason: reason)
    }
}
