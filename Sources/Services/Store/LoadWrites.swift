internal import Domain
internal import Postgres

/// The statements that write load samples, ended conns, and what a node says of itself.
enum LoadWrites {
    /// How far a device's clock may be off before the node's stands for it: a sample must fall on a day
    /// that has a partition.
    private static let oldestSampleMicroseconds: Int64 = 3_600_000_000
    private static let newestSampleMicroseconds: Int64 = 60_000_000

    private static func time(of load: LoadSample) -> WallTime {
        let (age, overflow) = load.receivedAt.microseconds.subtractingReportingOverflow(
            load.sampledAt.microseconds)
        let isPlausible = !overflow && age <= oldestSampleMicroseconds && age >= -newestSampleMicroseconds
        return isPlausible ? load.sampledAt : load.receivedAt
    }

    private static func utilization(_ value: Double) -> Double {
        value.isFinite ? min(max(value, 0), 1) : 0
    }

    static func insertLoad(_ loads: [LoadSample], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.device_load (device_id, session_id, node_id, sampled_at, active_conns, bytes_sent,
                bytes_received, cpu_utilization, memory_used_bytes, memory_total_bytes, rtt_ms)
            SELECT t.device_id, t.session_id, $1, t.sampled_at, t.active_conns, t.bytes_sent, t.bytes_received,
                t.cpu, t.memory_used, t.memory_total, t.rtt_ms
            FROM unnest($2::text[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::bigint[],
                $8::double precision[], $9::bigint[], $10::bigint[], $11::double precision[])
                AS t(device_id, session_id, sampled_at, active_conns, bytes_sent, bytes_received, cpu,
                    memory_used, memory_total, rtt_ms)
            ON CONFLICT DO NOTHING
            """,
            [
                node.nodeID, .texts(loads.map(\.deviceID.description)), .uuids(loads.map(\.sessionID)),
                .times(loads.map(time)), .integers(loads.map(\.activeConns)),
                .integers(loads.map(\.bytesSent)), .integers(loads.map(\.bytesReceived)),
                .doubles(loads.map { utilization($0.cpuUtilization) }),
                .integers(loads.map(\.memoryUsedBytes)), .integers(loads.map(\.memoryTotalBytes)),
                .doubles(loads.map { finite($0.roundTripMilliseconds) }),
            ])
    }

    /// The newest sample of each session; the device's own counts stay apart from the node's.
    static func setLatestLoad(_ loads: [LoadSample]) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.devices d SET cpu_utilization = t.cpu, memory_used_bytes = t.memory_used,
                memory_total_bytes = t.memory_total, load_sampled_at = t.sampled_at,
                last_seen_at = greatest(d.last_seen_at, t.received_at)
            FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::double precision[],
                $5::bigint[], $6::bigint[])
                AS t(session_id, sampled_at, received_at, cpu, memory_used, memory_total)
            WHERE d.session_id = t.session_id
                AND (d.load_sampled_at IS NULL OR d.load_sampled_at <= t.sampled_at)
            """,
            [
                .uuids(loads.map(\.sessionID)), .times(loads.map(time)), .times(loads.map(\.receivedAt)),
                .doubles(loads.map { utilization($0.cpuUtilization) }),
                .integers(loads.map(\.memoryUsedBytes)), .integers(loads.map(\.memoryTotalBytes)),
            ])
    }

    static func insertConns(_ conns: [ConnRecord], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.conns (conn_id, node_id, device_id, session_id, user_name, protocol,
                client_address, target, resolved_address, opened_at, ended_at, bytes_sent, bytes_received,
                end_reason)
            SELECT t.conn_id, $1, t.device_id, t.session_id, t.user_name, t.protocol, t.client_address,
                t.target, t.resolved_address, t.opened_at, t.ended_at, t.bytes_sent, t.bytes_received,
                t.end_reason
            FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::bigint[],
                $14::text[])
                AS t(conn_id, device_id, session_id, user_name, protocol, client_address, target,
                    resolved_address, opened_at, ended_at, bytes_sent, bytes_received, end_reason)
            ON CONFLICT DO NOTHING
            """,
            [
                node.nodeID, .uuids(conns.map { $0.connID }), .texts(conns.map { $0.deviceID.description }),
                .uuids(conns.map { $0.sessionID }), .texts(conns.map { $0.userName }),
                .texts(conns.map { $0.clientProtocol.rawValue }),
                .texts(conns.map { $0.clientAddress.description }),
                .texts(conns.map { $0.target }), .texts(conns.map { $0.resolvedAddress }),
                .times(conns.map { $0.openedAt }), .times(conns.map { $0.endedAt }),
                .integers(conns.map { $0.bytesSent }), .integers(conns.map { $0.bytesReceived }),
                .texts(conns.map { $0.endReason.name }),
            ])
    }

    // MARK: The node

    static func insertNodeLoad(_ samples: [NodeSample], _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.node_load (node_id, sampled_at, devices_online, conns_active, bytes_sent,
                bytes_received, cpu_utilization, memory_used_bytes)
            SELECT $1, t.* FROM unnest($2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::double precision[], $8::bigint[]) AS t
            ON CONFLICT DO NOTHING
            """,
            [
                node.nodeID, .times(samples.map(\.sampledAt)), .integers(samples.map(\.devicesOnline)),
                .integers(samples.map(\.connsActive)), .integers(samples.map(\.bytesSent)),
                .integers(samples.map(\.bytesReceived)),
                .doubles(samples.map { utilization($0.cpuUtilization) }),
                .integers(samples.map(\.memoryUsedBytes)),
            ])
    }

    static func setNode(_ sample: NodeSample, _ node: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.nodes SET devices_online = $3, conns_active = $4, bytes_sent = $5, bytes_received = $6,
                cpu_utilization = $7, memory_used_bytes = $8
            WHERE node_id = $1 AND incarnation = $2
            """,
            [
                node.nodeID, .uuid(node.incarnation), .integer(sample.devicesOnline),
                .integer(sample.connsActive), .integer(sample.bytesSent), .integer(sample.bytesReceived),
                .double(utilization(sample.cpuUtilization)), .integer(sample.memoryUsedBytes),
            ])
    }
}
