internal import Domain
internal import Postgres

/// The statements about `pop.idempotency_keys`.
///
///     (no row) -- claim --> at work -- settle --> answered, for 24 h
///        ^                   |  |
///        `----- release -----'  `-- claim, once the attempt counts as dead --> at work
enum IdempotencyStatements {
    /// An attempt that has not answered by then has died with its node: the longest call asks the database
    /// three times, each within seconds.
    private static let attemptLifetime = "interval '60 seconds'"
    /// Contract section 5.
    private static let answerLifetime = "interval '24 hours'"

    /// Two statements: the second one's row says whose the key is now.
    static func claim(_ claim: KeyClaim) -> [PostgresStatement] {
        [
            PostgresStatement(
                """
                INSERT INTO pop.idempotency_keys AS k (owner, key, request_sha256, claim)
                VALUES ($1, $2, decode($3, 'hex'), $4::uuid)
                ON CONFLICT (owner, key) DO UPDATE SET request_sha256 = excluded.request_sha256,
                    claim = excluded.claim, claimed_at = now(), status = NULL, location = NULL, etag = NULL,
                    body = NULL
                WHERE k.claimed_at < now() - \(answerLifetime)
                    OR (k.status IS NULL AND k.claimed_at < now() - \(attemptLifetime)
                        AND k.request_sha256 = excluded.request_sha256)
                """,
                [
                    .text(claim.owner), .text(claim.key), .text(Hexadecimal.encode(claim.requestSHA256)),
                    .uuid(claim.claim),
                ]),
            PostgresStatement(
                """
                SELECT claim, encode(request_sha256, 'hex') AS request_sha256, status, location, etag, body
                FROM pop.idempotency_keys WHERE owner = $1 AND key = $2
                """, [.text(claim.owner), .text(claim.key)]),
        ]
    }

    static func state(_ claim: KeyClaim, _ result: PostgresResult) throws(PostgresError) -> KeyState {
        guard let row = result.rows.first else {
            throw PostgresError(.unexpectedAnswer, "the claimed key is not there")
        }
        if try row.value("claim", { SessionID($0) }) == claim.claim { return .claimed }
        guard try row.string("request_sha256") == Hexadecimal.encode(claim.requestSHA256) else {
            return .otherRequest
        }
        guard let status = try row.optionalInteger("status", as: Int.self) else { return .inFlight }
        return .answered(
            KeyedAnswer(
                status: status, location: try row.optionalString("location"),
                etag: try row.optionalString("etag"), body: try row.optionalString("body")))
    }

    /// Keeps the answer, unless another attempt has taken over.
    static func settle(_ claim: KeyClaim, _ answer: KeyedAnswer) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.idempotency_keys SET status = $4::integer, location = $5, etag = $6, body = $7
            WHERE owner = $1 AND key = $2 AND claim = $3::uuid
            """,
            [
                .text(claim.owner), .text(claim.key), .uuid(claim.claim), .integer(Int64(answer.status)),
                .text(answer.location), .text(answer.etag), .text(answer.body),
            ])
    }

    /// Lets the next attempt do the work: this one has done none.
    static func release(_ claim: KeyClaim) -> PostgresStatement {
        PostgresStatement(
            "DELETE FROM pop.idempotency_keys WHERE owner = $1 AND key = $2 AND claim = $3::uuid",
            [.text(claim.owner), .text(claim.key), .uuid(claim.claim)])
    }
}
