internal import CPostgres
internal import DequeModule
internal import Domain
package import EventLoop

/// How to reach a server, and how long to wait for it.
package struct PostgresConfiguration: Sendable, Hashable {
    /// A libpq connection string or URL; it may hold a password, so it is never shown.
    package var connectionString: String
    package var applicationName: String
    package var connectTimeout: Duration
    /// How long the server may work on one statement (`statement_timeout`); nil for no bound.
    package var statementTimeout: Duration?
    /// How long the server may be silent while answers are due; then the connection counts as lost.
    package var answerTimeout: Duration?
    /// Settings of the server for this connection, by name.
    package var settings: [String: String]
    /// How many statements the server keeps parsed and planned for this connection, those that were used last;
    /// each may hold some 100 KiB there.
    package var preparedStatements: Int

    package init(
        connectionString: String, applicationName: String = "pop-node",
        connectTimeout: Duration = .seconds(5), statementTimeout: Duration? = .seconds(30),
        answerTimeout: Duration? = .seconds(40), settings: [String: String] = [:], preparedStatements: Int = 0
    ) {
        self.connectionString = connectionString
        self.applicationName = applicationName
        self.connectTimeout = connectTimeout
        self.statementTimeout = statementTimeout
        self.answerTimeout = answerTimeout
        self.settings = settings
        self.preparedStatements = preparedStatements
    }
}

package protocol PostgresConnectionDelegate: AnyObject {
    /// Statements can be submitted.
    func postgresReady(_ connection: PostgresConnection)
    /// Exactly once, last; everything in flight has been told before.
    func postgresClosed(_ connection: PostgresConnection, _ error: PostgresError)
    /// A NOTIFY on a channel that the session listens to.
    func postgresNotified(_ connection: PostgresConnection, channel: String, payload: String)
    /// A message of the server that is no error (`RAISE NOTICE` and above).
    func postgresNotice(_ connection: PostgresConnection, _ message: String)
}

