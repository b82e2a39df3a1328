internal import DeviceProtocol
internal import Domain

// One proxied connection, as the control loop sees it.
//
//   opening --device's stream--> open
//      |  \--CAPACITY--> moving --> opening on another device
//      |                    |
//      +--------------------+--failed, closed--> ending
//
// The data loop's `connEnded` removes it from every state.
struct Conn {
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
    var deviceID: DeviceID
    var session: SessionID
    var connection: DataConnectionID
    var phase = Phase.opening
    /// How to end it once its move is done.
    var deferredEnd: FleetAction?
    /// Sessions that have been asked, the current one included.
    var asked: [SessionID]
    var resolvedAddress: String?
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    var lastActiveAt: Instant
    var wasOpen = false
    /// Datagrams of a UDP association: told opened and ended by messages, since it has no stream.
    var isFlow = false

    var snapshot: ConnSnapshot {
        ConnSnapshot(
            connID: id, deviceID: deviceID, sessionID: session, user: request.user,
            clientProtocol: request.clientProtocol, clientAddress: request.clientAddress,
            target: request.target, resolvedAddress: resolvedAddress, state: wasOpen ? .open : .opening,
            openedAt: openedAt, bytesSent: bytesSent, bytesReceived: bytesReceived,
            lastActiveAt: lastActiveAt)
    }
}

/// The rank of a session among those that take conns; the lowest is picked.
struct SelectionRank: Comparable, Hashable {
    let primary: UInt64
    let lastPick: UInt64

    init(_ session: DeviceSession, strategy: SelectionStrategy) {
        lastPick = session.lastPick
        let conns = UInt64(session.conns.count)
        switch strategy {
        case .roundRobin:
            primary = 0
        case .leastConns:
            primary = conns
        case .latency:
            // Whole milliseconds, so that noise doesn't outrank the turn; a device not yet measured comes last.
            let milliseconds = session.roundTripMilliseconds ?? .infinity
            primary = milliseconds < 1e9 ? UInt64(max(0, milliseconds)) : .max
        case .weighted:
            // A device without a limit weighs as one of 1,000 conns; a busy processor takes weight away.
            let capacity = Double(session.registration.capacity == 0 ? 1_000 : session.registration.capacity)
            let busy = session.load.map { $0.cpuUtilization.isFinite ? $0.cpuUtilization : 1 } ?? 0
            let weight = max(1, capacity * (1 - 0.9 * min(1, max(0, busy))))
            primary = UInt64(Double(conns + 1) * 1_000_000 / weight)
        }
    }

    static func < (lhs: SelectionRank, rhs: SelectionRank) -> Bool {
        (lhs.primary, lhs.lastPick) < (rhs.primary, rhs.lastPick)
    }
}
