internal import DeviceProtocol
package import Domain

extension Fleet {
    // MARK: Opening

    /// Chooses a device for a client and asks it to open the target.
    ///
    /// The data loop must expect the conn before the returned actions are performed.
    ///
    /// - Returns: nil when no device fits.
    package mutating func open(
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
            id: ConnID(of: configuration.nodeID, using: &random), request: request, openedAt: moment.wall,
            deadline: moment.now + request.connectTimeout, deviceID: session.deviceID, session: picked,
            connection: data.connection, asked: [picked], lastActiveAt: moment.now,
            askedAt: moment.now)
        conns[conn.id] = conn
        note(conn)
        openDeadlines.set(conn.id, conn.deadline)
        attach(conn.id, to: picked)
        sendOpen(conn.id, at: moment)
        return Placement(connID: conn.id, deviceID: conn.deviceID, connection: conn.connection)
    }

    mutating func attach(_ conn: ConnID, to id: SessionID) {
        picks += 1
        sessions[id]?.lastPick = picks
        sessions[id]?.conns.insert(conn)
        sessions[id]?.connsTotal += 1
        counted.insert(id)
        rank(id)
    }

    private mutating func sendOpen(_ id: ConnID, at moment: Moment) {
        guard let conn = conns[id], let control = sessions[conn.session]?.controlID else { return }
        conns[id]?.askedAt = moment.now
        let left = max(.milliseconds(1), conn.deadline - moment.now)
        let body = Command.Body.openTCP(
            target: conn.request.target.description,
            connectTimeoutMilliseconds: UInt32(clamping: left.milliseconds))
        actions.append(.send(control, .command(Command(connID: id, body: body))))
    }

    /// The device's word on an open.
    mutating func answered(_ response: CommandResponse, of session: SessionID, at moment: Moment) {
        guard let conn = conns[response.connID], conn.session == session, conn.phase == .opening else {
            return
        }
        if response.success {
            // Of a TCP conn it is told by the device's stream, which carries the conn.
            if conn.isFlow { flowOpened(conn, response, at: moment) }
            return
        }
        if response.errorCode == .capacity, !conn.isFlow, retry(conn) { return }
        fail(conn.id, response.errorCode)
    }

    /// Sends a conn that its device has no room for to another one.
    private mutating func retry(_ conn: Conn) -> Bool {
        guard conn.asked.count < FleetLimits.openAttempts, nodeState == .active, !isStopping,
            let next = pickAnother(conn.request.wish, except: conn.asked), let session = sessions[next],
            let data = session.data
        else { return false }
        sessions[conn.session]?.conns.remove(conn.id)
        counted.insert(conn.session)
        rank(conn.session)
        attach(conn.id, to: next)
        conns[conn.id]?.deviceID = session.deviceID
        conns[conn.id]?.session = next
        conns[conn.id]?.connection = data.connection
        conns[conn.id]?.asked.append(next)
        conns[conn.id]?.phase = .moving
        totals.connsMoved += 1
        actions.append(.moveConn(conn.id, from: conn.connection, to: data.connection))
        return true
    }

    /// The data loop that owns the moved conn's new connection expects it.
    package mutating func connMoved(_ id: ConnID, at moment: Moment) {
        guard let conn = conns[id] else { return }
        if let deferred = conn.deferredEnd {
            conns[id]?.deferredEnd = nil
            actions.append(deferred)
            return
        }
        guard conn.phase == .moving else { return }
        conns[id]?.phase = .opening
        if sessions[conn.session]?.data?.connection == conn.connection, sessions[conn.session]?.ending == nil
        {
            sendOpen(id, at: moment)
        } else {
            fail(id, .internal)
        }
    }

    /// Tells the client that its conn has failed; the data loop answers with the conn's end.
    mutating func fail(_ id: ConnID, _ error: OpenError) {
        guard let conn = conns[id], conn.phase == .opening || conn.phase == .moving else { return }
        endAtDataLoop(conn, .error, by: .failConn(id, on: conn.connection, error))
    }

    /// Hands the end of a conn to its data loop; while it moves between two, neither may know it yet.
    mutating func endAtDataLoop(_ conn: Conn, _ reason: CloseReason, by action: FleetAction) {
        conns[conn.id]?.phase = .ending(reason)
        openDeadlines.remove(conn.id)
        if conn.phase == .moving {
            conns[conn.id]?.deferredEnd = action
        } else {
            actions.append(action)
        }
    }

    /// Fails what the session's device has not yet opened, before its data connection goes.
    mutating func failOpening(of session: SessionID) {
        for id in sessions[session]?.conns ?? [] where conns[id]?.phase == .opening {
            fail(id, .internal)
        }
    }

    /// The device took too long, or never got the order.
    mutating func openTimedOut(_ id: ConnID) {
        sendClose(id, .error)
        fail(id, .timeout)
    }

    /// Tells the device that a conn is not wanted any more.
    private mutating func sendClose(_ id: ConnID, _ reason: CloseReason) {
        // The end of a session says it of all its conns.
        guard let conn = conns[id], let session = sessions[conn.session], session.ending == nil,
            let control = session.controlID
        else { return }
        actions.append(.send(control, .command(Command(connID: id, body: .close(reason)))))
    }

    // MARK: What data loops tell

    /// The device's stream is there and the client has its reply.
    package mutating func connOpened(_ id: ConnID, resolvedAddress: String, at moment: Moment) {
        guard let conn = conns[id], !conn.wasOpen else { return }
        openDeadlines.remove(id)
        totals.connsOpened += 1
        openConnCount += 1
        conns[id]?.wasOpen = true
        sessions[conn.session]?.openTime.note(moment.now - conn.askedAt, at: moment.now)
        conns[id]?.resolvedAddress = resolvedAddress
        conns[id]?.lastActiveAt = moment.now
        if conn.phase == .opening { conns[id]?.phase = .open }
        if let snapshot = conns[id]?.snapshot { actions.append(.connOpened(snapshot)) }
    }

    /// The bytes a conn has carried so far.
    package mutating func connProgressed(
        _ id: ConnID, bytesSent: UInt64, bytesReceived: UInt64, at moment: Moment
    ) {
        guard let conn = conns[id] else { return }
        let sent = bytesSent > conn.bytesSent ? bytesSent - conn.bytesSent : 0
        let received = bytesReceived > conn.bytesReceived ? bytesReceived - conn.bytesReceived : 0
        guard sent > 0 || received > 0 else { return }
        conns[id]?.bytesSent = conn.bytesSent + sent
        conns[id]?.bytesReceived = conn.bytesReceived + received
        conns[id]?.lastActiveAt = moment.now
        totals.bytesSent &+= sent
        totals.bytesReceived &+= received
        sessions[conn.session]?.bytesSent &+= sent
        sessions[conn.session]?.bytesReceived &+= received
        if configuration.countsUsers, let user = conn.request.user {
            users[user]?.carried(sent: sent, received: received)
        }
        counted.insert(conn.session)
    }

    /// A conn is over, with its last counts.
    package mutating func connEnded(
        _ id: ConnID, bytesSent: UInt64, bytesReceived: UInt64, reason: CloseReason, at moment: Moment
    ) {
        connProgressed(id, bytesSent: bytesSent, bytesReceived: bytesReceived, at: moment)
        guard let conn = conns[id] else { return }
        var why = reason
        switch conn.phase {
        case .ending(let decided): why = decided
        // The client left before the device had answered.
        case .opening, .moving: sendClose(id, reason)
        // The device learns of it by its stream; a flow has none.
        case .open: if conn.isFlow { sendClose(id, reason) }
        }
        // Cut by the drain's deadline: the device may have heard of it first, and closed its connection.
        if why == .sessionLost, sessions[conn.session]?.ending?.reason == .drained { why = .nodeDrained }
        conns[id] = nil
        if let user = conn.request.user { leave(user, id) }
        if conn.wasOpen { openConnCount -= 1 }
        if why == .nodeDrained { drain.cutConn() }
        openDeadlines.remove(id)
        actions.append(.connEnded(conn.snapshot, why, at: moment.wall))
        guard sessions[conn.session]?.conns.remove(id) != nil else { return }
        counted.insert(conn.session)
        rank(conn.session)
        settle(conn.session, at: moment)
    }

    // MARK: Closing

    /// Ends a conn on both sides.
    ///
    /// - Returns: whether there is such a conn.
    package mutating func closeConn(_ id: ConnID, _ reason: CloseReason) -> Bool {
        guard let conn = conns[id] else { return false }
        if case .ending = conn.phase { return true }
        sendClose(id, reason)
        endAtDataLoop(conn, reason, by: .closeConn(id, on: conn.connection, reason))
        return true
    }
}
