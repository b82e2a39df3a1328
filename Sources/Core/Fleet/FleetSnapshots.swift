package import DeviceProtocol
package import Domain

/// A session and its device as they are now: what API rows and database rows are made of.
package struct SessionSnapshot: Sendable, Equatable {
    package var sessionID: SessionID
    package var deviceID: DeviceID
    package var epoch: UInt64
    package var location: String
    package var tags: [String]
    /// Most conns at once; 0 means no limit.
    package var capacity: UInt32
    package var agentVersion: String
    package var capabilities: [String]
    /// The peer of the control connection, the last one if it is down.
    package var remoteAddress: SocketAddress
    package var quicRemoteAddress: SocketAddress?
    package var health: SessionHealth
    /// The device has been told to leave.
    package var isDraining: Bool
    package var connectedAt: WallTime
    /// When it began, on the clock that nobody sets.
    package var began: Instant
    /// When the last complete message of the device came.
    package var lastSeenAt: WallTime
    package var lastHeartbeatAt: WallTime?
    package var roundTripMilliseconds: Double?
    package var load: LoadReport?
    /// Conns opening and open.
    package var activeConns: Int
    /// From clients towards targets, as the node counts.
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    package var connsTotal: UInt64
    package var resumes: UInt64
    package var migrations: UInt64
}

package enum ConnProtocol: String, Countable {
    case socks5
    case http
    case udp

    package var ordinal: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

package enum ConnState: String, Sendable, Hashable, CaseIterable {
    case opening
    case open
}

/// A conn as it is now.
package struct ConnSnapshot: Sendable, Hashable {
    package var connID: ConnID
    package var deviceID: DeviceID
    package var sessionID: SessionID
    /// Nil where clients don't authenticate.
    package var user: String?
    package var clientProtocol: ConnProtocol
    package var clientAddress: SocketAddress
    package var target: Target
    /// `ip:port` that the device dialled; nil until it has.
    package var resolvedAddress: String?
    package var state: ConnState
    package var openedAt: WallTime
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    /// When bytes were last seen; the data loops tell about twice a second.
    package var lastActiveAt: Instant

    package func idleSeconds(at now: Instant) -> Int64 {
        max(0, (now - lastActiveAt).nanoseconds / 1_000_000_000)
    }
}

/// A load report with what the node knows beside it.
package struct ReportedLoad: Sendable, Equatable {
    package var deviceID: DeviceID
    package var sessionID: SessionID
    package var receivedAt: WallTime
    package var report: LoadReport
    package var roundTripMilliseconds: Double?
}

/// What a node has done since its start; grows only.
package struct FleetTotals: Sendable, Hashable {
    package var sessionsStarted: UInt64 = 0
    package var resumes: UInt64 = 0
    /// Registrations answered with another status than OK.
    package var registrationsRefused: UInt64 = 0
    /// Conns given to a device.
    package var connsPlaced: UInt64 = 0
    /// Conns whose device reached the target.
    package var connsOpened: UInt64 = 0
    /// Conns for which no device was found.
    package var connsWithoutDevice = Tally<SelectionFailure>()
    /// Moves to another device for lack of room.
    package var connsMoved: UInt64 = 0
    /// From clients towards targets.
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
}
