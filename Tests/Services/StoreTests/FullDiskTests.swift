import Domain
import EventLoop
import Glibc
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

/// Disks that are really full: small file systems of their own, which only root can mount.
@Suite(.enabled(if: SmallDisk.isPossible)) struct FullDiskTests {
    private var records = Records()

    @Test mutating func aDatabaseWhoseDiskIsFullGetsEverythingOnceWhenThereIsRoom() throws {
        let disk = try SmallDisk(megabytes: 64)
        let database = try TemporaryPostgres.makeDatabase()
        _ = try MigrationCommand.up(databaseURL: database)
        let sql = try BlockingConnection(database)
        let name = try #require(try sql.scalar("SELECT current_database()::text"))
        try disk.give(toOwnerOf: try #require(try sql.scalar("SHOW data_directory")))
        let other = try BlockingConnection(database.replacingDatabase(with: "postgres"))
        try other.run(script: "CREATE TABLESPACE small_\(name) LOCATION '\(disk.path)'")
        try sql.run(script: "ALTER TABLE pop.device_sessions SET TABLESPACE small_\(name)")

        let outbox = TemporaryDirectory()
        let store = try StoreHarness(database, outbox: outbox)
        #expect(store.start(try records.session("first")))
        try disk.fill()
        // As many as need a new page, whatever room the last one had.
        var count = 1
        while store.client.health.failure?.contains("No space left") != true, count < 5_000 {
            for _ in 0..<100 {
                count += 1
                store.client.startSession(try records.session("d\(count)")) {}
            }
            store.pump(rounds: 50) { store.client.health.failure?.contains("No space left") == true }
        }
        #expect(!store.client.health.isConnected)
        #expect(store.start(try records.session("last")))
        #expect(store.client.health.outbox?.failure == nil)
        try disk.makeRoom()
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        #expect(try sql.scalar("SELECT count(*) FROM pop.device_sessions") == String(count + 1))
        #expect(store.client.health.refusedEvents == 0)
        store.client.stop()
        try sql.run(script: "ALTER TABLE pop.device_sessions SET TABLESPACE pg_default")
        try other.run(script: "DROP TABLESPACE small_\(name)")
    }

    @Test mutating func anOutboxWhoseDiskIsFullIsToldAndNobodyWaits() throws {
        let disk = try SmallDisk(megabytes: 2)
        let store = try StoreHarness(
            "host=127.0.0.1 port=1 user=x dbname=x", outboxPath: disk.path + "/outbox.sqlite")
        #expect(store.start(try records.session("first")))
        try disk.fill()
        var count = 1
        while store.client.health.outbox?.failure == nil, count < 50_000 {
            var waiting = 0
            for _ in 0..<200 {
                count += 1
                waiting += 1
                store.client.startSession(try records.session("d\(count)")) { waiting -= 1 }
            }
            #expect(store.pump { waiting == 0 })
            store.pump(rounds: 20) { store.client.health.outbox?.failure != nil }
        }
        #expect(store.client.health.outbox?.failure?.contains("no room") == true)
        #expect(store.start(try records.session("last")))
        try disk.makeRoom()
        #expect(store.pump { store.client.health.outbox?.failure == nil })
        #expect(store.pump { store.client.health.outbox?.events == count + 1 })
        store.client.stop()
    }
}

/// A file system of a few megabytes, gone with this value.
private final class SmallDisk {
    static let isPossible = geteuid() == 0 && access("/proc/self/ns/mnt", F_OK) == 0 && canMount()

    let path: String
    private let filler: String

    init(megabytes: Int) throws {
        path = "/tmp/pop-test-disk-\(getpid())-\(SystemRandom().next())"
        filler = path + "/filler"
        mkdir(path, 0o700)
        guard mount("tmpfs", path, "tmpfs", 0, "size=\(megabytes)m") == 0 else {
            throw SystemError(call: "mount", errorNumber: errno)
        }
    }

    deinit {
        umount2(path, Int32(MNT_DETACH))
        rmdir(path)
    }

    private static func canMount() -> Bool {
        guard let disk = try? SmallDisk(megabytes: 1) else { return false }
        return access(disk.path, W_OK) == 0
    }

    func give(toOwnerOf other: String) throws {
        var status = stat()
        guard stat(other, &status) == 0, chown(path, status.st_uid, status.st_gid) == 0 else {
            throw SystemError(call: "chown", errorNumber: errno)
        }
    }

    /// Leaves no room at all.
    func fill() throws {
        let file = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(file) }
        let block = [UInt8](repeating: 1, count: 65_536)
        var size = block.count
        while size > 0 {
            if write(file, block, size) <= 0 { size /= 2 }
        }
    }

    func makeRoom() throws {
        guard unlink(filler) == 0 else { throw SystemError(call: "unlink", errorNumber: errno) }
    }
}

extension String {
    fileprivate func replacingDatabase(with name: String) -> String {
        split(separator: " ").map { $0.hasPrefix("dbname=") ? "dbname=\(name)" : String($0) }
            .joined(separator: " ")
    }
}
