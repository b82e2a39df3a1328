package import Domain

/// Which session of a device a change is about, by the device's epoch as it is on record.
package enum SessionEpochs: Sendable, Hashable {
    case any
    case oneOf([UInt64])
    /// The record may be behind, and must not be ahead: then there is a later session somewhere.
    case atMost(UInt64)
}

/// A question to the database, answered within a bound of time.
package enum StoreQuery: Sendable, Hashable {
    case devices(DeviceListQuery)
    case device(DeviceID)
    case sessions(SessionListQuery)
    case load(LoadSeriesQuery)
    case nodes
    case node(NodeID)
    /// Whose token this is, told by its hash.
    case deviceOfToken(sha256: [UInt8])
    /// Gives a device a token, and takes away the one it had; the device need not be known yet. This and the
    /// next two change nothing when the device's session epoch is none of `onlyAt`.
    case enrollDevice(DeviceID, tokenSHA256: [UInt8], onlyAt: SessionEpochs = .any)
    /// Takes a device's token away.
    case revokeToken(DeviceID, onlyAt: SessionEpochs = .any)
    /// Keeps a device out, or lets it in again.
    case setDeviceEnabled(DeviceID, Bool, onlyAt: SessionEpochs = .any)
    /// Whether anything was changed at another node.
    case revisions
    /// Changes of who may come in after this one, in their order, a bounded number of them.
    case admissions(after: Int64)
    /// Devices that are kept out, by id, a bounded number of them.
    case disabledDevices(after: DeviceID?)
    /// Those of these devices that have lost their token and have no other.
    case revokedDevices(among: [DeviceID])
    /// Newest first.
    case adminTokens(limit: Int, cursor: ListCursor?)
    case adminToken(TokenID)
    /// What it takes to know all admin tokens.
    case adminTokenBook
    case createAdminToken(NewAdminToken)
    case deleteAdminToken(TokenID)
    case audit(AuditListQuery)
    case drains(DrainListQuery)
    /// Where the devices are by now that this node had at that time.
    case drainArrivals(of: NodeID, since: WallTime)
    /// Ingress users by name.
    case users(limit: Int, cursor: ListCursor?)
    case user(UserName)
    case createUser(NewUser)
    case changeUser(UserName, UserChange)
    case deleteUser(UserName)
    /// What it takes to let a user in; of users who were let in before also while the database is away.
    case userKey(UserName)
    /// The same of some users, and by the database alone.
    case userKeys([UserName])
    /// Up to which change of users this node, in an earlier life too, has gone through them.
    case followedUsers
    /// Changes of users after this one, in their order, a bounded number of them.
    case userChanges(after: Int64)
    /// What other lives of nodes have counted of these users this month.
    case userUsage([UserName])
    case claimSticky(StickyClaim)
    case claimKey(KeyClaim)
    /// Keeps the answer of the attempt that claimed the key.
    case settleKey(KeyClaim, KeyedAnswer)
    /// Gives the key up: nothing was done.
    case releaseKey(KeyClaim)
    /// Has another node answer a call; takes up to six seconds, and a failure says that nothing was done.
    case askNode(NodeQuestion)
    /// Makes true what is on record of sessions that live; at most ``SessionClaims/claimsAtOnce`` of them. Not to
    /// be asked again: by then others may live.
    case claimSessions([SessionClaim])
    /// Ends the state of a node that was declared lost, once all that lives on it was claimed.
    case regainLease(term: Int64)
    /// These sessions, whose devices have come to another node, have been seen to.
    case settleTakeovers([SessionID])
    /// Tells other nodes of events; one batch at a time, so that they are there in their order.
    case tellEvents(EventBatch)
    /// What other nodes have told, a bounded number of batches.
    case events(behind: [EventPosition])
}

extension StoreQuery {
    /// Whether it makes a change that somebody has asked for, and that is not to be made twice.
    var isOrder: Bool {
        switch self {
        case .enrollDevice, .revokeToken, .setDeviceEnabled, .createAdminToken, .deleteAdminToken,
            .createUser, .changeUser, .deleteUser:
            true
        default: false
        }
    }

    /// What a failure is without an answer of the database.
    func unanswered(_ cause: String) -> StoreFailure {
        isOrder ? .inDoubt(cause) : .unavailable(cause)
    }
}

