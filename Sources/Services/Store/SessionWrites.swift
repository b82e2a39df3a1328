internal import Domain
internal import Membership
internal import Postgres

/// The statements that keep `pop.device_sessions` and `pop.devices`.
enum SessionWrites {
    /// More of an agent's version than this says nothing.
    private static let maximumVersionCharacters = 256

    /// Puts sessions on record as they begin, and gives them their devices; tells who has those then.
    ///
    /// - Parameter ofThisLife: sessions of a life that is over never come between others.
    static func enter(
        _ starts: [SessionRecord], _ node: NodeLife, _ clock: DatabaseClock, ofThisLife: Bool
    ) -> PostgresStatement {
        var newest: [DeviceID: SessionRecord] = [:]
        for start in starts where newest[start.deviceID].map({ $0.sessionEpoch < start.sessionEpoch }) ?? true
        {
            newest[start.deviceID] = start
        }
        let entries = starts.map { start in
            Entry(
                record: start,
                beganAt: ofThisLife ? start.began.flatMap { clock.time(at: $0) } : nil,
                takesDevice: newest[start.deviceID]?.sessionID == start.sessionID)
        }
        return statement("pop.enter_sessions", entries, node)
    }

    /// Opens again what others closed, and enters what is missing; tells who has the devices of those.
    static func claim(
        _ claims: [SessionClaim], _ node: NodeLife, _ clock: DatabaseClock
    ) -> PostgresStatement {
        let entries = claims.map { claim in
            Entry(
                record: claim.record, beganAt: claim.record.began.flatMap { clock.time(at: $0) },
                takesDevice: claim.isCurrent)
        }
        return statement("pop.claim_sessions", entries, node)
    }

    /// `pop.session_entry`.
    private struct Entry {
        let record: SessionRecord
        let beganAt: WallTime?
        let takesDevice: Bool
    }

    private static func statement(
        _ function: String, _ entries: [Entry], _ node: NodeLife
    ) -> PostgresStatement {
        let records = entries.map(\.record)
        return PostgresStatement(
            """
            SELECT session_id, device_id, session_epoch, first_seen_at, is_owner
            FROM \(function)($1, $2::uuid, ARRAY(
                SELECT (t.session_id, t.device_id, t.epoch, t.began_at, t.started_at, t.remote_ip::inet,
                    t.remote_address, t.agent_version, t.location, t.tags::text[], t.capacity,
                    t.takes_device)::pop.session_entry
                FROM unnest($3::uuid[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
                    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[],
                    $14::boolean[])
                    AS t(session_id, device_id, epoch, began_at, started_at, remote_ip, remote_address,
                        agent_version, location, tags, capacity, takes_device)))
            """,
            [
                node.nodeID, .uuid(node.incarnation), .uuids(records.map(\.sessionID)),
                .texts(records.map(\.deviceID.description)), .integers(records.map(\.sessionEpoch)),
                .times(entries.map(\.beganAt)), .times(records.map(\.startedAt)),
                .texts(records.map { $0.remoteAddress.ip.unmapped.description }),
                .texts(records.map(\.remoteAddress.description)),
                .texts(records.map { String($0.agentVersion.prefix(maximumVersionCharacters)) }),
                .texts(records.map(\.location)), .textArrays(records.map(\.tags)),
                .integers(records.map { Int64($0.capacity) }), .booleans(entries.map(\.takesDevice)),
            ])
    }

    static func entries(_ result: PostgresResult) throws(PostgresError) -> [SessionEntry] {
        try result.rows.map { row throws(PostgresError) in
            SessionEntry(
                sessionID: try row.value("session_id") { SessionID($0) },
                deviceID: try row.value("device_id", DeviceID.init),
                isOwner: try row.boolean("is_owner"), epoch: try row.integer("session_epoch"),
                firstSeenAt: try row.time("first_seen_at"))
        }
    }

    /// Locks the devices that a batch is about, in one order, whatever its statements do with them then.
    static func lockDevices(_ devices: [DeviceID], _ ends: [SessionEnd]) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT FROM pop.devices d WHERE d.device_id = ANY ($1::text[] || ARRAY(
                SELECT e.device_id FROM unnest($2::uuid[]) AS t(session_id)
                JOIN pop.devices e ON e.session_id = t.session_id))
            ORDER BY d.device_id FOR NO KEY UPDATE
            """, [.texts(Set(devices).map(\.description).sorted()), .uuids(ends.map(\.sessionID))])
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
