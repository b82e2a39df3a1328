package import DataPath
package import Domain

/// A conn that waits for its device to reach the target: the data loop owns the client's socket from here on.
package struct PendingConn: Sendable {
    package let connID: ConnID
    package let connection: DataConnectionID
    /// The client's TCP socket, non-blocking and watched by no loop.
    package let clientDescriptor: Int32
    /// What the client sent after its request; the first bytes towards the target.
    package let earlyBytes: [UInt8]
    /// Written to the client once the device's stream is there.
    package let successReply: [UInt8]
    /// A conn without a byte in either direction for this long ends with IDLE; nil for never.
    package let idleTimeout: Duration?
    /// What its user's conns may carry together; nil for no limit.
    package let rate: UserRate?

    package init(
        connID: ConnID, connection: DataConnectionID, clientDescriptor: Int32, earlyBytes: [UInt8],
        successReply: [UInt8], idleTimeout: Duration?, rate: UserRate? = nil
    ) {
        self.connID = connID
        self.connection = connection
        self.clientDescriptor = clientDescriptor
        self.earlyBytes = earlyBytes
        self.successReply = successReply
        self.idleTimeout = idleTimeout
        self.rate = rate
    }
}

/// Control loop to data loop.
package enum DataCommand: Sendable {
    /// The hello's token was right: acknowledge it and take conns.
    /// `capacity` is the most conns the device takes at once, 0 for no limit.
    case acceptHello(DataConnectionID, capacity: UInt32)
    /// The hello's token was bad, used or expired: close with 0x101.
    case rejectHello(DataConnectionID)
    /// Close the connection with an application error code; its conns end with `reason`.
    case closeConnection(DataConnectionID, code: UInt64, reason: CloseReason)
    case expect(PendingConn)
    /// A conn has failed: write `reply` to the client and close in order. One whose stream came first is cut.
    case fail(ConnID, reply: [UInt8])
    /// A pending conn goes to another device. On this loop: pending on `to` from now on, nothing is answered.
    /// On another loop: forget it and hand it back with `released`; no `connEnded` follows. A conn that is
    /// no longer pending is left alone.
    case reassign(ConnID, to: DataConnectionID)
    /// End a conn, pending or open, at once on both sides.
    case close(ConnID, CloseReason)
    case associate(PendingAssociation)
    /// End an association with its flows, at once.
    case endAssociation(AssociationID)
    /// The answer to `flowWanted`: the flow is the conn `ConnID`, whose device is being asked to open it.
    case flowPlaced(AssociationID, Target, ConnID, flowID: UInt64)
    /// The answer to `flowWanted` where there is no such conn.
    case flowRefused(AssociationID, Target, FlowRefusal)
    /// The device has opened the flow, and takes datagrams for it.
    case flowOpened(ConnID, resolvedAddress: String)
    /// New handshakes get this certificate.
    case useCertificate(certificatePEM: [UInt8], keyPEM: [UInt8])
    /// Answered with `figures`.
    case tellFigures
    /// Close every connection with 0x100 and end the loop.
    case stop
}

/// The bytes a conn has carried so far, as the node counts them.
package struct ConnProgress: Sendable, Hashable {
    package let connID: ConnID
    /// From the client towards the target.
    package let bytesSent: UInt64
    /// From the target towards the client.
    package let bytesReceived: UInt64

    package init(connID: ConnID, bytesSent: UInt64, bytesReceived: UInt64) {
        self.connID = connID
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
    }
}

/// Data loop to control loop.
package enum DataEvent: Sendable {
    /// A device has shown its token on a new connection; answered with `acceptHello` or `rejectHello`.
    case hello(DataConnectionID, peer: SocketAddress, sessionID: [UInt8], dataToken: [UInt8])
    /// The connection is gone; told once for every connection that said hello. Its conns have been told before.
    case connectionClosed(DataConnectionID, reason: String)
    /// The device's address has changed and the new path is validated.
    case pathChanged(DataConnectionID, peer: SocketAddress)
    /// The device's stream for the conn is there and the client has its reply.
    case connOpened(ConnID, resolvedAddress: String)
    /// The answer to `reassign` to another loop: the same conn with `connection` set to its new one.
    case released(PendingConn)
    /// A conn, pending or open, is over; told once for every `expect` that was not followed by `released`, and for
    /// every `flowPlaced`.
    case connEnded(ConnProgress, CloseReason)
    /// The client has sent to a target that its association has no flow to; answered by `flowPlaced` or
    /// `flowRefused`.
    case flowWanted(AssociationID, Target)
    /// An association is over; told once for every `associate`. Its flows have been told before.
    case associationEnded(AssociationID)
    /// Counts of the conns that moved bytes since the last time; about twice a second.
    case progress([ConnProgress])
    /// What the loop has done since its start. Rare and large, so it makes the others no larger.
    indirect case figures(loop: Int, DataLoopFigures)
    /// The loop has ended after `stop`.
    case stopped(loop: Int)
}
