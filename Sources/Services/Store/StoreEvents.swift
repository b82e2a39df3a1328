package import Domain

/// Something that has happened on this node and belongs in the database.
///
/// Events are facts: written in order, once, in sets, and idempotent by their keys, so that a batch
/// whose answer was lost is simply written again.
package enum StoreEvent: Sendable, Hashable {
    /// A device was given a session; the acknowledgement comes after the commit.
    case sessionStarted(SessionRecord, acknowledgement: UInt64?)
    case sessionUpdated(SessionUpdate)
    case sessionEnded(SessionEnd)
    case deviceState(DeviceState)
    case loadReport(LoadSample)
    case connEnded(ConnRecord)
    case nodeState(NodeState)
    case nodeSample(NodeSample)
    /// Told again and again, and kept by nobody: the newest word is the node's row.
    case nodeVitals(NodeVitals)
    case audited(AuditRecord)
    case adminTokensUsed([AdminTokenUse])
    /// A drain began, was changed, went on or ended.
    case drainChanged(DrainRecord)
    /// What a user's conns have carried.
    case usersUsed(UserUsage)
    /// A sticky session was given a device while the database could not be asked.
    case stickyGiven(StickyClaim)
}

/// A session as it begins.
package struct SessionRecord: Sendable, Hashable {
    package var sessionID: SessionID
    package var deviceID: DeviceID
    /// Grows with each new session of a device; the newest one owns the device's row.
    package var sessionEpoch: UInt64
    package var startedAt: WallTime
    package var remoteAddress: SocketAddress
    package var location: String
    package var tags: [String]
    /// Most conns at once; 0 means no limit.
    package var capacity: UInt32
    package var agentVersion: String
    /// When it began, on the clock of this process; nil when an earlier one, or only the disk, remembers it.
    package var began: Instant?

    package init(
        sessionID: SessionID, deviceID: DeviceID, sessionEpoch: UInt64, startedAt: WallTime,
        remoteAddress: SocketAddress, location: String = "", tags: [String] = [], capacity: UInt32 = 0,
        agentVersion: String = "", began: Instant? = nil
    ) {
        self.sessionID = sessionID
        self.deviceID = deviceID
        self.sessionEpoch = sessionEpoch
        self.startedAt = startedAt
        self.remoteAddress = remoteAddress
        self.location = location
        self.tags = tags
        self.capacity = capacity
        self.agentVersion = agentVersion
        self.began = began
    }
}

/// Since when a device is known.
package struct DeviceFirstSeen: Sendable, Hashable {
    package var deviceID: DeviceID
    package var at: WallTime

    package init(deviceID: DeviceID, at: WallTime) {
        self.deviceID = deviceID
        self.at = at
    }
}

/// A session that lives, to be made true on record.
package struct SessionClaim: Sendable, Hashable {
    package var record: SessionRecord
    /// Whether it is the one of its device that counts; one that was told to leave may live beside that.
    package var isCurrent: Bool

    package init(record: SessionRecord, isCurrent: Bool) {
        self.record = record
        self.isCurrent = isCurrent
    }
}

/// What the database says of a session that asked for its device.
package struct SessionEntry: Sendable, Hashable {
    package var sessionID: SessionID
    package var deviceID: DeviceID
    /// Whether the session has the device; otherwise a later one, at another node, has it.
    package var isOwner: Bool
    /// The device's epoch now, which is the session's if that has the device.
    package var epoch: UInt64
    /// Since when the device is known.
    package var firstSeenAt: WallTime

    package init(
        sessionID: SessionID, deviceID: DeviceID, isOwner: Bool, epoch: UInt64, firstSeenAt: WallTime
    ) {
        self.sessionID = sessionID
        self.deviceID = deviceID
        self.isOwner = isOwner
        self.epoch = epoch
        self.firstSeenAt = firstSeenAt
    }
}

