internal import Domain
internal import EventLoop
internal import HTTP1
internal import HTTPServer
internal import JSON
internal import Store

/// The audit trail: every unsafe call and what became of it.
extension AdminAPI {
    var auditRoutes: [AdminRoute] {
        [
            AdminRoute(
                .get, "/v1/audit", .admin,
                parameters: [
                    "limit", "cursor", "actor", "method", "path", "status", "node_id", "from", "to",
                ]
            ) { [unowned self] call throws(AdminProblem) in try listAudit(call) }
        ]
    }

    private static let statusRange = 100...599

    private func listAudit(_ call: AdminCall) throws(AdminProblem) {
        let query = call.query
        let (from, to) = timeRange(call)
        let request = AuditListQuery(
            actor: query.string("actor"), method: query.string("method"), pathPrefix: query.string("path"),
            status: query.integer("status", in: Self.statusRange),
            nodeID: query.nodeID("node_id", own: backend.nodeID), from: from, to: to, limit: query.limit(),
            cursor: query.parsed("cursor", expects: "a cursor of this list") { ListCursor($0) })
        try call.validate()
        ask(.audit(request), call) { [unowned self] answer throws(AdminProblem) in
            guard case .audit(let page) = answer else { throw self.unexpectedAnswer }
            call.answer { $0.list(page.items, next: page.next?.text) { $0.write(to: &$1) } }
        }
    }

    // MARK: Writing

    /// A longer path or method names no route; what is left tells enough of the attempt.
    private static let longestPath = 1_024
    private static let longestMethod = 32

    func audit(_ call: AdminCall, _ status: HTTPStatus) {
        audit(
            call.request.head, from: call.request.peerAddress, requestID: call.requestID,
            principal: call.principal, reason: call.reason, status)
    }

    /// - Parameter reason: empty when it has not been read; then the query's counts.
    func audit(
        _ head: HTTPRequestHead, from peer: SocketAddress, requestID: String, principal: AdminPrincipal?,
        reason: String, _ status: HTTPStatus
    ) {
        var reason = reason
        if reason.isEmpty, let told = head.target.queryPairs?.first(where: { $0.name == "reason" })?.value {
            reason = String(told.prefix(AdminCall.longestReason))
        }
        // CONNECT has no path.
        let path = head.target.path.isEmpty ? head.target.text : head.target.path
        backend.record(
            .audited(
                AuditRecord(
                    auditID: AuditID(using: &random), at: SystemClock.wall, actor: principal?.name ?? "",
                    tokenID: principal?.tokenID, remoteAddress: peer.description, requestID: requestID,
                    method: String(head.method.name.prefix(Self.longestMethod)),
                    path: String(path.prefix(Self.longestPath)), status: Int(status.code), reason: reason)))
    }
}

extension AuditRow {
    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.field("audit_id", record.auditID)
        writer.field("at", record.at)
        writer.field("actor", record.actor)
        writer.field("token_id", record.tokenID)
        writer.field("remote_address", record.remoteAddress)
        writer.field("node_id", nodeID.description)
        writer.field("request_id", record.requestID)
        writer.field("method", record.method)
        writer.field("path", record.path)
        writer.field("status", record.status)
        writer.field("reason", record.reason)
        writer.endObject()
    }
}
