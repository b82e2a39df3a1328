internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTP1
internal import HTTPServer
internal import JSON
internal import Store

/// Live conns.
extension AdminAPI {
    private static let filters: Set<String> = ["device_id", "node_id", "user", "protocol", "target"]

    var connRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/conns", .read, parameters: Self.filters.union(["limit", "cursor"])) {
                [unowned self] call throws(AdminProblem) in try listConns(call)
            },
            AdminRoute(.get, "/v1/conns/{conn_id}", .read) { [unowned self] call throws(AdminProblem) in
                let id = try call.connID()
                guard let conn = backend.conn(id) else { return try findElsewhere(id, call) }
                call.answer { conn.write(to: &$0, nodeID: backend.nodeID, now: loop.now) }
            },
            AdminRoute(.delete, "/v1/conns/{conn_id}", .operate) { [unowned self] call throws(AdminProblem) in
                let id = try call.connID()
                guard backend.closeConn(id) else { return try findElsewhere(id, call) }
                call.answerNothing()
            },
            AdminRoute(.post, "/v1/conns/close", .operate, body: .required) {
                [unowned self] call throws(AdminProblem) in try closeConns(call)
            },
        ]
    }

    /// Asks the node that the id tells of.
    private func findElsewhere(_ id: ConnID, _ call: AdminCall) throws(AdminProblem) {
        guard !call.isOfOtherNode, id.tellsItsNode else { throw .connNotFound }
        ask(.nodes, call, whenAway: backend.isAlone ? .nodes([]) : nil) {
            [unowned self] answer throws(AdminProblem) in
            guard case .nodes(let rows) = answer else { throw self.unexpectedAnswer }
            let nodes = rows.map(\.nodeID).filter { id.isOf($0) && $0 != self.backend.nodeID }
            guard nodes.count > 1 else {
                guard let node = nodes.first else { throw .connNotFound }
                return self.forward(call, to: node)
            }
            // Nodes whose names have the same digest.
            self.askAll(nodes.map { self.question(call, to: $0) }, call) { outcomes throws(AdminProblem) in
                call.answer(try Self.found(outcomes))
            }
        }
    }

    /// The answer of the node that has the conn; that nobody has it takes the word of all.
    private static func found(
        _ outcomes: [(node: NodeID, outcome: NodeResult)]
    ) throws(AdminProblem) -> AdminAnswer {
        var problem: AdminProblem?
        for (node, outcome) in outcomes {
            do throws(AdminProblem) {
                let answer = try AdminAnswer(outcome, of: node)
                if answer.status != .notFound { return answer }
            } catch {
                problem = error
            }
        }
        throw problem ?? .connNotFound
    }

    // MARK: Lists

    private func listConns(_ call: AdminCall) throws(AdminProblem) {
        let filter = ConnFilter(call.query, own: backend.nodeID)
        let limit = call.query.limit()
        let after = call.query.parsed("cursor", expects: "a cursor of this list") { ConnPlace(cursor: $0) }
        try call.validate()
        try withHolders(filter, call) { [unowned self] others throws(AdminProblem) in
            var page = self.ownPage(filter, after: after, limit: limit)
            guard !others.isEmpty else { return call.answer { page.write(to: &$0) } }
            let questions = others.map { self.question(call, to: $0, target: Self.target(call, of: $0)) }
            self.askAll(questions, call) { outcomes throws(AdminProblem) in
                var missing = MissingParts()
                for (node, outcome) in outcomes {
                    guard let answer = missing.part(of: node, outcome), !page.add(answer) else { continue }
                    missing.note(node)
                }
                try missing.check()
                page.cut(to: limit)
                call.answer { page.write(to: &$0) }
            }
        }
    }

    private func closeConns(_ call: AdminCall) throws(AdminProblem) {
        call.body.requireOnly(Self.filters.union(["reason"]))
        let pairs = call.body.filters(Self.filters)
        let filter = ConnFilter(
            AdminQuery(pairs, known: Self.filters, faults: call.faults), own: backend.nodeID)
        try call.validate()
        guard !pairs.isEmpty else { throw .invalid("", "at least one filter must be given") }
        try withHolders(filter, call) { [unowned self] others throws(AdminProblem) in
            var closed = 0
            for conn in self.matching(filter) where self.backend.closeConn(conn.connID) { closed += 1 }
            let questions = others.map {
                self.question(call, to: $0, body: Self.body(pairs, of: $0, reason: call.reason))
            }
            self.askAll(questions, call) { outcomes throws(AdminProblem) in
                var missing = MissingParts()
                for (node, outcome) in outcomes {
                    guard let answer = missing.part(of: node, outcome) else { continue }
                    closed += Int(clamping: answer["closed"]?.integer ?? 0)
                }
                try missing.check(done: [JSONMember("closed", .integer(Int64(closed)))])
                call.answer { writer in
                    writer.beginObject()
                    writer.field("closed", closed)
                    writer.endObject()
                }
            }
        }
    }

    /// Goes on with the other nodes that may hold what `filter` is for.
    private func withHolders(
        _ filter: ConnFilter, _ call: AdminCall, _ use: @escaping ([NodeID]) throws(AdminProblem) -> Void
    ) throws(AdminProblem) {
        if filter.node == backend.nodeID || call.isOfOtherNode { return try use([]) }
        if let node = filter.node { return try use([node]) }
        withOtherLiveNodes(call, use)
    }

    /// The list's target for one node alone.
    private static func target(_ call: AdminCall, of node: NodeID) -> String {
        let target = call.request.target
        guard !call.query.names.contains("node_id") else { return target.text }
        return target.path + "?"
            + [target.query ?? "", "node_id=\(node)"].filter { !$0.isEmpty }
            .joined(separator: "&")
    }

    private static func body(
        _ filters: [(name: String, value: String)], of node: NodeID, reason: String
    ) -> [UInt8] {
        let members =
            filters.filter { $0.name != "node_id" } + [("node_id", node.description)]
            + (reason.isEmpty ? [] : [("reason", reason)])
        return JSONValue.object(members.map { JSONMember($0.0, .string($0.1)) }).serialised()
    }

    private func ownPage(_ filter: ConnFilter, after: ConnPlace?, limit: Int) -> ConnPage {
        let (nodeID, now) = (backend.nodeID, loop.now)
        var page = ConnPage()
        for conn in matching(filter) {
            let place = ConnPlace(conn)
            if let after, place <= after { continue }
            page.items.append((place, { conn.write(to: &$0, nodeID: nodeID, now: now) }))
        }
        page.cut(to: limit)
        return page
    }

    private func matching(_ filter: ConnFilter) -> [ConnSnapshot] {
        filter.node ?? backend.nodeID == backend.nodeID ? backend.conns.filter { filter.matches($0) } : []
    }
}