/// What a session has carried since it began; absolute counts, so that writing them twice is harmless.
package struct SessionCounters: Sendable, Hashable {
    /// From clients towards targets.
    package var bytesSent: UInt64
    /// From targets towards clients.
    package var bytesReceived: UInt64
    package var connsTotal: UInt64
    /// How often a new control connection took the session over.
    package var resumes: UInt64
    /// How often its QUIC connection changed its path.
    package var migrations: UInt64

    package init(
        bytesSent: UInt64 = 0, bytesReceived: UInt64 = 0, connsTotal: UInt64 = 0, resumes: UInt64 = 0,
        migrations: UInt64 = 0
    ) {
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.connsTotal = connsTotal
        self.resumes = resumes
        self.migrations = migrations
    }
}

/// A session that lives on with new counts; the newest one of a session replaces those not yet written.
package struct SessionUpdate: Sendable, Hashable {
    package var sessionID: SessionID
    package var at: WallTime
    package var counters: SessionCounters

    package init(sessionID: SessionID, at: WallTime, counters: SessionCounters) {
        self.sessionID = sessionID
        self.at = at
        self.counters = counters
    }
}

/// A session as it ends.
package struct SessionEnd: Sendable, Hashable {
    package var sessionID: SessionID
    package var endedAt: WallTime
    package var reason: SessionEndReason
    package var counters: SessionCounters

    package init(
        sessionID: SessionID, endedAt: WallTime, reason: SessionEndReason, counters: SessionCounters
    ) {
        self.sessionID = sessionID
        self.endedAt = endedAt
        self.reason = reason
        self.counters = counters
    }
}

/// What a node knows about a connected device right now; the newest one of a session replaces those not
/// yet written. It only touches the device's row while that row belongs to `sessionID`.
package struct DeviceState: Sendable, Hashable {
    package var deviceID: DeviceID
    package var sessionID: SessionID
    package var at: WallTime
    package var health: SessionHealth
    /// Nil before the first heartbeat.
    package var lastHeartbeatAt: WallTime?
    package var roundTripMilliseconds: Double?
    package var quicRemoteAddress: SocketAddress?
    /// Open conns as the node counts them.
    package var activeConns: UInt64
    /// Bytes of the session as the node counts them.
    package var bytesSent: UInt64
    package var bytesReceived: UInt64

    package init(
        deviceID: DeviceID, sessionID: SessionID, at: WallTime, health: SessionHealth,
        lastHeartbeatAt: WallTime? = nil, roundTripMilliseconds: Double? = nil,
        quicRemoteAddress: SocketAddress? = nil, activeConns: UInt64 = 0, bytesSent: UInt64 = 0,
        bytesReceived: UInt64 = 0
    ) {
        self.deviceID = deviceID
        self.sessionID = sessionID
        self.at = at
        self.health = health
        self.lastHeartbeatAt = lastHeartbeatAt
        self.roundTripMilliseconds = roundTripMilliseconds
        self.quicRemoteAddress = quicRemoteAddress
        self.activeConns = activeConns
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
    }
}

/// A load report of a device.
package struct LoadSample: Sendable, Hashable {
    package var deviceID: DeviceID
    package var sessionID: SessionID
    /// The device's clock; replaced by `receivedAt` where it is far off.
    package var sampledAt: WallTime
    /// The node's clock.
    package var receivedAt: WallTime
    package var activeConns: UInt64
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    /// 0 to 1 of the machine.
    package var cpuUtilization: Double
    package var memoryUsedBytes: UInt64
    package var memoryTotalBytes: UInt64
    package var roundTripMilliseconds: Double?

    package init(
        deviceID: DeviceID, sessionID: SessionID, sampledAt: WallTime, receivedAt: WallTime,
        activeConns: UInt64, bytesSent: UInt64, bytesReceived: UInt64, cpuUtilization: Double,
        memoryUsedBytes: UInt64, memoryTotalBytes: UInt64, roundTripMilliseconds: Double?
    ) {
        self.deviceID = deviceID
        self.sessionID = sessionID
        self.sampledAt = sampledAt
        self.receivedAt = receivedAt
        self.activeConns = activeConns
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.cpuUtilization = cpuUtilization
        self.memoryUsedBytes = memoryUsedBytes
        self.memoryTotalBytes = memoryTotalBytes
        self.roundTripMilliseconds = roundTripMilliseconds
    }
}

