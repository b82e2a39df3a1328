internal import Domain
internal import Postgres

/// The statements about `pop.users` and what users have carried.
enum UserStatements {
    private static let listName = "users"
    private static let limits = "max_conns, bytes_quota, rate_bytes_per_second, allowed_locations"
    private static let month = "date_trunc('month', now() AT TIME ZONE 'UTC')::date"
    private static let row = """
        name, \(limits), created_at, coalesce((
            SELECT sum(bytes_sent + bytes_received) FROM pop.user_usage
            WHERE user_name = name AND month = \(month)), 0)::bigint AS bytes_used
        """
    static let maximumRows = 1_000

    // MARK: Operators

    static func list(limit: Int, cursor: ListCursor?) throws(StoreFailure) -> PostgresStatement {
        var conditions = Conditions()
        if let cursor {
            guard cursor.list == listName else { throw .invalidCursor }
            conditions.require("name > \(conditions.parameter(.text(cursor.id)))")
        }
        let rows = conditions.parameter(.integer(Int64(pageRows(limit) + 1)))
        return PostgresStatement(
            "SELECT \(row) FROM pop.users \(conditions.sql) ORDER BY name LIMIT \(rows)",
            conditions.parameters)
    }

    static func page(limit: Int, _ result: PostgresResult) throws(PostgresError) -> ListPage<UserRow> {
        try makePage(result, limit: limit, decode: decode) { _, user throws(PostgresError) in
            ListCursor(list: listName, key: "", id: user.name.description)
        }
    }

    static func one(_ name: UserName) -> PostgresStatement {
        PostgresStatement("SELECT \(row) FROM pop.users WHERE name = $1", [.text(name.description)])
    }

    static func decode(_ row: PostgresRow) throws(PostgresError) -> UserRow {
        UserRow(
            name: try row.value("name", UserName.init), limits: try decodeLimits(row),
            createdAt: try row.time("created_at"), bytesUsed: try row.integer("bytes_used"))
    }

    private static func decodeLimits(_ row: PostgresRow) throws(PostgresError) -> UserLimits {
        UserLimits(
            maxConns: try row.optionalInteger("max_conns"),
            bytesQuota: try row.optionalInteger("bytes_quota"),
            rateBytesPerSecond: try row.optionalInteger("rate_bytes_per_second"),
            allowedLocations: try row.strings("allowed_locations"))
    }

