package import Domain
package import EventLoop
package import HTTP1
package import TLS
package import WebSocket

/// Where and how to open a WebSocket.
package struct WebSocketRequest {
    /// Where to connect to.
    package var address: SocketAddress
    /// The name or IP literal asked for: verified by TLS, sent as SNI and in Host.
    package var host: String
    /// The path and query.
    package var target: String
    /// Further fields, e.g. Authorization.
    package var fields: HTTPFields
    /// The subprotocols to offer, best first; the server must choose one of them if there are any.
    package var protocols: [String]
    /// Nil for `ws://`.
    package var tls: TLSContext?
    /// For connection, TLS and opening handshake together.
    package var timeout: Duration
    package var configuration: WebSocketStream.Configuration

    package init(
        address: SocketAddress, host: String, target: String = "/", fields: HTTPFields = [:],
        protocols: [String] = [], tls: TLSContext?, timeout: Duration = .seconds(10),
        configuration: WebSocketStream.Configuration = .init()
    ) {
        self.address = address
        self.host = host
        self.target = target
        self.fields = fields
        self.protocols = protocols
        self.tls = tls
        self.timeout = timeout
        self.configuration = configuration
    }

    /// The value of Host: the port is left out where the scheme implies it (RFC 9110 section 4.2.3).
    var authority: String {
        let name = if case .v6 = IPAddress(host) { "[\(host)]" } else { host }
        return address.port == (tls == nil ? 80 : 443) ? name : "\(name):\(address.port)"
    }
}

/// Why a WebSocket could not be opened.
package enum WebSocketClientError: Error {
    /// The server answered with another status than 101, e.g. 401 or 503 with Retry-After.
    case refused(HTTPClientResponse)
    /// The answer is no answer to our handshake: the named field is missing or wrong.
    case malformed(String)
    /// None of the subprotocols offered was chosen.
    case noProtocol
    /// There is no connection (`StreamError`, `TLSError`) or no HTTP response.
    case http(HTTPClientError)
    case timedOut
    case cancelled
}

/// Opens one WebSocket as a client (RFC 6455 section 4.1).
///
/// The loop holds it until `completion` was called, which happens exactly once and never inside `connect`.
package final class WebSocketClient {
    /// A refusal's content is for people; more of it is of no use.
    private static let refusalBytes = 65_536

    private let request: WebSocketRequest
    private let loop: EventLoop
    private let key: String
    private var delegate: (any WebSocketStreamDelegate)?
    private var completion: ((Result<WebSocketStream, WebSocketClientError>) -> Void)?
    private var http: HTTPClient?
    private var timer: LoopTimer?

    /// - Parameter delegate: the delegate of the WebSocket, once there is one.
    @discardableResult
    package static func connect(
        _ request: WebSocketRequest, on loop: EventLoop, delegate: any WebSocketStreamDelegate,
        completion: @escaping (Result<WebSocketStream, WebSocketClientError>) -> Void
    ) -> WebSocketClient {
        let client = WebSocketClient(request, on: loop, delegate: delegate, completion: completion)
        client.start()
        return client
    }

    private init(
        _ request: WebSocketRequest, on loop: EventLoop, delegate: any WebSocketStreamDelegate,
        completion: @escaping (Result<WebSocketStream, WebSocketClientError>) -> Void
    ) {
        self.request = request
        self.loop = loop
        self.delegate = delegate
        self.completion = completion
        var random = SystemRandom()
        key = WebSocketHandshake.makeKey(using: &random)
    }

    /// Gives up; `completion` is called with `cancelled` at once.
    package func cancel() {
        giveUp(.cancelled)
    }

    private func start() {
        var fields = request.fields
        fields.append("Connection", "Upgrade")
        fields.append("Upgrade", "websocket")
        fields.append("Sec-WebSocket-Key", key)
        fields.append("Sec-WebSocket-Version", WebSocketHandshake.version)
        if !request.protocols.isEmpty {
            fields.append("Sec-WebSocket-Protocol", request.protocols.joined(separator: ", "))
        }
        let opening = HTTPClientRequest(target: request.target, host: request.authority, fields: fields)
        var configuration = HTTPClient.Configuration()
        configuration.bodyBytes = Self.refusalBytes
        configuration.responseTimeout = request.timeout
        configuration.streamTimeout = request.timeout
        let loop = loop
        let request = request
        http = HTTPClient.send(
            opening, on: loop, configuration: configuration,
            over: { handler in
                guard let tls = request.tls else {
                    return TCPStream.connect(
                        on: loop, to: request.address, timeout: request.timeout, handler: handler)
                }
                return TLSStream.connect(
                    on: loop, to: request.address, host: request.host, context: tls,
                    timeout: request.timeout, handler: handler)
            },
            completion: { self.responded($0) })
        timer = loop.makeTimer { [weak self] in self?.giveUp(.timedOut) }
        timer?.arm(at: loop.now + request.timeout)
    }

    private func giveUp(_ error: WebSocketClientError) {
        guard completion != nil else { return }
        let abandoned = http
        complete(.failure(error))
        abandoned?.cancel()
    }

    private func responded(_ result: Result<HTTPClient.Outcome, HTTPClientError>) {
        switch result {
        case .success(.switched(let head, let stream, let received)):
            opened(head, stream, received)
        case .success(.response(let response)):
            complete(.failure(.refused(response)))
        case .failure(.timedOut):
            complete(.failure(.timedOut))
        case .failure(let error):
            complete(.failure(.http(error)))
        }
    }

    private func opened(_ head: HTTPResponseHead, _ stream: any ByteStream, _ received: [UInt8]) {
        let fields = head.fields
        let response = WebSocketHandshake.Response(
            status: Int(head.status.code), connection: fields.values(of: "connection"),
            upgrade: fields.values(of: "upgrade"), accept: fields.values(of: "sec-websocket-accept"),
            protocols: fields.values(of: "sec-websocket-protocol"),
            extensions: fields.values(of: "sec-websocket-extensions"))
        do throws(WebSocketHandshake.ResponseFault) {
            let chosen = try WebSocketHandshake.verify(response, key: key, offered: request.protocols)
            guard request.protocols.isEmpty || chosen != nil, let delegate else {
                stream.abort()
                return complete(.failure(.noProtocol))
            }
            let socket = WebSocketStream(
                over: stream, received: received, role: .client, on: loop,
                configuration: request.configuration, delegate: delegate)
            complete(.success(socket))
        } catch {
            stream.abort()
            switch error {
            case .refused(let status): complete(.failure(.malformed("status \(status)")))
            case .malformed(let field): complete(.failure(.malformed(field)))
            }
        }
    }

    private func complete(_ result: Result<WebSocketStream, WebSocketClientError>) {
        guard let completion else { return }
        self.completion = nil
        delegate = nil
        http = nil
        timer?.cancel()
        timer = nil
        completion(result)
    }
}