/// The answer to the query of the same name; `admission` and `changed` to those that change something.
package enum StoreAnswer: Sendable, Hashable {
    case devices(ListPage<DeviceRow>)
    /// Nil: no such device.
    case device(DeviceRow?)
    case sessions(ListPage<SessionRow>)
    case load([LoadPoint])
    case nodes([NodeRow])
    /// Nil: no such node.
    case node(NodeRow?)
    /// Nil: nobody's token.
    case deviceOfToken(TokenHolder?)
    /// Whether there was something to change; once it is committed.
    case changed(Bool)
    case admission(AdmissionOutcome)
    case revisions(Revisions)
    case admissions([Admission])
    case disabledDevices([DeviceID])
    case revokedDevices([DeviceID])
    case adminTokens(ListPage<AdminTokenRow>)
    /// Nil: no such token, or too many to make another.
    case adminToken(AdminTokenRow?)
    case adminTokenBook(AdminTokenBook)
    case audit(ListPage<AuditRow>)
    case drains(ListPage<DrainRow>)
    case drainArrivals([DrainArrivals])
    case users(ListPage<UserRow>)
    /// Nil: no such user, or, of one that is made, there is one already.
    case user(UserRow?)
    case userKey(UserKey?)
    /// Of those that there are.
    case userKeys([UserName: UserKey])
    /// Nil: nobody can tell.
    case followedUsers(Int64?)
    case userChanges([UserNotice])
    case userUsage([UserName: UInt64])
    case sticky(StickyHolding)
    case keyState(KeyState)
    case nodeAsked(NodeOutcome)
    /// Of those that were not on record as they should be.
    case claimed([SessionEntry])
    case events([EventBatch])
}

/// The device that a token belongs to.
package struct TokenHolder: Sendable, Hashable {
    package var deviceID: DeviceID
    package var enabled: Bool
    /// Of the device's newest session that is known; 0 when there is none.
    package var sessionEpoch: UInt64

    package init(deviceID: DeviceID, enabled: Bool, sessionEpoch: UInt64 = 0) {
        self.deviceID = deviceID
        self.enabled = enabled
        self.sessionEpoch = sessionEpoch
    }
}

/// Why a query has no answer.
package enum StoreFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// The database is away or did not answer in time; the caller may retry.
    case unavailable(String)
    /// A change was sent, and no answer came: it may have been made, or may yet be.
    case inDoubt(String)
    /// The cursor belongs to another list, sort or order: the asker's mistake.
    case invalidCursor
    /// The database refused the query: our mistake, or its schema's.
    case failed(String)

    package var description: String {
        switch self {
        case .unavailable(let cause): "database unavailable: \(cause)"
        case .inDoubt(let cause): "a change may have been made: \(cause)"
        case .invalidCursor: "the cursor does not belong to this list"
        case .failed(let cause): "database query failed: \(cause)"
        }
    }
}

/// One page of a list, and where the next one begins.
package struct ListPage<Row: Sendable & Hashable>: Sendable, Hashable {
    package var items: [Row]
    /// Nil on the last page.
    package var next: ListCursor?

    package init(items: [Row], next: ListCursor?) {
        self.items = items
        self.next = next
    }
}

/// The most rows a page can have (contract section 5).
package let maximumPageRows = 1_000

package struct DeviceListQuery: Sendable, Hashable {
    package enum Sort: String, Sendable, Hashable, CaseIterable {
        case deviceID = "device_id"
        case connectedAt = "connected_at"
        case activeConns = "active_conns"
    }

    /// Nil: both.
    package var online: Bool?
    package var nodeID: NodeID?
    package var location: String?
    /// All must match.
    package var tags: [String]
    /// How the id begins.
    package var prefix: String?
    package var sort: Sort
    package var descending: Bool
    /// 1...``maximumPageRows``; clamped.
    package var limit: Int
    package var cursor: ListCursor?

    package init(
        online: Bool? = nil, nodeID: NodeID? = nil, location: String? = nil, tags: [String] = [],
        prefix: String? = nil, sort: Sort = .deviceID, descending: Bool = false, limit: Int = 100,
        cursor: ListCursor? = nil
    ) {
        self.online = online
        self.nodeID = nodeID
        self.location = location
        self.tags = tags
        self.prefix = prefix
        self.sort = sort
        self.descending = descending
        self.limit = limit
        self.cursor = cursor
    }
}

