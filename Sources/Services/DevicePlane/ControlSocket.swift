internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTPServer
internal import WebSocket

/// A control connection over a WebSocket.
///
/// The plane holds it while it counts, the WebSocket until it has ended.
final class ControlSocket: ControlTransport, WebSocketStreamDelegate {
    private let loop: EventLoop
    private let plane: DevicePlane
    private var id: ControlID?
    private var socket: WebSocketStream?
    /// The last ping, until its pong: one at a time is measured.
    private var ping: (payload: [UInt8], sentAt: Instant)?
    private var pings: UInt8 = 0
    /// Frames that go out together at the end of the loop's batch, as one WebSocket message.
    private var outbound: [UInt8] = []

    /// Serves a stream that has just been upgraded.
    static func start(
        _ upgraded: HTTPResponder.Upgraded, on loop: EventLoop, plane: DevicePlane, peer: SocketAddress,
        identity: DeviceID?
    ) {
        let control = ControlSocket(on: loop, plane)
        var configuration = WebSocketStream.Configuration()
        configuration.limits = WebSocketLimits(
            messageBytes: ControlFraming.maximumWebSocketMessageBytes,
            frameBytes: ControlFraming.maximumWebSocketMessageBytes, acceptsText: false)
        control.socket = WebSocketStream(
            over: upgraded.stream, received: upgraded.received, role: .server, on: loop,
            configuration: configuration, delegate: control)
        control.id = plane.opened(control, peer: peer, identity: identity)
    }

    private init(on loop: EventLoop, _ plane: DevicePlane) {
        self.loop = loop
        self.plane = plane
    }

    // MARK: ControlTransport

    var bufferedBytes: Int { outbound.count + (socket?.bufferedBytes ?? 0) }

    func send(_ frames: [UInt8]) {
        if outbound.count + frames.count > ControlFraming.maximumWebSocketMessageBytes { flush() }
        guard !outbound.isEmpty else {
            // Nearly always these are all.
            outbound = frames
            if !frames.isEmpty { loop.atEndOfBatch { [self] in flush() } }
            return
        }
        outbound += frames
    }

    private func flush() {
        guard !outbound.isEmpty else { return }
        // What finds no room is lost with the connection: the plane drops a reader that is this slow.
        socket?.send(binary: outbound)
        outbound = []
    }

    func measureRoundTrip() {
        guard ping == nil else { return }
        flush()
        pings &+= 1
        ping = ([pings], loop.now)
        socket?.ping([pings])
    }

    func close(code: UInt16, reason: String) {
        flush()
        socket?.close(WebSocketCloseStatus(code: code, reason: reason))
    }

    func abort() {
        outbound = []
        socket?.abort()
        socket = nil
    }

    // MARK: WebSocketStreamDelegate

    func webSocket(_ socket: WebSocketStream, received message: [UInt8]) {
        if let id { plane.received(message, on: id) }
    }

    func webSocket(_ socket: WebSocketStream, receivedPong payload: [UInt8]) {
        guard let id, let ping, ping.payload == payload else { return }
        self.ping = nil
        plane.measured(roundTrip: loop.now - ping.sentAt, on: id)
    }

    func webSocketEnded(_ socket: WebSocketStream, _ end: WebSocketEnd) {
        self.socket = nil
        guard let id else { return }
        if case .violated(let fault) = end {
            plane.violated(fault.closeCode, "\(fault)", on: id)
        }
        plane.closed(id)
    }
}
