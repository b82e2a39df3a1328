import EmbeddedPostgres
import EventLoop
import Glibc
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

    @Test func theDirectoryIsFreeAfterAStopWhoeverHoldsACopyOfItsLock() throws {
        let cluster = try TemporaryCluster()
        // What a child has between fork and exec; other tests have many descriptors at the same time.
        let copies = (0..<65_536).filter { descriptor in
            var path = [CChar](repeating: 0, count: 256)
            let length = readlink("/proc/self/fd/\(descriptor)", &path, path.count)
            let octets = path.prefix(max(0, length)).map { UInt8(bitPattern: $0) }
            return String(decoding: octets, as: UTF8.self) == cluster.directory + "/postgres.lock"
        }.map { dup(Int32($0)) }
        defer { for copy in copies { close(copy) } }
        #expect(copies.count == 1)
        cluster.stop()
        try cluster.start()
    }

    @Test func aSecondUseOfTheSameDirectoryIsRefused() throws {
        let cluster = try TemporaryCluster()
        #expect(throws: EmbeddedPostgresError.directoryInUse(cluster.directory)) {
            try EmbeddedPostgres(dataDirectory: cluster.directory)
        }
    }

    @Test func aRelativeDirectoryAndAVeryLongOneWork() throws {
        let base = TemporaryDirectory()
        let name = String(repeating: "long", count: 30)
        // Reaches /tmp from wherever the tests run.
        let relative = String(repeating: "../", count: 40) + base.path.dropFirst() + "/" + name
        let server = try EmbeddedPostgres(dataDirectory: relative, options: .init(isDurable: false))
        defer { server.stop() }
        let connection = try BlockingConnection(server.connectionString)
        #expect(try connection.scalar("SHOW listen_addresses") == "")
        #expect(server.connectionString.contains("/tmp/pop-postgres-"))
        #expect(access("\(base.path)/\(name)/postgres/PG_VERSION", F_OK) == 0)
    }

    @Test(.enabled(if: geteuid() == 0))
    func asRootTheServerRunsAsAnotherUserAndSaysWhereItCanNotPass() throws {
        let cluster = try TemporaryCluster()
        let process = try #require(cluster.processID)
        var status = stat()
        #expect(stat("/proc/\(process)", &status) == 0)
        #expect(status.st_uid != 0)

        let base = TemporaryDirectory()
        chmod(base.path, 0o700)
        do throws(EmbeddedPostgresError) {
            _ = try EmbeddedPostgres(dataDirectory: base.path + "/data", options: .init(isDurable: false))
            Issue.record("it started")
        } catch {
            guard case .notTraversable(let directory, _) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(directory == base.path)
        }
    }

    @Test func aProcessFileOfADeadServerIsNoHindrance() throws {
        let cluster = try TemporaryCluster()
        cluster.stop()
        // A number that has since gone to a program that is no server: this one.
        let file = cluster.directory + "/postgres/postmaster.pid"
        try Files.write(Array("\(getpid())\n\(cluster.directory)/postgres\n".utf8), to: file, mode: 0o644)
        try cluster.start()
        let connection = try BlockingConnection(cluster.connectionString)
        #expect(try connection.scalar("SELECT 1") == "1")
    }

    @Test func whenItsProcessIsKilledTheServerStopsInOrderAndAnotherOneFindsItsRows() throws {
        let base = TemporaryDirectory()
        let helper = try HelperProcess(in: base, account: nil)
        defer { helper.kill() }
        let connectionString = try #require(helper.waitForConnectionString())
        let connection = try BlockingConnection(connectionString)
        let backend = try connection.scalar("SELECT pg_backend_pid()")
        let server = try #require(backend.flatMap { Int32($0) })
        try connection.query("CREATE TABLE kept AS SELECT 42 AS value")
        helper.kill()
        // Takes the directory over while the first server may still be ending.
        let successor = try EmbeddedPostgres(
            dataDirectory: base.path + "/data", options: .init(isDurable: false))
        defer { successor.stop() }
        #expect(Glibc.kill(server, 0) != 0)
        let next = try BlockingConnection(successor.connectionString)
        #expect(try next.scalar("SELECT value FROM kept") == "42")
        let log = String(
            decoding: try Files.read(base.path + "/data/postgres.log"), as: UTF8.self)
        #expect(log.contains("received fast shutdown request"))
        #expect(!log.contains("not properly shut down"))
    }

    @Test(.enabled(if: geteuid() == 0))
    func aNormalUserRunsTheServerAsItself() throws {
        let base = TemporaryDirectory()
        let nobody = ChildProcess.Account(userID: 65_534, groupID: 65_534)
        chown(base.path, nobody.userID, nobody.groupID)
        let helper = try HelperProcess(in: base, account: nobody)
        defer { helper.kill() }
        let connectionString = try #require(helper.waitForConnectionString())
        let connection = try BlockingConnection(connectionString)
        let server = try #require(try connection.scalar("SELECT pg_backend_pid()"))
        var status = stat()
        #expect(stat("/proc/\(server)", &status) == 0)
        #expect(status.st_uid == nobody.userID)
    }
}
