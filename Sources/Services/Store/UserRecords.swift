package import Domain

/// What an ingress user may use; nil is no limit.
package struct UserLimits: Sendable, Hashable {
    /// At one node.
    package var maxConns: UInt64?
    /// In a calendar month (UTC), both ways, at all nodes.
    package var bytesQuota: UInt64?
    package var rateBytesPerSecond: UInt64?
    /// Empty: all.
    package var allowedLocations: [String]

    package init(
        maxConns: UInt64? = nil, bytesQuota: UInt64? = nil, rateBytesPerSecond: UInt64? = nil,
        allowedLocations: [String] = []
    ) {
        self.maxConns = maxConns
        self.bytesQuota = bytesQuota
        self.rateBytesPerSecond = rateBytesPerSecond
        self.allowedLocations = allowedLocations
    }
}

/// An ingress user as operators see it, without what its password is checked by.
package struct UserRow: Sendable, Hashable {
    package var name: UserName
    package var limits: UserLimits
    package var createdAt: WallTime
    /// Of the present calendar month; some seconds late.
    package var bytesUsed: UInt64

    package init(name: UserName, limits: UserLimits, createdAt: WallTime, bytesUsed: UInt64) {
        self.name = name
        self.limits = limits
        self.createdAt = createdAt
        self.bytesUsed = bytesUsed
    }
}

package struct NewUser: Sendable, Hashable {
    package var name: UserName
    package var passwordHash: String
    package var limits: UserLimits

    package init(name: UserName, passwordHash: String, limits: UserLimits) {
        self.name = name
        self.passwordHash = passwordHash
        self.limits = limits
    }
}

/// What is to become of one member of a user.
package enum MemberChange<Value: Sendable & Hashable>: Sendable, Hashable {
    case keep
    case set(Value)

    package var isSet: Bool { if case .set = self { true } else { false } }
    package var value: Value? { if case .set(let value) = self { value } else { nil } }
}

package struct UserChange: Sendable, Hashable {
    package var passwordHash: String?
    package var maxConns = MemberChange<UInt64?>.keep
    package var bytesQuota = MemberChange<UInt64?>.keep
    package var rateBytesPerSecond = MemberChange<UInt64?>.keep
    package var allowedLocations = MemberChange<[String]>.keep

    package init() {}
}

/// What it takes to let a user in, and to hold it to its limits.
package struct UserKey: Sendable, Hashable {
    package var name: UserName
    package var passwordHash: String
    package var limits: UserLimits
    /// Bytes of the present month that were counted by other lives of nodes than this one.
    package var bytesElsewhere: UInt64

    package init(name: UserName, passwordHash: String, limits: UserLimits, bytesElsewhere: UInt64 = 0) {
        self.name = name
        self.passwordHash = passwordHash
        self.limits = limits
        self.bytesElsewhere = bytesElsewhere
    }
}

/// A change of a user, made anywhere.
package struct UserNotice: Sendable, Hashable {
    package var name: UserName
    package var revision: Int64
    /// Nil: the user was deleted.
    package var key: UserKey?

    package init(name: UserName, revision: Int64, key: UserKey?) {
        self.name = name
        self.revision = revision
        self.key = key
    }
}

/// What a user's conns have carried in a month, as this life of the node has counted it in all.
package struct UserUsage: Sendable, Hashable {
    package var name: UserName
    package var month: CalendarMonth
    package var bytesSent: UInt64
    package var bytesReceived: UInt64

    package init(name: UserName, month: CalendarMonth, bytesSent: UInt64, bytesReceived: UInt64) {
        self.name = name
        self.month = month
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
    }
}

/// A sticky session that wants the device of `device`, if it has none that is still there.
package struct StickyClaim: Sendable, Hashable {
    /// Empty where clients don't say who they are.
    package var user: String
    package var session: String
    package var device: DeviceID
    package var expiresAt: WallTime
    /// The device that the session has, and that is no longer what its client wants.
    package var replacing: DeviceID?

    package init(
        user: String, session: String, device: DeviceID, expiresAt: WallTime, replacing: DeviceID? = nil
    ) {
        self.user = user
        self.session = session
        self.device = device
        self.expiresAt = expiresAt
        self.replacing = replacing
    }
}

/// The device that a sticky session has.
package struct StickyHolding: Sendable, Hashable {
    package var device: DeviceID
    package var expiresAt: WallTime
    /// The node that the device is connected to; nil: none.
    package var node: NodeID?

    package init(device: DeviceID, expiresAt: WallTime, node: NodeID?) {
        self.device = device
        self.expiresAt = expiresAt
        self.node = node
    }
}
