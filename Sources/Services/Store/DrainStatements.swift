internal import Domain
internal import JSON
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
                updated_at, devices_lost, details)
            SELECT $1, t.drain_id, t.state, t.version, t.started_at, t.deadline_at, t.ended_at,
                t.deadline_seconds, t.devices_per_second, t.redirect_to::text[], t.on_deadline, t.reason,
                t.actor, t.eta_seconds, t.devices_total, t.devices_moved, t.devices_remaining,
                t.conns_remaining, t.conns_cut, t.blockers::text[], t.targets::text[], t.updated_at,
                t.devices_lost, t.details::json
            FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],
                $7::timestamptz[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::text[],
                $13::text[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
                $19::bigint[], $20::text[], $21::text[], $22::timestamptz[], $23::bigint[], $24::text[])
                AS t(drain_id, state, version, started_at, deadline_at, ended_at, deadline_seconds,
                    devices_per_second, redirect_to, on_deadline, reason, actor, eta_seconds, devices_total,
                    devices_moved, devices_remaining, conns_remaining, conns_cut, blockers, targets,
                    updated_at, devices_lost, details)
            ON CONFLICT (drain_id) DO UPDATE SET state = excluded.state, version = excluded.version,
                deadline_at = excluded.deadline_at, ended_at = excluded.ended_at,
                deadline_seconds = excluded.deadline_seconds,
                devices_per_second = excluded.devices_per_second, redirect_to = excluded.redirect_to,
                on_deadline = excluded.on_deadline, reason = excluded.reason, actor = excluded.actor,
                eta_seconds = excluded.eta_seconds, devices_total = excluded.devices_total,
                devices_moved = excluded.devices_moved, devices_remaining = excluded.devices_remaining,
                conns_remaining = excluded.conns_remaining, conns_cut = excluded.conns_cut,
                blockers = excluded.blockers, targets = excluded.targets, updated_at = excluded.updated_at,
                devices_lost = excluded.devices_lost, details = excluded.details
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
                .integers(drains.map { Int64($0.devicesLost) }), .texts(drains.map(\.details.text)),
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
                blockers, targets, updated_at, devices_lost, details::text AS details,
                started_at::text AS cursor_key
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
                connsCut: try row.integer("conns_cut"), devicesLost: try row.integer("devices_lost"),
                blockers: try row.strings("blockers"),
                targets: try row.strings("targets"),
                details: DrainRecord.details(try row.string("details")), updatedAt: try row.time("updated_at")
            ),
            nodeID: try row.value("node_id", NodeID.init))
    }

    // MARK: Arrivals

    /// Devices that are connected elsewhere, and had a session here then. Both of their times are of this node's
    /// clock: another one may have another time.
    ///
    /// A device's session of then is found by the device, in the order of its index, whatever the planner takes the
    /// tables to be like: by the node, all of its sessions would be read for each device.
    static func arrivals(of node: NodeID, since: WallTime) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT d.node_id, count(*)::bigint AS devices,
                coalesce(array_agg(s.session_id::text) FILTER (WHERE s.ended_at IS NULL), '{}') AS open_sessions
            FROM pop.devices d
            CROSS JOIN LATERAL (
                SELECT s.session_id, s.ended_at FROM (
                    SELECT s.session_id, s.node_id, s.started_at, s.ended_at FROM pop.device_sessions s
                    WHERE s.device_id = d.device_id AND s.started_at <= $2::timestamptz
                    ORDER BY (s.ended_at IS NULL) DESC, s.started_at DESC, s.session_id DESC
                    LIMIT \(latestSessions)) s
                WHERE s.node_id = $1 AND (s.ended_at IS NULL OR s.ended_at >= $2::timestamptz)
                ORDER BY s.started_at DESC LIMIT 1) s
            WHERE d.status = 'online' AND d.node_id <> $1
            GROUP BY d.node_id
            """, [.text(node.description), .time(since)])
    }

    /// Of those that began before the drain: a device had one, or as many as it was being moved between.
    private static let latestSessions = 8

    static func decodeArrivals(_ row: PostgresRow) throws(PostgresError) -> DrainArrivals {
        DrainArrivals(
            nodeID: try row.value("node_id", NodeID.init), devices: try row.integer("devices"),
            openSessions: try row.strings("open_sessions").compactMap { SessionID($0) })
    }
}
