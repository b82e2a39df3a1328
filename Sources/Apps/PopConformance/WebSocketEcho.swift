package import EventLoop
internal import HTTP1
package import HTTPServer
internal import WebSocket

/// Opens a WebSocket on any path and sends every message back as it came.
package final class WebSocketEcho: HTTPHandler, WebSocketStreamDelegate {
    /// The largest message of the Autobahn suite; production takes 1 MiB.
    private static let messageBytes = 16_777_216
    /// Above this much unsent output a socket is not read from until all of it is taken.
    private static let outputHighWater = 1_048_576

    private let loop: EventLoop
    private var sockets: [ObjectIdentifier: WebSocketStream] = [:]
    private var closed: (() -> Void)?

    package init(on loop: EventLoop) {
        self.loop = loop
    }

    /// Closes every WebSocket with 1001 and then calls `finished`, at once when there is none.
    package func close(_ finished: @escaping () -> Void) {
        closed = finished
        for socket in Array(sockets.values) {
            socket.close(WebSocketCloseStatus(code: WebSocketCloseCode.goingAway))
        }
        tellWhenClosed()
    }

    private func tellWhenClosed() {
        guard sockets.isEmpty, let closed else { return }
        self.closed = nil
        closed()
    }

    // MARK: Opening

    package func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        do {
            let accepted = try WebSocketHandshake.accept(WebSocketHandshake.Request(request))
            let head = HTTPResponseHead(
                .switchingProtocols,
                ["Upgrade": "websocket", "Sec-WebSocket-Accept": accepted.acceptValue])
            guard let upgraded = responder.upgrade(head) else { return }
            var configuration = WebSocketStream.Configuration()
            configuration.limits = WebSocketLimits(
                messageBytes: Self.messageBytes, frameBytes: Self.messageBytes, acceptsText: true)
            configuration.sendBufferBytes = 2 * (Self.messageBytes + Self.outputHighWater)
            let socket = WebSocketStream(
                over: upgraded.stream, received: upgraded.received, role: .server, on: loop,
                configuration: configuration, delegate: self)
            sockets[ObjectIdentifier(socket)] = socket
        } catch {
            responder.refuse(error)
        }
    }

    // MARK: Echo

    package func webSocket(_ socket: WebSocketStream, received message: [UInt8]) {
        settle(socket, socket.send(binary: message))
    }

    package func webSocket(_ socket: WebSocketStream, receivedText text: String) {
        settle(socket, socket.send(text: text))
    }

    private func settle(_ socket: WebSocketStream, _ isSent: Bool) {
        // What is lost would be missed by the peer.
        guard isSent else {
            return socket.close(WebSocketCloseStatus(code: WebSocketCloseCode.internalError))
        }
        if socket.bufferedBytes > Self.outputHighWater { socket.pauseReading() }
    }

    package func webSocketDrained(_ socket: WebSocketStream) {
        socket.resumeReading()
    }

    package func webSocketEnded(_ socket: WebSocketStream, _ end: WebSocketEnd) {
        sockets[ObjectIdentifier(socket)] = nil
        tellWhenClosed()
    }
}