extension WebSocketHandshake.Request {
    /// What a server's part of the handshake looks at in `head`.
    package init(_ head: HTTPRequestHead) {
        self.init(
            method: head.method.name, isHTTP11OrLater: head.version != .http10,
            connection: head.fields.values(of: "connection"), upgrade: head.fields.values(of: "upgrade"),
            key: head.fields.values(of: "sec-websocket-key"),
            version: head.fields.values(of: "sec-websocket-version"),
            protocols: head.fields.values(of: "sec-websocket-protocol"))
    }
}

extension HTTPResponder {
    /// Answers an opening handshake with 101, and gives the WebSocket.
    ///
    /// - Parameter subprotocol: the one chosen of those offered, if any.
    /// - Returns: nil when the client is gone.
    package func acceptWebSocket(
        _ accepted: WebSocketHandshake.Accepted, subprotocol: String?, on loop: EventLoop,
        configuration: WebSocketStream.Configuration = .init(), delegate: any WebSocketStreamDelegate
    ) -> WebSocketStream? {
        var fields: HTTPFields = ["Upgrade": "websocket", "Sec-WebSocket-Accept": accepted.acceptValue]
        if let subprotocol { fields.append("Sec-WebSocket-Protocol", subprotocol) }
        guard let upgraded = upgrade(HTTPResponseHead(.switchingProtocols, fields)) else { return nil }
        return WebSocketStream(
            over: upgraded.stream, received: upgraded.received, role: .server, on: loop,
            configuration: configuration, delegate: delegate)
    }

    /// Answers a request that is no opening handshake, with what the RFCs demand beside the status.
    package func refuseWebSocket(_ fault: WebSocketHandshake.RequestFault) {
        var fields: HTTPFields = [:]
        switch fault {
        case .methodNotAllowed: fields.append("Allow", "GET")
        case .upgradeRequired: fields.append("Upgrade", "websocket")
        case .versionNotSupported:
            fields.append("Upgrade", "websocket")
            fields.append("Sec-WebSocket-Version", WebSocketHandshake.version)
        case .malformed: break
        }
        let problem = HTTPServer.problem(
            HTTPStatus(UInt16(fault.status)), code: "websocket_handshake", detail: "\(fault)")
        var head = problem.head
        for (name, value) in fields { head.fields.append(name, value) }
        respond(head, body: problem.body)
    }
}
