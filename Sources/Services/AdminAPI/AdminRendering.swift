internal import DeviceProtocol
internal import Domain
internal import Fleet
internal import JSON
internal import Store

extension JSONWriter {
    mutating func field(_ name: StaticString, _ value: String?) {
        self.name(name)
        if let value { string(value) } else { null() }
    }

    mutating func field(_ name: StaticString, _ value: (some BinaryInteger)?) {
        self.name(name)
        if let value { integer(value) } else { null() }
    }

    mutating func field(_ name: StaticString, _ value: Double?) {
        self.name(name)
        if let value { double(value) } else { null() }
    }

    mutating func field(_ name: StaticString, _ value: Bool) {
        self.name(name)
        bool(value)
    }

    mutating func field(_ name: StaticString, _ value: WallTime?) {
        self.name(name)
        if let value { time(value) } else { null() }
    }

    /// An id, or an address.
    mutating func field(_ name: StaticString, _ value: (some ASCIIText)?) {
        self.name(name)
        if let value { string(value) } else { null() }
    }

    mutating func field(_ name: StaticString, _ values: [String]) {
        self.name(name)
        beginArray()
        for value in values { string(value) }
        endArray()
    }

    /// `{"items":[...],"next_cursor":...}`
    mutating func list<Item>(
        _ items: some Sequence<Item>, next: String?, _ write: (Item, inout JSONWriter) -> Void
    ) {
        beginObject()
        name("items")
        beginArray()
        for item in items { write(item, &self) }
        endArray()
        field("next_cursor", next)
        endObject()
    }
}

// MARK: Rows

extension NodeRow {
    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.field("node_id", nodeID.description)
        writer.field("state", state.rawValue)
        writer.field("location", location)
        writer.field("advertise_host", advertiseHost)
        writer.field("wss_port", wssPort)
        writer.field("quic_port", quicPort)
        writer.field("version", version)
        writer.field("started_at", startedAt)
        writer.field("last_seen_at", lastSeenAt)
        writer.field("age_seconds", age)
        writer.field("devices_online", devicesOnline)
        writer.field("conns_active", connsActive)
        writer.field("bytes_sent", bytesSent)
        writer.field("bytes_received", bytesReceived)
        writer.field("cpu_utilization", cpuUtilization)
        writer.field("memory_used_bytes", memoryUsedBytes)
        writer.field("max_devices", maximumDevices)
        writer.endObject()
    }
}

extension DeviceRow {
    /// A device that is connected to this node, which knows all of it but `firstSeenAt`.
    init(_ live: SessionSnapshot, nodeID: NodeID, firstSeenAt: WallTime?) {
        self.init(
            deviceID: live.deviceID, online: true, enabled: true, nodeID: nodeID, sessionID: live.sessionID,
            sessionEpoch: live.epoch, location: live.location, tags: live.tags, capacity: live.capacity,
            agentVersion: live.agentVersion, remoteAddress: live.remoteAddress.description,
            quicRemoteAddress: live.quicRemoteAddress?.description, health: live.health,
            connectedAt: live.connectedAt, lastHeartbeatAt: live.lastHeartbeatAt,
            roundTripMilliseconds: live.roundTripMilliseconds, activeConns: UInt64(max(0, live.activeConns)),
            bytesSent: live.bytesSent, bytesReceived: live.bytesReceived,
            cpuUtilization: live.load?.cpuUtilization, memoryUsedBytes: live.load?.memoryUsedBytes,
            memoryTotalBytes: live.load?.memoryTotalBytes, firstSeenAt: firstSeenAt,
            lastSeenAt: live.lastSeenAt, age: 0)
    }

    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.field("device_id", deviceID.description)
        writer.field("status", online ? "online" : "offline")
        writer.field("enabled", enabled)
        writer.field("node_id", nodeID?.description)
        writer.field("session_id", sessionID)
        writer.field("location", location)
        writer.field("tags", tags)
        writer.field("capacity", capacity)
        writer.field("agent_version", agentVersion)
        writer.field("remote_address", remoteAddress)
        writer.field("quic_remote_address", quicRemoteAddress)
        writer.field("health", health?.rawValue)
        writer.field("session_epoch", sessionEpoch)
        writer.field("connected_at", connectedAt)
        writer.field("last_heartbeat_at", lastHeartbeatAt)
        writer.field("rtt_ms", roundTripMilliseconds)
        writer.field("active_conns", activeConns)
        writer.field("bytes_sent", bytesSent)
        writer.field("bytes_received", bytesReceived)
        writer.field("cpu_utilization", cpuUtilization)
        writer.field("memory_used_bytes", memoryUsedBytes)
        writer.field("memory_total_bytes", memoryTotalBytes)
        writer.field("first_seen_at", firstSeenAt)
        writer.field("last_seen_at", lastSeenAt)
        writer.field("age_seconds", age)
        writer.endObject()
    }
}

