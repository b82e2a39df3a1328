internal import Domain
internal import Postgres

/// Pages of `pop.devices`, by whatever they are filtered and sorted: each costs a bounded number of rows.
///
/// One filter *leads*: an index that has it, the status and the order is walked from the cursor on. With that
/// filter alone every row is one of the page's. Rows that other filters refuse are passed over, so many at most.
///
///     lead        by id and by connected_at        by active_conns
///     none        pop.devices                      pop.busy_devices, and those that have no conns by id
///     node        pop.devices                      the same
///     location    pop.devices                      the same
///     a tag       pop.device_tags                  pop.busy_tags, and those that have no conns by id
///
/// Of several filters each leads a short walk in turn until one fills the page, or has been walked to its end:
/// what is common fills it soon whoever leads, what is rare is soon at its end. The planner would choose by
/// statistics, which are wrong at the worst moment. If all walks are cut, the one that found most goes on for
/// longer, and its page may be short.
///
/// The beginning of an id has no order but that of ids. In another order it may be that only few ids begin so:
/// then all of them are read and sorted.
struct DeviceLists {
    enum Lead: Hashable {
        case none
        case node
        case location
        case tag(String)
    }

    let query: DeviceListQuery
    private let bounds: ListBounds

    /// No more tags lead walks: no device has more, and hardly anybody asks for two.
    private static let leadingTags = 8
    private static let connectedAt = "coalesce(connected_at, '-infinity')"
    /// Above all that ids are made of.
    private static let prefixEnd = "~"
    private static let noConns = "0"

    init(_ query: DeviceListQuery, bounds: ListBounds = ListBounds()) {
        self.query = query
        self.bounds = bounds
    }

    private var listName: String { "devices.\(query.sort.rawValue).\(query.descending ? "desc" : "asc")" }
    private var prefix: String? { query.prefix?.isEmpty == false ? query.prefix : nil }
    /// Whether the beginning of an id is asked for in an order that has no index of it.
    var isPrefixFiltered: Bool { query.sort != .deviceID && prefix != nil }

    /// What may lead, the likely best first.
    var leads: [Lead] {
        var leads: [Lead] = query.nodeID == nil ? [] : [.node]
        var tags: [String] = []
        for tag in query.tags where !tags.contains(tag) { tags.append(tag) }
        leads += tags.prefix(Self.leadingTags).map { .tag($0) }
        if query.location != nil { leads.append(.location) }
        return leads.isEmpty ? [.none] : leads
    }

    // MARK: Walks

    /// The rows of a page, as a short walk finds them.
    func glance(_ lead: Lead) throws(StoreFailure) -> PostgresStatement {
        try rows(lead, steps: bounds.glance)
    }

    /// The rows of a page, as a long walk finds them.
    func walk(_ lead: Lead) throws(StoreFailure) -> PostgresStatement {
        try rows(lead, steps: bounds.walk)
    }

    private func rows(_ lead: Lead, steps: Int) throws(StoreFailure) -> PostgresStatement {
        var conditions = Conditions()
        let page = WalkedPage(
            steps, branches: branchCount, limit: query.limit, descending: query.descending)
        let branches = try branches(lead, page, &conditions)
        return statement(page, branches, conditions)
    }

    private func statement(
        _ page: WalkedPage, _ branches: [String], _ conditions: Conditions
    ) -> PostgresStatement {
        PostgresStatement(
            page.sql(DeviceReads.columns, of: "pop.devices", by: "device_id", branches),
            conditions.parameters)
    }

    /// - Parameter results: of any of the statements.
    /// - Returns: the page, and whether it might have had more items, had more rows been looked at.
    func decode(
        _ results: [PostgresResult]
    ) throws(PostgresError) -> (page: ListPage<DeviceRow>, isCut: Bool) {
        guard let result = results.last else { throw PostgresError(.unexpectedAnswer, "no result") }
        return try makeWalkedPage(result, limit: query.limit, decode: DeviceReads.decode) {
            row throws(PostgresError) in
            ListCursor(
                list: listName, key: try row.string("cursor_key"), id: try row.string("device_id"))
        }
    }

