internal import Domain
internal import Postgres

/// Pages of `pop.devices`, by whatever they are filtered and sorted: each costs a bounded number of rows.
///
/// A page is found in one of three ways:
///
///     walk    an index that has one of the filters and the order is read from the cursor on; rows that the
///             other filters refuse are passed over, a bounded number of them
///     few     one of the filters has few rows: all of them are read, filtered and sorted
///     busy    by the number of conns: the devices that have some are walked in `pop.busy_devices`, the
///             others, which have none, in the order of their ids
///
/// First a short walk is tried, which fills the page if what is asked for is common. If it does not, the rows of
/// each filter are counted, up to the number that is few, and the one with the fewest leads: the planner would
/// decide by statistics, which are wrong at the worst moment.
struct DeviceLists {
    /// What a page is found by.
    enum Lead: Hashable {
        /// The order alone, or with the status.
        case order
        case node
        case location
        case tag(String)
        case prefix
    }

    let query: DeviceListQuery
    private let bounds: ListBounds

    /// No more tags are counted; a client that names more of them gets the same rows, with more effort.
    private static let countedTags = 8
    private static let connectedAt = "coalesce(connected_at, '-infinity')"
    /// Above all that ids are made of.
    private static let prefixEnd = "~"

    init(_ query: DeviceListQuery, bounds: ListBounds = ListBounds()) {
        self.query = query
        self.bounds = bounds
    }

    private var listName: String { "devices.\(query.sort.rawValue).\(query.descending ? "desc" : "asc")" }
    private var prefix: String? { query.prefix?.isEmpty == false ? query.prefix : nil }

    // MARK: Which filter leads

    /// Filters that could lead.
    private var candidates: [Lead] {
        var leads: [Lead] = []
        if query.nodeID != nil { leads.append(.node) }
        if query.location != nil { leads.append(.location) }
        if query.sort != .deviceID, prefix != nil { leads.append(.prefix) }
        var tags: [String] = []
        for tag in query.tags where !tags.contains(tag) { tags.append(tag) }
        return leads + tags.prefix(Self.countedTags).map { .tag($0) }
    }

    /// What leads the first walk: nodes divide a fleet into more parts than anything else that is common.
    private var likelyLead: Lead { candidates.first(where: hasOrder) ?? .order }

    /// Whether there is an index that has both the filter and the order.
    private func hasOrder(_ lead: Lead) -> Bool {
        switch lead {
        case .order, .node, .location: true
        case .tag: query.sort == .deviceID
        case .prefix: false
        }
    }

    /// Counts the rows of each filter, no further than it matters; nil where there is nothing to choose.
    var count: PostgresStatement? {
        let candidates = candidates
        guard !candidates.isEmpty else { return nil }
        var conditions = Conditions()
        let counts = candidates.enumerated().map { place, lead in
            let stretch = whole(lead, &conditions)
            let rows = "SELECT FROM \(stretch.table) \(stretch.sql) LIMIT \(bounds.few + 1)"
            return "(SELECT count(*) FROM (\(rows)) r) AS c\(place)"
        }
        return PostgresStatement("SELECT " + counts.joined(separator: ", "), conditions.parameters)
    }

    /// - Parameter results: of ``count``.
    func lead(_ results: [PostgresResult]) throws(PostgresError) -> Lead {
        guard let row = results.last?.rows.first else { throw PostgresError(.unexpectedAnswer, "no counts") }
        var best: (lead: Lead, count: Int)?
        for (place, lead) in candidates.enumerated() {
            let count: Int = try row.integer("c\(place)")
            if count < best?.count ?? bounds.few + 1 { best = (lead, count) }
        }
        return best?.lead ?? likelyLead
    }

    /// All rows of a lead.
    private func whole(_ lead: Lead, _ conditions: inout Conditions) -> IndexStretch {
        switch lead {
        case .tag(let tag):
            return IndexStretch(
                table: "pop.device_tags", fixed: [("tag", conditions.parameter(.text(tag)))],
                keys: ["device_id"])
        case .order, .prefix, .node, .location:
            let state = states.count == 1 && lead != .prefix ? states : []
            var stretch = IndexStretch(
                table: "pop.devices",
                fixed: fixed(lead, &conditions) + state.map { ("status", $0) },
                keys: (state.isEmpty && lead != .prefix ? ["status"] : []) + ["device_id"])
            if lead == .prefix { bound(&stretch, by: prefix, &conditions) }
            return stretch
        }
    }

