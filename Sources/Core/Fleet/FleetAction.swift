package import DeviceProtocol
package import Domain

/// A control connection, numbered by the shell.
package struct ControlID: Sendable, Hashable {
    package let serial: UInt64

    package init(serial: UInt64) {
        self.serial = serial
    }
}

/// The POP's WebSocket close codes (contract section 2).
package enum ControlCloseCode: UInt16, Countable {
    case normal = 1000
    case nodeStopping = 1001
    case framing = 1002
    case text = 1003
    case malformed = 1007
    case outOfOrder = 1008
    case tooBig = 1009
    case tryLater = 1013
    case forbidden = 4003
    case silent = 4008
    case replaced = 4009
    case disconnected = 4010
    case drained = 4012
}

/// What the shell does, in this order. What is large is kept apart, so that moving an action about is cheap.
package enum FleetAction: Sendable, Equatable {
    indirect case send(ControlID, ControlMessage)
    /// Close after what was sent; nothing more is heard from or said to this connection.
    case close(ControlID, ControlCloseCode, reason: String)

    /// `capacity` is the most conns the device takes at once, 0 for no limit.
    case acceptHello(DataConnectionID, capacity: UInt32)
    case rejectHello(DataConnectionID)
    /// Close with an application error code; conns still on it end with `reason`.
    case closeData(DataConnectionID, code: UInt64, reason: CloseReason)

    /// A pending conn goes to another device; answered by ``Fleet/connMoved(_:at:)``.
    case moveConn(ConnID, from: DataConnectionID, to: DataConnectionID)
    /// A pending conn has failed: tell its client why.
    case failConn(ConnID, on: DataConnectionID, OpenError)
    case closeConn(ConnID, on: DataConnectionID, CloseReason)
    /// The device takes datagrams for the flow.
    case flowOpened(ConnID, on: DataConnectionID, resolvedAddress: String)

    /// Put the session on record and answer with ``Fleet/sessionRecorded(_:at:)``: the device waits for it.
    indirect case sessionStarted(SessionSnapshot)
    /// The record took too long; the device has been answered without it.
    case recordOverdue(SessionID)
    /// A plane, an address or what the device says about itself has changed.
    indirect case sessionUpdated(SessionSnapshot)
    indirect case sessionEnded(SessionSnapshot, SessionEndReason, at: WallTime)
    indirect case loadReported(ReportedLoad)
    indirect case connOpened(ConnSnapshot)
    /// Told once for every conn, also for those that never opened.
    indirect case connEnded(ConnSnapshot, CloseReason, at: WallTime)
    case nodeStateChanged(NodeState)
    /// Devices were told to leave, or the drain has come to another state.
    case drainProgressed
}

/// What a client's conn needs of a device.
package struct ConnRequest: Sendable, Hashable {
    package var user: String?
    package var clientProtocol: ConnProtocol
    package var clientAddress: SocketAddress
    package var target: Target
    package var connectTimeout: Duration
    package var wish: DeviceWish

    package init(
        user: String?, clientProtocol: ConnProtocol, clientAddress: SocketAddress, target: Target,
        connectTimeout: Duration, wish: DeviceWish = DeviceWish()
    ) {
        self.user = user
        self.clientProtocol = clientProtocol
        self.clientAddress = clientAddress
        self.target = target
        self.connectTimeout = connectTimeout
        self.wish = wish
    }
}

/// Where a new conn goes.
package struct Placement: Sendable, Hashable {
    package let connID: ConnID
    package let deviceID: DeviceID
    package let connection: DataConnectionID
}