/// A device as the database knows it: its current session when it is online, its last one otherwise.
package struct DeviceRow: Sendable, Hashable {
    package var deviceID: DeviceID
    package var online: Bool
    package var enabled: Bool
    package var nodeID: NodeID?
    package var sessionID: SessionID?
    package var sessionEpoch: UInt64
    package var location: String
    package var tags: [String]
    package var capacity: UInt32
    package var agentVersion: String
    /// `ip:port` of the control connection.
    package var remoteAddress: String?
    /// `ip:port` of the QUIC connection.
    package var quicRemoteAddress: String?
    /// Nil when offline.
    package var health: SessionHealth?
    package var connectedAt: WallTime?
    package var lastHeartbeatAt: WallTime?
    package var roundTripMilliseconds: Double?
    package var activeConns: UInt64
    /// Of the current or last session, as the node counts them.
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    package var cpuUtilization: Double?
    package var memoryUsedBytes: UInt64?
    package var memoryTotalBytes: UInt64?
    /// Nil for a connected device whose row could not be read yet.
    package var firstSeenAt: WallTime?
    package var lastSeenAt: WallTime
    /// Seconds, by the database's clock, since the node of an online device was last heard of: what is shown of the
    /// device may be as old. Nil when offline.
    package var age: Double?

    package init(
        deviceID: DeviceID, online: Bool, enabled: Bool, nodeID: NodeID?, sessionID: SessionID?,
        sessionEpoch: UInt64, location: String, tags: [String], capacity: UInt32, agentVersion: String,
        remoteAddress: String?, quicRemoteAddress: String?, health: SessionHealth?,
        connectedAt: WallTime?, lastHeartbeatAt: WallTime?, roundTripMilliseconds: Double?,
        activeConns: UInt64, bytesSent: UInt64, bytesReceived: UInt64, cpuUtilization: Double?,
        memoryUsedBytes: UInt64?, memoryTotalBytes: UInt64?, firstSeenAt: WallTime?, lastSeenAt: WallTime,
        age: Double?
    ) {
        self.deviceID = deviceID
        self.online = online
        self.enabled = enabled
        self.nodeID = nodeID
        self.sessionID = sessionID
        self.sessionEpoch = sessionEpoch
        self.location = location
        self.tags = tags
        self.capacity = capacity
        self.agentVersion = agentVersion
        self.remoteAddress = remoteAddress
        self.quicRemoteAddress = quicRemoteAddress
        self.health = health
        self.connectedAt = connectedAt
        self.lastHeartbeatAt = lastHeartbeatAt
        self.roundTripMilliseconds = roundTripMilliseconds
        self.activeConns = activeConns
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.cpuUtilization = cpuUtilization
        self.memoryUsedBytes = memoryUsedBytes
        self.memoryTotalBytes = memoryTotalBytes
        self.firstSeenAt = firstSeenAt
        self.lastSeenAt = lastSeenAt
        self.age = age
    }
}

/// Sessions, newest first.
package struct SessionListQuery: Sendable, Hashable {
    package var deviceID: DeviceID?
    package var nodeID: NodeID?
    /// True: only open ones; false: only ended ones; nil: both.
    package var open: Bool?
    /// Begun at or after.
    package var from: WallTime?
    /// Begun before.
    package var to: WallTime?
    /// 1...``maximumPageRows``; clamped.
    package var limit: Int
    package var cursor: ListCursor?

    package init(
        deviceID: DeviceID? = nil, nodeID: NodeID? = nil, open: Bool? = nil, from: WallTime? = nil,
        to: WallTime? = nil, limit: Int = 100, cursor: ListCursor? = nil
    ) {
        self.deviceID = deviceID
        self.nodeID = nodeID
        self.open = open
        self.from = from
        self.to = to
        self.limit = limit
        self.cursor = cursor
    }
}

package struct SessionRow: Sendable, Hashable {
    package var sessionID: SessionID
    package var deviceID: DeviceID
    package var nodeID: NodeID
    package var sessionEpoch: UInt64
    package var startedAt: WallTime
    /// Nil while the session is open.
    package var endedAt: WallTime?
    package var endReason: SessionEndReason?
    /// An address without a port.
    package var remoteAddress: String?
    package var agentVersion: String
    package var location: String
    package var tags: [String]
    package var counters: SessionCounters

    package init(
        sessionID: SessionID, deviceID: DeviceID, nodeID: NodeID, sessionEpoch: UInt64,
        startedAt: WallTime, endedAt: WallTime?, endReason: SessionEndReason?, remoteAddress: String?,
        agentVersion: String, location: String, tags: [String], counters: SessionCounters
    ) {
        self.sessionID = sessionID
        self.deviceID = deviceID
        self.nodeID = nodeID
        self.sessionEpoch = sessionEpoch
        self.startedAt = startedAt
        self.endedAt = endedAt
        self.endReason = endReason
        self.remoteAddress = remoteAddress
        self.agentVersion = agentVersion
        self.location = location
        self.tags = tags
        self.counters = counters
    }
}

