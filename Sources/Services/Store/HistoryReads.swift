internal import Domain
internal import Postgres

/// Reading `pop.device_sessions`, newest first.
enum SessionReads {
    private static let listName = "sessions"
    private static let columns = """
        session_id, device_id, node_id, session_epoch, started_at, ended_at, end_reason,
        host(remote_address) AS remote_address, agent_version, location, tags, bytes_sent, bytes_received,
        conns_total, resumes, migrations
        """

    /// A page's rows, one more than it may have: of a device, of a node, or of all, walked by their start.
    static func list(
        _ query: SessionListQuery, bounds: ListBounds = ListBounds()
    ) throws(StoreFailure) -> PostgresStatement {
        if let cursor = query.cursor {
            guard cursor.list == listName else { throw .invalidCursor }
        }
        var conditions = Conditions()
        var fixed: [(column: String, value: String)] = []
        var others: [String] = []
        if let device = query.deviceID {
            fixed.append(("device_id", conditions.parameter(.text(device.description))))
        }
        if let node = query.nodeID {
            let value = conditions.parameter(.text(node.description))
            // A device's sessions are fewer than a node's.
            if fixed.isEmpty { fixed.append(("node_id", value)) } else { others.append("node_id = " + value) }
        }
        let to = query.to.map { conditions.parameter(.time($0)) + "::timestamptz" }
        let from = query.from.map { conditions.parameter(.time($0)) + "::timestamptz" }
        let start = start(query.cursor, before: to, &conditions)
        let states = query.open.map { [$0] } ?? [false, true]
        let page = WalkedPage(bounds.walk, branches: states.count, limit: query.limit, descending: true)
        let branches = states.map { isOpen in
            var stretch = IndexStretch(
                table: "pop.device_sessions", fixed: fixed, keys: ["started_at", "session_id"],
                descending: true, start: start, lower: from.map { [$0] }, upper: to.map { [$0] })
            if isOpen, query.deviceID == nil, query.nodeID != nil {
                stretch.condition = "ended_at IS NULL"
            } else {
                // Those that are open, and are passed over here, are few beside those that have ended, and a
                // device's sessions are few altogether.
                stretch.fixed.append(("(ended_at IS NULL)", "\(isOpen)"))
            }
            return page.walk(
                """
                SELECT session_id AS id, started_at AS key, \(all(others)) AS fits
                FROM \(stretch.table) \(stretch.sql)
                """, isFiltered: !others.isEmpty)
        }
        return PostgresStatement(
            page.sql(columns, of: "pop.device_sessions", by: "session_id", branches), conditions.parameters)
    }

    /// What the page begins behind: the cursor, or the end of the time that is asked for where that is earlier.
    private static func start(
        _ cursor: ListCursor?, before to: String?, _ conditions: inout Conditions
    ) -> [String]? {
        guard let cursor else { return nil }
        let key = conditions.parameter(.text(cursor.key)) + "::timestamptz"
        let id = conditions.parameter(.text(cursor.id)) + "::uuid"
        guard let to else { return [key, id] }
        let first = "'00000000-0000-0000-0000-000000000000'::uuid"
        return ["least(\(key), \(to))", "CASE WHEN \(key) < \(to) THEN \(id) ELSE \(first) END"]
    }

    static func page(
        _ query: SessionListQuery, _ result: PostgresResult
    ) throws(PostgresError) -> ListPage<SessionRow> {
        try makeWalkedPage(result, limit: query.limit, decode: decode) { row throws(PostgresError) in
            ListCursor(
                list: listName, key: try row.string("cursor_key"), id: try row.string("session_id"))
        }.page
    }

    private static func decode(_ row: PostgresRow) throws(PostgresError) -> SessionRow {
        SessionRow(
            sessionID: try row.value("session_id") { SessionID($0) },
            deviceID: try row.value("device_id", DeviceID.init),
            nodeID: try row.value("node_id", NodeID.init),
            sessionEpoch: try row.integer("session_epoch"), startedAt: try row.time("started_at"),
            endedAt: try row.optionalTime("ended_at"),
            endReason: try row.optional("end_reason", SessionEndReason.init(rawValue:)),
            remoteAddress: try row.optionalString("remote_address"),
            agentVersion: try row.string("agent_version"), location: try row.string("location"),
            tags: try row.strings("tags"),
            counters: SessionCounters(
                bytesSent: try row.integer("bytes_sent"), bytesReceived: try row.integer("bytes_received"),
                connsTotal: try row.integer("conns_total"), resumes: try row.integer("resumes"),
                migrations: try row.integer("migrations")))
    }
}

