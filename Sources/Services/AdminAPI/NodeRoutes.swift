internal import Domain
internal import Fleet
internal import HTTP1
internal import JSON
internal import Store

/// Nodes, and whether they take what is new.
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

    /// Does `work` when the call is about this node, and has another one answer for itself.
    func atOwnNode(
        _ call: AdminCall, _ work: () throws(AdminProblem) -> Void
    ) throws(AdminProblem) {
        let id = try nodeID(call)
        if id == backend.nodeID { return try work() }
        forward(call, to: id)
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
