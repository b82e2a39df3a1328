internal import Domain
internal import EventLoop
internal import Glibc
internal import Postgres

/// A private PostgreSQL cluster below a data directory, made at the first start, reachable through a Unix
/// socket alone, and running while this value does.
///
/// Starting and stopping block: they belong to a program's start and end, not to a loop that serves. The
/// server is a child of a thread of its own and stops in order (SIGINT, fast shutdown) when the process
/// ends in whatever way, `kill -9` included.
package final class EmbeddedPostgres {
    package struct Options: Sendable, Hashable {
        /// False leaves fsync out, for clusters that nobody misses.
        package var isDurable: Bool
        package var maximumConnections: Int
        /// How long the server may take to answer its first connection, recovery included.
        package var startTimeout: Duration

        package init(
            isDurable: Bool = true, maximumConnections: Int = 100, startTimeout: Duration = .seconds(60)
        ) {
            self.isDurable = isDurable
            self.maximumConnections = maximumConnections
            self.startTimeout = startTimeout
        }
    }

    /// How to connect, as the cluster's superuser.
    package let connectionString: String
    package let processID: Int32

    private let directory: ClusterDirectory
    private let keeper: ServerKeeper
    private var isStopped = false

    private static let port: UInt16 = 5_432
    private static let userName = "pop"
    private static let databaseName = "pop"
    /// How long a server of an earlier life of this process may take to end; its death signal is on its way.
    private static let earlierServerPatience = Duration.seconds(30)

    /// Makes the cluster where there is none, starts it, and returns once it answers.
    ///
    /// - Parameter dataDirectory: made if missing, may be relative.
    package init(dataDirectory: String, options: Options = Options()) throws(EmbeddedPostgresError) {
        let directory = try ClusterDirectory(dataDirectory)
        do throws(EmbeddedPostgresError) {
            try directory.makeReachable()
            let binaries = try PostgresBinaries.find(version: directory.version)
            let loop = try Self.makeLoop()
            if directory.version == nil {
                try Self.initialize(directory, binaries, options, loop)
            }
            try Self.awaitEarlierServer(directory, loop)
            let socketDirectory = try directory.socketDirectory(port: Self.port)
            let arguments = Self.arguments(binaries, directory, socketDirectory, options)
            let log = try directory.openLog()
            defer { close(log) }
            let keeper = try ServerKeeper(
                path: binaries.server, arguments: arguments, account: directory.account, output: log)
            func text(_ database: String) -> String {
                "host='\(Self.quoted(socketDirectory))' port=\(Self.port) user=\(Self.userName) "
                    + "dbname=\(database)"
            }
            do throws(EmbeddedPostgresError) {
                try Self.awaitAnswer(
                    connectionString: text("postgres"), database: Self.databaseName, keeper, loop,
                    options, log: directory.log)
            } catch {
                keeper.stop()
                throw error
            }
            self.directory = directory
            self.keeper = keeper
            processID = keeper.processID
            connectionString = text(Self.databaseName)
        } catch {
            directory.unlock()
            throw error
        }
    }

    deinit {
        stop()
    }

    /// Stops the server in order and waits for its end; the second call does nothing.
    package func stop() {
        guard !isStopped else { return }
        isStopped = true
        keeper.stop()
        directory.removeSocketDirectory()
        directory.unlock()
    }

    // MARK: Steps of the start

    private static func makeLoop() throws(EmbeddedPostgresError) -> EventLoop {
        do {
            return try EventLoop()
        } catch {
            throw .system(error)
        }
    }

    private static let environment = ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC"]

    private static func initialize(
        _ directory: ClusterDirectory, _ binaries: PostgresBinaries, _ options: Options, _ loop: EventLoop
    ) throws(EmbeddedPostgresError) {
        let path = try directory.prepareUnfinished()
        let log = try directory.openLog()
        defer { close(log) }
        // Trust is safe here: only the owner may enter the socket's directory, and there is no other way in.
        var arguments = [
            binaries.initializer, "--pgdata=\(path)", "--username=\(userName)", "--auth=trust",
            "--encoding=UTF8", "--locale=C.UTF-8",
        ]
        if !options.isDurable { arguments.append("--no-sync") }
        let process: ChildProcess
        do {
            process = try ChildProcess.spawn(
                binaries.initializer, arguments: arguments, environment: environment,
                account: directory.account, outputDescriptor: log, deathSignal: SIGTERM)
        } catch {
            throw .system(error)
        }
        while true {
            if let code = process.exitCode() {
                guard code == 0 else { throw .initializationFailed(exitCode: code, log: directory.log) }
                return try directory.finishInitialization()
            }
            loop.runOnce(waitingAtMost: .milliseconds(20))
        }
    }

    /// A killed process leaves its server ending behind it: a second one may only start after it.
    private static func awaitEarlierServer(
        _ directory: ClusterDirectory, _ loop: EventLoop
    ) throws(EmbeddedPostgresError) {
        let start = SystemClock.now
        var hasAsked = false
        while let server = directory.liveServer() {
            let waited = SystemClock.now - start
            guard waited < earlierServerPatience else { throw .directoryInUse(directory.data) }
            if waited > .seconds(2), !hasAsked {
                hasAsked = true
                kill(server, SIGINT)
            }
            loop.runOnce(waitingAtMost: .milliseconds(20))
        }
    }

    private static func arguments(
        _ binaries: PostgresBinaries, _ directory: ClusterDirectory, _ socketDirectory: String,
        _ options: Options
    ) -> [String] {
        var settings = [
            "listen_addresses=", "port=\(port)",
            "unix_socket_directories=\"\(socketDirectory.split(separator: "\"").joined(separator: "\"\""))\"",
            "unix_socket_permissions=0700", "max_connections=\(options.maximumConnections)",
            "logging_collector=off", "log_destination=stderr", "log_timezone=UTC", "timezone=UTC",
        ]
        if !options.isDurable {
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        }
        // PostgreSQL finds its other files by the path it was called with.
        return [binaries.server, "-D", directory.data] + settings.flatMap { ["-c", $0] }
    }

    /// For a value between `'` in a connection string.
    private static func quoted(_ value: String) -> String {
        String(value.flatMap { $0 == "'" || $0 == "\\" ? ["\\", $0] : [$0] })
    }

    /// Connects until the server takes it (it recovers first after a crash), then makes the database.
    private static func awaitAnswer(
        connectionString: String, database: String, _ keeper: ServerKeeper, _ loop: EventLoop,
        _ options: Options, log: String
    ) throws(EmbeddedPostgresError) {
        let deadline = SystemClock.now + options.startTimeout
        var lastCause = "no answer in time"
        while SystemClock.now < deadline {
            if let code = keeper.exitCode {
                throw .startFailed("it ended with exit code \(code)", log: log)
            }
            let attempt = FirstConnection(loop, connectionString, database)
            while attempt.outcome == nil, keeper.exitCode == nil {
                loop.runOnce(waitingAtMost: .milliseconds(50))
            }
            switch attempt.outcome {
            case .success: return
            case .failure(let error): lastCause = error.description
            case nil: break
            }
            loop.runOnce(waitingAtMost: .milliseconds(30))
        }
        throw .startFailed(lastCause, log: log)
    }
}

