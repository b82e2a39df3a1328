internal import DeviceProtocol
internal import Domain

// One proxied connection, as the control loop sees it.
//
//   opening --device's stream--> open
//      |  \--CAPACITY--> moving --> opening on another device
//      |                    |
//      +--------------------+--failed, closed--> ending
//
// The data loop's `connEnded` removes it from every state. The fleet alone holds it; it is shared so that a change
// costs no more than finding it.
final class Conn {
    enum Phase: Hashable {
        case opening
        /// Between two devices: the data loops have yet to say that it moved.
        case moving
        case open
        /// A data loop has been told to end it.
        case ending(CloseReason)
    }

    let id: ConnID
    let request: ConnRequest
    let openedAt: WallTime
    let deadline: Instant
    /// Held until the conn has ended, even when it has ended itself.
    var session: DeviceSession
    var connection: DataConnectionID
    var phase = Phase.opening
    /// How to end it once its move is done.
    var deferredEnd: FleetAction?
    /// Sessions that have been asked before the present one.
    var askedBefore: [SessionID] = []
    var resolvedAddress: String?
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    var lastActiveAt: Instant
    /// When its present device was asked.
    var askedAt: Instant
    var wasOpen = false
    /// Datagrams of a UDP association: told opened and ended by messages, since it has no stream.
    let isFlow: Bool

    /// Its place among the conns of its session.
    var placeInSession = 0
    /// Its place among those that wait for their device; negative when it does not.
    var placeInQueue = -1

    init(
        id: ConnID, request: ConnRequest, session: DeviceSession, connection: DataConnectionID,
        isFlow: Bool = false, at moment: Moment
    ) {
        self.id = id
        self.request = request
        openedAt = moment.wall
        deadline = moment.now + request.connectTimeout
        self.session = session
        self.connection = connection
        lastActiveAt = moment.now
        askedAt = moment.now
        self.isFlow = isFlow
    }

    var snapshot: ConnSnapshot {
        ConnSnapshot(
            connID: id, deviceID: session.deviceID, sessionID: session.id, user: request.user,
            clientProtocol: request.clientProtocol, clientAddress: request.clientAddress,
            target: request.target, resolvedAddress: resolvedAddress, state: wasOpen ? .open : .opening,
            openedAt: openedAt, bytesSent: bytesSent, bytesReceived: bytesReceived,
            lastActiveAt: lastActiveAt)
    }
}
