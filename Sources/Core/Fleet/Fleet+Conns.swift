internal import DeviceProtocol
package import Domain

extension Fleet {
    // MARK: Opening

    /// Chooses a device for a client and asks it to open the target.
    ///
    /// The data loop must expect the conn before the returned actions are performed.
    ///
    /// - Returns: nil when no device fits.
    package func open(
        _ request: ConnRequest, at moment: Moment, using random: inout some RandomNumberGenerator
    ) -> Placement? {
        guard nodeState == .active, !isStopping,
            let picked = pick(request.wish, at: moment.now, using: &random),
            let session = sessions[picked], let data = session.data
        else {
            totals.connsWithoutDevice.note(selectionFailure)
            return nil
        }
        totals.connsPlaced += 1
        let conn = Conn(
            id: ConnID(of: configuration.nodeID, using: &random), request: request, session: session,
            connection: data.connection, at: moment)
        conns[conn.id] = conn
        note(conn)
        openDeadlines.add(conn)
        attach(conn)
        sendOpen(conn, at: moment)
        return Placement(connID: conn.id, deviceID: session.deviceID, connection: conn.connection)
    }

    /// Its session has been chosen.
    func attach(_ conn: Conn) {
        let session = conn.session
        picks += 1
        session.lastPick = picks
        session.add(conn)
        session.connsTotal += 1
        count(session)
        rank(session)
    }

    private func sendOpen(_ conn: Conn, at moment: Moment) {
        guard let control = conn.session.controlID else { return }
        conn.askedAt = moment.now
        let left = max(.milliseconds(1), conn.deadline - moment.now)
        let body = Command.Body.openTCP(
            target: conn.request.target.description,
            connectTimeoutMilliseconds: UInt32(clamping: left.milliseconds))
        actions.append(.send(control, .command(Command(connID: conn.id, body: body))))
    }

    /// The device's word on an open.
    func answered(_ response: CommandResponse, of session: SessionID, at moment: Moment) {
        guard let conn = conns[response.connID], conn.session.id == session, conn.phase == .opening else {
            return
        }
        if response.success {
            // Of a TCP conn it is told by the device's stream, which carries the conn.
            if conn.isFlow { flowOpened(conn, response, at: moment) }
            return
        }
        if response.errorCode == .capacity, !conn.isFlow, retry(conn) { return }
        fail(conn, response.errorCode)
    }

    /// Sends a conn that its device has no room for to another one.
    private func retry(_ conn: Conn) -> Bool {
        let left = conn.session
        let asked = conn.askedBefore + [left.id]
        guard asked.count < FleetLimits.openAttempts, nodeState == .active, !isStopping,
            let next = pickAnother(conn.request.wish, except: asked), let session = sessions[next],
            let data = session.data
        else { return false }
        let from = conn.connection
        left.remove(conn)
        count(left)
        rank(left)
        conn.session = session
        conn.connection = data.connection
        conn.askedBefore = asked
        conn.phase = .moving
        attach(conn)
        totals.connsMoved += 1
        actions.append(.moveConn(conn.id, from: from, to: data.connection))
        return true
    }

    /// The data loop that owns the moved conn's new connection expects it.
    package func connMoved(_ id: ConnID, at moment: Moment) {
        guard let conn = conns[id] else { return }
        if let deferred = conn.deferredEnd {
            conn.deferredEnd = nil
            actions.append(deferred)
            return
        }
        guard conn.phase == .moving else { return }
        conn.phase = .opening
        if conn.session.data?.connection == conn.connection, conn.session.ending == nil {
            sendOpen(conn, at: moment)
        } else {
            fail(conn, .internal)
        }
    }

    /// Tells the client that its conn has failed; the data loop answers with the conn's end.
    func fail(_ conn: Conn, _ error: OpenError) {
        guard conn.phase == .opening || conn.phase == .moving else { return }
        endAtDataLoop(conn, .error, by: .failConn(conn.id, on: conn.connection, error))
    }

    /// Hands the end of a conn to its data loop; while it moves between two, neither may know it yet.
    func endAtDataLoop(_ conn: Conn, _ reason: CloseReason, by action: FleetAction) {
        let isMoving = conn.phase == .moving
        conn.phase = .ending(reason)
        openDeadlines.remove(conn)
        if isMoving {
            conn.deferredEnd = action
        } else {
            actions.append(action)
        }
    }

