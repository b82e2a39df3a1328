import Domain
import EventLoop
import Postgres
import Store
import TemporaryPostgres
import TestKit
import Testing

/// The days' partitions of load reports and ended conns, made and dropped by several nodes while they write.
@Suite struct PartitionTests {
    private let url: String
    private let sql: BlockingConnection

    init() throws {
        url = try TemporaryPostgres.makeDatabase()
        let store = try StoreHarness(url)
        #expect(store.pump { store.client.health.isConnected })
        sql = try BlockingConnection(url)
    }

    @Test func twoNodesMakeEachPartitionOnce() throws {
        try sql.run(
            script: """
                DO $$ DECLARE name text; BEGIN
                    FOR name IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                        WHERE c.relname ~ '_[0-9]{8}$'
                    LOOP EXECUTE format('DROP TABLE pop.%I', name); END LOOP;
                END $$
                """)
        let other = try BlockingConnection(url)
        var made: [Int] = []
        for node in [sql, other] {
            node.connection.submit([PostgresStatement("SELECT pop.make_partitions(3) AS made")]) { result in
                made.append((try? result.get().first?.rows.first?.integer("made")) ?? -1)
            }
        }
        #expect(pump(sql, other) { made.count == 2 })
        #expect(made.sorted() == [0, 10])
        #expect(try partitions() == 10)
    }

    @Test func twoNodesDropWhatHasExpiredOnce() throws {
        try makeOldDays()
        let other = try BlockingConnection(url)
        var dropped: [Int] = []
        for node in [sql, other] {
            node.connection.submit([PostgresStatement("SELECT pop.drop_expired(30) AS dropped")]) { result in
                dropped.append((try? result.get().first?.rows.first?.integer("dropped")) ?? -1)
            }
        }
        #expect(pump(sql, other) { dropped.count == 2 })
        #expect(dropped.sorted() == [0, 4])
        #expect(try partitions() == 10)
    }

    /// Whoever reads or writes the table goes first, and nobody waits long behind the one who wants to drop.
    @Test func aPartitionInUseIsLeftForTheNextTime() throws {
        try makeOldDays()
        let reader = try BlockingConnection(url)
        try reader.run(script: "BEGIN; SELECT count(*) FROM pop.conns")
        let dropped = try sql.scalar("SELECT pop.drop_expired(30)")
        #expect(dropped == "2", "of device_load, which nobody uses")
        #expect(try partitions() == 12)
        try reader.run(script: "COMMIT")
        #expect(try sql.scalar("SELECT pop.drop_expired(30)") == "2")
        #expect(try partitions() == 10)
    }

    @Test func partitionsThatCannotBeMadeNowAreMadeTheNextTime() throws {
        try sql.run(
            script: """
                DO $$ BEGIN EXECUTE format('DROP TABLE pop.conns_%s',
                    to_char((now() AT TIME ZONE 'UTC')::date + 2, 'YYYYMMDD')); END $$
                """)
        let writer = try BlockingConnection(url)
        try writer.run(script: "BEGIN; LOCK TABLE pop.conns IN ROW EXCLUSIVE MODE")
        #expect(try sql.scalar("SELECT pop.make_partitions(3)") == "0")
        try writer.run(script: "COMMIT")
        #expect(try sql.scalar("SELECT pop.make_partitions(3)") == "1")
    }

    /// A conn whose end came long after or before all partitions is kept, and goes when its day has expired.
    @Test func daysWithoutAPartitionAreKeptAndExpireAsWell() throws {
        let store = try StoreHarness(url)
        var records = Records()
        let session = try records.session("far")
        #expect(store.start(session))
        for days in [Int64(-400), -10, 0, 10, 400] {
            var conn = records.conn(of: session)
            conn.endedAt = WallTime(microseconds: conn.endedAt.microseconds + days * 86_400_000_000)
            store.client.record(.connEnded(conn))
        }
        #expect(store.waitForWritten(6))
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns") == "5")
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns_default") == "4")
        try sql.query("SELECT pop.drop_expired(30)")
        #expect(try sql.scalar("SELECT count(*) FROM pop.conns_default") == "3")
        // A day that is in the default partition stays there; the others are made all the same.
        #expect(try sql.scalar("SELECT pop.make_partitions(12)") == "17")
    }

    private func pump(_ nodes: BlockingConnection..., until condition: () -> Bool) -> Bool {
        for _ in 0..<3_000 where !condition() {
            for node in nodes { node.pump(rounds: 1) { false } }
        }
        return condition()
    }

    private func makeOldDays() throws {
        for table in ["device_load", "conns"] {
            for days in [40, 41] {
                try sql.run(
                    script: """
                        DO $$ DECLARE day date := (now() AT TIME ZONE 'UTC')::date - \(days); BEGIN
                            EXECUTE format('CREATE TABLE pop.\(table)_%s PARTITION OF pop.\(table)
                                FOR VALUES FROM (%L) TO (%L)', to_char(day, 'YYYYMMDD'),
                                day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
                        END $$
                        """)
            }
        }
    }

    private func partitions() throws -> Int {
        let count = try sql.scalar(
            """
            SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent IN ('pop.device_load'::regclass, 'pop.conns'::regclass)
                AND c.relname ~ '_[0-9]{8}$'
            """)
        return try #require(count.flatMap { Int($0) })
    }
}
