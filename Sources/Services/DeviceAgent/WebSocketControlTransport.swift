internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import HTTP1
internal import HTTPServer
internal import TLS
internal import WebSocket

/// A control connection over WebSocket: resolve, TCP, TLS for `wss`, opening handshake.
///
/// The addresses of the host are tried one after the other within one time limit, of which each gets its even
/// share; an answer of the POP, even a refusal, ends the search.
final class WebSocketControlTransport: ControlTransport, WebSocketStreamDelegate {
    private static let path = "/v1/control"
    private static let subprotocol = "pop.control.v1"

    private let pop: PopURL
    private let fields: HTTPFields
    private let tls: TLSContext?
    private let loop: EventLoop
    private let resolver: NameResolver
    private let deadline: Instant
    private var events: ((ControlEvent) -> Void)?
    private var ticket: NameResolver.Ticket?
    private var addresses: ArraySlice<IPAddress> = []
    private var client: WebSocketClient?
    private var socket: WebSocketStream?
    private var isClosing = false

    init(
        _ pop: PopURL, token: String?, tls: TLSContext, loop: EventLoop, resolver: NameResolver,
        events: @escaping (ControlEvent) -> Void
    ) {
        self.pop = pop
        self.tls = pop.isSecure ? tls : nil
        self.loop = loop
        self.resolver = resolver
        self.events = events
        var fields: HTTPFields = [:]
        if let token { fields.append("Authorization", "Bearer \(token)") }
        self.fields = fields
        deadline = loop.now + AgentLimit.connectTimeout
        switch pop.host {
        case .address(let address):
            // Not within this call: who makes a connection has not stored it yet.
            loop.atEndOfBatch { [weak self] in self?.tryAll([address]) }
        case .name(let name):
            ticket = resolver.resolve(name) { [weak self] result in
                guard let self else { return }
                ticket = nil
                switch result {
                case .success(let addresses): tryAll(addresses)
                case .failure(let error): failed(.unreachable, "\(error)")
                }
            }
        }
    }

    // MARK: Opening

    private func tryAll(_ addresses: [IPAddress]) {
        self.addresses = addresses[...]
        tryNext("no address")
    }

    private func tryNext(_ cause: String) {
        guard events != nil, !isClosing else { return }
        guard let address = addresses.popFirst() else {
            failed(.unreachable, cause)
            return
        }
        let share = (deadline - loop.now) / (addresses.count + 1)
        let request = WebSocketRequest(
            address: SocketAddress(ip: address, port: pop.port), host: pop.hostName, target: Self.path,
            fields: fields, protocols: [Self.subprotocol], tls: tls, timeout: share)
        client = WebSocketClient.connect(request, on: loop, delegate: self) { [weak self] result in
            self?.answered(result, address)
        }
    }

    private func answered(_ result: Result<WebSocketStream, WebSocketClientError>, _ address: IPAddress) {
        client = nil
        switch result {
        case .success(let socket):
            guard !isClosing else { return socket.abort() }
            self.socket = socket
            events?(.opened(peer: address))
        case .failure(.refused(let response)):
            refused(response)
        case .failure(let error):
            tryNext(Self.cause(error))
        }
    }

    private func refused(_ response: HTTPClientResponse) {
        let text = "the POP answered with status \(response.status.code)"
        switch response.status.code {
        case 401:
            failed(.unauthorized, text)
        case 503:
            // Delay seconds (RFC 9110 section 10.2.3); a date is taken for none.
            let seconds = response.head.fields["retry-after"].flatMap { UInt32($0) } ?? 0
            failed(.unavailable(retryAfter: .seconds(Int64(seconds))), text)
        default:
            failed(.unreachable, text)
        }
    }

    /// The error without the wrapping that says nothing.
    private static func cause(_ error: WebSocketClientError) -> String {
        switch error {
        case .http(.connection(let inner)): "\(inner)"
        case .http(let inner): "no HTTP response: \(inner)"
        case .malformed(let field): "the answer is no WebSocket handshake: \(field)"
        case .noProtocol: "the POP does not speak \(subprotocol)"
        case .timedOut: "no answer in time"
        case .cancelled: "given up"
        case .refused(let response): "status \(response.status.code)"
        }
    }

    private func failed(_ failure: ControlFailure, _ text: String) {
        let told = events
        events = nil
        told?(.failed(failure, text))
    }

    // MARK: ControlTransport

    func send(_ message: [UInt8]) {
        guard let socket, socket.isOpen else { return }
        guard socket.send(binary: message) else {
            // Megabytes wait for a POP that takes nothing: such a connection is as good as lost.
            socket.abort()
            self.socket = nil
            loop.atEndOfBatch { self.ended(code: nil, "the POP takes nothing") }
            return
        }
    }

    func close(code: UInt16) {
        guard !isClosing else { return }
        isClosing = true
        if let socket {
            socket.close(WebSocketCloseStatus(code: code))
            return
        }
        if let ticket { resolver.cancel(ticket) }
        ticket = nil
        client?.cancel()
        client = nil
        failed(.unreachable, "given up")
    }

    // MARK: WebSocketStreamDelegate

    func webSocket(_ socket: WebSocketStream, received message: [UInt8]) {
        events?(.received(message))
    }

    func webSocket(_ socket: WebSocketStream, receivedPong payload: [UInt8]) {}

    func webSocketEnded(_ socket: WebSocketStream, _ end: WebSocketEnd) {
        self.socket = nil
        switch end {
        case .closedByPeer(let status):
            let reason = status?.reason ?? ""
            ended(code: status?.code, "closed by the POP" + (reason.isEmpty ? "" : ": \(reason)"))
        case .closeAnswered: ended(code: nil, "closed")
        case .closeTimedOut: ended(code: nil, "closed without an answer")
        case .violated(let fault): ended(code: nil, "the POP broke the WebSocket protocol: \(fault)")
        case .lost(let error): ended(code: nil, error.map { "\($0)" } ?? "ended without a close frame")
        }
    }

    private func ended(code: UInt16?, _ text: String) {
        let told = events
        events = nil
        told?(.closed(code: code, text))
    }
}
