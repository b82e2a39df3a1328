package import Domain
package import EventLoop
package import HTTP1
package import TLS

/// Answers the requests of an ``HTTPServer``; held by it.
package protocol HTTPHandler: AnyObject {
    /// Answers `request` with `responder`, now or later on the same loop.
    ///
    /// A responder that is dropped unanswered answers 500.
    func handle(_ request: HTTPRequest, _ responder: HTTPResponder)

    /// What is done with the content of a request, whose head has come: without a word from here it is read.
    func plan(forContentOf head: HTTPRequestHead, from peer: SocketAddress) -> HTTPContentPlan

    /// What the server answers to a request that it refuses by itself; nil is a problem document of its own.
    ///
    /// - Parameter head: nil when the fault lies before its end.
    func refusal(
        for fault: HTTPFault, of head: HTTPRequestHead?, from peer: SocketAddress
    ) -> (head: HTTPResponseHead, body: [UInt8])?
}

extension HTTPHandler {
    package func plan(forContentOf head: HTTPRequestHead, from peer: SocketAddress) -> HTTPContentPlan {
        .read(atMost: nil)
    }

    package func refusal(
        for fault: HTTPFault, of head: HTTPRequestHead?, from peer: SocketAddress
    ) -> (head: HTTPResponseHead, body: [UInt8])? { nil }
}

/// What a handler wants of the content of a request, when it has seen the head alone.
package enum HTTPContentPlan: Sendable, Hashable {
    /// The request is handled when its content is there; nil: of at most `HTTPLimits.bodyBytes`. More is 413.
    case read(atMost: Int?)
    /// The request is handled at once, without its content: a refusal, most likely. The connection closes after the
    /// answer (RFC 9112 section 9.3), so that the content is not taken for a request.
    case leave
}

/// A whole request.
package struct HTTPRequest {
    package let head: HTTPRequestHead
    package let body: [UInt8]
    /// There is content, and it was left.
    package let isContentLeft: Bool
    package let trailers: HTTPFields
    package let peerAddress: SocketAddress

    package init(
        head: HTTPRequestHead, body: [UInt8] = [], isContentLeft: Bool = false, trailers: HTTPFields = [:],
        peerAddress: SocketAddress
    ) {
        self.head = head
        self.body = body
        self.isContentLeft = isContentLeft
        self.trailers = trailers
        self.peerAddress = peerAddress
    }

    package var method: HTTPMethod { head.method }
    package var target: RequestTarget { head.target }
    package var fields: HTTPFields { head.fields }
}

