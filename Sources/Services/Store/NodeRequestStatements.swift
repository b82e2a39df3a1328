internal import Domain
internal import EventLoop
internal import Postgres

/// The statements about `pop.node_requests`.
///
///     (no row) -- ask --> waiting -- claim --> claimed -- answer --> answered -- take --> (no row)
///                            |                    |                     |
///                            `---- settle --------+---- settle at last -´      (the asking node gives up)
enum NodeRequestStatements {
    /// Questions that may wait for one node; more are more than it is up to.
    static let mostWaiting = 256

    /// Two statements: the first one's row says what state the node is in, and whether it is asked now.
    static func ask(_ id: SessionID, _ question: NodeQuestion, of life: NodeLife, lifetime: Duration)
        -> [PostgresStatement]
    {
        [
            PostgresStatement(
                """
                WITH asked AS (
                    SELECT pop.node_state(state, last_seen_at) AS state, (
                        SELECT count(*) FROM (
                            SELECT FROM pop.node_requests
                            WHERE asked_node = $4 AND claimed_at IS NULL AND expires_at > now()
                            LIMIT \(mostWaiting)
                        ) w) AS waiting
                    FROM pop.nodes WHERE node_id = $4
                ), added AS (
                    INSERT INTO pop.node_requests (request_id, asking_node, asking_incarnation, asked_node,
                        method, target, fields, body, actor, token_id, scope, remote_address,
                        http_request_id, expires_at)
                    SELECT $1::uuid, $2, $3::uuid, $4, $5, $6, $7::text[], $8, $9, $10::uuid, $11, $12, $13,
                        now() + $14::bigint * interval '1 microsecond'
                    FROM asked WHERE state <> 'down' AND waiting < \(mostWaiting)
                    RETURNING 1
                )
                SELECT (SELECT state FROM asked) AS state, EXISTS (SELECT FROM added) AS is_asked
                """,
                [
                    .uuid(id), life.nodeID, .uuid(life.incarnation), .text(question.node.description),
                    .text(question.method), .text(question.target), texts(question.fields),
                    .text(question.body), .text(question.actor), .uuid(question.tokenID),
                    .text(question.scope), .text(question.remoteAddress), .text(question.requestID),
                    .integer(lifetime.nanoseconds / 1_000),
                ]),
            WakeLink.wake(.requests, question.node),
        ]
    }

    /// Nil: the question waits for the node.
    static func refusal(_ results: [PostgresResult]) throws(PostgresError) -> NodeOutcome? {
        guard let row = results.first?.rows.first else {
            throw PostgresError(.unexpectedAnswer, "no word on a node's state")
        }
        if try row.boolean("is_asked") { return nil }
        guard let state = try row.optionalString("state") else { return .unknownNode }
        return state == NodeState.down.rawValue ? .down : .tooMany
    }