/// A conn that is over.
package struct ConnRecord: Sendable, Hashable {
    package enum ClientProtocol: String, Sendable, Hashable, CaseIterable {
        case socks5
        case http
        case udp
    }

    package var connID: ConnID
    package var deviceID: DeviceID
    package var sessionID: SessionID
    /// Empty where clients don't authenticate.
    package var userName: String
    package var clientProtocol: ClientProtocol
    package var clientAddress: SocketAddress
    /// As the client asked for it.
    package var target: String
    /// What the device dialled; nil when it never got there.
    package var resolvedAddress: String?
    package var openedAt: WallTime
    package var endedAt: WallTime
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    package var endReason: CloseReason

    package init(
        connID: ConnID, deviceID: DeviceID, sessionID: SessionID, userName: String,
        clientProtocol: ClientProtocol, clientAddress: SocketAddress, target: String,
        resolvedAddress: String?, openedAt: WallTime, endedAt: WallTime, bytesSent: UInt64,
        bytesReceived: UInt64, endReason: CloseReason
    ) {
        self.connID = connID
        self.deviceID = deviceID
        self.sessionID = sessionID
        self.userName = userName
        self.clientProtocol = clientProtocol
        self.clientAddress = clientAddress
        self.target = target
        self.resolvedAddress = resolvedAddress
        self.openedAt = openedAt
        self.endedAt = endedAt
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.endReason = endReason
    }
}

/// What a node writes about itself every 10 seconds.
package struct NodeSample: Sendable, Hashable {
    package var sampledAt: WallTime
    package var devicesOnline: UInt64
    package var connsActive: UInt64
    /// Since the node's start.
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    /// 0 to 1 of the machine.
    package var cpuUtilization: Double
    package var memoryUsedBytes: UInt64

    package init(
        sampledAt: WallTime, devicesOnline: UInt64, connsActive: UInt64, bytesSent: UInt64,
        bytesReceived: UInt64, cpuUtilization: Double, memoryUsedBytes: UInt64
    ) {
        self.sampledAt = sampledAt
        self.devicesOnline = devicesOnline
        self.connsActive = connsActive
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.cpuUtilization = cpuUtilization
        self.memoryUsedBytes = memoryUsedBytes
    }
}

/// How much a node has taken on, for those that would send it more.
package struct NodeVitals: Sendable, Hashable {
    package var devicesOnline: UInt64
    package var connsActive: UInt64
    /// How long devices that came in the last seconds waited for their answer: all but one in a hundred less.
    package var registrationMilliseconds: Double
    /// How late the control loop was at worst in the last seconds.
    package var lagMilliseconds: Double

    package init(
        devicesOnline: UInt64, connsActive: UInt64, registrationMilliseconds: Double, lagMilliseconds: Double
    ) {
        self.devicesOnline = devicesOnline
        self.connsActive = connsActive
        self.registrationMilliseconds = registrationMilliseconds
        self.lagMilliseconds = lagMilliseconds
    }
}

/// What a node says of itself when it starts.
package struct NodeRecord: Sendable, Hashable {
    package var nodeID: NodeID
    package var location: String
    package var advertiseHost: String?
    package var wssPort: UInt16
    package var quicPort: UInt16
    package var version: String
    package var startedAt: WallTime
    package var maximumDevices: Int
    /// The drain of an earlier life that stays in force.
    package var keptDrain: DrainID?

    package init(
        nodeID: NodeID, location: String, advertiseHost: String?, wssPort: UInt16, quicPort: UInt16,
        version: String, startedAt: WallTime, maximumDevices: Int = 0, keptDrain: DrainID? = nil
    ) {
        self.nodeID = nodeID
        self.location = location
        self.advertiseHost = advertiseHost
        self.wssPort = wssPort
        self.quicPort = quicPort
        self.version = version
        self.startedAt = startedAt
        self.maximumDevices = maximumDevices
        self.keptDrain = keptDrain
    }
}
