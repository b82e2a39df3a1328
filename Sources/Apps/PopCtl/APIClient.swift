internal import Domain
internal import EventLoop
package import HTTP1
internal import HTTPServer
package import JSON
internal import TLS

/// Why a call brought no result.
package enum APIError: Error, CustomStringConvertible {
    /// The server could not be reached, or broke off.
    case unreachable(server: String, cause: String)
    /// The server refused: its problem document, as far as it sent one.
    case refused(status: UInt16, problem: JSONValue)
    /// The server's answer is not what the API promises.
    case unexpected(String)
    /// The certificate authorities can't be used.
    case trust(String)

    package var description: String {
        switch self {
        case .unreachable(let server, let cause): "can't reach \(server): \(cause)"
        case .refused(let status, let problem): Self.text(status, problem)
        case .unexpected(let what): "unexpected answer: \(what)"
        case .trust(let cause): cause
        }
    }

    private static func text(_ status: UInt16, _ problem: JSONValue) -> String {
        let code = problem["code"]?.string ?? "error"
        var text = "\(code): \(problem["detail"]?.string ?? "the server answered \(status)") (\(status))"
        for fault in problem["errors"]?.array ?? [] {
            text += "\n  \(fault["field"]?.string ?? ""): \(fault["message"]?.string ?? "")"
        }
        if status == 401 { text += "\n  set POP_TOKEN or --token to an admin token" }
        return text
    }
}

/// Calls the admin API, one request at a time.
package final class APIClient {
    private let server: ServerAddress
    private let token: String?
    private let loop: EventLoop
    private let tls: TLSContext?
    private var addresses: [IPAddress] = []

    /// A list page of 1,000 rich items is below a megabyte; this leaves room.
    private static let longestBody = 64 << 20

    /// - Parameter caFile: PEM text of the authorities to trust instead of the system's.
    package init(server: ServerAddress, token: String?, caPEM: [UInt8]?) throws {
        self.server = server
        self.token = token
        loop = try EventLoop()
        guard server.isSecure else {
            tls = nil
            return
        }
        do {
            tls = try TLSContext.client(trust: caPEM.map { .certificates(pem: $0) } ?? .system)
        } catch {
            throw APIError.trust("\(error)")
        }
    }

    /// The JSON of a successful answer; null for one without content.
    package func call(_ method: HTTPMethod, _ target: String, body: JSONValue? = nil) throws(APIError)
        -> JSONValue
    {
        var fields: HTTPFields = [
            "Accept": "application/json", "User-Agent": "popctl/\(ControlProgram.version)",
        ]
        if let token { fields.append("Authorization", "Bearer \(token)") }
        if body != nil { fields.append("Content-Type", "application/json") }
        let request = HTTPClientRequest(
            method: method, target: target, host: server.authority, fields: fields,
            body: body?.serialised() ?? [])
        let response = try send(request)
        let limits = JSONLimits(bytes: Self.longestBody, depth: 64)
        let content = response.body.isEmpty ? .null : try? JSONValue(parsing: response.body, limits: limits)
        guard response.status.isSuccessful else {
            throw .refused(status: response.status.code, problem: content ?? .null)
        }
        guard let content else { throw .unexpected("no JSON") }
        return content
    }

    /// Waits, so that a caller can poll.
    package func wait(_ duration: Duration) {
        let deadline = SystemClock.now + duration
        while SystemClock.now < deadline { loop.runOnce(waitingAtMost: deadline - SystemClock.now) }
    }

    // MARK: Sending

    private func send(_ request: HTTPClientRequest) throws(APIError) -> HTTPClientResponse {
        if addresses.isEmpty { addresses = try resolve() }
        var cause = "no address"
        for (index, address) in addresses.enumerated() {
            switch exchange(request, with: SocketAddress(ip: address, port: server.port)) {
            case .success(.response(let response)):
                // The one that answers is asked first from now on.
                addresses.swapAt(0, index)
                return response
            case .success(.switched): throw .unexpected("another protocol")
            case .failure(.connection(let error)): cause = "\(error)"
            case .failure(let error): throw .unreachable(server: server.description, cause: Self.text(error))
            }
        }
        throw .unreachable(server: server.description, cause: cause)
    }

    private static func text(_ error: HTTPClientError) -> String {
        switch error {
        case .unsendable: "the request can't be written"
        case .malformed(let fault): fault.explanation
        case .connection(let cause): "\(cause)"
        case .closed: "the server closed before the answer was complete"
        case .timedOut: "no answer in time"
        case .cancelled: "cancelled"
        }
    }

    private func exchange(
        _ request: HTTPClientRequest, with address: SocketAddress
    ) -> Result<HTTPClient.Outcome, HTTPClientError> {
        var configuration = HTTPClient.Configuration()
        configuration.bodyBytes = Self.longestBody
        let outcome = Box<Result<HTTPClient.Outcome, HTTPClientError>>()
        let client = HTTPClient.send(
            request, on: loop, configuration: configuration,
            over: { handler in
                if let tls {
                    return TLSStream.connect(
                        on: loop, to: address, host: server.host, context: tls, handler: handler)
                }
                return TCPStream.connect(on: loop, to: address, timeout: .seconds(10), handler: handler)
            },
            completion: { outcome.value = $0 })
        defer { withExtendedLifetime(client) {} }
        // The client's own timers end this.
        while true {
            if let value = outcome.value { return value }
            loop.runOnce()
        }
    }

    private func resolve() throws(APIError) -> [IPAddress] {
        if let address = IPAddress(server.host) { return [address] }
        let answer = Box<Result<[IPAddress], ResolveError>>()
        do {
            let resolver = try NameResolver(on: loop, threads: 1)
            defer { resolver.close() }
            _ = resolver.resolve(server.host) { answer.value = $0 }
            while true {
                if let value = answer.value { return try value.get() }
                loop.runOnce()
            }
        } catch {
            throw .unreachable(server: server.description, cause: "\(error)")
        }
    }

    /// Where a callback puts its result.
    private final class Box<Value> {
        var value: Value?
    }
}