/// One life of one connection, in libpq's pipeline mode.
///
///     idle -> connecting -> preparing (time zone, limits) -> ready -> closed
///
/// A *group* of statements is sent with one Sync at its end: the server runs it as one transaction and
/// answers in order; an error undoes that group alone and skips its rest. A *script* is SQL text of
/// several statements without parameters, which the protocol only allows outside a pipeline: it is sent
/// when nothing else is in flight.
///
/// Host names are resolved elsewhere (``PostgresHosts``), but libpq may read files and ask GSSAPI: a connection
/// belongs on a thread that may wait a moment.
package final class PostgresConnection: ReadinessHandler {
    package typealias Answer = (Result<[PostgresResult], PostgresError>) -> Void

    package weak var delegate: (any PostgresConnectionDelegate)?
    package private(set) var isReady = false

    private let loop: EventLoop
    private let configuration: PostgresConfiguration
    private let firstServer: Int
    private var lookup: HostLookup?
    private var handle: OpaquePointer?
    private var registration: Registration?
    private var watchedSocket: UInt64 = 0
    private var timer: LoopTimer?
    private var stage = Stage.idle
    private var inFlight = Deque<Group>()
    /// None before it is ready.
    private var prepared = PreparedStatements(limit: 0)
    private var completions: [() -> Void] = []
    private var isDelivering = false

    private enum Stage {
        case idle
        case connecting
        case connected
        case closed
    }

    private struct Group {
        let isScript: Bool
        /// What was sent and has no answer yet.
        var messages = Deque<Message>()
        var results: [PostgresResult] = []
        var error: PostgresError?
        let answer: Answer
    }

    private enum Message {
        /// Nobody waits for its result.
        case dropping
        case preparing(sql: String)
        /// - Parameter sql: of a statement that is kept.
        case statement(sql: String?)
    }

    /// A bound on polls and reads of one readiness event, so that one busy server can't hold the loop.
    private static let maximumRounds = 64

    /// - Parameter firstServer: of several servers, which to try first, counted around.
    package init(on loop: EventLoop, _ configuration: PostgresConfiguration, firstServer: Int = 0) {
        self.loop = loop
        self.configuration = configuration
        self.firstServer = firstServer
    }

    deinit {
        if let handle { PQfinish(handle) }
    }

    /// How many groups wait for their answers.
    package var inFlightCount: Int { inFlight.count }

    // MARK: Connecting

    /// Starts; the delegate hears `postgresReady` or `postgresClosed`, never from within this call.
    package func connect() {
        guard case .idle = stage else { return }
        stage = .connecting
        timer = loop.makeTimer { [weak self] in self?.timeExpired() }
        timer?.arm(at: loop.now + configuration.connectTimeout)
        loop.atEndOfBatch { [self] in startConnecting() }
    }

    private func startConnecting() {
        guard case .connecting = stage else { return }
        guard cpg_connection_string_is_valid(configuration.connectionString) else {
            return fail(PostgresError(.configuration, "the database's connection string can't be parsed"))
        }
        guard let hosts = PostgresHosts(connectionString: configuration.connectionString) else {
            return startConnecting(to: nil)
        }
        guard !hosts.names.isEmpty else { return startConnecting(to: hosts) }
        do {
            lookup = try HostLookup(on: loop, hosts.names) { [weak self] addresses, failures in
                guard let self, case .connecting = stage else { return }
                lookup = nil
                let resolved = hosts.resolved(addresses)
                guard !resolved.servers.isEmpty else { return fail(PostgresError(.connection, failures)) }
                startConnecting(to: resolved)
            }
        } catch {
            fail(PostgresError(.connection, error.description))
        }
    }

    private func startConnecting(to hosts: PostgresHosts?) {
        let hosts = hosts?.beginning(at: firstServer)
        handle = cpg_connect_start(
            configuration.connectionString, configuration.applicationName, hosts?.hostList,
            hosts?.addressList, hosts?.portList)
        guard let handle, PQstatus(handle) != CONNECTION_BAD else { return fail(lastError()) }
        let context = Unmanaged.passUnretained(self).toOpaque()
        PQsetNoticeReceiver(
            handle,
            { context, result in
                guard let context else { return }
                let connection = Unmanaged<PostgresConnection>.fromOpaque(context).takeUnretainedValue()
                connection.received(notice: field(result, CPG_DIAG_MESSAGE) ?? "")
            }, context)
        watchSocket()
    }

    /// libpq may change the socket between polls, even to another one of the same number.
    private func watchSocket() {
        guard let handle else { return }
        let descriptor = PQsocket(handle)
        guard descriptor >= 0 else { return fail(lastError()) }
        let identity = cpg_socket_identity(descriptor)
        guard identity != watchedSocket || registration == nil else { return }
        if let registration { loop.deregister(registration) }
        registration = nil
        watchedSocket = identity
        do {
            registration = try loop.register(descriptor, self)
        } catch {
            fail(PostgresError(.connection, error.description))
        }
    }

    private func pollConnecting() {
        guard let handle else { return }
        for _ in 0..<Self.maximumRounds {
            let wanted = PQconnectPoll(handle)
            switch wanted {
            case PGRES_POLLING_OK:
                watchSocket()
                return prepareSession()
            case PGRES_POLLING_READING, PGRES_POLLING_WRITING:
                let descriptor = PQsocket(handle)
                if descriptor < 0 || !cpg_socket_ready(descriptor, wanted == PGRES_POLLING_WRITING) {
                    return watchSocket()
                }
            default:
                return fail(lastError())
            }
        }
        watchSocket()
    }

    private func prepareSession() {
        guard let handle, stage == .connecting else { return }
        guard PQsetnonblocking(handle, 1) == 0, PQenterPipelineMode(handle) == 1 else {
            return fail(lastError())
        }
        stage = .connected
        let limit = configuration.statementTimeout.map { max(1, $0.milliseconds) } ?? 0
        // What values look like is this room's business, whatever else is set.
        let settings = configuration.settings.merging([
            "TimeZone": "UTC", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres",
            "statement_timeout": String(limit),
        ]) { $1 }
        let statement = PostgresStatement(
            "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS t(name, value)",
            [.texts(Array(settings.keys)), .texts(Array(settings.values))])
        enqueue([statement]) { [weak self] result in
            guard let self, stage == .connected else { return }
            switch result {
            case .success:
                isReady = true
                prepared = PreparedStatements(limit: configuration.preparedStatements)
                delegate?.postgresReady(self)
            case .failure(let error):
                fail(error)
            }
        }
    }

    // MARK: Submitting

    /// Sends `statements` as one transaction; `answer` is called exactly once, never from within this call,
    /// with a result a statement once they are committed, or with the error that undid them.
    package func submit(_ statements: [PostgresStatement], answer: @escaping Answer) {
        guard isReady, !statements.isEmpty, inFlight.last?.isScript != true else {
            let cause = stage == .connected ? "the connection is busy or not ready" : "not connected"
            return complete { answer(.failure(PostgresError(.connection, cause))) }
        }
        enqueue(statements, answer)
    }

    private func enqueue(_ statements: [PostgresStatement], _ answer: @escaping Answer) {
        guard let handle else { return }
        inFlight.append(Group(isScript: false, answer: answer))
        if inFlight.count == 1 { armAnswerTimer() }
        for name in prepared.takeDropped() {
            let drop = PostgresStatement("DEALLOCATE \(name)")
            guard send(drop, named: nil, as: .dropping, handle) else { return fail(lastError()) }
        }
        for statement in statements where !send(statement, handle) {
            return fail(lastError())
        }
        guard PQpipelineSync(handle) == 1, PQflush(handle) >= 0 else { return fail(lastError()) }
    }

    private func send(_ statement: PostgresStatement, _ handle: OpaquePointer) -> Bool {
        switch prepared.use(statement.sql) {
        case .never:
            return send(statement, named: nil, as: .statement(sql: nil), handle)
        case .first(let name):
            guard PQsendPrepare(handle, name, statement.sql, 0, nil) == 1 else { return false }
            inFlight[inFlight.count - 1].messages.append(.preparing(sql: statement.sql))
            return send(statement, named: name, as: .statement(sql: statement.sql), handle)
        case .again(let name):
            return send(statement, named: name, as: .statement(sql: statement.sql), handle)
        }
    }

    private func send(
        _ statement: PostgresStatement, named name: String?, as message: Message, _ handle: OpaquePointer
    ) -> Bool {
        inFlight[inFlight.count - 1].messages.append(message)
        let parameters = statement.parameters
        let count = Int32(parameters.count)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(parameters.reduce(0) { $0 + ($1.bytes?.count ?? 0) + 1 })
        var offsets: [Int?] = []
        for parameter in parameters {
            guard let value = parameter.bytes else {
                offsets.append(nil)
                continue
            }
            offsets.append(bytes.count)
            bytes.append(contentsOf: value)
            bytes.append(0)
        }
        let lengths = parameters.map { Int32(clamping: $0.bytes?.count ?? 0) }
        let formats = parameters.map { $0.isBinary ? 1 : 0 as Int32 }
        return bytes.withUnsafeBytes { buffer in
            let characters = buffer.bindMemory(to: CChar.self)
            let values = offsets.map { offset in
                offset.flatMap { start in characters.baseAddress.map { $0 + start } }
            }
            if let name { return PQsendQueryPrepared(handle, name, count, values, lengths, formats, 0) == 1 }
            return PQsendQueryParams(handle, statement.sql, count, nil, values, lengths, formats, 0) == 1
        }
    }

    /// Runs SQL text of any number of statements, without parameters; one transaction unless the text has
    /// its own BEGIN and COMMIT. Nothing else may be in flight.
    package func run(script: String, answer: @escaping Answer) {
        guard isReady, inFlight.isEmpty, let handle else {
            let error = PostgresError(.connection, "the connection is busy or not ready")
            return complete { answer(.failure(error)) }
        }
        guard PQexitPipelineMode(handle) == 1, PQsendQuery(handle, script) == 1, PQflush(handle) >= 0 else {
            let error = lastError()
            complete { answer(.failure(error)) }
            return fail(error)
        }
        inFlight.append(Group(isScript: true, answer: answer))
        armAnswerTimer()
    }

    /// Ends the connection; what is in flight fails with `closed`.
    package func close() {
        fail(PostgresError(.closed, "the connection was closed by this side"))
    }

    // MARK: Events

    package func ready(_ readiness: Readiness) {
        switch stage {
        case .connecting: pollConnecting()
        case .connected: exchange()
        case .idle, .closed: break
        }
    }

    /// Reads and writes all that can be, as edges are told once. libpq reads a piece a call, and with TLS
    /// some of it may wait inside OpenSSL while the socket is empty: hence the extra calls.
    private func exchange() {
        var extraReads = 0
        for _ in 0..<Self.maximumRounds {
            guard let handle, stage == .connected else { return }
            let consumed = PQconsumeInput(handle) == 1
            takeResults()
            takeNotifications()
            guard stage == .connected else { return }
            guard consumed, PQstatus(handle) == CONNECTION_OK, PQflush(handle) >= 0 else {
                return fail(lastError())
            }
            if !cpg_socket_ready(PQsocket(handle), false) {
                extraReads += 1
                if PQsslInUse(handle) == 0 || extraReads > 2 { return }
            }
        }
        loop.atEndOfBatch { [weak self] in self?.exchange() }
    }

    private func takeResults() {
        var emptyAnswers = 0
        // Two empty answers in a row mean that libpq has nothing more, whatever is still due.
        while let handle, !inFlight.isEmpty, PQisBusy(handle) == 0, emptyAnswers < 2 {
            guard let result = PQgetResult(handle) else {
                if inFlight[0].isScript {
                    guard PQenterPipelineMode(handle) == 1 else { return fail(lastError()) }
                    completeHead()
                } else {
                    emptyAnswers += 1
                }
                continue
            }
            emptyAnswers = 0
            take(result)
            PQclear(result)
        }
    }

    private func take(_ result: OpaquePointer) {
        armAnswerTimer()
        let status = PQresultStatus(result)
        if status == PGRES_PIPELINE_SYNC { return completeHead() }
        let message = inFlight[0].isScript ? .statement(sql: nil) : inFlight[0].messages.popFirst()
        switch status {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
            switch message {
            case .preparing(let sql): prepared.stands(sql)
            case .statement: inFlight[0].results.append(PostgresResult(copying: result))
            case .dropping, nil: break
            }
            return
        case PGRES_PIPELINE_ABORTED:
            break
        case PGRES_FATAL_ERROR:
            if inFlight[0].error == nil { inFlight[0].error = PostgresError(copying: result) }
        default:
            inFlight[0].error = PostgresError(.unexpectedAnswer, "a statement asked for a copy")
        }
        switch message {
        case .preparing(let sql): prepared.failed(sql)
        // Its plan may be what is wrong with it, as after a change of a table.
        case .statement(let sql?) where status == PGRES_FATAL_ERROR: prepared.drop(sql)
        case .statement, .dropping, nil: break
        }
    }

    private func completeHead() {
        let group = inFlight.removeFirst()
        armAnswerTimer()
        let outcome: Result<[PostgresResult], PostgresError>
        if let error = group.error {
            outcome = .failure(error)
        } else if !group.messages.isEmpty {
            outcome = .failure(PostgresError(.unexpectedAnswer, "an answer is missing"))
        } else {
            outcome = .success(group.results)
        }
        complete { group.answer(outcome) }
    }

    /// Answers are given at the end of the batch, so that whoever hears one may submit, run or close.
    private func complete(_ work: @escaping () -> Void) {
        completions.append(work)
        guard !isDelivering else { return }
        isDelivering = true
        loop.atEndOfBatch { [self] in
            isDelivering = false
            let due = completions
            completions = []
            for completion in due { completion() }
        }
    }

    private func takeNotifications() {
        while let handle, let notification = PQnotifies(handle) {
            let channel = String(cString: notification.pointee.relname)
            let payload = String(cString: notification.pointee.extra)
            PQfreemem(notification)
            complete { [weak self] in
                guard let self, stage == .connected else { return }
                delegate?.postgresNotified(self, channel: channel, payload: payload)
            }
        }
    }

    private func received(notice: String) {
        complete { [weak self] in
            guard let self else { return }
            delegate?.postgresNotice(self, notice)
        }
    }

    // MARK: Ending

    private func armAnswerTimer() {
        guard stage == .connected else { return }
        guard !inFlight.isEmpty, let limit = configuration.answerTimeout else {
            timer?.cancel()
            return
        }
        timer?.arm(at: loop.now + (isReady ? limit : configuration.connectTimeout))
    }

    private func timeExpired() {
        let what = isReady ? "no answer from the database in time" : "no connection to the database in time"
        fail(PostgresError(.timeout, what))
    }

    private func lastError() -> PostgresError {
        guard let handle, let text = PQerrorMessage(handle), text.pointee != 0 else {
            return PostgresError(.connection, "the connection to the database is lost")
        }
        return PostgresError(.connection, oneLine(String(cString: text)))
    }

    private func fail(_ error: PostgresError) {
        if case .closed = stage { return }
        stage = .closed
        isReady = false
        timer?.cancel()
        timer = nil
        lookup?.cancel()
        lookup = nil
        if let registration { loop.deregister(registration) }
        registration = nil
        if let handle { PQfinish(handle) }
        handle = nil
        let groups = inFlight
        inFlight = []
        for group in groups {
            // An error that the server sent as its last word says more than the loss that followed it.
            complete { group.answer(.failure(group.error ?? error)) }
        }
        let last = groups.first?.error ?? error
        complete { [self] in delegate?.postgresClosed(self, last) }
    }
}

