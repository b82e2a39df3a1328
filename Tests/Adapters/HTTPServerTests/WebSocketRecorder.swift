import Domain
import EventLoop
import HTTP1
import HTTPServer
import TLS
import TestKit
import Testing
import WebSocket

/// Writes down what a WebSocket tells.
final class WebSocketRecorder: WebSocketStreamDelegate {
    var messages: [[UInt8]] = []
    var texts: [String] = []
    var pongs: [[UInt8]] = []
    var drains = 0
    var ends: [WebSocketEnd] = []
    var onMessage: ((WebSocketStream, [UInt8]) -> Void)?

    func webSocket(_ socket: WebSocketStream, received message: [UInt8]) {
        messages.append(message)
        onMessage?(socket, message)
    }

    func webSocket(_ socket: WebSocketStream, receivedText text: String) { texts.append(text) }
    func webSocket(_ socket: WebSocketStream, receivedPong payload: [UInt8]) { pongs.append(payload) }
    func webSocketDrained(_ socket: WebSocketStream) { drains += 1 }
    func webSocketEnded(_ socket: WebSocketStream, _ end: WebSocketEnd) { ends.append(end) }

    var isEnded: Bool { !ends.isEmpty }

    /// The end in words, for comparisons.
    var end: String? {
        guard ends.count == 1 else { return ends.isEmpty ? nil : "told \(ends.count) times" }
        return switch ends[0] {
        case .closedByPeer(let status): "closedByPeer \(status?.code ?? 0) \(status?.reason ?? "")"
        case .closeAnswered(let status): "closeAnswered \(status?.code ?? 0)"
        case .closeTimedOut: "closeTimedOut"
        case .violated(let fault): "violated \(fault)"
        case .lost(let error): "lost \(error.map { "\($0)" } ?? "in order")"
        }
    }
}

/// A server that upgrades `/v1/control` with the subprotocol `pop.test`, and answers 401 without a token.
final class UpgradeHandler: HTTPHandler {
    let loop: EventLoop
    let recorder = WebSocketRecorder()
    var configuration = WebSocketStream.Configuration()
    var subprotocol: String? = "pop.test"
    var socket: WebSocketStream?

    init(loop: EventLoop) {
        self.loop = loop
    }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        guard request.target.path == "/v1/control" else { return responder.respond(.notFound) }
        guard request.fields["authorization"] != nil else {
            return responder.respond(.unauthorized, ["WWW-Authenticate": "Bearer"], body: Array("no".utf8))
        }
        do throws(WebSocketHandshake.RequestFault) {
            let accepted = try WebSocketHandshake.accept(WebSocketHandshake.Request(request.head))
            socket = responder.acceptWebSocket(
                accepted, subprotocol: subprotocol, on: loop, configuration: configuration,
                delegate: recorder)
        } catch {
            responder.refuseWebSocket(error)
        }
    }
}

/// A server with `UpgradeHandler`, and what a client needs to open a WebSocket on it.
struct WebSocketServer {
    let loop: EventLoop
    let handler: UpgradeHandler
    let server: HTTPServer
    var request: WebSocketRequest

    init(secure: Bool) throws {
        loop = try EventLoop()
        handler = UpgradeHandler(loop: loop)
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        server = HTTPServer(
            on: loop, tls: secure ? try TLSContext.server(identity: identity) : nil, handler: handler)
        let address = try server.listen(loopback)
        request = WebSocketRequest(
            address: address, host: "node.test", target: "/v1/control",
            fields: ["Authorization": "Bearer token"], protocols: ["other", "pop.test"],
            tls: secure ? try .client(trust: .certificates(pem: identity.certificateChainPEM)) : nil,
            timeout: .seconds(5))
    }

    /// What comes of a client's attempt.
    func connect(_ delegate: WebSocketRecorder) throws -> Result<WebSocketStream, WebSocketClientError> {
        var outcome: Result<WebSocketStream, WebSocketClientError>?
        WebSocketClient.connect(request, on: loop, delegate: delegate) { outcome = $0 }
        #expect(outcome == nil)
        loop.run { outcome != nil }
        return try #require(outcome)
    }
}
