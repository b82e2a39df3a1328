package import Domain

/// How a device is chosen for a new conn (contract section 1, `ingress.strategy`).
package enum SelectionStrategy: String, Sendable, Hashable, CaseIterable {
    case roundRobin = "round_robin"
    case leastConns = "least_conns"
    case latency
    case weighted
}

/// What a node tells its devices and holds them to.
package struct FleetConfiguration: Sendable, Hashable {
    package var nodeID: NodeID
    /// `host:port` for RegisterResponse; an empty host means the host the device dialled.
    package var quicAddress: String
    /// SHA-256 of the DER of the QUIC leaf certificate.
    package var quicCertificateSHA256: [UInt8]
    package var heartbeatInterval: Duration
    package var heartbeatTimeout: Duration
    package var loadReportInterval: Duration
    package var resumeGrace: Duration
    package var maximumDevices: Int
    package var strategy: SelectionStrategy
    /// wss:// URLs of other nodes, for devices that can't stay here.
    package var alternatives: [String]
    /// Whether what users carry is asked for; else nobody counts it.
    package var countsUsers = true

    package init(
        nodeID: NodeID, quicAddress: String = "", quicCertificateSHA256: [UInt8] = [],
        heartbeatInterval: Duration = .seconds(30), heartbeatTimeout: Duration = .seconds(90),
        loadReportInterval: Duration = .seconds(30), resumeGrace: Duration = .seconds(30),
        maximumDevices: Int = 100_000, strategy: SelectionStrategy = .leastConns,
        alternatives: [String] = []
    ) {
        self.nodeID = nodeID
        self.quicAddress = quicAddress
        self.quicCertificateSHA256 = quicCertificateSHA256
        self.heartbeatInterval = heartbeatInterval
        self.heartbeatTimeout = heartbeatTimeout
        self.loadReportInterval = loadReportInterval
        self.resumeGrace = resumeGrace
        self.maximumDevices = maximumDevices
        self.strategy = strategy
        self.alternatives = alternatives
    }
}

/// The fleet's limits, each with its reason.
package enum FleetLimits {
    // Contract section 2, RegisterRequest.
    package static let locationBytes = 128
    package static let tags = 32
    package static let tagBytes = 64
    /// A version for people; longer ones would bloat every row and page that shows them.
    package static let agentVersionBytes = 128
    /// The contract names three; the rest is for later versions.
    package static let capabilities = 32
    package static let capabilityBytes = 64

    /// Contract section 2: `data_token`.
    package static let dataTokenBytes = 32
    package static let dataTokenLifetime = Duration.seconds(30)
    /// A device that may connect but doesn't register holds a socket and TLS state.
    package static let registrationTimeout = Duration.seconds(10)
    /// How long a registration waits for its session's record. The store answers within half a second, from the
    /// database or the disk, or because neither works; this is for a disk that hangs, and below what a device
    /// waits for its answer.
    package static let recordWait = Duration.seconds(5)
    /// How long an ended session waits for the last counts of its conns.
    package static let settleWait = Duration.seconds(2)
    /// How often a device without its data plane is asked to open it again.
    package static let repairInterval = Duration.seconds(30)
    /// How long a device that is turned away should wait before it asks again.
    package static let retryAfter = Duration.seconds(5)
    /// A client waits while devices are tried: three that are full tell enough about the rest.
    package static let openAttempts = 3
    /// How long a replaced session that is draining may keep its conns if no drain's deadline holds it.
    package static let supersededDrain = Duration.seconds(300)

    /// Messages about no conn: heartbeats and load reports come every few seconds.
    package static let messagesPerSecond: UInt64 = 20
    package static let messageBurst: UInt64 = 200
    /// Messages about conns: two a conn, and one device can carry thousands of short conns a second.
    package static let connMessagesPerSecond: UInt64 = 50_000
    package static let connMessageBurst: UInt64 = 200_000
}

/// One instant on both clocks.
package struct Moment: Sendable, Hashable {
    package var now: Instant
    package var wall: WallTime

    package init(now: Instant, wall: WallTime) {
        self.now = now
        self.wall = wall
    }
}
