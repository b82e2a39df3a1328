internal import Domain
internal import Postgres

/// The statements about `pop.drains`.
enum DrainStatements {
    private static let listName = "drains"

    /// Each drain must be there once; what was written of it later stays.
    static func write(_ drains: [DrainRecord], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.drains AS d (node_id, drain_id, state, version, started_at, deadline_at, ended_at,
                deadline_seconds, devices_per_second, redirect_to, on_deadline, reason, actor, eta_seconds,
                devices_total, devices_moved, devices_remaining, conns_remaining, conns_cut, blockers, targets,
                updated_at)
            SELECT $1, t.drain_id, t.state, t.version, t.started_at, t.deadline_at, t.ended_at,
                t.deadline_seconds, t.devices_per_second, t.redirect_to::text[], t.on_deadline, t.reason,
                t.actor, t.eta_seconds, t.devices_total, t.devices_moved, t.devices_remaining,
                t.conns_remaining, t.conns_cut, t.blockers::text[], t.targets::text[], t.updated_at
            FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],
                $7::timestamptz[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::text[],
                $13::text[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
                $19::bigint[], $20::text[], $21::text[], $22::timestamptz[])
                AS t(drain_id, state, version, started_at, deadline_at, ended_at, deadline_seconds,
                    devices_per_second, redirect_to, on_deadline, reason, actor, eta_seconds, devices_total,
                    devices_moved, devices_remaining, conns_remaining, conns_cut, blockers, targets,
                    updated_at)
            ON CONFLICT (drain_id) DO UPDATE SET state = excluded.state, version = excluded.version,
                deadline_at = excluded.deadline_at, ended_at = excluded.ended_at,
                deadline_seconds = excluded.deadline_seconds,
                devices_per_second = excluded.devices_per_second, redirect_to = excluded.redirect_to,
                on_deadline = excluded.on_deadline, reason = excluded.reason, actor = excluded.actor,
                eta_seconds = excluded.eta_seconds, devices_total = excluded.devices_total,
                devices_moved = excluded.devices_moved, devices_remaining = excluded.devices_remaining,
                conns_remaining = excluded.conns_remaining, conns_cut = excluded.conns_cut,
                blockers = excluded.blockers, targets = excluded.targets, updated_at = excluded.updated_at
            WHERE d.updated_at <= excluded.updated_at
            """,
            [
                node.nodeID, .uuids(drains.map(\.drainID)), .texts(drains.map(\.state)),
                .integers(drains.map(\.version)), .times(drains.map(\.startedAt)),
                .times(drains.map(\.deadlineAt)), .times(drains.map(\.endedAt)),
                .integers(drains.map { Int64($0.deadlineSeconds) }),
                .integers(drains.map { Int64($0.devicesPerSecond) }), .textArrays(drains.map(\.redirectTo)),
                .texts(drains.map(\.onDeadline)), .texts(drains.map(\.reason)), .texts(drains.map(\.actor)),
                .integers(drains.map { Int64($0.etaSeconds) }),
                .integers(drains.map { Int64($0.devicesTotal) }),
                .integers(drains.map { Int64($0.devicesMoved) }),
                .integers(drains.map { Int64($0.devicesRemaining) }),
                .integers(drains.map { Int64($0.connsRemaining) }),
                .integers(drains.map { Int64($0.connsCut) }), .textArrays(drains.map(\.blockers)),
                .textArrays(drains.map(\.targets)), .times(drains.map(\.updatedAt)),
            ])
    }

    static func list(_ query: DrainListQuery) throws(StoreFailure) -> PostgresStatement {
        var conditions = Conditions()
        if let node = query.nodeID {
            conditions.require("node_id = " + conditions.parameter(.text(node.description)))
        }
        if let cursor = query.cursor {
            guard cursor.list == listName else { throw .invalidCursor }
            let key = conditions.parameter(.text(cursor.key))
            let id = conditions.parameter(.text(cursor.id))
            conditions.require("(started_at, drain_id) < (\(key)::timestamptz, \(id)::uuid)")
        }
        let limit = conditions.parameter(.integer(Int64(pageRows(query.limit) + 1)))
        return PostgresStatement(
            """
            SELECT drain_id, node_id, state, version, started_at, deadline_at, ended_at, deadline_seconds,
                devices_per_second::bigint AS devices_per_second, redirect_to, on_deadline, reason, actor,
                eta_seconds, devices_total, devices_moved, devices_remaining, conns_remaining, conns_cut,
                blockers, targets, updated_at, started_at::text AS cursor_key
            FROM pop.drains \(conditions.sql) ORDER BY started_at DESC, drain_id DESC LIMIT \(limit)
            """, conditions.parameters)
    }

    static func page(
        _ query: DrainListQuery, _ result: PostgresResult
    ) throws(PostgresError) -> ListPage<DrainRow> {
        try makePage(result, limit: query.limit, decode: decode) { row, drain throws(PostgresError) in
            ListCursor(
                list: listName, key: try row.string("cursor_key"), id: drain.record.drainID.description)
        }
    }

    private static func decode(_ row: PostgresRow) throws(PostgresError) -> DrainRow {
        DrainRow(
            record: DrainRecord(
                drainID: try row.value("drain_id") { DrainID($0) }, state: try row.string("state"),
                version: try row.integer("version"), startedAt: try row.time("started_at"),
                deadlineAt: try row.time("deadline_at"), endedAt: try row.optionalTime("ended_at"),
                deadlineSeconds: try row.integer("deadline_seconds"),
                devicesPerSecond: try row.integer("devices_per_second"),
                redirectTo: try row.strings("redirect_to"), onDeadline: try row.string("on_deadline"),
                reason: try row.string("reason"), actor: try row.string("actor"),
                etaSeconds: try row.integer("eta_seconds"), devicesTotal: try row.integer("devices_total"),
                devicesMoved: try row.integer("devices_moved"),
                devicesRemaining: try row.integer("devices_remaining"),
                connsRemaining: try row.integer("conns_remaining"),
                connsCut: try row.integer("conns_cut"), blockers: try row.strings("blockers"),
                targets: try row.strings("targets"), updatedAt: try row.time("updated_at")),
            nodeID: try row.value("node_id", NodeID.init))
    }
}