extension SessionRow {
    func overlaid(with live: SessionSnapshot) -> SessionRow {
        var row = self
        row.counters.bytesSent = live.bytesSent
        row.counters.bytesReceived = live.bytesReceived
        row.counters.connsTotal = live.connsTotal
        row.counters.resumes = live.resumes
        row.counters.migrations = live.migrations
        return row
    }

    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.field("session_id", sessionID)
        writer.field("device_id", deviceID.description)
        writer.field("node_id", nodeID.description)
        writer.field("session_epoch", sessionEpoch)
        writer.field("started_at", startedAt)
        writer.field("ended_at", endedAt)
        writer.field("end_reason", endReason?.rawValue)
        writer.field("remote_address", remoteAddress)
        writer.field("agent_version", agentVersion)
        writer.field("location", location)
        writer.field("tags", tags)
        writer.field("bytes_sent", counters.bytesSent)
        writer.field("bytes_received", counters.bytesReceived)
        writer.field("conns_total", counters.connsTotal)
        writer.field("resumes", counters.resumes)
        writer.field("migrations", counters.migrations)
        writer.endObject()
    }
}

extension LoadPoint {
    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.field("sampled_at", at)
        writer.field("active_conns", activeConns)
        writer.field("bytes_sent", bytesSent)
        writer.field("bytes_received", bytesReceived)
        writer.field("cpu_utilization", cpuUtilization)
        writer.field("memory_used_bytes", memoryUsedBytes)
        writer.field("memory_total_bytes", memoryTotalBytes)
        writer.field("rtt_ms", roundTripMilliseconds)
        writer.endObject()
    }
}

extension ConnSnapshot {
    func write(to writer: inout JSONWriter, nodeID: NodeID, now: Instant) {
        writer.beginObject()
        writer.field("conn_id", connID)
        writer.field("node_id", nodeID.description)
        writeMembers(to: &writer, now: now)
        writer.endObject()
    }

    /// All but the ids of the conn and its node.
    func writeMembers(to writer: inout JSONWriter, now: Instant) {
        writer.field("device_id", deviceID.description)
        writer.field("session_id", sessionID)
        writer.field("user", user)
        writer.field("protocol", clientProtocol.rawValue)
        writer.field("client_address", clientAddress)
        writer.field("target", target.description)
        writer.field("resolved_address", resolvedAddress)
        writer.field("state", state.rawValue)
        writer.field("opened_at", openedAt)
        writer.field("bytes_sent", bytesSent)
        writer.field("bytes_received", bytesReceived)
        writer.field("idle_seconds", idleSeconds(at: now))
    }
}

extension DrainSnapshot {
    func writeMembers(to writer: inout JSONWriter) {
        writer.field("state", state.rawValue)
        writer.field("started_at", startedAt)
        writer.field("deadline_at", deadlineAt)
        writer.field("devices_total", devicesTotal)
        writer.field("devices_moved", devicesMoved)
        writer.field("devices_remaining", devicesRemaining)
        writer.field("conns_remaining", connsRemaining)
        writer.field("conns_cut", connsCut)
        writer.field("devices_waiting", devicesWaiting)
        writer.field("devices_lost", devicesLost)
        writer.field("hindrance", hindrance?.rawValue)
        writer.field("reason", reason)
    }
}