    private func branches(
        _ lead: Lead, _ page: WalkedPage, _ conditions: inout Conditions
    ) throws(StoreFailure) -> [String] {
        let start = try start(&conditions, idAlone: query.sort == .deviceID || isAtIdle == true)
        let fixed = fixed(lead, &conditions)
        let others = others(lead, &conditions)
        let isTag = if case .tag = lead { true } else { false }
        let table = isTag ? "pop.device_tags" : "pop.devices"
        var stretch = IndexStretch(
            table: table, fixed: fixed, keys: ["device_id"], descending: query.descending)
        switch query.sort {
        case .deviceID:
            stretch.start = start
            bound(&stretch, by: prefix, &conditions)
            // The primary key is an index of the devices of both states.
            if lead == .none, query.online == nil { return [walk(stretch, page, key: "''::text", others)] }
            return walks(stretch, page, key: "''::text", others)
        case .connectedAt:
            let key = isTag ? "connected_at" : Self.connectedAt
            stretch.keys.insert(key, at: 0)
            stretch.start = start
            return walks(stretch, page, key: key, others)
        case .activeConns:
            // Behind a cursor at a device with conns are all that have none, or not one of them.
            var branches: [String] = []
            if isAtIdle != false || query.descending {
                stretch.start = isAtIdle == true ? start : nil
                branches += walks(
                    stretch, page, key: "\(Self.noConns)::bigint",
                    others + ["active_conns = \(Self.noConns)"])
            }
            if isAtIdle != true || !query.descending {
                let busy = IndexStretch(
                    table: isTag ? "pop.busy_tags" : "pop.busy_devices", fixed: fixed,
                    keys: ["active_conns", "device_id"], descending: query.descending,
                    start: isAtIdle == false ? start : nil)
                branches += walks(busy, page, key: "active_conns", others)
            }
            return branches
        }
    }

    /// Walks of a page, which share its steps; at most as many.
    private var branchCount: Int { states.count * (query.sort == .activeConns ? 2 : 1) }

    /// A walk for each of the wanted states, which is the condition of the index where another column leads.
    private func walks(
        _ stretch: IndexStretch, _ page: WalkedPage, key: String, _ others: [String]
    ) -> [String] {
        states.map { state in
            var stretch = stretch
            if stretch.fixed.isEmpty {
                stretch.fixed = [("status", state)]
            } else {
                stretch.condition = "status = \(state)"
            }
            return walk(stretch, page, key: key, others)
        }
    }

    private func walk(
        _ stretch: IndexStretch, _ page: WalkedPage, key: String, _ others: [String]
    ) -> String {
        let place = "device_id AS id, \(key) AS key"
        guard stretch.table != "pop.devices", !others.isEmpty else {
            return page.walk(
                "SELECT \(place), \(all(others)) AS fits FROM \(stretch.table) \(stretch.sql)",
                isFiltered: !others.isEmpty)
        }
        // A row that stands for a device; whether the device fits is in its own row.
        return page.walk(
            """
            SELECT s.id, s.key, f.fits FROM (
                SELECT \(place) FROM \(stretch.table) \(stretch.sql) LIMIT \(page.steps)
            ) s CROSS JOIN LATERAL (
                SELECT \(all(others)) AS fits FROM pop.devices WHERE devices.device_id = s.id OFFSET 0
            ) f
            """, isFiltered: true)
    }

    // MARK: A few ids that begin alike

    /// Counts the ids that begin as wanted, no further than it matters.
    var count: PostgresStatement {
        var conditions = Conditions()
        let stretch = prefixStretch(&conditions)
        return PostgresStatement(
            """
            SELECT count(*) AS n FROM (SELECT FROM \(stretch.table) \(stretch.sql) LIMIT \(bounds.few + 1)) r
            """, conditions.parameters)
    }

    /// - Parameter results: of ``count``.
    func areFew(_ results: [PostgresResult]) throws(PostgresError) -> Bool {
        guard let row = results.last?.rows.first else { throw PostgresError(.unexpectedAnswer, "no count") }
        return try row.integer("n", as: Int.self) <= bounds.few
    }

