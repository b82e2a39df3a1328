package import EventLoop
package import HTTP1

/// Answers one request, whole or in pieces, now or later; on the loop's thread.
///
/// Answers go out in the order of the requests: what is answered early waits in memory. After the client
/// is gone every call does nothing.
package final class HTTPResponder {
    private let exchange: HTTPExchange

    init(_ exchange: HTTPExchange) {
        self.exchange = exchange
    }

    deinit {
        switch exchange.state {
        case .waiting: exchange.connection?.respondInternalError(exchange)
        case .streaming: exchange.connection?.abort()
        case .ended: break
        }
    }

    /// Whether the client went away before the response was complete.
    package var isCancelled: Bool { exchange.isCancelled }

    /// Called once when the client goes away before the response is complete. Let go of afterwards.
    package var onCancel: (() -> Void)? {
        get { exchange.onCancel }
        set { if !exchange.hasEnded { exchange.onCancel = newValue } }
    }

    /// The stream of the connection, for what it tells of the peer; nil when the client is gone.
    package var stream: (any ByteStream)? { exchange.connection?.stream }

    /// Answers with a whole response. A body for HEAD, 204 or 304 is left out; for HEAD its length is told.
    package func respond(_ head: HTTPResponseHead, body: [UInt8] = []) {
        guard case .waiting = exchange.state else { return }
        exchange.connection?.respond(exchange, head, body)
    }

    package func respond(_ status: HTTPStatus, _ fields: HTTPFields = [:], body: [UInt8] = []) {
        respond(HTTPResponseHead(status, fields), body: body)
    }

    // MARK: In pieces

    /// Sends the head; the content follows by `write` and `end`.
    ///
    /// - Parameter contentLength: nil when it is not known: then the content is chunked, or ended by the
    ///   close for a client of HTTP/1.0.
    package func start(_ head: HTTPResponseHead, contentLength: Int? = nil) {
        guard case .waiting = exchange.state else { return }
        exchange.connection?.start(exchange, head, length: contentLength)
    }

    /// Sends a piece of content; nothing for HEAD.
    package func write(_ bytes: [UInt8]) {
        guard case .streaming = exchange.state, !bytes.isEmpty else { return }
        exchange.connection?.write(exchange, bytes)
    }

    /// Completes the response. Content shorter than its told length cuts the connection off.
    package func end(trailers: HTTPFields = [:]) {
        guard case .streaming = exchange.state else { return }
        exchange.connection?.end(exchange, trailers: trailers)
    }

    /// Bytes of this response that the client's kernel has not taken; a writer in pieces stops at a bound
    /// of its own.
    package var bufferedBytes: Int {
        exchange.pending.count + (exchange.connection?.stream?.bufferedBytes ?? 0)
    }

    /// Called whenever all output has been taken after some had to wait.
    package var onDrained: (() -> Void)? {
        get { exchange.onDrained }
        set { if !exchange.hasEnded { exchange.onDrained = newValue } }
    }

    // MARK: Another protocol

    /// A stream that HTTP has left.
    package struct Upgraded {
        /// Without a handler: the caller sets one before it returns to the loop.
        package let stream: any ByteStream
        /// What the client sent behind the request.
        package let received: [UInt8]
    }

    /// Sends 101 with `head`'s fields (Connection is added), or a 2xx to CONNECT, and hands the stream over.
    ///
    /// - Returns: nil when the client is gone, or when the request offered no upgrade: then it is
    ///   answered 400.
    package func upgrade(_ head: HTTPResponseHead) -> Upgraded? {
        guard case .waiting = exchange.state, let connection = exchange.connection else { return nil }
        guard exchange.maySwitch else {
            let problem = HTTPServer.problem(
                .badRequest, code: "upgrade_required", detail: "The request offers no upgrade.")
            connection.respond(exchange, problem.head, problem.body)
            return nil
        }
        return connection.handOver(exchange, head)
    }
}
