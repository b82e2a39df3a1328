internal import DeviceProtocol
package import Domain

extension Fleet {
    /// A device has shown a token on a new data connection.
    package func helloReceived(
        _ connection: DataConnectionID, peer: SocketAddress, sessionID: [UInt8], dataToken: [UInt8],
        at moment: Moment
    ) {
        guard let id = SessionID(bytes: sessionID), let session = sessions[id], session.ending == nil,
            session.answerBy == nil, let token = session.token, moment.now < token.expires,
            equalInConstantTime(token.bytes, dataToken)
        else {
            actions.append(.rejectHello(connection))
            return
        }
        if let old = session.data {
            sessionByData[old.connection] = nil
            actions.append(.closeData(old.connection, code: DataPlaneError.normalEnd, reason: .sessionLost))
        }
        session.token = nil
        session.repairAt = nil
        session.data = DeviceSession.DataPlane(connection: connection, peer: peer)
        sessionByData[connection] = id
        actions.append(.acceptHello(connection, capacity: session.registration.capacity))
        rank(session)
        tellUpdated(session)
    }

    /// A data connection is gone. Its open conns have been told ended before; those that wait for a stream of it
    /// have nothing left to wait for.
    package func dataClosed(_ connection: DataConnectionID, at moment: Moment) {
        guard let id = sessionByData.removeValue(forKey: connection), let session = sessions[id],
            session.data?.connection == connection
        else { return }
        session.data = nil
        guard session.ending == nil else { return }
        failOpening(of: session)
        if let control = session.controlID {
            actions.append(.send(control, .reconnect(reason: "the data plane is lost")))
            session.repairAt = moment.now + FleetLimits.repairInterval
        }
        rank(session)
        schedule(session)
        tellUpdated(session)
    }

    /// The device's address on the data plane has changed.
    package func pathChanged(_ connection: DataConnectionID, peer: SocketAddress) {
        guard let id = sessionByData[connection], let session = sessions[id] else { return }
        session.data?.peer = peer
        session.migrations += 1
        tellUpdated(session)
    }
}