    /// The rows of a page out of the few whose ids begin as wanted.
    func few() throws(StoreFailure) -> PostgresStatement {
        var conditions = Conditions()
        let key = query.sort == .connectedAt ? Self.connectedAt : "active_conns"
        var terms = others(nil, &conditions)
        if states.count == 1 { terms += states.map { "status = " + $0 } }
        if let start = try start(&conditions) {
            let comparison = query.descending ? "<" : ">"
            terms.append("(\(key), device_id) \(comparison) (\(start.joined(separator: ", ")))")
        }
        let stretch = prefixStretch(&conditions)
        let direction = query.descending ? "DESC" : "ASC"
        let page = WalkedPage(bounds.few, branches: 1, limit: query.limit, descending: query.descending)
        return statement(
            page,
            [
                """
                SELECT f.id, f.key, f.fits, false AS is_cut FROM (
                    SELECT device_id AS id, \(key) AS key, \(all(terms)) AS fits
                    FROM \(stretch.table) \(stretch.sql)
                ) f WHERE f.fits ORDER BY f.key \(direction), f.id \(direction)
                """
            ], conditions)
    }

    private func prefixStretch(_ conditions: inout Conditions) -> IndexStretch {
        var stretch = IndexStretch(table: "pop.devices", fixed: [], keys: ["device_id"])
        bound(&stretch, by: prefix, &conditions)
        return stretch
    }

    // MARK: Parts

    /// The wanted states, as literals.
    private var states: [String] {
        if let online = query.online { return [online ? "'online'" : "'offline'"] }
        return ["'offline'", "'online'"]
    }

    private func fixed(_ lead: Lead, _ conditions: inout Conditions) -> [(column: String, value: String)] {
        switch lead {
        case .none: []
        case .node: [("node_id", conditions.parameter(.text(query.nodeID?.description)))]
        case .location: [("location", conditions.parameter(.text(query.location)))]
        case .tag(let tag): [("tag", conditions.parameter(.text(tag)))]
        }
    }

    /// The filters beside the lead and the status.
    private func others(_ lead: Lead?, _ conditions: inout Conditions) -> [String] {
        var terms: [String] = []
        if lead != .node, let node = query.nodeID {
            terms.append("node_id = " + conditions.parameter(.text(node.description)))
        }
        if lead != .location, let location = query.location {
            terms.append("location = " + conditions.parameter(.text(location)))
        }
        let tags = query.tags.filter { lead != .tag($0) }
        if !tags.isEmpty {
            terms.append("tags @> " + conditions.parameter(.texts(tags)) + "::text[]")
        }
        if isPrefixFiltered, lead != nil, let prefix {
            terms.append("device_id >= " + conditions.parameter(.text(prefix)))
            terms.append("device_id < " + conditions.parameter(.text(prefix + Self.prefixEnd)))
        }
        return terms
    }

    /// What a page begins behind: the values of the order's columns at the cursor.
    private func start(
        _ conditions: inout Conditions, idAlone: Bool = false
    ) throws(StoreFailure) -> [String]? {
        guard let cursor = query.cursor else { return nil }
        guard cursor.list == listName else { throw .invalidCursor }
        if isOutside(cursor) { return nil }
        let id = conditions.parameter(.text(cursor.id))
        if idAlone { return [id] }
        let type = query.sort == .connectedAt ? "timestamptz" : "bigint"
        return [conditions.parameter(.text(cursor.key)) + "::" + type, id]
    }

    /// Whether the cursor is at a device without conns; nil without one.
    private var isAtIdle: Bool? {
        query.sort == .activeConns ? query.cursor.map { $0.key == Self.noConns } : nil
    }

    /// Whether a cursor, of a list with another prefix, lies before all ids that are wanted.
    private func isOutside(_ cursor: ListCursor) -> Bool {
        guard query.sort == .deviceID, let prefix else { return false }
        let edge = query.descending ? prefix + Self.prefixEnd : prefix
        return cursor.id.utf8.lexicographicallyPrecedes(edge.utf8) != query.descending
    }

    /// Keeps to the ids that begin with `prefix`.
    private func bound(_ stretch: inout IndexStretch, by prefix: String?, _ conditions: inout Conditions) {
        guard let prefix else { return }
        // On the side of a start the stretch has its bound.
        if stretch.start == nil || stretch.descending {
            stretch.lower = [conditions.parameter(.text(prefix))]
        }
        if stretch.start == nil || !stretch.descending {
            stretch.upper = [conditions.parameter(.text(prefix + Self.prefixEnd))]
        }
    }
}
