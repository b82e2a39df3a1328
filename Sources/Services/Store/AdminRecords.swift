package import Domain
package import JSON

// What the admin API keeps in the database, and how it asks for it.

// MARK: Tokens

/// An admin token as the database has it, without its hash.
package struct AdminTokenRow: Sendable, Hashable {
    package var tokenID: TokenID
    package var name: String
    /// `read`, `operate` or `admin`.
    package var scope: String
    package var createdAt: WallTime
    /// The name of the token that it was made with.
    package var createdBy: String
    /// Nil: never.
    package var expiresAt: WallTime?
    /// Nil: not yet. Some seconds late.
    package var lastUsedAt: WallTime?

    package init(
        tokenID: TokenID, name: String, scope: String, createdAt: WallTime, createdBy: String,
        expiresAt: WallTime?, lastUsedAt: WallTime?
    ) {
        self.tokenID = tokenID
        self.name = name
        self.scope = scope
        self.createdAt = createdAt
        self.createdBy = createdBy
        self.expiresAt = expiresAt
        self.lastUsedAt = lastUsedAt
    }
}

package struct NewAdminToken: Sendable, Hashable {
    package var tokenID: TokenID
    package var name: String
    package var scope: String
    package var sha256: [UInt8]
    package var createdBy: String
    package var expiresAt: WallTime?

    package init(
        tokenID: TokenID, name: String, scope: String, sha256: [UInt8], createdBy: String,
        expiresAt: WallTime?
    ) {
        self.tokenID = tokenID
        self.name = name
        self.scope = scope
        self.sha256 = sha256
        self.createdBy = createdBy
        self.expiresAt = expiresAt
    }
}

/// What it takes to know an admin token when it is shown.
package struct AdminTokenKey: Sendable, Hashable {
    package var tokenID: TokenID
    package var name: String
    package var scope: String
    package var sha256: [UInt8]
    package var expiresAt: WallTime?

    package init(tokenID: TokenID, name: String, scope: String, sha256: [UInt8], expiresAt: WallTime?) {
        self.tokenID = tokenID
        self.name = name
        self.scope = scope
        self.sha256 = sha256
        self.expiresAt = expiresAt
    }
}

/// All admin tokens as they were at a revision.
package struct AdminTokenBook: Sendable, Hashable {
    package var revision: Int64
    package var keys: [AdminTokenKey]

    package init(revision: Int64, keys: [AdminTokenKey]) {
        self.revision = revision
        self.keys = keys
    }
}

/// When a token was last shown.
package struct AdminTokenUse: Sendable, Hashable {
    package var tokenID: TokenID
    package var at: WallTime

    package init(tokenID: TokenID, at: WallTime) {
        self.tokenID = tokenID
        self.at = at
    }
}

// MARK: Audit trail

/// An unsafe call of the admin API and what became of it.
package struct AuditRecord: Sendable, Hashable {
    package var auditID: AuditID
    package var at: WallTime
    /// The name of the caller's token; empty for a stranger.
    package var actor: String
    /// Nil for a stranger, and for the bootstrap token, which is no row.
    package var tokenID: TokenID?
    package var remoteAddress: String
    package var requestID: String
    package var method: String
    /// Without the query.
    package var path: String
    package var status: Int
    package var reason: String

    package init(
        auditID: AuditID, at: WallTime, actor: String, tokenID: TokenID?, remoteAddress: String,
        requestID: String, method: String, path: String, status: Int, reason: String
    ) {
        self.auditID = auditID
        self.at = at
        self.actor = actor
        self.tokenID = tokenID
        self.remoteAddress = remoteAddress
        self.requestID = requestID
        self.method = method
        self.path = path
        self.status = status
        self.reason = reason
    }
}

package struct AuditRow: Sendable, Hashable {
    package var record: AuditRecord
    package var nodeID: NodeID

    package init(record: AuditRecord, nodeID: NodeID) {
        self.record = record
        self.nodeID = nodeID
    }
}

/// The audit trail, newest first.
package struct AuditListQuery: Sendable, Hashable {
    package var actor: String?
    package var method: String?
    /// How the path begins.
    package var pathPrefix: String?
    package var status: Int?
    package var nodeID: NodeID?
    /// At or after.
    package var from: WallTime?
    /// Before.
    package var to: WallTime?
    /// 1...``maximumPageRows``; clamped.
    package var limit: Int
    package var cursor: ListCursor?

    package init(
        actor: String? = nil, method: String? = nil, pathPrefix: String? = nil, status: Int? = nil,
        nodeID: NodeID? = nil, from: WallTime? = nil, to: WallTime? = nil, limit: Int = 100,
        cursor: ListCursor? = nil
    ) {
        self.actor = actor
        self.method = method
        self.pathPrefix = pathPrefix
        self.status = status
        self.nodeID = nodeID
        self.from = from
        self.to = to
        self.limit = limit
        self.cursor = cursor
    }
}

// MARK: Repeated calls

/// A call that comes with an Idempotency-Key, and wants to be the one that does the work.
package struct KeyClaim: Sendable, Hashable {
    /// Whose key it is: keys of two tokens are different ones.
    package var owner: String
    package var key: String
    /// Of all that makes the call what it is.
    package var requestSHA256: [UInt8]
    /// Tells this attempt from others with the same key.
    package var claim: SessionID

    package init(owner: String, key: String, requestSHA256: [UInt8], claim: SessionID) {
        self.owner = owner
        self.key = key
        self.requestSHA256 = requestSHA256
        self.claim = claim
    }
}

