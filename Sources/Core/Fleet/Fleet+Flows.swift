internal import DeviceProtocol
package import Domain

/// The device that a client's UDP association goes through.
package struct AssociationPlacement: Sendable, Hashable {
    package let deviceID: DeviceID
    package let session: SessionID
    package let connection: DataConnectionID
}

/// What became of a client's wish for a flow.
package enum FlowOpening: Sendable, Hashable {
    case placed(ConnID, flowID: UInt64)
    /// The device is there and has no room now.
    case full
    /// The device takes none of this association any more.
    case leaving
}

// UDP: an association is given to one session, so that its targets see one sender; each of its targets is a
// flow, which is a conn of that session and never moves to another one.
extension Fleet {
    /// Chooses a device for a client's UDP association; nil when none fits.
    package func associate(_ wish: DeviceWish) -> AssociationPlacement? {
        var wish = wish
        wish.needsDatagrams = true
        guard nodeState == .active, !isStopping,
            let picked = wish.device == nil
                ? selection.candidates(fitting: wish.filter).first() : named(wish),
            let session = sessions[picked], let data = session.data
        else {
            totals.connsWithoutDevice.note(selectionFailure)
            return nil
        }
        picks += 1
        session.lastPick = picks
        rank(session)
        return AssociationPlacement(
            deviceID: session.deviceID, session: picked, connection: data.connection)
    }

    /// Asks the session's device to open a flow.
    ///
    /// The data loop must know of the flow before the returned actions are performed.
    package func openFlow(
        _ request: ConnRequest, idleTimeout: Duration, of placement: AssociationPlacement, at moment: Moment,
        using random: inout some RandomNumberGenerator
    ) -> FlowOpening {
        guard nodeState == .active, !isStopping, let session = sessions[placement.session],
            session.ending == nil, !session.isDraining, let data = session.data,
            data.connection == placement.connection
        else { return .leaving }
        guard session.takesConns, let control = session.controlID else { return .full }
        totals.connsPlaced += 1
        let flowID = session.lastFlowID + 1
        session.lastFlowID = flowID
        let conn = Conn(
            id: ConnID(of: configuration.nodeID, using: &random), request: request,
            session: session, connection: data.connection, isFlow: true, at: moment)
        conns[conn.id] = conn
        note(conn)
        openDeadlines.add(conn)
        attach(conn)
        let body = Command.Body.openUDP(
            target: request.target.description, flowID: flowID,
            idleTimeoutMilliseconds: UInt32(clamping: idleTimeout.milliseconds))
        actions.append(.send(control, .command(Command(connID: conn.id, body: body))))
        return .placed(conn.id, flowID: flowID)
    }

    /// The device has opened a flow.
    func flowOpened(_ conn: Conn, _ response: CommandResponse, at moment: Moment) {
        connOpened(conn.id, resolvedAddress: response.resolvedAddress, at: moment)
        actions.append(
            .flowOpened(conn.id, on: conn.connection, resolvedAddress: response.resolvedAddress))
    }

    /// The device has ended a flow: it has no stream that would tell.
    func flowClosed(_ closed: ConnClosed, of session: SessionID) {
        guard let conn = conns[closed.connID], conn.isFlow, conn.session.id == session else { return }
        if case .ending = conn.phase { return }
        let reason = closed.reason == .unspecified ? CloseReason.error : closed.reason
        endAtDataLoop(conn, reason, by: .closeConn(conn.id, on: conn.connection, reason))
    }
}
