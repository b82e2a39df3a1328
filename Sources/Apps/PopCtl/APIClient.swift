internal import Domain
internal import EventLoop
internal import HTTP1
internal import HTTPServer
internal import JSON
internal import ProgramKit
internal import TLS

/// Calls the admin API, one request at a time.
///
/// A call whose connection is lost is tried once more: reading changes nothing, and a call that changes
/// something carries an `Idempotency-Key`, by which the server knows it again.
final class APIClient {
    /// What else happens while a call or a wait is under way comes from this loop.
    let loop: EventLoop
    /// Ends the call or the wait that is under way, and all that follow; set by a handler of the loop.
    var isInterrupted = false

    let server: ServerAddress
    private let token: String?
    private let tls: TLSContext?
    private var addresses: [IPAddress] = []

    /// A list page of 1,000 rich items is below a megabyte; this leaves room.
    private static let longestBody = 64 << 20
    private static let connectTimeout = Duration.seconds(10)
    /// Before a lost call is tried again: a server that restarts is not there at once.
    private static let pauseBeforeRetry = Duration.milliseconds(300)
    /// How often, and after what pause, a call is looked for that the node has not done with: 10 s in all.
    private static let mostLooks = 20
    private static let pauseBeforeLook = Duration.milliseconds(500)

    /// - Parameter tls: what a server of `https` is spoken to with; not used for `http`.
    init(server: ServerAddress, token: String?, tls: TLSContext?) throws(SystemError) {
        self.server = server
        self.token = token
        self.tls = server.isSecure ? tls : nil
        loop = try EventLoop()
    }

    // MARK: Calls

    /// The JSON of a successful answer; null for one without content.
    func call(
        _ method: HTTPMethod, _ target: String, body: JSONValue? = nil
    ) throws(APIError) -> JSONValue {
        var fields = commonFields(accepting: "application/json")
        if method != .get {
            fields.append("Idempotency-Key", Hexadecimal.encode(SystemRandom.bytes(16)))
        }
        if body != nil { fields.append("Content-Type", "application/json") }
        var request = HTTPClientRequest(
            method: method, target: target, host: server.authority, fields: fields,
            body: body?.serialised() ?? [])
        var (response, wasLost) = try sendTwice(request)
        var looks = 0
        while Self.code(response) == "idempotency_key_in_flight", looks < Self.mostLooks {
            // The node is still at the call whose connection was lost.
            looks += 1
            try wait(Self.pauseBeforeLook)
            response = try sendTwice(request).response
        }
        if Self.code(response) == "database_unavailable", !wasLost,
            request.fields.contains("Idempotency-Key")
        {
            // The node keeps the keys in its database and has done nothing; it may be able to do without.
            request.fields.remove("Idempotency-Key")
            response = try sendOnce(request)
        }
        guard response.status.isSuccessful else {
            throw .refused(Self.problem(response.head, response.body))
        }
        guard let content = Self.content(response.body) else { throw .unexpected("no JSON") }
        return content
    }

    /// Reads a stream of events until it ends, or until `received` wants no more.
    ///
    /// - Parameters:
    ///   - silence: the longest time without an octet, after which the stream is taken for dead.
    ///   - opened: called when the server has agreed.
    ///   - received: given each piece of the stream; false ends it.
    /// - Throws: `unreachable` also for a stream that breaks off.
    func stream(
        _ target: String, fields: [(name: String, value: String)], silence: Duration,
        opened: @escaping () -> Void, received: @escaping ([UInt8]) -> Bool
    ) throws(APIError) {
        var all = commonFields(accepting: "text/event-stream")
        for field in fields { all.append(field.name, field.value) }
        let request = HTTPClientRequest(target: target, host: server.authority, fields: all)
        let reading = Reading()
        var configuration = HTTPClient.Configuration()
        configuration.bodyBytes = .max
        // Each event may be a chunk of its own, for as long as somebody looks on.
        configuration.limits.chunkOverheadBytes = .max
        configuration.streamTimeout = silence
        configuration.onHead = { head in
            reading.isRefused = !head.status.isSuccessful
            if !reading.isRefused { opened() }
        }
        configuration.onBody = { bytes in
            if reading.isRefused {
                reading.append(bytes)
            } else if !reading.isOver {
                reading.isOver = !received(bytes)
            }
        }
        let response: HTTPClientResponse
        do {
            response = try send(request, configuration, until: { reading.isOver })
        } catch {
            if reading.isOver { return }
            throw self.error(error)
        }
        if reading.isRefused { throw .refused(Self.problem(response.head, reading.problem)) }
    }

    private final class Reading {
        private static let longestProblem = 1 << 20
        var isRefused = false
        var isOver = false
        private(set) var problem: [UInt8] = []

        func append(_ bytes: [UInt8]) {
            if problem.count + bytes.count <= Self.longestProblem { problem += bytes }
        }
    }

    private func commonFields(accepting media: String) -> HTTPFields {
        var fields: HTTPFields = ["Accept": media, "User-Agent": "popctl/\(Release.version)"]
        if let token { fields.append("Authorization", "Bearer \(token)") }
        return fields
    }

    private static func content(_ body: [UInt8]) -> JSONValue? {
        guard !body.isEmpty else { return .null }
        return try? JSONValue(parsing: body, limits: JSONLimits(bytes: longestBody, depth: 64))
    }

    /// What a refusal calls itself.
    private static func code(_ response: HTTPClientResponse) -> String? {
        response.status.isSuccessful ? nil : content(response.body)?["code"]?.string
    }

    private static func problem(_ head: HTTPResponseHead, _ body: [UInt8]) -> APIProblem {
        APIProblem(head, content(body) ?? .null)
    }

    // MARK: Waiting