/// Reading `pop.device_load`, oldest first.
enum LoadReads {
    static func series(_ query: LoadSeriesQuery) -> PostgresStatement {
        let maximum = LoadSeriesQuery.maximumPoints
        let range: [PostgresParameter] = [
            .text(query.deviceID.description), .time(query.from), .time(query.to), .integer(Int64(maximum)),
        ]
        let rows = "FROM pop.device_load WHERE device_id = $1 AND sampled_at >= $2 AND sampled_at < $3"
        guard query.stepSeconds > 0 else {
            return PostgresStatement(
                """
                SELECT sampled_at AS at, active_conns, bytes_sent, bytes_received, cpu_utilization,
                    memory_used_bytes, memory_total_bytes, rtt_ms
                \(rows) ORDER BY sampled_at DESC LIMIT $4
                """, range)
        }
        let (span, overflow) = query.to.microseconds.subtractingReportingOverflow(query.from.microseconds)
        let smallestStep = (overflow ? .max : max(span, 0)) / 1_000_000 / Int64(maximum) + 1
        // PostgreSQL's intervals end far above a century; a step that long is one point anyway.
        let step = min(max(Int64(query.stepSeconds), smallestStep), 3_155_760_000)
        return PostgresStatement(
            """
            SELECT date_bin($5::bigint * interval '1 second', sampled_at, timestamptz '2000-01-01 00:00:00+00')
                    AS at,
                avg(active_conns) AS active_conns, max(bytes_sent) AS bytes_sent,
                max(bytes_received) AS bytes_received, avg(cpu_utilization) AS cpu_utilization,
                avg(memory_used_bytes)::bigint AS memory_used_bytes,
                max(memory_total_bytes) AS memory_total_bytes, avg(rtt_ms) AS rtt_ms
            \(rows) GROUP BY 1 ORDER BY 1 DESC LIMIT $4
            """, range + [.integer(step)])
    }

    static func points(_ result: PostgresResult) throws(PostgresError) -> [LoadPoint] {
        var points: [LoadPoint] = []
        for row in result.rows.reversed() {
            points.append(
                LoadPoint(
                    at: try row.time("at"), activeConns: try row.double("active_conns"),
                    bytesSent: try row.integer("bytes_sent"),
                    bytesReceived: try row.integer("bytes_received"),
                    cpuUtilization: try row.double("cpu_utilization"),
                    memoryUsedBytes: try row.integer("memory_used_bytes"),
                    memoryTotalBytes: try row.integer("memory_total_bytes"),
                    roundTripMilliseconds: try row.optionalDouble("rtt_ms")))
        }
        return points
    }
}

/// Reading `pop.nodes`.
enum NodeReads {
    private static let select = """
        SELECT node_id, pop.node_state(state, last_seen_at) AS state, location, advertise_host, wss_port,
            quic_port, version, started_at, last_seen_at,
            \(seconds("last_seen_at")) AS age, devices_online, conns_active, bytes_sent,
            bytes_received, cpu_utilization, memory_used_bytes, max_devices, registration_ms, lag_ms
        FROM pop.nodes
        """

    /// The age of what the node of `node_id` has told, for rows that have such a column. Nodes are few: they are
    /// looked at once, in their index, and not again for each row.
    static let age = """
        ((SELECT jsonb_object_agg(n.node_id, \(seconds("n.last_seen_at"))) FROM pop.nodes n
            WHERE n.node_id > '') ->> node_id)::double precision
        """

    private static func seconds(_ time: String) -> String {
        "greatest(0, round(extract(epoch FROM now() - \(time)), 3))::double precision"
    }

    static let all = PostgresStatement(select + " ORDER BY node_id")

    static func one(_ node: NodeID) -> PostgresStatement {
        PostgresStatement(select + " WHERE node_id = $1", [.text(node.description)])
    }

    static func rows(_ result: PostgresResult) throws(PostgresError) -> [NodeRow] {
        var nodes: [NodeRow] = []
        for row in result.rows {
            nodes.append(
                NodeRow(
                    nodeID: try row.value("node_id", NodeID.init),
                    state: try row.value("state", NodeState.init(rawValue:)),
                    location: try row.string("location"),
                    advertiseHost: try row.optionalString("advertise_host"),
                    wssPort: try row.integer("wss_port"), quicPort: try row.integer("quic_port"),
                    version: try row.string("version"), startedAt: try row.time("started_at"),
                    lastSeenAt: try row.time("last_seen_at"), age: try row.double("age"),
                    devicesOnline: try row.integer("devices_online"),
                    connsActive: try row.integer("conns_active"), bytesSent: try row.integer("bytes_sent"),
                    bytesReceived: try row.integer("bytes_received"),
                    cpuUtilization: try row.double("cpu_utilization"),
                    memoryUsedBytes: try row.integer("memory_used_bytes"),
                    maximumDevices: try row.integer("max_devices"),
                    registrationMilliseconds: try row.double("registration_ms"),
                    lagMilliseconds: try row.double("lag_ms")))
        }
        return nodes
    }
}