    /// Answers with the user's row; with none when there is one of that name.
    static func create(_ user: NewUser) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.users (name, password_hash, \(limits))
            VALUES ($1, $2, $3::bigint, $4::bigint, $5::bigint, $6::text[])
            ON CONFLICT DO NOTHING RETURNING \(row)
            """,
            [
                .text(user.name.description), .text(user.passwordHash), number(user.limits.maxConns),
                number(user.limits.bytesQuota), number(user.limits.rateBytesPerSecond),
                .texts(user.limits.allowedLocations),
            ])
    }

    /// Answers with the user's row; with none when there is no such user.
    static func change(_ name: UserName, _ change: UserChange) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.users SET password_hash = coalesce($2, password_hash),
                max_conns = CASE WHEN $3::boolean THEN $4::bigint ELSE max_conns END,
                bytes_quota = CASE WHEN $5::boolean THEN $6::bigint ELSE bytes_quota END,
                rate_bytes_per_second = CASE WHEN $7::boolean THEN $8::bigint ELSE rate_bytes_per_second END,
                allowed_locations = coalesce($9::text[], allowed_locations)
            WHERE name = $1 RETURNING \(row)
            """,
            [
                .text(name.description), .text(change.passwordHash), .boolean(change.maxConns.isSet),
                number(change.maxConns.value ?? nil), .boolean(change.bytesQuota.isSet),
                number(change.bytesQuota.value ?? nil), .boolean(change.rateBytesPerSecond.isSet),
                number(change.rateBytesPerSecond.value ?? nil),
                change.allowedLocations.value.map { .texts($0) } ?? .null,
            ])
    }

    static func delete(_ name: UserName) -> PostgresStatement {
        PostgresStatement("DELETE FROM pop.users WHERE name = $1", [.text(name.description)])
    }

    private static func number(_ value: UInt64?) -> PostgresParameter {
        value.map { .integer($0) } ?? .null
    }

    // MARK: Nodes

    private static let key = "u.name, u.password_hash, u.max_conns, u.bytes_quota, u.rate_bytes_per_second"

    /// Of the present month, but for what this life counts itself.
    private static func elsewhere(_ column: String, _ node: String, _ incarnation: String) -> String {
        """
        coalesce((
            SELECT sum(bytes_sent + bytes_received) FROM pop.user_usage
            WHERE user_name = \(column) AND month = \(month)
                AND (node_id, incarnation) <> (\(node), \(incarnation)::uuid)), 0)::bigint AS bytes_elsewhere
        """
    }

    static func key(of name: UserName, _ life: NodeLife) -> PostgresStatement {
        keys(of: [name], life)
    }

    static func keys(of names: [UserName], _ life: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT \(key), u.allowed_locations, \(elsewhere("u.name", "$2", "$3"))
            FROM pop.users u WHERE u.name = ANY($1::text[])
            """, [.texts(names.map(\.description)), life.nodeID, .uuid(life.incarnation)])
    }

    static func decodeKeys(_ result: PostgresResult) throws(PostgresError) -> [UserName: UserKey] {
        var keys: [UserName: UserKey] = [:]
        for row in result.rows {
            let key = try decodeKey(row)
            keys[key.name] = key
        }
        return keys
    }

    static func decodeKey(_ row: PostgresRow) throws(PostgresError) -> UserKey {
        UserKey(
            name: try row.value("name", UserName.init), passwordHash: try row.string("password_hash"),
            limits: try decodeLimits(row), bytesElsewhere: try row.integer("bytes_elsewhere"))
    }

    static func changes(after revision: Int64, _ life: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT c.name AS changed_name, c.revision, \(key),
                coalesce(u.allowed_locations, '{}') AS allowed_locations, \(elsewhere("u.name", "$2", "$3"))
            FROM pop.user_changes c LEFT JOIN pop.users u USING (name)
            WHERE c.revision > $1::bigint ORDER BY c.revision LIMIT \(maximumRows)
            """, [.integer(revision), life.nodeID, .uuid(life.incarnation)])
    }

    static func decodeNotice(_ row: PostgresRow) throws(PostgresError) -> UserNotice {
        let isThere = try row.optionalString("password_hash") != nil
        return UserNotice(
            name: try row.value("changed_name", UserName.init), revision: try row.integer("revision"),
            key: isThere ? try decodeKey(row) : nil)
    }

    /// What other lives have counted of these users this month.
    static func usage(of names: [UserName], _ life: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT n.name, \(elsewhere("n.name", "$2", "$3")) FROM unnest($1::text[]) AS n(name)
            """, [.texts(names.map(\.description)), life.nodeID, .uuid(life.incarnation)])
    }

    static func decodeUsage(_ result: PostgresResult) throws(PostgresError) -> [UserName: UInt64] {
        var usage: [UserName: UInt64] = [:]
        for row in result.rows {
            usage[try row.value("name", UserName.init)] = try row.integer("bytes_elsewhere")
        }
        return usage
    }

    /// What this life has counted only grows.
    static func note(_ usages: [UserUsage], _ life: NodeLife) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.user_usage AS u
                (user_name, month, node_id, incarnation, bytes_sent, bytes_received)
            SELECT t.name, t.month::date, $5, $6::uuid, t.sent, t.received
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS t(name, month, sent, received)
            ORDER BY t.name, t.month
            ON CONFLICT (user_name, month, node_id, incarnation) DO UPDATE SET
                bytes_sent = greatest(u.bytes_sent, excluded.bytes_sent),
                bytes_received = greatest(u.bytes_received, excluded.bytes_received)
            """,
            [
                .texts(usages.map(\.name.description)), .texts(usages.map { "\($0.month)-01" }),
                .integers(usages.map(\.bytesSent)), .integers(usages.map(\.bytesReceived)), life.nodeID,
                .uuid(life.incarnation),
            ])
    }

    // MARK: Sticky sessions

    /// Gives the session the device that it claims, unless it has one: whose device is connected, or was not
    /// known to be gone when it was asked, keeps it. Answers with the device that it has then.
    static func claim(_ claim: StickyClaim) -> [PostgresStatement] {
        [
            PostgresStatement(
                """
                INSERT INTO pop.sticky_sessions AS s (user_name, session_key, device_id, expires_at)
                VALUES ($1, $2, $3, $4::timestamptz)
                ON CONFLICT (user_name, session_key) DO UPDATE
                SET device_id = excluded.device_id, expires_at = excluded.expires_at
                WHERE s.expires_at <= now() OR s.device_id = $5 OR NOT EXISTS (
                    SELECT 1 FROM pop.devices d WHERE d.device_id = s.device_id AND d.status = 'online')
                """,
                [
                    .text(claim.user), .text(claim.session), .text(claim.device.description),
                    .time(claim.expiresAt), .text(claim.replacing?.description),
                ]),
            PostgresStatement(
                """
                SELECT s.device_id, s.expires_at,
                    CASE WHEN d.status = 'online' THEN d.node_id END AS node_id
                FROM pop.sticky_sessions s LEFT JOIN pop.devices d USING (device_id)
                WHERE s.user_name = $1 AND s.session_key = $2
                """, [.text(claim.user), .text(claim.session)]),
        ]
    }

    static func decodeHolding(_ row: PostgresRow) throws(PostgresError) -> StickyHolding {
        StickyHolding(
            device: try row.value("device_id", DeviceID.init), expiresAt: try row.time("expires_at"),
            node: try row.optional("node_id", NodeID.init))
    }

    /// What sessions were given while nobody could be asked; what others were given meanwhile stays.
    static func note(_ claims: [StickyClaim]) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.sticky_sessions AS s (user_name, session_key, device_id, expires_at)
            SELECT DISTINCT ON (t.name, t.key) t.name, t.key, t.device, t.expires_at
            FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
                AS t(name, key, device, expires_at)
            ORDER BY t.name, t.key, t.expires_at DESC
            ON CONFLICT (user_name, session_key) DO UPDATE
            SET device_id = excluded.device_id, expires_at = excluded.expires_at
            WHERE s.expires_at <= now()
            """,
            [
                .texts(claims.map(\.user)), .texts(claims.map(\.session)),
                .texts(claims.map(\.device.description)), .times(claims.map(\.expiresAt)),
            ])
    }
}