/// One attempt to connect and to make the database if it is missing.
private final class FirstConnection: PostgresConnectionDelegate {
    private(set) var outcome: Result<Void, PostgresError>?
    private let connection: PostgresConnection
    private let database: String

    init(_ loop: EventLoop, _ connectionString: String, _ database: String) {
        self.database = database
        connection = PostgresConnection(
            on: loop, PostgresConfiguration(connectionString: connectionString))
        connection.delegate = self
        connection.connect()
    }

    func postgresReady(_ connection: PostgresConnection) {
        let database = self.database
        let question = PostgresStatement(
            "SELECT FROM pg_database WHERE datname = $1", [.text(database)])
        connection.submit([question]) { [weak self] result in
            guard let self else { return }
            guard case .success(let results) = result else { return finish(result.map { _ in }) }
            guard results.first?.affectedRows == 0 else { return finish(.success(())) }
            // CREATE DATABASE can't run in a pipeline's implicit transaction.
            connection.run(script: "CREATE DATABASE \(database)") { [weak self] result in
                self?.finish(result.map { _ in })
            }
        }
    }

    private func finish(_ result: Result<Void, PostgresError>) {
        if outcome == nil { outcome = result }
        connection.close()
    }

    func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError) {
        if outcome == nil { outcome = .failure(error) }
    }

    func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String) {}

    func postgresNotice(_ connection: PostgresConnection, _ message: String) {}
}