/// An HTTP/1.1 server on one loop, over plain TCP or TLS.
///
/// The server lives until its last connection has ended: connections hold it, and it holds them.
package final class HTTPServer {
    package struct Configuration: Sendable {
        package var limits = HTTPLimits()
        package var times = ServerConnection.TimeLimits()
        /// Connections at once; one more is closed unanswered, so that descriptors stay for other work.
        package var connectionLimit = 10_000
        /// Unsent output of a connection above which no further request of it is read.
        package var outputHighWater = 262_144

        package init() {}
    }

    package let loop: EventLoop
    package let configuration: Configuration
    /// What the server has done since its start.
    package internal(set) var statistics = Statistics()
    /// The context of new connections; another one takes effect with the next connection. Nil: plain TCP.
    package var tls: TLSContext?

    let handler: any HTTPHandler
    private var listener: Listener?
    private var connections: [ObjectIdentifier: HTTPServerConnection] = [:]
    private var isStopping = false
    private var stopped: (() -> Void)?
    private var stopTimer: LoopTimer?
    private var spareBuffer: [UInt8] = []
    private var dateText: [UInt8] = []
    private var dateDeadline = Instant(nanoseconds: 0)

    /// A buffer that grew above this is given back to the system.
    private static let spareBufferLimit = 131_072

    package init(
        on loop: EventLoop, configuration: Configuration = Configuration(), tls: TLSContext? = nil,
        handler: any HTTPHandler
    ) {
        self.loop = loop
        self.configuration = configuration
        self.tls = tls
        self.handler = handler
    }

    /// Starts to accept at `address`.
    ///
    /// - Returns: the address with the port that the system chose for 0.
    package func listen(_ address: SocketAddress) throws(SystemError) -> SocketAddress {
        let listener = try Listener(on: loop, address) { [weak self] descriptor, peer in
            self?.accept(descriptor, peer)
        }
        self.listener = listener
        return listener.address
    }

    package var connectionCount: Int { connections.count }

    /// Closes the listener; connections live on.
    package func stopAccepting() {
        listener?.close()
        listener = nil
    }

    /// Stops in order: accepts no more, closes idle connections, answers what has been asked with
    /// `Connection: close`, and then calls `finished`, at once if nothing is left.
    ///
    /// - Parameter patience: what is not over by then is cut off: a client may send a request, or take its answer,
    ///   as slowly as the time limits of each piece allow.
    package func stop(patience: Duration = .seconds(10), finished: @escaping () -> Void) {
        stopAccepting()
        isStopping = true
        stopped = finished
        let timer = loop.makeTimer { [weak self] in self?.abort() }
        timer.arm(at: loop.now + patience)
        stopTimer = timer
        for connection in Array(connections.values) { connection.stop() }
        tellWhenStopped()
    }

    /// Cuts all connections off.
    package func abort() {
        stopAccepting()
        for connection in Array(connections.values) { connection.abort() }
    }

    /// Serves a stream that is already open.
    ///
    /// - Parameter received: what was read from it before.
    package func adopt(_ stream: any ByteStream, received: [UInt8] = []) {
        let connection = HTTPServerConnection(server: self)
        add(connection)
        connection.attach(stream)
        stream.handler = connection
        if !received.isEmpty {
            received.withUnsafeBytes { connection.streamReceived(stream, $0) }
        }
    }

    private func accept(_ descriptor: Int32, _ peer: SocketAddress) {
        guard connections.count < configuration.connectionLimit, !isStopping else {
            statistics.connectionsRefused += 1
            Sockets.close(descriptor)
            return
        }
        let connection = HTTPServerConnection(server: self)
        do {
            let stream: any ByteStream
            if let tls {
                stream = try TLSStream.accept(
                    on: loop, descriptor, peer: peer, context: tls, handler: connection)
            } else {
                stream = try TCPStream(on: loop, adopting: descriptor, peer: peer, handler: connection)
            }
            add(connection)
            connection.attach(stream)
        } catch {
            // The descriptor is closed; the peer sees a connection that ended, as with a full queue.
            statistics.connectionsRefused += 1
        }
    }

    private func add(_ connection: HTTPServerConnection) {
        statistics.connectionsAccepted += 1
        connections[ObjectIdentifier(connection)] = connection
    }

    func remove(_ connection: HTTPServerConnection) {
        connections[ObjectIdentifier(connection)] = nil
        tellWhenStopped()
    }

    private func tellWhenStopped() {
        guard isStopping, connections.isEmpty, let stopped else { return }
        self.stopped = nil
        stopTimer?.cancel()
        stopTimer = nil
        stopped()
    }

    // MARK: What connections share

    /// The current time as Date has it, renewed once a second.
    var date: [UInt8] {
        if loop.now >= dateDeadline {
            let wall = SystemClock.wall
            dateText = Array(wall.imfFixdate.utf8)
            let elapsed = wall.microseconds % 1_000_000
            dateDeadline = loop.now + .microseconds(elapsed < 0 ? -elapsed : 1_000_000 - elapsed)
        }
        return dateText
    }

    /// An empty buffer for output, usually one with room.
    func takeBuffer() -> [UInt8] {
        var buffer: [UInt8] = []
        swap(&buffer, &spareBuffer)
        return buffer
    }

    /// Gives a buffer back, so that idle connections hold none.
    func giveBack(_ buffer: consuming [UInt8]) {
        guard buffer.capacity <= Self.spareBufferLimit, buffer.capacity > spareBuffer.capacity else { return }
        buffer.removeAll(keepingCapacity: true)
        spareBuffer = buffer
    }

    /// The problem document (RFC 9457) for an answer that the server gives by itself.
    static func problem(
        _ status: HTTPStatus, code: String, detail: String
    ) -> (head: HTTPResponseHead, body: [UInt8]) {
        let text =
            #"{"type":"about:blank","title":""# + status.reasonPhrase + #"","status":"# + String(status.code)
            + #","code":""# + code + #"","detail":""# + detail + #""}"#
        let head = HTTPResponseHead(
            status, ["Content-Type": "application/problem+json", "Cache-Control": "no-store"])
        return (head, Array(text.utf8))
    }
}
