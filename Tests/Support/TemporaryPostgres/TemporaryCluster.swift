internal import EmbeddedPostgres
internal import EventLoop
internal import Glibc
internal import Synchronization

/// A cluster in a temporary directory that can be stopped and started again; removed with this value.
package final class TemporaryCluster {
    package let directory: String
    package private(set) var connectionString = ""
    private var server: EmbeddedPostgres?
    private let options: EmbeddedPostgres.Options

    package init(isDurable: Bool = false) throws {
        let serial = Self.serial.add(1, ordering: .relaxed).newValue
        directory = "/tmp/pop-test-postgres-\(getpid())-\(serial)"
        options = EmbeddedPostgres.Options(isDurable: isDurable, maximumConnections: 200)
        try start()
    }

    private static let serial = Atomic<Int>(0)

    package var processID: Int32? { server?.processID }

    package func start() throws {
        guard server == nil else { return }
        let started = try EmbeddedPostgres(dataDirectory: directory, options: options)
        connectionString = started.connectionString
        server = started
    }

    package func stop() {
        server?.stop()
        server = nil
    }

    /// Ends it as a crash does: nothing is put in order, and the next start recovers. With SIGKILL the server's
    /// other processes would live on for a moment, and the next start be refused for them.
    package func crash() {
        if let processID { kill(processID, SIGQUIT) }
        stop()
    }

    deinit {
        stop()
        removeDirectory(directory)
    }
}

/// The cluster that all tests of one process share, made by the first one that asks and stopped at exit.
package enum TemporaryPostgres {
    private final class Shared: Sendable {
        nonisolated(unsafe) let cluster: TemporaryCluster
        nonisolated(unsafe) let connection: BlockingConnection
        init() throws {
            cluster = try TemporaryCluster()
            connection = try BlockingConnection(cluster.connectionString)
        }
    }

    private static let shared = Mutex<(cluster: Shared?, databases: Int)>((nil, 0))

    /// A connection string for a new, empty database.
    package static func makeDatabase() throws -> String {
        try shared.withLock { state in
            let started: Shared
            if let running = state.cluster {
                started = running
            } else {
                removeAbandoned()
                started = try Shared()
                state.cluster = started
                atexit { TemporaryPostgres.shutDown() }
            }
            state.databases += 1
            let name = "test_\(state.databases)"
            try started.connection.run(script: "CREATE DATABASE \(name) TEMPLATE template0")
            return started.cluster.connectionString.split(separator: " ")
                .map { $0.hasPrefix("dbname=") ? "dbname=\(name)" : String($0) }.joined(separator: " ")
        }
    }

    private static func shutDown() {
        shared.withLock { state in
            guard let running = state.cluster else { return }
            running.cluster.stop()
            removeDirectory(running.cluster.directory)
            state.cluster = nil
        }
    }

    /// What test runs that were killed have left behind.
    private static func removeAbandoned() {
        guard let directory = opendir("/tmp") else { return }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            let parts = name.split(separator: "-")
            guard name.hasPrefix("pop-test-postgres-"), parts.count >= 4, let process = Int32(parts[3]),
                kill(process, 0) != 0, errno == ESRCH
            else { continue }
            removeDirectory("/tmp/" + name)
        }
    }
}

func removeDirectory(_ path: String) {
    guard let remover = try? ChildProcess.spawn("/bin/rm", arguments: ["rm", "-rf", "--", path]),
        let loop = try? EventLoop()
    else { return }
    while remover.exitCode() == nil { loop.runOnce(waitingAtMost: .milliseconds(2)) }
}