    /// Waits, so that a caller can poll; ends early when `isOver` says so after some event of the loop.
    func wait(_ duration: Duration, until isOver: () -> Bool = { false }) throws(APIError) {
        let deadline = SystemClock.now + duration
        while !isInterrupted, !isOver(), SystemClock.now < deadline {
            loop.runOnce(waitingAtMost: deadline - SystemClock.now)
        }
        if isInterrupted { throw .interrupted }
    }

    // MARK: Sending

    /// How an exchange may fail.
    private enum Failure: Error {
        /// The server has not had the request.
        case notReached(String)
        /// The server may have had the request, and done what it says.
        case lost(String)
        case other(APIError)
    }

    private func error(_ failure: Failure) -> APIError {
        switch failure {
        case .notReached(let cause), .lost(let cause):
            .unreachable(server: server.description, cause: cause)
        case .other(let error): error
        }
    }

    /// - Returns: also whether a first call was lost, which may have been done.
    private func sendTwice(
        _ request: HTTPClientRequest
    ) throws(APIError) -> (response: HTTPClientResponse, wasLost: Bool) {
        do {
            return (try send(request, Self.configuration), false)
        } catch .lost {
            try wait(Self.pauseBeforeRetry)
        } catch {
            throw self.error(error)
        }
        return (try sendOnce(request), true)
    }

    private func sendOnce(_ request: HTTPClientRequest) throws(APIError) -> HTTPClientResponse {
        do {
            return try send(request, Self.configuration)
        } catch {
            throw self.error(error)
        }
    }

    private static var configuration: HTTPClient.Configuration {
        var configuration = HTTPClient.Configuration()
        configuration.bodyBytes = longestBody
        return configuration
    }

    /// Tries the server's addresses in turn; the one that answers is asked first from now on.
    private func send(
        _ request: HTTPClientRequest, _ configuration: HTTPClient.Configuration,
        until isOver: () -> Bool = { false }
    ) throws(Failure) -> HTTPClientResponse {
        if addresses.isEmpty { addresses = try resolve() }
        var failure = Failure.notReached("no address")
        for (index, address) in addresses.enumerated() {
            do {
                let response = try exchange(
                    request, configuration, with: SocketAddress(ip: address, port: server.port),
                    until: isOver)
                addresses.swapAt(0, index)
                return response
            } catch .notReached(let cause) {
                failure = .notReached(cause)
            } catch {
                throw error
            }
        }
        // The name may lead elsewhere by now.
        addresses = []
        throw failure
    }

    private func exchange(
        _ request: HTTPClientRequest, _ configuration: HTTPClient.Configuration,
        with address: SocketAddress, until isOver: () -> Bool
    ) throws(Failure) -> HTTPClientResponse {
        let outcome = Box<Result<HTTPClient.Outcome, HTTPClientError>>()
        let client = HTTPClient.send(
            request, on: loop, configuration: configuration,
            over: { handler in
                if let tls {
                    return TLSStream.connect(
                        on: loop, to: address, host: server.host, context: tls, handler: handler)
                }
                return TCPStream.connect(
                    on: loop, to: address, timeout: Self.connectTimeout, handler: handler)
            },
            completion: { outcome.value = $0 })
        // The client's own timers end this.
        while outcome.value == nil {
            if isInterrupted || isOver() { client.cancel() } else { loop.runOnce() }
        }
        if isInterrupted { throw .other(.interrupted) }
        switch outcome.value {
        case .success(.response(let response)): return response
        case .success(.switched): throw .other(.unexpected("another protocol"))
        case .failure(let error): throw failure(error)
        case nil: throw .other(.interrupted)
        }
    }

    private func failure(_ error: HTTPClientError) -> Failure {
        switch error {
        case .unsendable: .other(.unexpected("the request can't be written"))
        case .malformed(let fault):
            .other(.unreachable(server: server.description, cause: fault.explanation))
        case .timedOut: .other(.unreachable(server: server.description, cause: "no answer in time"))
        case .cancelled: .other(.interrupted)
        case .closed: .lost("the server closed before the answer was complete")
        case .connection(let cause as TLSError): failure(cause)
        case .connection(let cause as StreamError): failure(cause)
        case .connection(let cause): .notReached("\(cause)")
        }
    }

    private func failure(_ error: StreamError) -> Failure {
        switch error {
        case .connectFailed, .connectTimedOut: .notReached("\(error)")
        case .reset, .failed: .lost("\(error)")
        }
    }

    private func failure(_ error: TLSError) -> Failure {
        switch error.reason {
        case .certificateRefused(let why):
            .other(
                .unreachable(
                    server: server.description,
                    cause: "its certificate is refused: \(why)\n  --ca-file FILE names whom to trust"))
        case .sessionFailed where error.stack.contains(where: { $0.contains("certificate required") }):
            .other(
                .unreachable(
                    server: server.description, cause: "it asks for a certificate: --cert-file and --key-file"
                ))
        case .sessionFailed, .truncated: .lost("\(error)")
        case .configuration, .handshakeFailed, .handshakeTimedOut: .notReached("\(error)")
        }
    }

    private func resolve() throws(Failure) -> [IPAddress] {
        if let address = IPAddress(server.host) { return [address] }
        let answer = Box<Result<[IPAddress], ResolveError>>()
        do {
            let resolver = try NameResolver(on: loop, threads: 1)
            defer { resolver.close() }
            _ = resolver.resolve(server.host) { answer.value = $0 }
            while !isInterrupted {
                if let value = answer.value { return try value.get() }
                loop.runOnce()
            }
        } catch {
            throw .notReached("\(error)")
        }
        throw .other(.interrupted)
    }

    /// Where a callback puts its result.
    private final class Box<Value> {
        var value: Value?
    }
}
