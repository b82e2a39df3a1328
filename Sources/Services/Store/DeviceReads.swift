internal import Domain
internal import Postgres

/// Reading `pop.devices`.
enum DeviceReads {
    static let columns = """
        device_id, status, enabled, node_id, session_id, session_epoch, location, tags, capacity,
        agent_version, remote_address, quic_remote_address, health, connected_at, last_heartbeat_at, rtt_ms,
        active_conns, bytes_sent, bytes_received, cpu_utilization, memory_used_bytes, memory_total_bytes,
        first_seen_at, last_seen_at, CASE WHEN status = 'online' THEN \(NodeReads.age) END AS age
        """

    static func one(_ device: DeviceID) -> PostgresStatement {
        PostgresStatement(
            "SELECT \(columns) FROM pop.devices WHERE device_id = $1", [.text(device.description)])
    }

    static func decode(_ row: PostgresRow) throws(PostgresError) -> DeviceRow {
        DeviceRow(
            deviceID: try row.value("device_id", DeviceID.init), online: try row.string("status") == "online",
            enabled: try row.boolean("enabled"), nodeID: try row.optional("node_id", NodeID.init),
            sessionID: try row.optional("session_id") { SessionID($0) },
            sessionEpoch: try row.integer("session_epoch"), location: try row.string("location"),
            tags: try row.strings("tags"),
            capacity: UInt32(clamping: try row.integer("capacity", as: Int64.self)),
            agentVersion: try row.string("agent_version"),
            remoteAddress: try row.optionalString("remote_address"),
            quicRemoteAddress: try row.optionalString("quic_remote_address"),
            health: try row.optional("health", SessionHealth.init(rawValue:)),
            connectedAt: try row.optionalTime("connected_at"),
            lastHeartbeatAt: try row.optionalTime("last_heartbeat_at"),
            roundTripMilliseconds: try row.optionalDouble("rtt_ms"),
            activeConns: try row.integer("active_conns"), bytesSent: try row.integer("bytes_sent"),
            bytesReceived: try row.integer("bytes_received"),
            cpuUtilization: try row.optionalDouble("cpu_utilization"),
            memoryUsedBytes: try row.optionalInteger("memory_used_bytes"),
            memoryTotalBytes: try row.optionalInteger("memory_total_bytes"),
            firstSeenAt: try row.time("first_seen_at"), lastSeenAt: try row.time("last_seen_at"),
            age: try row.optionalDouble("age"))
    }
}