/// A device's load over time, one point a step.
package struct LoadSeriesQuery: Sendable, Hashable {
    /// The most points one answer has; a smaller step is made larger so that the range fits.
    package static let maximumPoints = 10_000

    package var deviceID: DeviceID
    package var from: WallTime
    package var to: WallTime
    /// 0 for the samples as they are (at most ``maximumPoints``, the newest ones).
    package var stepSeconds: Int

    package init(deviceID: DeviceID, from: WallTime, to: WallTime, stepSeconds: Int) {
        self.deviceID = deviceID
        self.from = from
        self.to = to
        self.stepSeconds = stepSeconds
    }
}

/// Gauges are means over the step, byte counts the highest of it.
package struct LoadPoint: Sendable, Hashable {
    package var at: WallTime
    package var activeConns: Double
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    package var cpuUtilization: Double
    package var memoryUsedBytes: UInt64
    package var memoryTotalBytes: UInt64
    package var roundTripMilliseconds: Double?

    package init(
        at: WallTime, activeConns: Double, bytesSent: UInt64, bytesReceived: UInt64,
        cpuUtilization: Double, memoryUsedBytes: UInt64, memoryTotalBytes: UInt64,
        roundTripMilliseconds: Double?
    ) {
        self.at = at
        self.activeConns = activeConns
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.cpuUtilization = cpuUtilization
        self.memoryUsedBytes = memoryUsedBytes
        self.memoryTotalBytes = memoryTotalBytes
        self.roundTripMilliseconds = roundTripMilliseconds
    }
}

/// A node as the database knows it; `state` is `down` once its lease has run out.
package struct NodeRow: Sendable, Hashable {
    package var nodeID: NodeID
    package var state: NodeState
    package var location: String
    package var advertiseHost: String?
    package var wssPort: UInt16
    package var quicPort: UInt16
    package var version: String
    package var startedAt: WallTime
    package var lastSeenAt: WallTime
    /// Seconds since then, by the database's clock.
    package var age: Double
    package var devicesOnline: UInt64
    package var connsActive: UInt64
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    package var cpuUtilization: Double
    package var memoryUsedBytes: UInt64
    /// The most devices it takes; 0 where it has not said so.
    package var maximumDevices: UInt64
    /// How long its new devices wait for their answer; 0 where it has not said so.
    package var registrationMilliseconds: Double
    /// How late its control loop is.
    package var lagMilliseconds: Double

    package init(
        nodeID: NodeID, state: NodeState, location: String, advertiseHost: String?, wssPort: UInt16,
        quicPort: UInt16, version: String, startedAt: WallTime, lastSeenAt: WallTime,
        age: Double, devicesOnline: UInt64, connsActive: UInt64, bytesSent: UInt64, bytesReceived: UInt64,
        cpuUtilization: Double, memoryUsedBytes: UInt64, maximumDevices: UInt64 = 0,
        registrationMilliseconds: Double = 0, lagMilliseconds: Double = 0
    ) {
        self.nodeID = nodeID
        self.state = state
        self.location = location
        self.advertiseHost = advertiseHost
        self.wssPort = wssPort
        self.quicPort = quicPort
        self.version = version
        self.startedAt = startedAt
        self.lastSeenAt = lastSeenAt
        self.age = age
        self.devicesOnline = devicesOnline
        self.connsActive = connsActive
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.cpuUtilization = cpuUtilization
        self.memoryUsedBytes = memoryUsedBytes
        self.maximumDevices = maximumDevices
        self.registrationMilliseconds = registrationMilliseconds
        self.lagMilliseconds = lagMilliseconds
    }

    /// Where its devices connect; nil where it has no advertised host.
    package var deviceURL: String? {
        guard let host = advertiseHost else { return nil }
        let isIPv6 = if case .v6? = IPAddress(host) { true } else { false }
        return "wss://" + (isIPv6 ? "[\(host)]" : host) + ":\(wssPort)"
    }

    /// How many more devices it takes.
    package var room: Int { max(0, Int(clamping: maximumDevices) - Int(clamping: devicesOnline)) }
}
