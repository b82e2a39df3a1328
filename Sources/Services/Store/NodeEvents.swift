package import Domain
internal import Postgres

/// Events of one node that others have asked for, as they are told to them.
package struct EventBatch: Sendable, Hashable {
    package var node: NodeID
    /// Of the node's log: another one after each start.
    package var life: UInt64
    /// One above that of the batch before it.
    package var number: UInt64
    /// A line for each event.
    package var body: String

    package init(node: NodeID, life: UInt64, number: UInt64, body: String) {
        self.node = node
        self.life = life
        self.number = number
        self.body = body
    }
}

/// How far the events of one node are known.
package struct EventPosition: Sendable, Hashable {
    package var node: NodeID
    package var life: UInt64
    package var number: UInt64

    package init(node: NodeID, life: UInt64, number: UInt64) {
        self.node = node
        self.life = life
        self.number = number
    }
}

/// The statements about `pop.node_events`.
enum NodeEventStatements {
    /// Batches at a time; more are asked for when there are so many.
    static let mostBatches = 16
    /// Who has not read a batch by then learns that it is missing.
    private static let lifetime = "interval '10 seconds'"
    /// Old batches are removed with each of so many new ones.
    private static let batchesForRemoval: UInt64 = 16

    static func tell(_ batch: EventBatch) -> [PostgresStatement] {
        var statements = [
            PostgresStatement(
                """
                INSERT INTO pop.node_events (node_id, life, number, body)
                VALUES ($1, $2::bigint, $3::bigint, $4)
                """,
                [
                    .text(batch.node.description), life(batch.life), .integer(batch.number),
                    .text(batch.body),
                ]),
            WakeLink.wake(.events),
        ]
        if batch.number % batchesForRemoval == 0 {
            statements.append(
                PostgresStatement(
                    "DELETE FROM pop.node_events WHERE node_id = $1 AND created_at < now() - \(lifetime)",
                    [.text(batch.node.description)]))
        }
        return statements
    }

    static let dropAbandoned = PostgresStatement(
        "DELETE FROM pop.node_events WHERE created_at < now() - \(lifetime)")

    /// What nodes have told behind these positions, each node's in its order.
    static func list(behind positions: [EventPosition]) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT e.node_id, e.life, e.number, e.body
            FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS p (node_id, life, number)
            CROSS JOIN LATERAL (
                SELECT * FROM pop.node_events e
                WHERE e.node_id = p.node_id AND e.life = p.life AND e.number > p.number
                ORDER BY e.number LIMIT \(mostBatches)
            ) e
            ORDER BY e.node_id, e.number LIMIT \(mostBatches)
            """,
            [
                .texts(positions.map(\.node.description)),
                .integers(positions.map { Int64(bitPattern: $0.life) }), .integers(positions.map(\.number)),
            ])
    }

    static func decode(_ row: PostgresRow) throws(PostgresError) -> EventBatch {
        EventBatch(
            node: try row.value("node_id", NodeID.init),
            life: UInt64(bitPattern: try row.integer("life", as: Int64.self)),
            number: try row.integer("number"), body: try row.string("body"))
    }

    /// All 64 bits of it.
    private static func life(_ life: UInt64) -> PostgresParameter { .integer(Int64(bitPattern: life)) }
}
