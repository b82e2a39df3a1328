internal import Domain
internal import Postgres

/// The statements with which a node comes, stays and goes.
enum NodeWrites {
    /// Said once at a node's start, in one transaction, before anything else of this life is written: what an
    /// earlier life left open is closed, and the node's row is this life's. Said again, it changes nothing:
    /// only rows of other lives are closed.
    static func begin(_ node: NodeLife, _ record: NodeRecord, _ state: NodeState) -> [PostgresStatement] {
        [
            PostgresStatement(
                """
                WITH lost AS (
                    UPDATE pop.device_sessions s SET end_reason = 'node_lost',
                        ended_at = greatest(s.started_at, s.last_seen_at, (
                            SELECT n.last_seen_at FROM pop.nodes n
                            WHERE n.node_id = s.node_id AND n.incarnation = s.node_incarnation))
                    WHERE s.node_id = $1 AND s.node_incarnation <> $2::uuid AND s.ended_at IS NULL
                    RETURNING s.session_id, s.ended_at
                )
                UPDATE pop.devices d SET status = 'offline', health = NULL, active_conns = 0,
                    last_seen_at = greatest(d.last_seen_at, lost.ended_at)
                FROM lost WHERE d.session_id = lost.session_id AND d.status <> 'offline'
                """, [node.nodeID, .uuid(node.incarnation)]),
            PostgresStatement(
                """
                INSERT INTO pop.nodes AS n (node_id, incarnation, state, location, advertise_host, wss_port,
                    quic_port, version, started_at, last_seen_at, max_devices)
                VALUES ($1, $2::uuid, $3, $4, $5, $6::integer, $7::integer, $8, $9::timestamptz, now(),
                    $10::bigint)
                ON CONFLICT (node_id) DO UPDATE SET incarnation = excluded.incarnation,
                    state = excluded.state, location = excluded.location,
                    advertise_host = excluded.advertise_host, wss_port = excluded.wss_port,
                    quic_port = excluded.quic_port, version = excluded.version,
                    started_at = excluded.started_at, last_seen_at = now(), devices_online = 0,
                    conns_active = 0, bytes_sent = 0, bytes_received = 0, cpu_utilization = 0,
                    memory_used_bytes = 0, max_devices = excluded.max_devices
                """,
                [
                    node.nodeID, .uuid(node.incarnation), .text(state.rawValue),
                    .text(record.location), .text(record.advertiseHost),
                    .integer(Int64(record.wssPort)), .integer(Int64(record.quicPort)),
                    .text(record.version), .time(record.startedAt),
                    .integer(Int64(record.maximumDevices)),
                ]),
            cancelDrains(node, before: record.startedAt),
        ]
    }

    /// A drain ends with its node's life: what comes back is active.
    private static func cancelDrains(_ life: NodeLife, before start: WallTime) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.drains SET state = 'canceled', ended_at = now(), updated_at = now()
            WHERE node_id = $1 AND ended_at IS NULL AND started_at < $2::timestamptz
            """, [life.nodeID, .time(start)])
    }

    /// Closes what a life that is over left open: said with what that life had still to write, so that none of
    /// its sessions is ever seen open.
    ///
    /// - Parameter start: when the present life began.
    static func close(_ life: NodeLife, before start: WallTime) -> [PostgresStatement] {
        let sessions = PostgresStatement(
            """
            WITH lost AS (
                UPDATE pop.device_sessions s SET end_reason = 'node_lost',
                    ended_at = greatest(s.started_at, s.last_seen_at)
                WHERE s.node_id = $1 AND s.node_incarnation = $2::uuid AND s.ended_at IS NULL
                RETURNING s.session_id, s.ended_at
            )
            UPDATE pop.devices d SET status = 'offline', health = NULL, active_conns = 0,
                last_seen_at = greatest(d.last_seen_at, lost.ended_at)
            FROM lost WHERE d.session_id = lost.session_id AND d.status <> 'offline'
            """, [life.nodeID, .uuid(life.incarnation)])
        return [sessions, cancelDrains(life, before: start)]
    }

    /// Partitions are made for so many days to come: a node that is cut off from the clock of its operators
    /// for a long weekend still finds them.
    private static let daysAhead = 3

    static let schemaVersion = PostgresStatement(
        "SELECT coalesce(max(version), 0)::bigint AS version FROM pop.schema_migrations")

    /// Renews the lease by the database's clock; tells whether the row was this life's, and whether there is
    /// a row at all.
    static func renewLease(_ node: NodeLife, _ state: NodeState) -> PostgresStatement {
        PostgresStatement(
            """
            WITH renewed AS (
                UPDATE pop.nodes SET last_seen_at = now(), state = $3
                WHERE node_id = $1 AND incarnation = $2::uuid RETURNING 1
            )
            SELECT EXISTS (SELECT FROM renewed) AS is_renewed,
                EXISTS (SELECT FROM pop.nodes WHERE node_id = $1) AS is_present
            """, [node.nodeID, .uuid(node.incarnation), .text(state.rawValue)])
    }

    static let makePartitions = PostgresStatement("SELECT pop.make_partitions(\(daysAhead))")

    static func dropExpired(retentionDays: Int) -> PostgresStatement {
        PostgresStatement("SELECT pop.drop_expired($1::integer)", [.integer(Int64(retentionDays))])
    }

    static func dropExpiredRecords(retentionDays: Int) -> PostgresStatement {
        PostgresStatement(
            "SELECT pop.drop_expired_records($1::integer)", [.integer(Int64(retentionDays))])
    }

    /// One hour's rollup, and what has expired of all; null when another node is at it.
    static func refreshRollups(retentionDays: Int) -> PostgresStatement {
        PostgresStatement(
            "SELECT pop.refresh_rollups($1::integer) AS hours_left", [.integer(Int64(retentionDays))])
    }
}