/// A page of the list in the making: pages of several nodes that begin behind the same place, in one order.
private struct ConnPage {
    var items: [(place: ConnPlace, write: (inout JSONWriter) -> Void)] = []
    private var hasMore = false

    /// Adds a node's page; false when it is none.
    mutating func add(_ page: JSONValue) -> Bool {
        guard let items = page["items"]?.array, let next = page["next_cursor"] else { return false }
        for item in items {
            guard let place = ConnPlace(item) else { return false }
            self.items.append((place, { $0.value(item) }))
        }
        if !next.isNull { hasMore = true }
        return true
    }

    mutating func cut(to limit: Int) {
        items.sort { $0.place < $1.place }
        if items.count > limit {
            hasMore = true
            items.removeLast(items.count - limit)
        }
    }

    func write(to writer: inout JSONWriter) {
        writer.list(items, next: hasMore ? items.last?.place.cursor : nil) { $0.write(&$1) }
    }
}

/// What conns are asked for.
private struct ConnFilter {
    let deviceID: DeviceID?
    let user: String?
    let clientProtocol: ConnProtocol?
    /// `host:port`, or a host alone.
    let target: String?
    /// Nil: all.
    let node: NodeID?

    init(_ query: AdminQuery, own: NodeID) {
        deviceID = query.deviceID("device_id")
        user = query.string("user")
        clientProtocol = query.choice("protocol", ConnProtocol.self)
        target = query.string("target")
        node = query.nodeID("node_id", own: own)
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

/// A conn's place in lists: oldest first, so that what opens meanwhile comes behind every cursor. It can be told
/// from the conn as it is shown, so that the pages of several nodes make one.
private struct ConnPlace: Comparable {
    /// In milliseconds.
    let openedAt: Int64
    let id: ConnID

    init(_ conn: ConnSnapshot) {
        openedAt = conn.openedAt.milliseconds
        id = conn.connID
    }

    init?(_ shown: JSONValue) {
        guard let openedAt = shown["opened_at"]?.string.flatMap({ WallTime(rfc3339: $0) }),
            let id = shown["conn_id"]?.string.flatMap({ ConnID($0) })
        else { return nil }
        self.openedAt = openedAt.milliseconds
        self.id = id
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
