internal import Domain
internal import Postgres

/// The statements that keep `pop.device_sessions` and `pop.devices`.
enum SessionWrites {
    /// More of an agent's version than this says nothing.
    private static let maximumVersionCharacters = 256

    static func insertSessions(_ starts: [SessionRecord], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.device_sessions (session_id, device_id, node_id, node_incarnation, session_epoch,
                started_at, last_seen_at, remote_address, agent_version, location, tags)
            SELECT t.session_id, t.device_id, $1, $2::uuid, t.epoch, t.started_at, t.started_at,
                t.remote_address::inet, t.agent_version, t.location, t.tags::text[]
            FROM unnest($3::uuid[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[],
                $9::text[], $10::text[])
                AS t(session_id, device_id, epoch, started_at, remote_address, agent_version, location, tags)
            ON CONFLICT (session_id) DO NOTHING
            """,
            [
                node.nodeID, .uuid(node.incarnation), .uuids(starts.map(\.sessionID)),
                .texts(starts.map(\.deviceID.description)), .integers(starts.map(\.sessionEpoch)),
                .times(starts.map(\.startedAt)),
                .texts(starts.map { $0.remoteAddress.ip.unmapped.description }),
                .texts(starts.map { String($0.agentVersion.prefix(maximumVersionCharacters)) }),
                .texts(starts.map(\.location)), .textArrays(starts.map(\.tags)),
            ])
    }

    /// The newest session owns the device's row, which starts over but for what is the device's own. Each device
    /// must be there once; tells since when the taken ones are known.
    static func takeDevices(_ starts: [SessionRecord], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.devices AS d (device_id, status, node_id, session_id, session_epoch, location,
                tags, capacity, agent_version, remote_address, health, connected_at, first_seen_at,
                last_seen_at)
            SELECT t.device_id, 'online', $1, t.session_id, t.epoch, t.location, t.tags::text[], t.capacity,
                t.agent_version, t.remote_address, 'control_only', t.started_at, t.started_at, t.started_at
            FROM unnest($2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::bigint[],
                $8::text[], $9::text[], $10::timestamptz[])
                AS t(device_id, session_id, epoch, location, tags, capacity, agent_version, remote_address,
                    started_at)
            ON CONFLICT (device_id) DO UPDATE SET status = 'online', node_id = excluded.node_id,
                session_id = excluded.session_id, session_epoch = excluded.session_epoch,
                location = excluded.location, tags = excluded.tags, capacity = excluded.capacity,
                agent_version = excluded.agent_version, remote_address = excluded.remote_address,
                quic_remote_address = NULL, health = excluded.health, connected_at = excluded.connected_at,
                last_heartbeat_at = NULL, rtt_ms = NULL, active_conns = 0, bytes_sent = 0,
                bytes_received = 0, cpu_utilization = NULL, memory_used_bytes = NULL,
                memory_total_bytes = NULL, load_sampled_at = NULL,
                last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at)
            WHERE d.session_epoch < excluded.session_epoch
            RETURNING d.device_id, d.first_seen_at
            """,
            [
                node.nodeID, .texts(starts.map(\.deviceID.description)), .uuids(starts.map(\.sessionID)),
                .integers(starts.map(\.sessionEpoch)), .texts(starts.map(\.location)),
                .textArrays(starts.map(\.tags)), .integers(starts.map { Int64($0.capacity) }),
                .texts(starts.map { String($0.agentVersion.prefix(maximumVersionCharacters)) }),
                .texts(starts.map(\.remoteAddress.description)), .times(starts.map(\.startedAt)),
            ])
    }

    static func firstSightings(_ result: PostgresResult) throws(PostgresError) -> [DeviceFirstSeen] {
        try result.rows.map { row throws(PostgresError) in
            DeviceFirstSeen(
                deviceID: try row.value("device_id", DeviceID.init), at: try row.time("first_seen_at"))
        }
    }

