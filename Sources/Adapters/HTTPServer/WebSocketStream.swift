internal import Domain
package import EventLoop
package import WebSocket

/// What happens on a ``WebSocketStream``, on its loop's thread. Every command may be given inside a call.
package protocol WebSocketStreamDelegate: AnyObject {
    /// A binary message arrived, whole.
    func webSocket(_ socket: WebSocketStream, received message: [UInt8])
    /// A text message arrived; only where the limits accept text.
    func webSocket(_ socket: WebSocketStream, receivedText text: String)
    func webSocket(_ socket: WebSocketStream, receivedPong payload: [UInt8])
    /// All that was sent has been taken by the kernel, after some had to wait.
    func webSocketDrained(_ socket: WebSocketStream)
    /// The connection is over. Told once, last; not after `abort`.
    func webSocketEnded(_ socket: WebSocketStream, _ end: WebSocketEnd)
}

extension WebSocketStreamDelegate {
    package func webSocket(_ socket: WebSocketStream, receivedText text: String) {}
    package func webSocket(_ socket: WebSocketStream, receivedPong payload: [UInt8]) {}
    package func webSocketDrained(_ socket: WebSocketStream) {}
}

/// How a WebSocket connection came to its end.
package enum WebSocketEnd {
    /// The peer closed, with the status of its close frame; ours has answered it.
    case closedByPeer(WebSocketCloseStatus?)
    /// The peer answered our close with this status.
    case closeAnswered(WebSocketCloseStatus?)
    /// The peer did not answer our close in time.
    case closeTimedOut
    /// The peer broke the protocol's rules or our limits, and was sent a close that says so.
    case violated(WebSocketFault)
    /// The stream ended without a close frame: with an error, or nil when it ended by FIN.
    case lost((any Error)?)
}

