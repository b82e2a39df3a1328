internal import Domain
internal import Postgres

/// The statements about `pop.admin_tokens`.
enum AdminTokenStatements {
    /// More tokens than any organisation keeps track of; every node has them all in memory.
    static let maximumTokens = 10_000
    private static let listName = "admin_tokens"
    private static let columns = """
        token_id, name, scope, created_at, created_by, expires_at, last_used_at
        """

    // MARK: Reading

    static func list(limit: Int, cursor: ListCursor?) throws(StoreFailure) -> PostgresStatement {
        var conditions = Conditions()
        if let cursor {
            guard cursor.list == listName else { throw .invalidCursor }
            let key = conditions.parameter(.text(cursor.key))
            let id = conditions.parameter(.text(cursor.id))
            conditions.require("(created_at, token_id) < (\(key)::timestamptz, \(id)::uuid)")
        }
        let rows = conditions.parameter(.integer(Int64(pageRows(limit) + 1)))
        return PostgresStatement(
            """
            SELECT \(columns), created_at::text AS cursor_key FROM pop.admin_tokens \(conditions.sql)
            ORDER BY created_at DESC, token_id DESC LIMIT \(rows)
            """, conditions.parameters)
    }

    static func page(
        limit: Int, _ result: PostgresResult
    ) throws(PostgresError) -> ListPage<AdminTokenRow> {
        try makePage(result, limit: limit, decode: decode) { row, token throws(PostgresError) in
            ListCursor(list: listName, key: try row.string("cursor_key"), id: token.tokenID.description)
        }
    }

    static func one(_ token: TokenID) -> PostgresStatement {
        PostgresStatement(
            "SELECT \(columns) FROM pop.admin_tokens WHERE token_id = $1::uuid", [.uuid(token)])
    }

    static func decode(_ row: PostgresRow) throws(PostgresError) -> AdminTokenRow {
        AdminTokenRow(
            tokenID: try row.value("token_id") { TokenID($0) }, name: try row.string("name"),
            scope: try row.string("scope"), createdAt: try row.time("created_at"),
            createdBy: try row.string("created_by"), expiresAt: try row.optionalTime("expires_at"),
            lastUsedAt: try row.optionalTime("last_used_at"))
    }

    /// Revision and tokens in one snapshot; a row without a token when there is none.
    static let book = PostgresStatement(
        """
        SELECT r.revision, t.token_id, t.name, t.scope, encode(t.token_sha256, 'hex') AS sha256, t.expires_at
        FROM pop.revisions r LEFT JOIN (
            SELECT * FROM pop.admin_tokens ORDER BY created_at LIMIT \(maximumTokens)
        ) t ON true
        WHERE r.subject = 'admin_tokens'
        """)

    static func decodeBook(_ result: PostgresResult) throws(PostgresError) -> AdminTokenBook {
        guard let first = result.rows.first else {
            throw PostgresError(.unexpectedAnswer, "no revision of the admin tokens")
        }
        var keys: [AdminTokenKey] = []
        for row in result.rows {
            guard let token = try row.optional("token_id", { TokenID($0) }) else { continue }
            keys.append(
                AdminTokenKey(
                    tokenID: token, name: try row.string("name"), scope: try row.string("scope"),
                    sha256: try row.value("sha256") { Hexadecimal.decode($0) },
                    expiresAt: try row.optionalTime("expires_at")))
        }
        return AdminTokenBook(revision: try first.integer("revision"), keys: keys)
    }

    // MARK: Changing

    /// Answers with the token's row; with none when there are too many.
    static func create(_ token: NewAdminToken) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO pop.admin_tokens (token_id, name, scope, token_sha256, created_by, expires_at)
            SELECT $1::uuid, $2, $3, decode($4, 'hex'), $5, $6::timestamptz
            WHERE (SELECT count(*) FROM pop.admin_tokens) < \(maximumTokens)
            RETURNING \(columns)
            """,
            [
                .uuid(token.tokenID), .text(token.name), .text(token.scope),
                .text(Hexadecimal.encode(token.sha256)), .text(token.createdBy), .time(token.expiresAt),
            ])
    }

    static func delete(_ token: TokenID) -> PostgresStatement {
        PostgresStatement("DELETE FROM pop.admin_tokens WHERE token_id = $1::uuid", [.uuid(token)])
    }

    static func noteUses(_ uses: [AdminTokenUse]) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.admin_tokens a SET last_used_at = greatest(a.last_used_at, t.at)
            FROM (
                SELECT token_id, max(at) AS at
                FROM unnest($1::uuid[], $2::timestamptz[]) AS u(token_id, at) GROUP BY token_id
                ORDER BY token_id
            ) t
            WHERE a.token_id = t.token_id
            """, [.uuids(uses.map(\.tokenID)), .times(uses.map(\.at))])
    }
}