    /// Takes questions for good: what is claimed is never claimed again.
    static func claim(for life: NodeLife, limit: Int) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE pop.node_requests r SET claimed_at = now()
            FROM (
                SELECT request_id FROM pop.node_requests
                WHERE asked_node = $1 AND claimed_at IS NULL AND expires_at > now()
                ORDER BY created_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED
            ) w
            WHERE r.request_id = w.request_id
            RETURNING r.request_id, r.asking_node, r.method, r.target, r.fields, r.body, r.actor, r.token_id,
                r.scope, r.remote_address, r.http_request_id,
                (extract(epoch FROM r.expires_at - now()) * 1000000)::bigint AS microseconds_left
            """, [life.nodeID, .integer(Int64(limit))])
    }

    /// - Parameter asked: when the claim was sent; the database's clock was later when it told how much is left.
    static func decodeClaim(
        _ row: PostgresRow, of life: NodeLife, asked: Instant
    ) throws(PostgresError) -> ClaimedQuestion {
        ClaimedQuestion(
            id: try row.value("request_id") { SessionID($0) },
            question: NodeQuestion(
                node: life.id, method: try row.string("method"), target: try row.string("target"),
                fields: fields(try row.strings("fields")), body: try row.string("body"),
                actor: try row.string("actor"), tokenID: try row.optional("token_id") { TokenID($0) },
                scope: try row.string("scope"), remoteAddress: try row.string("remote_address"),
                requestID: try row.string("http_request_id")),
            askedBy: try row.value("asking_node", NodeID.init),
            deadline: asked + .nanoseconds(try row.integer("microseconds_left", as: Int64.self) * 1_000))
    }

    /// Said again, it changes nothing.
    static func answer(_ id: SessionID, _ answer: NodeAnswer, to node: NodeID) -> [PostgresStatement] {
        [
            PostgresStatement(
                """
                UPDATE pop.node_requests SET answered_at = now(), status = $2::integer,
                    answer_fields = $3::text[], answer_media = $4, answer_body = $5,
                    answer_is_passing = $6::boolean
                WHERE request_id = $1::uuid AND claimed_at IS NOT NULL AND answered_at IS NULL
                """,
                [
                    .uuid(id), .integer(Int64(answer.status)), texts(answer.fields), .text(answer.media),
                    .text(answer.body), .boolean(answer.isPassing),
                ]),
            WakeLink.wake(.answers, node),
        ]
    }

    private static let answerColumns =
        "request_id, answered_at, status, answer_fields, answer_media, answer_body, answer_is_passing"

    /// Takes answers out.
    static func take(for life: NodeLife, limit: Int) -> PostgresStatement {
        PostgresStatement(
            """
            DELETE FROM pop.node_requests WHERE request_id IN (
                SELECT request_id FROM pop.node_requests
                WHERE asking_node = $1 AND asking_incarnation = $2::uuid AND answered_at IS NOT NULL
                LIMIT $3::bigint
            )
            RETURNING \(answerColumns)
            """, [life.nodeID, .uuid(life.incarnation), .integer(Int64(limit))])
    }

    static func decodeTaken(
        _ row: PostgresRow
    ) throws(PostgresError) -> (id: SessionID, answer: NodeAnswer) {
        let answer = NodeAnswer(
            status: try row.integer("status"), fields: fields(try row.strings("answer_fields")),
            media: try row.optionalString("answer_media"), body: try row.string("answer_body"),
            isPassing: try row.boolean("answer_is_passing"))
        return (try row.value("request_id") { SessionID($0) }, answer)
    }

    /// Takes a question back that nobody has claimed, or its answer out; with `atLast` whatever there is of it.
    static func settle(_ id: SessionID, atLast: Bool) -> PostgresStatement {
        PostgresStatement(
            """
            DELETE FROM pop.node_requests
            WHERE request_id = $1::uuid AND (claimed_at IS NULL OR answered_at IS NOT NULL OR $2::boolean)
            RETURNING claimed_at IS NOT NULL AS is_claimed, \(answerColumns)
            """, [.uuid(id), .boolean(atLast)])
    }

    /// Nil: the node is at work, or the table was emptied by a crash of its server.
    static func decodeSettled(_ result: PostgresResult) throws(PostgresError) -> NodeOutcome? {
        guard let row = result.rows.first else { return nil }
        if try row.optionalString("answered_at") != nil { return .answered(try decodeTaken(row).answer) }
        return try row.boolean("is_claimed") ? .unanswered : .withdrawn
    }

    /// What nodes that are gone have left: whoever asked has long given up.
    static let dropAbandoned = PostgresStatement(
        "DELETE FROM pop.node_requests WHERE expires_at < now() - interval '30 seconds'")

    // MARK: Fields

    private static func texts(_ fields: [NodeQuestion.Field]) -> PostgresParameter {
        .texts(fields.flatMap { [$0.name, $0.value] })
    }

    private static func fields(_ texts: [String]) -> [NodeQuestion.Field] {
        stride(from: 0, to: texts.count - 1, by: 2).map { NodeQuestion.Field(texts[$0], texts[$0 + 1]) }
    }
}