    // MARK: The page

    /// The rows of a page as a first walk finds them.
    func firstRows() throws(StoreFailure) -> PostgresStatement {
        try rows(likelyLead, steps: bounds.glance)
    }

    /// The rows of a page, found by what leads.
    func rows(_ lead: Lead) throws(StoreFailure) -> PostgresStatement {
        try rows(lead, steps: bounds.walk)
    }

    private func rows(_ lead: Lead, steps: Int) throws(StoreFailure) -> PostgresStatement {
        if let cursor = query.cursor {
            guard cursor.list == listName else { throw .invalidCursor }
        }
        var conditions = Conditions()
        let page = WalkedPage(steps, limit: query.limit, descending: query.descending)
        let branches = branches(lead, page, &conditions)
        return PostgresStatement(
            page.sql(DeviceReads.columns, of: "pop.devices", by: "device_id", branches),
            conditions.parameters)
    }

    /// - Parameter results: of ``firstRows()`` or ``rows(_:)``.
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

    private func branches(_ lead: Lead, _ page: WalkedPage, _ conditions: inout Conditions) -> [String] {
        switch (lead, query.sort) {
        case (.prefix, _), (.tag, .connectedAt), (.tag, .activeConns):
            return [few(lead, &conditions)]
        case (.tag, .deviceID):
            return [tagged(lead, page, &conditions)]
        case (_, .deviceID):
            return byID(lead, page, key: "''::text", from: start(nil, &conditions), &conditions)
        case (_, .connectedAt):
            let from = start("timestamptz", &conditions)
            let others = others(lead, &conditions)
            return states.map { state in
                let stretch = IndexStretch(
                    table: "pop.devices", fixed: fixed(lead, &conditions) + [("status", state)],
                    keys: [Self.connectedAt, "device_id"], descending: query.descending, start: from)
                return walk(stretch, page, key: Self.connectedAt, others)
            }
        case (_, .activeConns):
            return byConns(lead, page, &conditions)
        }
    }

    /// The wanted states, as literals: a stretch for each.
    private var states: [String] {
        if let online = query.online { return [online ? "'online'" : "'offline'"] }
        return ["'offline'", "'online'"]
    }

    private func byID(
        _ lead: Lead, _ page: WalkedPage, key: String, from: [String]?, _ conditions: inout Conditions,
        and term: String? = nil
    ) -> [String] {
        let others = others(lead, &conditions) + [term].compactMap(\.self)
        // The primary key is an index of the devices of both states.
        let isPlain = lead == .order && query.online == nil
        let stretches = isPlain ? [[]] : states.map { [(column: "status", value: $0)] }
        return stretches.map { state in
            var stretch = IndexStretch(
                table: "pop.devices", fixed: fixed(lead, &conditions) + state, keys: ["device_id"],
                descending: query.descending, start: from)
            if query.sort == .deviceID { bound(&stretch, by: prefix, &conditions) }
            return walk(stretch, page, key: key, others)
        }
    }

    /// The devices with a tag, in the order of their ids.
    private func tagged(_ lead: Lead, _ page: WalkedPage, _ conditions: inout Conditions) -> String {
        var stretch = whole(lead, &conditions)
        stretch.descending = query.descending
        stretch.start = start(nil, &conditions)
        bound(&stretch, by: prefix, &conditions)
        return walkJoined(stretch, page, key: "''::text", others(lead, &conditions, andState: true))
    }

    /// The devices that have conns, by their number, and those that have none, by their ids.
    private func byConns(_ lead: Lead, _ page: WalkedPage, _ conditions: inout Conditions) -> [String] {
        // Behind a cursor at a device with conns there are none without, or all of them.
        let isAtIdle = query.cursor.map { $0.key == Self.none }
        var branches: [String] = []
        if isAtIdle != false || query.descending {
            let from = isAtIdle == true ? start(nil, &conditions) : nil
            branches += byID(
                lead, page, key: "\(Self.none)::bigint", from: from, &conditions,
                and: "active_conns = \(Self.none)"
            )
        }
        if isAtIdle != true || !query.descending {
            let stretch = IndexStretch(
                table: "pop.busy_devices", fixed: fixed(lead, &conditions),
                keys: ["active_conns", "device_id"], descending: query.descending,
                start: isAtIdle == false ? start("bigint", &conditions) : nil)
            branches.append(
                walkJoined(stretch, page, key: "active_conns", others(lead, &conditions, andState: true)))
        }
        return branches
    }

