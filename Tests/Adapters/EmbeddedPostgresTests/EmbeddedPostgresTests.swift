import EmbeddedPostgres
import TemporaryPostgres
import Testing

@Suite struct EmbeddedPostgresTests {
    @Test func aClusterStartsAnswersStopsAndKeepsItsRows() throws {
        let cluster = try TemporaryCluster()
        do {
            let connection = try BlockingConnection(cluster.connectionString)
            try connection.query("CREATE TABLE kept (value integer)")
            try connection.query("INSERT INTO kept VALUES (42)")
        }
        cluster.stop()
        #expect(throws: (any Error).self) { try BlockingConnection(cluster.connectionString) }
        try cluster.start()
        let connection = try BlockingConnection(cluster.connectionString)
        #expect(try connection.scalar("SELECT value FROM kept") == "42")
    }

    @Test func aSecondUseOfTheSameDirectoryIsRefused() throws {
        let cluster = try TemporaryCluster()
        #expect(throws: EmbeddedPostgresError.directoryInUse(cluster.directory)) {
            try EmbeddedPostgres(dataDirectory: cluster.directory)
        }
    }
}
