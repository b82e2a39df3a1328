/// Which connection a packet belongs to, by its destination connection id.
final class ConnectionTable {
    private var routes: [ConnectionID: QUICConnection] = [:]
    // A batch mostly is one connection's, so the last answer is kept while the table does not change.
    private var lastID: UInt64 = 0
    private var last: QUICConnection?

    func find(_ id: ConnectionID) -> QUICConnection? {
        routes[id]
    }

    /// Finds by a connection id of ours in a short header.
    @inline(__always)
    func find(shortID: UInt64) -> QUICConnection? {
        if let last, lastID == shortID { return last }
        guard let found = routes[ConnectionID(word: shortID)] else { return nil }
        last = found
        lastID = shortID
        return found
    }

    func forgetLast() {
        last = nil
    }

    func add(_ id: ConnectionID, _ connection: QUICConnection) {
        routes[id] = connection
    }

    func remove(_ id: ConnectionID) {
        routes[id] = nil
        last = nil
    }

    func contains(_ id: ConnectionID) -> Bool {
        routes[id] != nil
    }

    /// Each connection once.
    var connections: [QUICConnection] {
        var seen: Set<ObjectIdentifier> = []
        return routes.values.filter { seen.insert(ObjectIdentifier($0)).inserted }
    }
}
