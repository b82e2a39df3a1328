package import Domain

/// What a user has here now, and what its conns have carried since that was last asked for.
struct UserActivity {
    var conns: Set<ConnID> = []
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0

    mutating func carried(sent: UInt64, received: UInt64) {
        bytesSent &+= sent
        bytesReceived &+= received
    }

    var isEmpty: Bool { conns.isEmpty && bytesSent == 0 && bytesReceived == 0 }
}

/// Bytes of a user's conns since they were last asked for.
package struct UserBytes: Sendable, Hashable {
    package let user: String
    /// From the client towards the target.
    package let sent: UInt64
    package let received: UInt64

    package init(user: String, sent: UInt64, received: UInt64) {
        self.user = user
        self.sent = sent
        self.received = received
    }
}

// Conns by whose they are.
extension Fleet {
    /// The conns that a user has at this node, opening ones included.
    package func connCount(of user: String) -> Int { users[user]?.conns.count ?? 0 }

    /// Ends all conns of a user at this node.
    package func closeConns(of user: String, _ reason: CloseReason) {
        for id in users[user]?.conns ?? [] { _ = closeConn(id, reason) }
    }

    /// What users' conns have carried since this was last called.
    package func takeUserBytes() -> [UserBytes] {
        var taken: [UserBytes] = []
        for (name, user) in users where user.bytesSent > 0 || user.bytesReceived > 0 {
            taken.append(UserBytes(user: name, sent: user.bytesSent, received: user.bytesReceived))
            users[name]?.bytesSent = 0
            users[name]?.bytesReceived = 0
            if user.conns.isEmpty { users[name] = nil }
        }
        return taken
    }

    /// A conn has begun.
    func note(_ conn: Conn) {
        if let user = conn.request.user { users[user, default: UserActivity()].conns.insert(conn.id) }
    }

    func leave(_ user: String, _ conn: ConnID) {
        users[user]?.conns.remove(conn)
        if users[user]?.isEmpty == true { users[user] = nil }
    }
}
