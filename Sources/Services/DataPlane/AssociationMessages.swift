package import DataPath
package import Domain

/// A client's UDP association (RFC 1928 section 7), numbered by the control loop.
package struct AssociationID: Sendable, Hashable {
    package let serial: UInt64

    package init(serial: UInt64) {
        self.serial = serial
    }
}

/// An association whose sockets go to the data loop of its device's connection.
package struct PendingAssociation: Sendable {
    package let id: AssociationID
    /// All its flows go through this one, so that its targets see one sender.
    package let connection: DataConnectionID
    /// The client's TCP socket, non-blocking and watched by no loop: the association lives as long as it.
    package let clientDescriptor: Int32
    /// Bound, non-blocking and watched by no loop.
    package let datagramDescriptor: Int32
    /// Written to the client at once.
    package let reply: [UInt8]
    /// Written instead, before the end, when the device's connection has gone meanwhile.
    package let failureReply: [UInt8]
    /// Whose datagrams are taken; a port of 0 stands for the one that the first datagram comes from.
    package let client: SocketAddress
    /// A flow without a datagram in either direction for this long ends with IDLE.
    package let idleTimeout: Duration
    /// What its user's conns may carry together; nil for no limit.
    package let rate: UserRate?

    package init(
        id: AssociationID, connection: DataConnectionID, clientDescriptor: Int32, datagramDescriptor: Int32,
        reply: [UInt8], failureReply: [UInt8], client: SocketAddress, idleTimeout: Duration,
        rate: UserRate? = nil
    ) {
        self.id = id
        self.connection = connection
        self.clientDescriptor = clientDescriptor
        self.datagramDescriptor = datagramDescriptor
        self.reply = reply
        self.failureReply = failureReply
        self.client = client
        self.idleTimeout = idleTimeout
        self.rate = rate
    }
}

/// Why a flow was not given to the device.
package enum FlowRefusal: Sendable, Hashable {
    /// By the node's policy about targets.
    case denied
    /// The device takes no more conns at the moment, or the user may have no more.
    case full
    /// The device takes none of this association any more: it has left, or is about to.
    case leaving
}