/// What a call was answered with, for those that repeat it.
package struct KeyedAnswer: Sendable, Hashable {
    package var status: Int
    package var location: String?
    package var etag: String?
    /// Nil where there was none, or where it held a secret, which is kept nowhere.
    package var body: String?

    package init(status: Int, location: String?, etag: String?, body: String?) {
        self.status = status
        self.location = location
        self.etag = etag
        self.body = body
    }
}

/// What a call with an Idempotency-Key is to do.
package enum KeyState: Sendable, Hashable {
    /// The work; then settle or release the key.
    case claimed
    /// Another attempt is at work.
    case inFlight
    /// The key was used for another call.
    case otherRequest
    /// It was done before, with this answer.
    case answered(KeyedAnswer)
}

// MARK: Who may come in

/// The numbers by which a node notices that something was changed at another one.
package struct Revisions: Sendable, Hashable {
    package var adminTokens: Int64
    package var admissions: Int64
    package var users: Int64

    package init(adminTokens: Int64, admissions: Int64, users: Int64 = 0) {
        self.adminTokens = adminTokens
        self.admissions = admissions
        self.users = users
    }
}

/// Whether a device may come in, as of the last change of that.
package struct Admission: Sendable, Hashable {
    package var deviceID: DeviceID
    /// Of the change; 0 when there never was one.
    package var revision: Int64
    package var isEnabled: Bool
    /// Of the loss of its token; 0 when it never had one or has another by now.
    package var revokedRevision: Int64

    package init(deviceID: DeviceID, revision: Int64, isEnabled: Bool, revokedRevision: Int64) {
        self.deviceID = deviceID
        self.revision = revision
        self.isEnabled = isEnabled
        self.revokedRevision = revokedRevision
    }
}

/// What became of the wish to change who may come in.
package enum AdmissionOutcome: Sendable, Hashable {
    case changed(Admission)
    /// It was so before.
    case unchanged(Admission)
    /// The device has another session by now than the asker expects.
    case stale
    case noDevice
}

// MARK: Drains

/// A drain and how far it has come; the newest word about it replaces what was written before.
package struct DrainRecord: Sendable, Hashable {
    package var drainID: DrainID
    package var state: String
    /// Grows with each order about it.
    package var version: Int64
    package var startedAt: WallTime
    package var deadlineAt: WallTime
    /// Nil while it goes on.
    package var endedAt: WallTime?
    package var deadlineSeconds: Int
    package var devicesPerSecond: Int
    package var redirectTo: [String]
    /// `cut` or `hold`.
    package var onDeadline: String
    package var reason: String
    package var actor: String
    package var etaSeconds: Int
    package var devicesTotal: Int
    package var devicesMoved: Int
    package var devicesRemaining: Int
    package var connsRemaining: Int
    package var connsCut: Int
    /// Ended otherwise than by moving.
    package var devicesLost: Int
    /// Conns that hold it up, a bounded number of them.
    package var blockers: [String]
    /// Nodes that devices were sent to.
    package var targets: [String]
    /// The rest of what people are told about it, an object.
    package var details: JSONValue
    package var updatedAt: WallTime

    package init(
        drainID: DrainID, state: String, version: Int64, startedAt: WallTime, deadlineAt: WallTime,
        endedAt: WallTime?, deadlineSeconds: Int, devicesPerSecond: Int, redirectTo: [String],
        onDeadline: String, reason: String, actor: String, etaSeconds: Int, devicesTotal: Int,
        devicesMoved: Int, devicesRemaining: Int, connsRemaining: Int, connsCut: Int, devicesLost: Int = 0,
        blockers: [String] = [], targets: [String] = [], details: JSONValue = .object([]),
        updatedAt: WallTime
    ) {
        self.drainID = drainID
        self.state = state
        self.version = version
        self.startedAt = startedAt
        self.deadlineAt = deadlineAt
        self.endedAt = endedAt
        self.deadlineSeconds = deadlineSeconds
        self.devicesPerSecond = devicesPerSecond
        self.redirectTo = redirectTo
        self.onDeadline = onDeadline
        self.reason = reason
        self.actor = actor
        self.etaSeconds = etaSeconds
        self.devicesTotal = devicesTotal
        self.devicesMoved = devicesMoved
        self.devicesRemaining = devicesRemaining
        self.connsRemaining = connsRemaining
        self.connsCut = connsCut
        self.devicesLost = devicesLost
        self.blockers = blockers
        self.targets = targets
        self.details = details
        self.updatedAt = updatedAt
    }
}

package struct DrainRow: Sendable, Hashable {
    package var record: DrainRecord
    package var nodeID: NodeID

    package init(record: DrainRecord, nodeID: NodeID) {
        self.record = record
        self.nodeID = nodeID
    }
}

/// Devices of a drain that are connected to one other node.
package struct DrainArrivals: Sendable, Hashable {
    package var nodeID: NodeID
    package var devices: Int
    /// Their sessions at the draining node that are still open.
    package var openSessions: [SessionID]

    package init(nodeID: NodeID, devices: Int, openSessions: [SessionID]) {
        self.nodeID = nodeID
        self.devices = devices
        self.openSessions = openSessions
    }
}

/// Drains of all nodes, newest first.
package struct DrainListQuery: Sendable, Hashable {
    package var nodeID: NodeID?
    /// 1...``maximumPageRows``; clamped.
    package var limit: Int
    package var cursor: ListCursor?

    package init(nodeID: NodeID? = nil, limit: Int = 100, cursor: ListCursor? = nil) {
        self.nodeID = nodeID
        self.limit = limit
        self.cursor = cursor
    }
}
