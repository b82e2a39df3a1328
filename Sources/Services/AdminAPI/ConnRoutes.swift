internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTP1
internal import JSON

/// Live conns.
extension AdminAPI {
    private static let filters: Set<String> = ["device_id", "node_id", "user", "protocol", "target"]

    var connRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/conns", .read, parameters: Self.filters.union(["limit", "cursor"])) {
                [unowned self] call throws(AdminProblem) in try listConns(call)
            },
            AdminRoute(.get, "/v1/conns/{conn_id}", .read) { [unowned self] call throws(AdminProblem) in
                guard let conn = backend.conn(try call.connID()) else { throw .connNotFound }
                call.answer { conn.write(to: &$0, nodeID: backend.nodeID, now: loop.now) }
            },
            AdminRoute(.delete, "/v1/conns/{conn_id}", .operate) { [unowned self] call throws(AdminProblem) in
                guard backend.closeConn(try call.connID()) else { throw .connNotFound }
                call.answerNothing()
            },
            AdminRoute(.post, "/v1/conns/close", .operate, body: .required) {
                [unowned self] call throws(AdminProblem) in try closeConns(call)
            },
        ]
    }

    private func listConns(_ call: AdminCall) throws(AdminProblem) {
        let filter = ConnFilter(call.query, own: backend.nodeID)
        let limit = call.query.limit()
        let after = call.query.parsed("cursor", expects: "a cursor of this list") { ConnPlace(cursor: $0) }
        try call.validate()
        let places = matching(filter).map { (place: ConnPlace($0), conn: $0) }
            .filter { item in after.map { $0 < item.place } ?? true }
            .sorted { $0.place < $1.place }
        let page = places.prefix(limit)
        let next = places.count > limit ? page.last?.place.cursor : nil
        let (nodeID, now) = (backend.nodeID, loop.now)
        call.answer { $0.list(page, next: next) { $0.conn.write(to: &$1, nodeID: nodeID, now: now) } }
    }

    private func closeConns(_ call: AdminCall) throws(AdminProblem) {
        call.body.requireOnly(Self.filters.union(["reason"]))
        let pairs = call.body.filters(Self.filters)
        let filter = ConnFilter(
            AdminQuery(pairs, known: Self.filters, faults: call.faults), own: backend.nodeID)
        try call.validate()
        guard !pairs.isEmpty else { throw .invalid("", "at least one filter must be given") }
        var closed = 0
        for conn in matching(filter) where backend.closeConn(conn.connID) { closed += 1 }
        call.answer { writer in
            writer.beginObject()
            writer.field("closed", closed)
            writer.endObject()
        }
    }

    private func matching(_ filter: ConnFilter) -> [ConnSnapshot] {
        filter.excludesNode ? [] : backend.conns.filter { filter.matches($0) }
    }
}

/// What conns are asked for.
private struct ConnFilter {
    let deviceID: DeviceID?
    let user: String?
    let clientProtocol: ConnProtocol?
    /// `host:port`, or a host alone.
    let target: String?
    /// The filter is for another node, whose conns this one doesn't hold.
    let excludesNode: Bool

    init(_ query: AdminQuery, own: NodeID) {
        deviceID = query.deviceID("device_id")
        user = query.string("user")
        clientProtocol = query.choice("protocol", ConnProtocol.self)
        target = query.string("target")
        let node = query.nodeID("node_id", own: own)
        excludesNode = node != nil && node != own
    }

    func matches(_ conn: ConnSnapshot) -> Bool {
        if let deviceID, conn.deviceID != deviceID { return false }
        if let user, conn.user != user { return false }
        if let clientProtocol, conn.clientProtocol != clientProtocol { return false }
        guard let target else { return true }
        let text = conn.target.description
        return text == target || text == "\(target):\(conn.target.port)"
            || text == "[\(target)]:\(conn.target.port)"
    }
}

/// A conn's place in lists: oldest first, so that what opens meanwhile comes behind every cursor.
private struct ConnPlace: Comparable {
    let openedAt: Int64
    let id: ConnID

    init(_ conn: ConnSnapshot) {
        openedAt = conn.openedAt.microseconds
        id = conn.connID
    }

    init?(cursor: String) {
        guard let bytes = Hexadecimal.decode(cursor), let plain = String(validating: bytes, as: UTF8.self)
        else { return nil }
        let parts = plain.split(separator: "\n")
        guard parts.count == 3, parts[0] == "conns", let openedAt = Int64(parts[1]),
            let id = ConnID(String(parts[2]))
        else { return nil }
        self.openedAt = openedAt
        self.id = id
    }

    var cursor: String { Hexadecimal.encode("conns\n\(openedAt)\n\(id)".utf8) }

    static func < (one: ConnPlace, other: ConnPlace) -> Bool {
        (one.openedAt, one.id.high, one.id.low) < (other.openedAt, other.id.high, other.id.low)
    }
}
