internal import Domain
internal import Fleet
internal import HTTP1
internal import JSON
internal import Store

/// Nodes, and taking them out of service.
extension AdminAPI {
    var nodeRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/nodes", .read, parameters: ["limit", "cursor"]) {
                [unowned self] call throws(AdminProblem) in try listNodes(call)
            },
            AdminRoute(.get, "/v1/nodes/{node_id}", .read) { [unowned self] call throws(AdminProblem) in
                try showNode(call)
            },
            AdminRoute(.put, "/v1/nodes/{node_id}/eligibility", .operate, body: .required) {
                [unowned self] call throws(AdminProblem) in try setEligibility(call)
            },
            AdminRoute(.get, "/v1/nodes/{node_id}/drain", .read) { [unowned self] call throws(AdminProblem) in
                try atOwnNode(call) { answerDrain(call) }
            },
            AdminRoute(.post, "/v1/nodes/{node_id}/drain", .operate, body: .optional) {
                [unowned self] call throws(AdminProblem) in try startDrain(call)
            },
            AdminRoute(.delete, "/v1/nodes/{node_id}/drain", .operate, parameters: ["eligibility"]) {
                [unowned self] call throws(AdminProblem) in try cancelDrain(call)
            },
        ]
    }

    // MARK: Reading

    private func listNodes(_ call: AdminCall) throws(AdminProblem) {
        let limit = call.query.limit()
        let after = call.query.parsed("cursor", expects: "a cursor of this list") { NodeCursor($0) }
        try call.validate()
        ask(.nodes, call) { [unowned self] answer throws(AdminProblem) in
            guard case .nodes(let rows) = answer else { throw self.unexpectedAnswer }
            let own = self.backend.node
            var nodes = rows.map { $0.nodeID == own.nodeID ? own : $0 }
            // A node that has not written its row yet is there all the same.
            if !nodes.contains(where: { $0.nodeID == own.nodeID }) { nodes.append(own) }
            nodes.sort { $0.nodeID.description < $1.nodeID.description }
            if let after { nodes.removeAll { $0.nodeID.description <= after.nodeID } }
            let page = nodes.prefix(limit)
            let next =
                nodes.count > limit
                ? page.last.map { NodeCursor(nodeID: $0.nodeID.description).text } : nil
            call.answer { $0.list(page, next: next) { $0.write(to: &$1) } }
        }
    }

    private func showNode(_ call: AdminCall) throws(AdminProblem) {
        let id = try nodeID(call)
        guard id != backend.nodeID else { return answerNode(call) }
        ask(.node(id), call) { [unowned self] answer throws(AdminProblem) in
            guard case .node(let row) = answer else { throw self.unexpectedAnswer }
            guard let row else { throw .nodeNotFound }
            call.answer { row.write(to: &$0) }
        }
    }

    private func answerNode(_ call: AdminCall) {
        call.answer { backend.node.write(to: &$0) }
    }

    func nodeID(_ call: AdminCall) throws(AdminProblem) -> NodeID {
        let text = call.pathParameters["node_id"] ?? ""
        if text == "self" { return backend.nodeID }
        guard let id = NodeID(text) else { throw .nodeNotFound }
        return id
    }

    /// Does `work` when the call is about this node; another one is either unknown or out of reach.
    private func atOwnNode(
        _ call: AdminCall, _ work: () throws(AdminProblem) -> Void
    ) throws(AdminProblem) {
        let id = try nodeID(call)
        if id == backend.nodeID { return try work() }
        ask(.node(id), call) { [unowned self] answer throws(AdminProblem) in
            guard case .node(let row) = answer else { throw self.unexpectedAnswer }
            throw row == nil ? .nodeNotFound : .nodeUnreachable
        }
    }

    // MARK: Eligibility

    private func setEligibility(_ call: AdminCall) throws(AdminProblem) {
        call.body.requireOnly(["eligible", "reason"])
        call.body.require("eligible")
        let eligible = call.body.bool("eligible") ?? true
        try call.validate()
        try atOwnNode(call) { () throws(AdminProblem) in
            let state = backend.node.state
            if eligible, state == .draining || state == .drained {
                throw AdminProblem(
                    .conflict, "node_draining", "The node is \(state.rawValue): cancel the drain instead.")
            }
            backend.setEligibility(eligible)
            answerNode(call)
        }
    }

    // MARK: Drain

    /// A drain that takes longer than a week is no drain.
    private static let deadlineRange = 0...7 * 86_400
    private static let paceRange = 1...100_000
    /// More redirect targets than any cluster of ours has nodes.
    private static let mostTargets = 1_000

    private struct DrainOrder {
        var deadlineSeconds: Int
        var devicesPerSecond: Int
        var targets: [String]
        var reason: String
    }

    private func startDrain(_ call: AdminCall) throws(AdminProblem) {
        let body = call.body
        body.requireOnly([
            "deadline_seconds", "devices_per_second", "redirect_to", "on_deadline", "reason",
        ])
        let order = DrainOrder(
            deadlineSeconds: body.integer("deadline_seconds", in: Self.deadlineRange) ?? 300,
            devicesPerSecond: body.integer("devices_per_second", in: Self.paceRange) ?? 50,
            targets: body.strings("redirect_to", maximumCount: Self.mostTargets) ?? [],
            reason: call.reason)
        if let action = body.string("on_deadline"), action != "cut" {
            call.faults.add("on_deadline", "must be cut")
        }
        try call.validate()
        try atOwnNode(call) { () throws(AdminProblem) in
            try call.requireMatch(drainTag)
            guard !order.targets.isEmpty else { return begin(order, alternatives: [], call) }
            ask(.nodes, call) { [unowned self] answer throws(AdminProblem) in
                guard case .nodes(let rows) = answer else { throw self.unexpectedAnswer }
                self.begin(order, alternatives: try self.addresses(of: order.targets, in: rows), call)
            }
        }
    }

    /// The `wss://` URLs of the nodes that devices are sent to.
    private func addresses(of targets: [String], in rows: [NodeRow]) throws(AdminProblem) -> [String] {
        var faults: [AdminProblem.Fault] = []
        var addresses: [String] = []
        for (index, target) in targets.enumerated() {
            let field = "redirect_to[\(index)]"
            guard let row = rows.first(where: { $0.nodeID.description == target }),
                row.nodeID != backend.nodeID
            else {
                faults.append(AdminProblem.Fault(field, "must be another node of the cluster"))
                continue
            }
            guard let host = row.advertiseHost else {
                faults.append(AdminProblem.Fault(field, "has no advertised host"))
                continue
            }
            let isIPv6 = if case .v6? = IPAddress(host) { true } else { false }
            addresses.append("wss://" + (isIPv6 ? "[\(host)]" : host) + ":\(row.wssPort)")
        }
        guard faults.isEmpty else { throw .invalid(faults) }
        return addresses
    }

    private func begin(_ order: DrainOrder, alternatives: [String], _ call: AdminCall) {
        drainActor = call.actor
        drainVersion += 1
        drainPace = order.devicesPerSecond
        backend.startDrain(
            DrainRequest(
                deadline: .seconds(order.deadlineSeconds), alternatives: alternatives, reason: order.reason,
                devicesPerSecond: order.devicesPerSecond))
        answerDrain(call, .accepted)
    }

    private func cancelDrain(_ call: AdminCall) throws(AdminProblem) {
        let keeps = call.query.parsed("eligibility", expects: "keep") { $0 == "keep" ? true : nil } ?? false
        try call.validate()
        try atOwnNode(call) { () throws(AdminProblem) in
            try call.requireMatch(drainTag)
            drainVersion += 1
            backend.cancelDrain(staysCordoned: keeps)
            answerDrain(call)
        }
    }

    private var drainTag: String { "\"\(drainVersion)\"" }

    private func answerDrain(_ call: AdminCall, _ status: HTTPStatus = .ok) {
        let drain = backend.drain
        let waiting = (drain.devicesRemaining + drainPace - 1) / max(1, drainPace)
        call.answer(status, ["ETag": drainTag]) { writer in
            writer.beginObject()
            writer.field("node_id", backend.nodeID.description)
            writer.field("state", drain.state.rawValue)
            writer.field("started_at", drain.startedAt)
            writer.field("deadline_at", drain.deadlineAt)
            writer.field("eta_seconds", waiting)
            writer.field("devices_total", drain.devicesTotal)
            writer.field("devices_moved", drain.devicesMoved)
            writer.field("devices_remaining", drain.devicesRemaining)
            writer.field("conns_remaining", drain.connsRemaining)
            writer.field("conns_cut", drain.connsCut)
            writer.field("blockers", [String]())
            writer.field("targets", [String]())
            writer.field("reason", drain.reason)
            writer.field("actor", drain.state == .none ? nil : drainActor)
            writer.endObject()
        }
    }

    // MARK: Faults of ours

    /// The store has answered another question than it was asked.
    var unexpectedAnswer: AdminProblem {
        AdminProblem(.internalServerError, "internal_error", "The store's answer does not fit the question.")
    }
}

/// Where the next page of nodes begins: after this id.
private struct NodeCursor {
    let nodeID: String

    init(nodeID: String) {
        self.nodeID = nodeID
    }

    init?(_ text: String) {
        guard let bytes = Hexadecimal.decode(text), let plain = String(validating: bytes, as: UTF8.self),
            plain.hasPrefix(Self.mark)
        else { return nil }
        nodeID = String(plain.dropFirst(Self.mark.count))
    }

    var text: String { Hexadecimal.encode((Self.mark + nodeID).utf8) }

    private static let mark = "nodes\n"
}