private func field(_ result: OpaquePointer?, _ code: some BinaryInteger) -> String? {
    PQresultErrorField(result, Int32(code)).map { String(cString: $0) }
}

/// libpq's messages have several lines, one a host tried.
private func oneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).joined(separator: "; ").split(separator: "\t").joined(
        separator: " ")
}

extension PostgresError {
    fileprivate init(copying result: OpaquePointer) {
        guard let sqlState = field(result, CPG_DIAG_SQLSTATE) else {
            // Without a SQLSTATE it is libpq itself that speaks: the connection broke under the statement.
            let text = PQresultErrorMessage(result).map { String(cString: $0) } ?? ""
            self.init(.connection, oneLine(text))
            return
        }
        self.init(
            .server, field(result, CPG_DIAG_MESSAGE) ?? "unknown error", sqlState: sqlState,
            constraint: field(result, CPG_DIAG_CONSTRAINT))
    }
}

extension PostgresResult {
    fileprivate init(copying result: OpaquePointer) {
        let columnCount = PQnfields(result)
        let rowCount = PQntuples(result)
        var columns: [String] = []
        for column in 0..<columnCount {
            columns.append(PQfname(result, column).map { String(cString: $0) } ?? "")
        }
        var cells: [String?] = []
        cells.reserveCapacity(Int(rowCount) * Int(columnCount))
        for row in 0..<rowCount {
            for column in 0..<columnCount {
                let isNull = PQgetisnull(result, row, column) != 0
                cells.append(isNull ? nil : PQgetvalue(result, row, column).map { String(cString: $0) })
            }
        }
        let affected = PQcmdTuples(result).flatMap { Int(String(cString: $0)) } ?? 0
        self.init(columns: columns, cells: cells, affectedRows: affected)
    }
}
