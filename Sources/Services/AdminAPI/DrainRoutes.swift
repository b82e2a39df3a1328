internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTP1
internal import JSON
internal import Store

/// Taking nodes out of service with all that they hold.
extension AdminAPI {
    var drainRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/nodes/{node_id}/drain", .read) { [unowned self] call throws(AdminProblem) in
                try atOwnNode(call) { answerDrain(call) }
            },
            AdminRoute(.post, "/v1/nodes/{node_id}/drain", .operate, body: .optional) {
                [unowned self] call throws(AdminProblem) in try startDrain(call)
            },
            AdminRoute(.delete, "/v1/nodes/{node_id}/drain", .operate, parameters: ["eligibility"]) {
                [unowned self] call throws(AdminProblem) in try cancelDrain(call)
            },
            AdminRoute(.post, "/v1/nodes/{node_id}/drain/preview", .operate, body: .optional) {
                [unowned self] call throws(AdminProblem) in try previewDrain(call)
            },
            AdminRoute(.get, "/v1/drains", .read, parameters: ["limit", "cursor", "node_id"]) {
                [unowned self] call throws(AdminProblem) in try listDrains(call)
            },
        ]
    }

    // MARK: Orders

    /// A drain that takes longer than a week is no drain.
    private static let deadlineRange = 0...7 * 86_400
    private static let paceRange = 1...100_000
    /// More redirect targets than any cluster of ours has nodes.
    private static let mostTargets = 1_000

    private func readOrder(_ call: AdminCall) throws(AdminProblem) -> DrainOrder {
        let body = call.body
        body.requireOnly([
            "deadline_seconds", "devices_per_second", "redirect_to", "on_deadline", "reason",
        ])
        let order = DrainOrder(
            deadlineSeconds: body.integer("deadline_seconds", in: Self.deadlineRange) ?? 300,
            devicesPerSecond: body.integer("devices_per_second", in: Self.paceRange) ?? 50,
            redirectTo: body.strings("redirect_to", maximumCount: Self.mostTargets) ?? [],
            onDeadline: readDeadlineAction(call), reason: call.reason)
        for (index, target) in order.redirectTo.enumerated()
        where order.redirectTo.firstIndex(of: target) != index {
            call.faults.add("redirect_to[\(index)]", "is there twice")
        }
        try call.validate()
        return order
    }

    private func readDeadlineAction(_ call: AdminCall) -> DrainRequest.DeadlineAction {
        guard let word = call.body.string("on_deadline") else { return .cut }
        guard let action = DrainRequest.DeadlineAction(rawValue: word) else {
            call.faults.add("on_deadline", "must be cut or hold")
            return .cut
        }
        return action
    }

    private func startDrain(_ call: AdminCall) throws(AdminProblem) {
        let order = try readOrder(call)
        try atOwnNode(call) { () throws(AdminProblem) in
            try call.requireMatch(drains.tag)
            guard !order.redirectTo.isEmpty else { return begin(order, [], call) }
            ask(.nodes, call) { [unowned self] answer throws(AdminProblem) in
                guard case .nodes(let rows) = answer else { throw self.unexpectedAnswer }
                let targets = try self.targets(order.redirectTo, in: rows)
                try call.requireMatch(self.drains.tag)
                self.begin(order, targets.map(\.row.nodeID), call)
            }
        }
    }

    /// The nodes that devices are sent to, and their `wss://` URLs.
    private func targets(
        _ names: [String], in rows: [NodeRow]
    ) throws(AdminProblem) -> [(row: NodeRow, url: String)] {
        var faults: [AdminProblem.Fault] = []
        var targets: [(NodeRow, String)] = []
        for (index, name) in names.enumerated() {
            let field = "redirect_to[\(index)]"
            guard let row = rows.first(where: { $0.nodeID.description == name }),
                row.nodeID != backend.nodeID
            else {
                faults.append(AdminProblem.Fault(field, "must be another node of the cluster"))
                continue
            }
            guard let url = row.deviceURL else {
                faults.append(AdminProblem.Fault(field, "has no advertised host"))
                continue
            }
            targets.append((row, url))
        }
        guard faults.isEmpty else { throw .invalid(faults) }
        return targets
    }

    private func begin(_ order: DrainOrder, _ targets: [NodeID], _ call: AdminCall) {
        drains.ordered(order, by: call.actor)
        backend.startDrain(order.request(to: targets))
        drains.changed(backend.drain)
        answerDrain(call, .accepted)
    }

    private func cancelDrain(_ call: AdminCall) throws(AdminProblem) {
        let keeps = call.query.parsed("eligibility", expects: "keep") { $0 == "keep" ? true : nil } ?? false
        try call.validate()
        try atOwnNode(call) { () throws(AdminProblem) in
            try call.requireMatch(drains.tag)
            drains.canceled()
            backend.cancelDrain(staysCordoned: keeps)
            drains.changed(backend.drain)
            answerDrain(call)
        }
    }

    private func answerDrain(_ call: AdminCall, _ status: HTTPStatus = .ok) {
        let record = backend.drain.state == .none ? nil : drains.latest()
        call.answer(status, ["ETag": drains.tag]) { writer in
            guard let record else { return writer.noDrain(of: backend.nodeID) }
            DrainRow(record: record, nodeID: backend.nodeID).write(to: &writer)
        }
    }

    // MARK: Preview

    private func previewDrain(_ call: AdminCall) throws(AdminProblem) {
        let order = try readOrder(call)
        try atOwnNode(call) { () throws(AdminProblem) in
            ask(.nodes, call) { [unowned self] answer throws(AdminProblem) in
                guard case .nodes(let rows) = answer else { throw self.unexpectedAnswer }
                let takers =
                    try order.redirectTo.isEmpty
                    ? rows.filter { $0.nodeID != self.backend.nodeID && $0.deviceURL != nil }
                    : self.targets(order.redirectTo, in: rows).map(\.row)
                self.answerPreview(order, takers.filter { $0.state == .active }, call)
            }
        }
    }

    private func answerPreview(_ order: DrainOrder, _ takers: [NodeRow], _ call: AdminCall) {
        let devices = Int(clamping: backend.node.devicesOnline)
        let conns = backend.conns
        // A conn that is as old as the deadline is far is taken to last as long again: the longer one has
        // lasted, the longer it is going to.
        let oldest = SystemClock.wall.microseconds - Int64(order.deadlineSeconds) * 1_000_000
        let cut = conns.count { $0.openedAt.microseconds <= oldest }
        let targets = takers.map(DrainPlan.Target.init)
        let plan = DrainPlan.split(devices, over: targets)
        let estimate = DrainPlan.estimate(devices, over: targets, order.request(to: []))
        let online = Dictionary(takers.map { ($0.nodeID, Int(clamping: $0.devicesOnline)) }) { $1 }
        call.answer { writer in
            writer.beginObject()
            writer.field("devices_total", devices)
            writer.field("eta_seconds", estimate.seconds)
            writer.field("eta_basis", estimate.basis.rawValue)
            writer.field("conns_total", conns.count)
            writer.field("conns_likely_cut", cut)
            writer.name("targets")
            writer.beginArray()
            for (target, taken) in plan {
                writer.beginObject()
                writer.field("node_id", target.nodeID.description)
                writer.field("devices_taken", taken)
                writer.field("devices_after", (online[target.nodeID] ?? 0) + taken)
                writer.endObject()
            }
            writer.endArray()
            writer.endObject()
        }
    }

    // MARK: History

    private func listDrains(_ call: AdminCall) throws(AdminProblem) {
        let query = call.query
        let request = DrainListQuery(
            nodeID: query.nodeID("node_id", own: backend.nodeID), limit: query.limit(),
            cursor: query.parsed("cursor", expects: "a cursor of this list") { ListCursor($0) })
        try call.validate()
        ask(.drains(request), call) { [unowned self] answer throws(AdminProblem) in
            guard case .drains(let page) = answer else { throw self.unexpectedAnswer }
            call.answer { writer in
                writer.list(page.items, next: page.next?.text) { self.current($0).write(to: &$1) }
            }
        }
    }

    /// The row, or what this node knows better of its own drain.
    private func current(_ row: DrainRow) -> DrainRow {
        guard let record = drains.latest(), record.drainID == row.record.drainID else { return row }
        return DrainRow(record: record, nodeID: row.nodeID)
    }
}

extension DrainPlan.Target {
    fileprivate init(_ row: NodeRow) {
        self.init(
            nodeID: row.nodeID, room: row.room,
            isBusy: Taker.isBusy(
                registrationMilliseconds: row.registrationMilliseconds, lagMilliseconds: row.lagMilliseconds))
    }
}
