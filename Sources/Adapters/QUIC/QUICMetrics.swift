package import Domain

/// How a handshake or a connection came to its end, without what it said of it.
package enum QUICCloseKind: String, Countable {
    /// This side closed.
    case local
    case peerApplication = "peer_application"
    case peerTransport = "peer_transport"
    case idleTimeout = "idle_timeout"
    case handshakeTimedOut = "handshake_timed_out"
    /// No certificate, protocol or cipher that both take.
    case handshakeFailed = "handshake_failed"
    case versionNegotiation = "version_negotiation"
    case statelessReset = "stateless_reset"
    case endpointClosed = "endpoint_closed"
    case protocolError = "protocol_error"
}

extension QUICCloseReason {
    package var kind: QUICCloseKind {
        switch self {
        case .local: .local
        case .peerApplication: .peerApplication
        case .peerTransport: .peerTransport
        case .idleTimeout: .idleTimeout
        case .handshakeTimedOut: .handshakeTimedOut
        case .handshakeFailed: .handshakeFailed
        case .versionNegotiation: .versionNegotiation
        case .statelessReset: .statelessReset
        case .endpointClosed: .endpointClosed
        case .protocolError: .protocolError
        }
    }
}

/// Why a packet was not given to a connection.
package enum QUICPacketFault: String, Countable {
    /// It belongs to no connection that lives here.
    case unknownConnection = "unknown_connection"
    /// It can't be read, or is no packet that may open a connection.
    case malformed
    /// There are as many connections or handshakes as there may be.
    case overload
    /// Its Retry token is not ours, or too old.
    case badToken = "bad_token"
}

/// Why a connection was refused (CONNECTION_REFUSED, RFC 9000 section 20.1).
package enum QUICRefusal: String, Countable {
    /// There are as many unauthenticated connections as there may be.
    case totalLimit = "total_limit"
    /// Its address has as many of them as one may have.
    case addressLimit = "address_limit"
}

/// Why a datagram (RFC 9221) was not sent.
package enum QUICDatagramFault: String, Countable {
    /// Larger than what path and peer take.
    case tooLarge = "too_large"
    /// Older than what came after it, and the queue was full.
    case queueFull = "queue_full"
}

/// How often which application error code stood in a RESET_STREAM.
package struct QUICResetCounts: Sendable, Hashable {
    package private(set) var known: [UInt64: UInt64] = [:]
    /// Of codes that `QUICConfiguration.countedCodes` doesn't name: a peer may send any.
    package private(set) var other: UInt64 = 0

    mutating func note(_ code: UInt64, among codes: [UInt64]) {
        if codes.contains(code) { known[code, default: 0] &+= 1 } else { other &+= 1 }
    }

    mutating func add(_ more: QUICResetCounts) {
        known.merge(more.known) { $0 &+ $1 }
        other &+= more.other
    }
}

/// Counters of one endpoint since it was made.
package struct QUICMetrics: Sendable, Hashable {
    package var packetsReceived: UInt64 = 0
    package var packetsSent: UInt64 = 0
    /// Packets with stream data that were declared lost; those of a stream that lives count within seconds.
    package var packetsLost: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var bytesSent: UInt64 = 0
    package var packetsDropped = Tally<QUICPacketFault>()
    /// Packets, or aggregates of them, that the kernel dropped because the socket's buffer was full: its loop
    /// has read too late.
    package var packetsOverrun: UInt64 = 0
    /// Sends refused by the system for another reason than a full buffer.
    package var sendsFailed: UInt64 = 0
    /// Paths that took jumbo frames and then seemed to take them no longer.
    package var payloadsReduced: UInt64 = 0

    package var retriesSent: UInt64 = 0
    package var versionNegotiationsSent: UInt64 = 0
    package var statelessResetsSent: UInt64 = 0
    package var handshakesStarted: UInt64 = 0
    package var handshakesCompleted: UInt64 = 0
    package var handshakesFailed = Tally<QUICCloseKind>()
    package var handshakesInProgress = 0
    package var connections = 0
    /// Those not authenticated, handshakes included, where that is asked for.
    package var connectionsUnauthenticated = 0
    package var connectionsRefused = Tally<QUICRefusal>()
    /// Ends of connections whose handshake was complete.
    package var connectionsClosed = Tally<QUICCloseKind>()
    package var migrations: UInt64 = 0

    package var streams = 0
    package var streamsOpened: UInt64 = 0
    package var resetsSent = QUICResetCounts()
    package var resetsReceived = QUICResetCounts()

    package var datagramsSent: UInt64 = 0
    package var datagramsReceived: UInt64 = 0
    package var datagramsDropped = Tally<QUICDatagramFault>()
    package var datagramsLost: UInt64 = 0

    /// Of connections that send, each at most once in `QUICLimits.sampleInterval`.
    package var roundTrips = Distribution(.roundTrips)
    package var congestionWindows = Distribution(.windows)

    package init() {}

    /// Takes in the counters of another endpoint.
    package mutating func add(_ other: QUICMetrics) {
        let sums: [WritableKeyPath<QUICMetrics, UInt64>] = [
            \.packetsReceived, \.packetsSent, \.packetsLost, \.bytesReceived, \.bytesSent, \.sendsFailed,
            \.packetsOverrun, \.payloadsReduced,
            \.retriesSent, \.versionNegotiationsSent, \.statelessResetsSent, \.handshakesStarted,
            \.handshakesCompleted, \.migrations, \.streamsOpened, \.datagramsSent, \.datagramsReceived,
            \.datagramsLost,
        ]
        for figure in sums { self[keyPath: figure] &+= other[keyPath: figure] }
        handshakesInProgress += other.handshakesInProgress
        connections += other.connections
        connectionsUnauthenticated += other.connectionsUnauthenticated
        connectionsRefused.add(other.connectionsRefused)
        streams += other.streams
        packetsDropped.add(other.packetsDropped)
        handshakesFailed.add(other.handshakesFailed)
        connectionsClosed.add(other.connectionsClosed)
        resetsSent.add(other.resetsSent)
        resetsReceived.add(other.resetsReceived)
        datagramsDropped.add(other.datagramsDropped)
        roundTrips.add(other.roundTrips)
        congestionWindows.add(other.congestionWindows)
    }
}

/// Counters of one connection.
package struct QUICStatistics: Sendable, Hashable {
    package var bytesReceived: UInt64 = 0
    package var bytesSent: UInt64 = 0
    package var packetsReceived: UInt64 = 0
    package var packetsSent: UInt64 = 0
    /// Packets with stream data that were declared lost.
    package var packetsLost: UInt64 = 0
    package var datagramsLost: UInt64 = 0
    package var migrations: UInt64 = 0
}

extension QUICConnection {
    /// Notes how the connection does, now and then: whoever sends a lot counts no more than others.
    func sample(_ roundTrip: UInt64, _ congestionWindow: UInt64, _ now: UInt64) {
        nextSampleAt = now + QUICLimits.sampleIntervalNanoseconds
        endpoint.metrics.roundTrips.note(roundTrip)
        endpoint.metrics.congestionWindows.note(congestionWindow)
        for stream in streams.values { countLosses(of: stream, stream.id) }
    }
}

extension QUICEndpoint {
    func resetSent(_ code: UInt64) {
        metrics.resetsSent.note(code, among: configuration.countedCodes)
    }

    func resetReceived(_ code: UInt64) {
        metrics.resetsReceived.note(code, among: configuration.countedCodes)
    }
}