/// A WebSocket connection over a stream that HTTP has left.
///
/// ```
///      open ----------> closing ----------> ended
///        |    close()            peer's close,  ^
///        |                       time, loss     |
///        +--------------------------------------+
///              peer's close, fault, loss
/// ```
/// Pings are answered. It and its stream hold each other, and it holds its delegate, until the end.
package final class WebSocketStream: ByteStreamHandler {
    package struct Configuration {
        package var limits: WebSocketLimits
        /// Most bytes that wait for a slow peer; what would exceed it is not sent.
        package var sendBufferBytes: Int
        /// How long the peer may take to answer a close.
        package var closeTimeout: Duration

        /// 4 MiB hold four of the largest messages; 5 s are several round trips of a slow path.
        package init(
            limits: WebSocketLimits = WebSocketLimits(), sendBufferBytes: Int = 4_194_304,
            closeTimeout: Duration = .seconds(5)
        ) {
            self.limits = limits
            self.sendBufferBytes = sendBufferBytes
            self.closeTimeout = closeTimeout
        }
    }

    private enum Phase {
        case open, closing, ended
    }

    package let stream: any ByteStream
    private let loop: EventLoop
    private let configuration: Configuration
    private var delegate: (any WebSocketStreamDelegate)?
    private var connection: WebSocketConnection
    private var random = SystemRandom()
    private var phase = Phase.open
    /// What came behind the handshake; it goes before everything else.
    private var early: [UInt8]
    private var timer: LoopTimer?

    /// Takes `stream` over, which is open.
    ///
    /// - Parameter received: what came behind the opening handshake; it is delivered in this batch or the next.
    package init(
        over stream: any ByteStream, received: [UInt8] = [], role: WebSocketRole, on loop: EventLoop,
        configuration: Configuration = Configuration(), delegate: any WebSocketStreamDelegate
    ) {
        self.stream = stream
        self.loop = loop
        self.configuration = configuration
        self.delegate = delegate
        connection = WebSocketConnection(role: role, limits: configuration.limits)
        early = received
        stream.handler = self
        if !received.isEmpty {
            loop.atEndOfBatch { [weak self] in self?.receiveEarly() }
        }
    }

    /// Whether messages can be sent.
    package var isOpen: Bool { phase == .open }
    /// Bytes written and not yet taken by the kernel.
    package var bufferedBytes: Int { stream.bufferedBytes }

    // MARK: Commands

    /// Sends a message; false, and nothing is sent, when it is closed or too much waits already.
    @discardableResult
    package func send(binary message: [UInt8]) -> Bool {
        guard phase == .open, hasRoom(for: message.count) else { return false }
        return write(connection.binary(message, using: &random))
    }

    /// Sends a text message, as ``send(binary:)``.
    @discardableResult
    package func send(text: String) -> Bool {
        guard phase == .open, hasRoom(for: text.utf8.count) else { return false }
        return write(connection.text(text, using: &random))
    }

    /// Sends a ping of at most 125 bytes; its pong is told to the delegate.
    @discardableResult
    package func ping(_ payload: [UInt8] = []) -> Bool {
        guard phase == .open, hasRoom(for: payload.count) else { return false }
        return write(connection.ping(payload, using: &random))
    }

    /// Sends a close frame behind what was sent, and waits for the peer's for the configured time. Messages
    /// that still come are dropped.
    package func close(
        _ status: WebSocketCloseStatus? = WebSocketCloseStatus(code: WebSocketCloseCode.normal)
    ) {
        guard phase == .open else { return }
        phase = .closing
        _ = write(connection.close(status, using: &random))
        // A delegate that had paused would otherwise never let the peer's close through.
        stream.resumeReading()
        armTimer()
    }

    /// Drops the connection; the delegate is told nothing.
    package func abort() {
        delegate = nil
        phase = .ended
        disarmTimer()
        stream.abort()
    }

    /// Stops delivering; messages that had arrived before may still come.
    package func pauseReading() {
        guard phase == .open else { return }
        stream.pauseReading()
    }

    package func resumeReading() {
        stream.resumeReading()
    }

    private func hasRoom(for count: Int) -> Bool {
        stream.bufferedBytes + count <= configuration.sendBufferBytes
    }

    private func write(_ frame: [UInt8]?) -> Bool {
        guard let frame else { return false }
        stream.write(frame)
        return true
    }

    // MARK: Receiving

    package func streamOpened(_ stream: any ByteStream) {}

    package func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        receiveEarly()
        guard phase != .ended else { return }
        receive(Array(bytes))
    }

    private func receiveEarly() {
        guard !early.isEmpty, phase != .ended else { return }
        let bytes = early
        early = []
        receive(bytes)
    }

    private func receive(_ bytes: [UInt8]) {
        for event in connection.receive(bytes[...]) {
            switch event {
            case .binary(let message):
                if phase == .open { delegate?.webSocket(self, received: message) }
            case .text(let text):
                if phase == .open { delegate?.webSocket(self, receivedText: text) }
            case .pong(let payload):
                if phase == .open { delegate?.webSocket(self, receivedPong: payload) }
            case .ping(let payload):
                // A peer that pings and doesn't read gets no more answers than the buffer holds.
                if phase == .open, hasRoom(for: payload.count) {
                    _ = write(connection.pong(payload, using: &random))
                }
            case .close(let status):
                peerClosed(status)
            case .failed(let fault):
                violated(fault)
            }
            if phase == .ended { return }
        }
    }

    private func peerClosed(_ status: WebSocketCloseStatus?) {
        let wasClosing = phase == .closing
        // The code is sent back (section 5.5.1); the reason is the peer's own.
        _ = write(connection.close(status.map { WebSocketCloseStatus(code: $0.code) }, using: &random))
        // The server ends TCP first, so that TIME_WAIT is its own; the client waits for it (section 7.1.1).
        if connection.role == .server { stream.closeWhenFlushed() }
        end(wasClosing ? .closeAnswered(status) : .closedByPeer(status))
        if connection.role == .client { armTimer() }
    }

    private func violated(_ fault: WebSocketFault) {
        let status = WebSocketCloseStatus(code: fault.closeCode, reason: "\(fault)")
        _ = write(connection.close(status, using: &random))
        stream.closeWhenFlushed()
        end(.violated(fault))
    }

    package func streamPeerFinished(_ stream: any ByteStream) {
        receiveEarly()
        stream.closeWhenFlushed()
        end(.lost(nil))
    }

    package func streamDrained(_ stream: any ByteStream) {
        guard phase == .open else { return }
        delegate?.webSocketDrained(self)
    }

    package func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        end(.lost(error))
    }

    private func armTimer() {
        let timer = timer ?? loop.makeTimer { [weak self] in self?.timedOut() }
        self.timer = timer
        timer.arm(at: loop.now + configuration.closeTimeout)
    }

    private func disarmTimer() {
        timer?.cancel()
        timer = nil
    }

    private func timedOut() {
        guard phase != .ended else { return stream.closeWhenFlushed() }
        stream.abort()
        end(.closeTimedOut)
    }

    private func end(_ end: WebSocketEnd) {
        disarmTimer()
        guard phase != .ended else { return }
        phase = .ended
        let told = delegate
        delegate = nil
        told?.webSocketEnded(self, end)
    }
}
