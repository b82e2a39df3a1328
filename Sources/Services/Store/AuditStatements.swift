internal import Domain
internal import Postgres

/// The statements about `pop.audit_log`.
enum AuditStatements {
    private static let listName = "audit"

    static func insert(_ records: [AuditRecord], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.audit_log (audit_id, at, actor, token_id, remote_address, node_id, request_id,
                method, path, status, reason)
            SELECT t.audit_id, t.at, t.actor, t.token_id, t.remote_address, $1, t.request_id, t.method, t.path,
                t.status::integer, t.reason
            FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
                $8::text[], $9::text[], $10::bigint[], $11::text[])
                AS t(audit_id, at, actor, token_id, remote_address, request_id, method, path, status, reason)
            ON CONFLICT DO NOTHING
            """,
            [
                node.nodeID, .uuids(records.map(\.auditID)), .times(records.map(\.at)),
                .texts(records.map(\.actor)), .texts(records.map { $0.tokenID?.description }),
                .texts(records.map(\.remoteAddress)), .texts(records.map(\.requestID)),
                .texts(records.map(\.method)), .texts(records.map(\.path)),
                .integers(records.map { Int64($0.status) }), .texts(records.map(\.reason)),
            ])
    }

    static func list(_ query: AuditListQuery) throws(StoreFailure) -> PostgresStatement {
        var conditions = Conditions()
        if let actor = query.actor { conditions.require("actor = " + conditions.parameter(.text(actor))) }
        if let method = query.method {
            conditions.require("method = " + conditions.parameter(.text(method)))
        }
        if let prefix = query.pathPrefix {
            conditions.require("starts_with(path, " + conditions.parameter(.text(prefix)) + ")")
        }
        if let status = query.status {
            conditions.require("status = " + conditions.parameter(.integer(Int64(status))) + "::integer")
        }
        if let node = query.nodeID {
            conditions.require("node_id = " + conditions.parameter(.text(node.description)))
        }
        if let from = query.from {
            conditions.require("at >= " + conditions.parameter(.time(from)) + "::timestamptz")
        }
        if let to = query.to {
            conditions.require("at < " + conditions.parameter(.time(to)) + "::timestamptz")
        }
        if let cursor = query.cursor {
            guard cursor.list == listName else { throw .invalidCursor }
            let key = conditions.parameter(.text(cursor.key))
            let id = conditions.parameter(.text(cursor.id))
            conditions.require("(at, audit_id) < (\(key)::timestamptz, \(id)::uuid)")
        }
        let limit = conditions.parameter(.integer(Int64(pageRows(query.limit) + 1)))
        return PostgresStatement(
            """
            SELECT audit_id, at, actor, token_id, remote_address, node_id, request_id, method, path, status,
                reason, at::text AS cursor_key
            FROM pop.audit_log \(conditions.sql) ORDER BY at DESC, audit_id DESC LIMIT \(limit)
            """, conditions.parameters)
    }

    static func page(
        _ query: AuditListQuery, _ result: PostgresResult
    ) throws(PostgresError) -> ListPage<AuditRow> {
        try makePage(result, limit: query.limit, decode: decode) { row, line throws(PostgresError) in
            ListCursor(
                list: listName, key: try row.string("cursor_key"), id: line.record.auditID.description)
        }
    }

    private static func decode(_ row: PostgresRow) throws(PostgresError) -> AuditRow {
        AuditRow(
            record: AuditRecord(
                auditID: try row.value("audit_id") { AuditID($0) }, at: try row.time("at"),
                actor: try row.string("actor"), tokenID: try row.optional("token_id") { TokenID($0) },
                remoteAddress: try row.optionalString("remote_address") ?? "",
                requestID: try row.string("request_id"), method: try row.string("method"),
                path: try row.string("path"), status: try row.integer("status"),
                reason: try row.string("reason")),
            nodeID: try row.value("node_id", NodeID.init))
    }
}