    /// Fails what the session's device has not yet opened, before its data connection goes.
    func failOpening(of session: DeviceSession) {
        for conn in session.conns where conn.phase == .opening { fail(conn, .internal) }
    }

    /// The device took too long, or never got the order.
    func openTimedOut(_ conn: Conn) {
        sendClose(conn, .error)
        fail(conn, .timeout)
    }

    /// Tells the device that a conn is not wanted any more.
    private func sendClose(_ conn: Conn, _ reason: CloseReason) {
        // The end of a session says it of all its conns.
        guard conn.session.ending == nil, let control = conn.session.controlID else { return }
        actions.append(.send(control, .command(Command(connID: conn.id, body: .close(reason)))))
    }

    // MARK: What data loops tell

    /// The device's stream is there and the client has its reply.
    package func connOpened(_ id: ConnID, resolvedAddress: String, at moment: Moment) {
        guard let conn = conns[id], !conn.wasOpen else { return }
        openDeadlines.remove(conn)
        totals.connsOpened += 1
        openConnCount += 1
        conn.wasOpen = true
        conn.session.openTime.note(moment.now - conn.askedAt, at: moment.now)
        conn.resolvedAddress = resolvedAddress
        conn.lastActiveAt = moment.now
        if conn.phase == .opening { conn.phase = .open }
        actions.append(.connOpened(conn.snapshot))
    }

    /// The bytes a conn has carried so far.
    package func connProgressed(
        _ id: ConnID, bytesSent: UInt64, bytesReceived: UInt64, at moment: Moment
    ) {
        if let conn = conns[id] {
            progressed(conn, bytesSent: bytesSent, bytesReceived: bytesReceived, at: moment)
        }
    }

    private func progressed(
        _ conn: Conn, bytesSent: UInt64, bytesReceived: UInt64, at moment: Moment
    ) {
        let sent = bytesSent > conn.bytesSent ? bytesSent - conn.bytesSent : 0
        let received = bytesReceived > conn.bytesReceived ? bytesReceived - conn.bytesReceived : 0
        guard sent > 0 || received > 0 else { return }
        conn.bytesSent += sent
        conn.bytesReceived += received
        conn.lastActiveAt = moment.now
        totals.bytesSent &+= sent
        totals.bytesReceived &+= received
        conn.session.bytesSent &+= sent
        conn.session.bytesReceived &+= received
        if configuration.countsUsers, let user = conn.request.user {
            users[user]?.carried(sent: sent, received: received)
        }
        count(conn.session)
    }

    /// A conn is over, with its last counts.
    ///
    /// - Returns: whether its device had reached the target.
    @discardableResult
    package func connEnded(
        _ id: ConnID, bytesSent: UInt64, bytesReceived: UInt64, reason: CloseReason, at moment: Moment
    ) -> Bool {
        guard let conn = conns.removeValue(forKey: id) else { return false }
        progressed(conn, bytesSent: bytesSent, bytesReceived: bytesReceived, at: moment)
        let session = conn.session
        var why = reason
        switch conn.phase {
        case .ending(let decided): why = decided
        // The client left before the device had answered.
        case .opening, .moving: sendClose(conn, reason)
        // The device learns of it by its stream; a flow has none.
        case .open: if conn.isFlow { sendClose(conn, reason) }
        }
        // Cut by the drain's deadline: the device may have heard of it first, and closed its connection.
        if why == .sessionLost, session.ending?.reason == .drained { why = .nodeDrained }
        if let user = conn.request.user { leave(user, id) }
        if conn.wasOpen { openConnCount -= 1 }
        if why == .nodeDrained { drain.cutConn() }
        openDeadlines.remove(conn)
        actions.append(.connEnded(conn.snapshot, why, at: moment.wall))
        session.remove(conn)
        guard !session.isOver else { return conn.wasOpen }
        count(session)
        rank(session)
        settle(session, at: moment)
        return conn.wasOpen
    }

    // MARK: Closing

    /// Ends a conn on both sides.
    ///
    /// - Returns: whether there is such a conn.
    package func closeConn(_ id: ConnID, _ reason: CloseReason) -> Bool {
        guard let conn = conns[id] else { return false }
        if case .ending = conn.phase { return true }
        sendClose(conn, reason)
        endAtDataLoop(conn, reason, by: .closeConn(id, on: conn.connection, reason))
        return true
    }
}