    /// Also of a session that was given up as lost before its last word arrived: it lived until then at least.
    static func update(_ updates: [SessionUpdate]) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.device_sessions s SET \(countersAreGreatest),
                last_seen_at = greatest(s.last_seen_at, t.at),
                ended_at = CASE WHEN s.ended_at IS NOT NULL THEN greatest(s.ended_at, t.at) END
            FROM unnest($1::uuid[], $2::timestamptz[], \(counterArrays(from: 3)))
                AS t(session_id, at, \(counterColumns))
            WHERE s.session_id = t.session_id AND \(isOpenOrLost)
            """,
            [.uuids(updates.map(\.sessionID)), .times(updates.map(\.at))]
                + counters(updates.map(\.counters)))
    }

    static func setStates(_ states: [DeviceState]) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.devices d SET health = t.health,
                last_heartbeat_at = coalesce(t.heartbeat_at, d.last_heartbeat_at),
                rtt_ms = coalesce(t.rtt_ms, d.rtt_ms),
                quic_remote_address = coalesce(t.quic_address, d.quic_remote_address),
                active_conns = t.active_conns, bytes_sent = t.bytes_sent, bytes_received = t.bytes_received,
                last_seen_at = greatest(d.last_seen_at, t.at)
            FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::timestamptz[],
                $5::double precision[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[])
                AS t(session_id, at, health, heartbeat_at, rtt_ms, quic_address, active_conns, bytes_sent,
                    bytes_received)
            WHERE d.session_id = t.session_id AND d.status <> 'offline'
            """,
            [
                .uuids(states.map(\.sessionID)), .times(states.map(\.at)),
                .texts(states.map(\.health.rawValue)), .times(states.map(\.lastHeartbeatAt)),
                .doubles(states.map { finite($0.roundTripMilliseconds) }),
                .texts(states.map { $0.quicRemoteAddress?.description }),
                .integers(states.map(\.activeConns)), .integers(states.map(\.bytesSent)),
                .integers(states.map(\.bytesReceived)),
            ])
    }

    /// The first end that is written stays, unless it was a guess: that a node is lost is what others say of
    /// it, or its next life, while the true end still waits on its disk.
    static func end(_ ends: [SessionEnd]) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.device_sessions s SET ended_at = greatest(s.started_at, t.ended_at),
                end_reason = t.reason, last_seen_at = greatest(s.last_seen_at, t.ended_at),
                \(countersAreGreatest)
            FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], \(counterArrays(from: 4)))
                AS t(session_id, ended_at, reason, \(counterColumns))
            WHERE s.session_id = t.session_id AND \(isOpenOrLost)
            """,
            [
                .uuids(ends.map(\.sessionID)), .times(ends.map(\.endedAt)),
                .texts(ends.map(\.reason.rawValue)),
            ] + counters(ends.map(\.counters)))
    }

    /// A device whose current session ended is offline; one that has a newer session is not touched.
    static func releaseDevices(_ ends: [SessionEnd]) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.devices d SET status = 'offline', health = NULL, active_conns = 0,
                bytes_sent = t.bytes_sent, bytes_received = t.bytes_received,
                last_seen_at = greatest(d.last_seen_at, t.ended_at)
            FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[])
                AS t(session_id, ended_at, bytes_sent, bytes_received)
            WHERE d.session_id = t.session_id AND d.status <> 'offline'
            """,
            [
                .uuids(ends.map(\.sessionID)), .times(ends.map(\.endedAt)),
                .integers(ends.map(\.counters.bytesSent)), .integers(ends.map(\.counters.bytesReceived)),
            ])
    }

    private static let isOpenOrLost = "(s.ended_at IS NULL OR s.end_reason = 'node_lost')"

    // MARK: Counters

    private static let counterColumns = "bytes_sent, bytes_received, conns_total, resumes, migrations"

    /// Counts only grow, so that a late write can't take anything back.
    private static let countersAreGreatest = """
        bytes_sent = greatest(s.bytes_sent, t.bytes_sent),
        bytes_received = greatest(s.bytes_received, t.bytes_received),
        conns_total = greatest(s.conns_total, t.conns_total), resumes = greatest(s.resumes, t.resumes),
        migrations = greatest(s.migrations, t.migrations)
        """

    private static func counterArrays(from first: Int) -> String {
        (first..<first + 5).map { "$\($0)::bigint[]" }.joined(separator: ", ")
    }

    private static func counters(_ counters: [SessionCounters]) -> [PostgresParameter] {
        [
            .integers(counters.map(\.bytesSent)), .integers(counters.map(\.bytesReceived)),
            .integers(counters.map(\.connsTotal)), .integers(counters.map(\.resumes)),
            .integers(counters.map(\.migrations)),
        ]
    }
}

/// A measured value that a device reports may be anything; what is no number is none.
func finite(_ value: Double?) -> Double? {
    guard let value, value.isFinite else { return nil }
    return value
}
