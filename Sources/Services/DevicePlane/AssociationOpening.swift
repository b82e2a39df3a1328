package import DataPath
package import DataPlane
package import Domain
package import Fleet

/// A client's wish for a UDP association.
package struct AssociationOpening {
    /// What its flows ask for, but for the target.
    package var request: ConnRequest
    /// Whose datagrams are taken; a port of 0 stands for the one that the first datagram comes from.
    package var client: SocketAddress
    /// Ends a flow without datagrams for this long.
    package var idleTimeout: Duration
    /// What the user's conns may carry together; nil for no limit.
    package var rate: UserRate?
    /// Why there is to be no flow to a target, by the node's policy or what the user may have; nil: nothing is
    /// against it. Asked for each flow.
    package var refusal: (Target) -> FlowRefusal?

    package init(
        request: ConnRequest, client: SocketAddress, idleTimeout: Duration, rate: UserRate? = nil,
        refusal: @escaping (Target) -> FlowRefusal?
    ) {
        self.request = request
        self.client = client
        self.idleTimeout = idleTimeout
        self.rate = rate
        self.refusal = refusal
    }
}

/// What a client's association consists of when it goes to its data loop.
package struct AssociationSockets {
    package let clientDescriptor: Int32
    package let datagramDescriptor: Int32
    package let reply: [UInt8]
    /// For the case that the device is lost on the way.
    package let failureReply: [UInt8]

    package init(
        clientDescriptor: Int32, datagramDescriptor: Int32, reply: [UInt8], failureReply: [UInt8]
    ) {
        self.clientDescriptor = clientDescriptor
        self.datagramDescriptor = datagramDescriptor
        self.reply = reply
        self.failureReply = failureReply
    }
}

/// What became of an ``AssociationOpening``.
package enum AssociationOpeningResult: Sendable, Hashable {
    /// The data loop owns the sockets.
    case placed(DeviceID)
    /// No device fits, or there are as many associations as there may be; the socket is still the caller's.
    case noDevice
    /// The caller had no sockets to give.
    case abandoned
}