    private static let none = "0"

    /// All rows of a lead that has few, sorted.
    private func few(_ lead: Lead, _ conditions: inout Conditions) -> String {
        let isByTime = query.sort == .connectedAt
        let key = isByTime ? Self.connectedAt : "active_conns"
        var terms = others(lead, &conditions, andState: true)
        if let values = start(isByTime ? "timestamptz" : "bigint", &conditions) {
            let comparison = query.descending ? "<" : ">"
            terms.append("(\(key), device_id) \(comparison) (\(values.joined(separator: ", ")))")
        }
        let stretch = whole(lead, &conditions)
        let judged = "SELECT device_id AS id, \(key) AS key, \(all(terms)) AS fits FROM pop.devices"
        let found =
            lead == .prefix
            ? "(\(judged) \(stretch.sql)) f"
            : """
            (SELECT device_id FROM \(stretch.table) \(stretch.sql)) s
                CROSS JOIN LATERAL (\(judged) WHERE devices.device_id = s.device_id OFFSET 0) f
            """
        let direction = query.descending ? "DESC" : "ASC"
        return """
            SELECT f.id, f.key, f.fits, false AS is_cut FROM \(found)
            WHERE f.fits ORDER BY f.key \(direction), f.id \(direction)
            """
    }

    // MARK: Parts

    private func walk(
        _ stretch: IndexStretch, _ page: WalkedPage, key: String, _ others: [String]
    ) -> String {
        page.walk(
            """
            SELECT device_id AS id, \(key) AS key, \(all(others)) AS fits FROM \(stretch.table) \(stretch.sql)
            """, isFiltered: !others.isEmpty)
    }

    /// Walks rows that stand for devices; whether a device fits is in its own row.
    private func walkJoined(
        _ stretch: IndexStretch, _ page: WalkedPage, key: String, _ others: [String]
    ) -> String {
        guard !others.isEmpty else { return walk(stretch, page, key: key, others) }
        return page.walk(
            """
            SELECT s.id, s.key, f.fits FROM (
                SELECT device_id AS id, \(key) AS key FROM \(stretch.table) \(stretch.sql) LIMIT \(page.steps)
            ) s CROSS JOIN LATERAL (
                SELECT \(all(others)) AS fits FROM pop.devices WHERE devices.device_id = s.id OFFSET 0
            ) f
            """, isFiltered: true)
    }

    private func fixed(_ lead: Lead, _ conditions: inout Conditions) -> [(column: String, value: String)] {
        switch lead {
        case .node: [("node_id", conditions.parameter(.text(query.nodeID?.description)))]
        case .location: [("location", conditions.parameter(.text(query.location)))]
        case .order, .tag, .prefix: []
        }
    }

    /// The filters that the lead does not answer for.
    private func others(_ lead: Lead, _ conditions: inout Conditions, andState: Bool = false) -> [String] {
        var terms: [String] = []
        if andState, states.count == 1 { terms += states.map { "status = " + $0 } }
        if lead != .node, let node = query.nodeID {
            terms.append("node_id = " + conditions.parameter(.text(node.description)))
        }
        if lead != .location, let location = query.location {
            terms.append("location = " + conditions.parameter(.text(location)))
        }
        // Also behind a tag that leads: what `pop.device_tags` says is only where to look.
        if !query.tags.isEmpty {
            terms.append("tags @> " + conditions.parameter(.texts(query.tags)) + "::text[]")
        }
        if query.sort != .deviceID, lead != .prefix, let prefix {
            terms.append("device_id >= " + conditions.parameter(.text(prefix)))
            terms.append("device_id < " + conditions.parameter(.text(prefix + Self.prefixEnd)))
        }
        return terms
    }

    /// What a stretch begins behind: the values of the order's columns at the cursor.
    private func start(_ type: String?, _ conditions: inout Conditions) -> [String]? {
        guard let cursor = query.cursor, !isOutside(cursor) else { return nil }
        let id = conditions.parameter(.text(cursor.id))
        guard let type else { return [id] }
        return [conditions.parameter(.text(cursor.key)) + "::" + type, id]
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
