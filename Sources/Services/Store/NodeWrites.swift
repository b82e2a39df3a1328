internal import Domain
internal import Membership
internal import Postgres

/// The statements with which a node comes, stays and goes.
enum NodeWrites {
    /// Said once at a node's start, in one transaction, before anything else of this life is written: what an
    /// earlier life left open is closed, and the node's row is this life's. Said again, it changes nothing:
    /// only rows of other lives are closed.
    static func begin(_ node: NodeLife, _ record: NodeRecord, _ state: NodeState) -> [PostgresStatement] {
        [
            closeSessions(node, before: node),
            PostgresStatement("DELETE FROM pop.session_takeovers WHERE node_id = $1", [node.nodeID]),
            cancelDrains(node, before: record.startedAt, except: record.keptDrain),
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
                    memory_used_bytes = 0, max_devices = excluded.max_devices,
                    lease_term = n.lease_term + 1, lost_at = NULL
                RETURNING clock_timestamp() AS answered_at, lease_term, false AS is_lost
                """,
                [
                    node.nodeID, .uuid(node.incarnation), .text(state.rawValue),
                    .text(record.location), .text(record.advertiseHost),
                    .integer(Int64(record.wssPort)), .integer(Int64(record.quicPort)),
                    .text(record.version), .time(record.startedAt),
                    .integer(Int64(record.maximumDevices)),
                ]),
        ]
    }

    /// A drain that this life does not know of ended with the life that did.
    private static func cancelDrains(
        _ life: NodeLife, before start: WallTime, except kept: DrainID?
    ) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.drains SET state = 'canceled', ended_at = now(), updated_at = now()
            WHERE node_id = $1 AND ended_at IS NULL AND started_at < $2::timestamptz
                AND drain_id IS DISTINCT FROM $3::uuid
            """, [life.nodeID, .time(start), .uuid(kept)])
    }

    /// Closes what a life that is over left open: said with what that life had still to write, so that none of
    /// its sessions is ever seen open.
    ///
    /// - Parameters:
    ///   - present: whose sessions live; the node may have gone by another name before.
    ///   - record: of the present life.
    static func close(
        _ life: NodeLife, before present: NodeLife, _ record: NodeRecord
    ) -> [PostgresStatement] {
        [
            closeSessions(life, before: present),
            cancelDrains(life, before: record.startedAt, except: record.keptDrain),
        ]
    }

    private static func closeSessions(_ life: NodeLife, before present: NodeLife) -> PostgresStatement {
        PostgresStatement(
            "SELECT pop.close_lost_sessions(ARRAY[$1::text], $2::uuid, 2147483647)",
            [life.nodeID, .uuid(present.incarnation)])
    }

    /// Partitions are made for so many days to come: a node that is cut off from the clock of its operators
    /// for a long weekend still finds them.
    private static let daysAhead = 3

    static let schemaVersion = PostgresStatement(
        "SELECT coalesce(max(version), 0)::bigint AS version FROM pop.schema_migrations")

    /// Renews the lease by the database's clock; tells whether the row was this life's, and whether there is
    /// a row at all. A node that was declared lost stays `down` until it has regained its lease.
    static func renewLease(_ node: NodeLife, _ state: NodeState) -> PostgresStatement {
        PostgresStatement(
            """
            WITH renewed AS (
                UPDATE pop.nodes SET last_seen_at = now(),
                    state = CASE WHEN lost_at IS NULL THEN $3 ELSE 'down' END
                WHERE node_id = $1 AND incarnation = $2::uuid
                RETURNING lease_term, lost_at IS NOT NULL AS is_lost
            )
            SELECT r.lease_term IS NOT NULL AS is_renewed,
                EXISTS (SELECT FROM pop.nodes WHERE node_id = $1) AS is_present,
                clock_timestamp() AS answered_at, r.lease_term, r.is_lost
            FROM (VALUES (1)) AS one LEFT JOIN renewed r ON true
            """, [node.nodeID, .uuid(node.incarnation), .text(state.rawValue)])
    }

    /// Of the row that a begin or a renewal tells.
    static func leaseAnswer(_ row: PostgresRow) throws(PostgresError) -> LeaseAnswer {
        LeaseAnswer(
            time: try row.time("answered_at"), term: try row.integer("lease_term"),
            isLost: try row.boolean("is_lost"))
    }

    /// What lives on the node is open again, unless it was lost once more meanwhile.
    static func regainLease(_ node: NodeLife, _ state: NodeState, term: Int64) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.nodes SET last_seen_at = now(), state = $3, lost_at = NULL
            WHERE node_id = $1 AND incarnation = $2::uuid AND lease_term = $4::bigint
            """, [node.nodeID, .uuid(node.incarnation), .text(state.rawValue), .integer(term)])
    }

    /// So many are closed by one transaction, which others wait for no longer than for a batch of writes.
    static let sessionsReapedAtOnce = 1_000

    /// One step of dealing with nodes whose lease is over.
    static let reapLostNodes = PostgresStatement(
        "SELECT lost_nodes, sessions_closed::bigint AS sessions_closed, has_more "
            + "FROM pop.reap_lost_nodes(\(sessionsReapedAtOnce))")

    // MARK: Take-overs

    /// Sessions of the node whose devices have come to another one, a bounded number of them.
    static func takeovers(_ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            "SELECT session_id FROM pop.session_takeovers WHERE node_id = $1 ORDER BY session_id LIMIT 1000",
            [node.nodeID])
    }

    static func settleTakeovers(_ sessions: [SessionID], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            "DELETE FROM pop.session_takeovers WHERE node_id = $1 AND session_id = ANY ($2::uuid[])",
            [node.nodeID, .uuids(sessions)])
    }

    /// How much it has taken on.
    static func tell(_ vitals: NodeVitals, _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.nodes SET devices_online = $3, conns_active = $4, registration_ms = $5, lag_ms = $6
            WHERE node_id = $1 AND incarnation = $2::uuid
            """,
            [
                node.nodeID, .uuid(node.incarnation), .integer(vitals.devicesOnline),
                .integer(vitals.connsActive), .double(vitals.registrationMilliseconds),
                .double(vitals.lagMilliseconds),
            ])
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
