/// Which connection a packet belongs to, by its destination connection id.
final class ConnectionTable {
    private var resetTokens: [ResetToken: QUICConnection] = [:]
    /// By ids as long as ours, which are all but some of those that clients begin with.
    private var routes: [UInt64: QUICConnection] = [:]
    private var otherRoutes: [ConnectionID: QUICConnection] = [:]
    // A batch mostly is one connection's, so the last answer is kept while the table does not change.
    private var lastID: UInt64 = 0
    private var last: QUICConnection?

    func find(_ id: ConnectionID) -> QUICConnection? {
        if let word = id.word { routes[word] } else { otherRoutes[id] }
    }

    /// Finds by a connection id of ours in a short header.
    @inline(__always)
    func find(shortID: UInt64) -> QUICConnection? {
        if let last, lastID == shortID { return last }
        guard let found = routes[shortID] else { return nil }
        last = found
        lastID = shortID
        return found
    }

    func forgetLast() {
        last = nil
    }

    func add(_ id: ConnectionID, _ connection: QUICConnection) {
        if let word = id.word { routes[word] = connection } else { otherRoutes[id] = connection }
    }

    func remove(_ id: ConnectionID) {
        if let word = id.word { routes[word] = nil } else { otherRoutes[id] = nil }
        last = nil
    }

    /// The connection whose peer may have sent `token` at the end of a stateless reset.
    func find(_ token: ResetToken) -> QUICConnection? {
        resetTokens[token]
    }

    func setResetToken(_ token: ResetToken, of connection: QUICConnection, isActive: Bool) {
        if isActive {
            if resetTokens.updateValue(connection, forKey: token) !== connection {
                connection.peerResetTokens.append(token)
            }
        } else if resetTokens[token] === connection {
            resetTokens[token] = nil
            connection.peerResetTokens.removeAll { $0 == token }
        }
    }

    func removeResetTokens(of connection: QUICConnection) {
        for token in connection.peerResetTokens where resetTokens[token] === connection {
            resetTokens[token] = nil
        }
        connection.peerResetTokens = []
    }

    func contains(_ id: ConnectionID) -> Bool {
        find(id) != nil
    }

    /// Each connection once.
    var connections: [QUICConnection] {
        var seen: Set<ObjectIdentifier> = []
        return (Array(routes.values) + otherRoutes.values).filter {
            seen.insert(ObjectIdentifier($0)).inserted
        }
    }
}

/// A stateless reset token (RFC 9000 section 10.3), the last 16 bytes of a reset.
struct ResetToken: Hashable {
    private let first: UInt64
    private let second: UInt64

    init(_ bytes: UnsafeRawPointer) {
        first = bytes.loadUnaligned(as: UInt64.self)
        second = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    }
}
