internal import Domain
internal import Postgres

/// Where a list's SQL and its parameters grow together.
struct Conditions {
    private(set) var parameters: [PostgresParameter] = []
    private var terms: [String] = []

    /// The placeholder of a new parameter.
    mutating func parameter(_ value: PostgresParameter) -> String {
        parameters.append(value)
        return "$\(parameters.count)"
    }

    mutating func require(_ term: String) {
        terms.append(term)
    }

    var sql: String { terms.isEmpty ? "" : "WHERE " + terms.joined(separator: " AND ") }
}

/// Reading `pop.devices`.
enum DeviceReads {
    private static let columns = """
        device_id, status, enabled, node_id, session_id, session_epoch, location, tags, capacity,
        agent_version, remote_address, quic_remote_address, health, connected_at, last_heartbeat_at, rtt_ms,
        active_conns, bytes_sent, bytes_received, cpu_utilization, memory_used_bytes, memory_total_bytes,
        first_seen_at, last_seen_at
        """

    static func one(_ device: DeviceID) -> PostgresStatement {
        PostgresStatement(
            "SELECT \(columns) FROM pop.devices WHERE device_id = $1", [.text(device.description)])
    }

    /// One row more than the page has, to know whether another one follows.
    static func list(_ query: DeviceListQuery) throws(StoreFailure) -> PostgresStatement {
        var conditions = Conditions()
        if let online = query.online {
            conditions.require(online ? "status = 'online'" : "status = 'offline'")
        }
        if let node = query.nodeID {
            conditions.require("node_id = " + conditions.parameter(.text(node.description)))
        }
        if let location = query.location {
            conditions.require("location = " + conditions.parameter(.text(location)))
        }
        if !query.tags.isEmpty {
            conditions.require("tags @> " + conditions.parameter(.texts(query.tags)) + "::text[]")
        }
        if let prefix = query.prefix, !prefix.isEmpty {
            // `~` is above all that ids are made of, so this range is the prefix, and an index finds it.
            conditions.require("device_id >= " + conditions.parameter(.text(prefix)))
            conditions.require("device_id < " + conditions.parameter(.text(prefix + "~")))
        }
        let order = query.descending ? "DESC" : "ASC"
        let (key, type) = sortKey(query.sort)
        if let cursor = query.cursor {
            guard cursor.list == listName(query) else { throw .invalidCursor }
            let comparison = query.descending ? "<" : ">"
            let id = conditions.parameter(.text(cursor.id))
            if let key {
                let value = conditions.parameter(.text(cursor.key))
                conditions.require("(\(key), device_id) \(comparison) (\(value)::\(type), \(id))")
            } else {
                conditions.require("device_id \(comparison) \(id)")
            }
        }
        let sorting = (key.map { "\($0) \(order), " } ?? "") + "device_id \(order)"
        let limit = conditions.parameter(.integer(Int64(pageRows(query.limit) + 1)))
        return PostgresStatement(
            """
            SELECT \(columns), (\(key ?? "''"))::text AS cursor_key
            FROM pop.devices \(conditions.sql) ORDER BY \(sorting) LIMIT \(limit)
            """, conditions.parameters)
    }

    static func page(
        _ query: DeviceListQuery, _ result: PostgresResult
    ) throws(PostgresError) -> ListPage<DeviceRow> {
        try makePage(result, limit: query.limit, decode: decode) { row, device throws(PostgresError) in
            ListCursor(
                list: listName(query), key: try row.string("cursor_key"), id: device.deviceID.description)
        }
    }

    private static func listName(_ query: DeviceListQuery) -> String {
        "devices.\(query.sort.rawValue).\(query.descending ? "desc" : "asc")"
    }

    private static func sortKey(_ sort: DeviceListQuery.Sort) -> (expression: String?, type: String) {
        switch sort {
        case .deviceID: (nil, "text")
        case .connectedAt: ("coalesce(connected_at, '-infinity')", "timestamptz")
        case .activeConns: ("active_conns", "bigint")
        }
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
            firstSeenAt: try row.time("first_seen_at"), lastSeenAt: try row.time("last_seen_at"))
    }
}

/// A page's size within its bounds.
func pageRows(_ limit: Int) -> Int {
    min(max(limit, 1), maximumPageRows)
}

/// Makes a page of an answer with one row more than the page may have.
func makePage<Row>(
    _ result: PostgresResult, limit: Int,
    decode: (PostgresRow) throws(PostgresError) -> Row,
    cursor: (PostgresRow, Row) throws(PostgresError) -> ListCursor
) throws(PostgresError) -> ListPage<Row> {
    let rows = result.rows
    let size = pageRows(limit)
    var items: [Row] = []
    for row in rows.prefix(size) { items.append(try decode(row)) }
    var next: ListCursor?
    if rows.count > size, let last = items.last { next = try cursor(rows[size - 1], last) }
    return ListPage(items: items, next: next)
}
