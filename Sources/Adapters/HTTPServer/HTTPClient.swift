internal import Domain
package import EventLoop
package import HTTP1

/// A request of ours.
package struct HTTPClientRequest {
    package var method: HTTPMethod
    /// In origin form, or `host:port` of CONNECT.
    package var target: String
    /// `name[:port]` for Host.
    package var host: String
    /// Without Host, Content-Length and Transfer-Encoding. With `Upgrade` a 101 hands the stream over.
    package var fields: HTTPFields
    package var body: [UInt8]

    package init(
        method: HTTPMethod = .get, target: String, host: String, fields: HTTPFields = [:], body: [UInt8] = []
    ) {
        self.method = method
        self.target = target
        self.host = host
        self.fields = fields
        self.body = body
    }
}

/// A whole response; the body is empty where it was streamed.
package struct HTTPClientResponse {
    package let head: HTTPResponseHead
    package let body: [UInt8]
    package let trailers: HTTPFields

    package var status: HTTPStatus { head.status }
}

/// Why there is no response.
package enum HTTPClientError: Error {
    /// Our mistake: the request can't be written.
    case unsendable(RequestEncoder.Failure)
    /// The server's mistake: what it sent is no response, or was cut off.
    case malformed(HTTPFault)
    /// The connection could not be made or ended with an error.
    case connection(any Error)
    /// The server closed before the response was complete.
    case closed
    /// No octet came for the time limit.
    case timedOut
    case cancelled
}

/// One request and its response over one stream, which it closes afterwards unless it is handed over.
///
/// The loop holds the client by its stream until `completion` has been called, which happens exactly
/// once, never inside `send`.
package final class HTTPClient: ByteStreamHandler {
    package enum Outcome {
        case response(HTTPClientResponse)
        /// After 101 to a request with Upgrade, or 2xx to CONNECT: the stream has no handler until the
        /// caller sets one, and `received` came behind the head.
        case switched(HTTPResponseHead, any ByteStream, received: [UInt8])
    }

    package struct Configuration {
        package var limits = HTTPLimits()
        /// The most content that is taken, streamed or not.
        package var bodyBytes = 16_777_216
        /// The longest time without an octet from the server until the head is there, the connection's
        /// making included.
        package var responseTimeout: Duration = .seconds(30)
        /// The same for the content; nil for a stream of events, which may be silent for long.
        package var streamTimeout: Duration? = .seconds(30)
        /// Called with the head of the final response, before its content.
        package var onHead: ((HTTPResponseHead) -> Void)?
        /// Given each piece of content as it comes; nil collects it into the response.
        package var onBody: (([UInt8]) -> Void)?

        package init() {}
    }

    private let loop: EventLoop
    private let request: HTTPClientRequest
    private let configuration: Configuration
    private var parser: ResponseParser
    private var completion: ((Result<Outcome, HTTPClientError>) -> Void)?
    private var stream: (any ByteStream)?
    private var timer: LoopTimer?
    private var lastProgress: Instant
    private var head: HTTPResponseHead?
    private var body: [UInt8] = []

    /// A client that sends `request` when `makeStream`'s stream is open.
    ///
    /// - Parameter makeStream: makes the stream, connecting or open-and-not-yet-told, with the client as
    ///   its handler.
    package static func send(
        _ request: HTTPClientRequest, on loop: EventLoop, configuration: Configuration = Configuration(),
        over makeStream: (any ByteStreamHandler) throws -> any ByteStream,
        completion: @escaping (Result<Outcome, HTTPClientError>) -> Void
    ) -> HTTPClient {
        let client = HTTPClient(request, on: loop, configuration: configuration, completion: completion)
        do {
            client.stream = try makeStream(client)
            client.armTimer()
        } catch {
            loop.atEndOfBatch { client.complete(.failure(.connection(error))) }
        }
        return client
    }

    private init(
        _ request: HTTPClientRequest, on loop: EventLoop, configuration: Configuration,
        completion: @escaping (Result<Outcome, HTTPClientError>) -> Void
    ) {
        self.request = request
        self.loop = loop
        self.configuration = configuration
        self.completion = completion
        lastProgress = loop.now
        parser = ResponseParser(
            limits: configuration.limits, method: request.method,
            offersUpgrade: request.fields.contains("upgrade"), bodyBound: configuration.bodyBytes)
    }

    /// Ends the request; `completion` is called with `cancelled` at once.
    package func cancel() {
        fail(.cancelled)
    }

    /// Stops delivering content, so that the server feels it.
    package func pauseReading() {
        stream?.pauseReading()
    }

    package func resumeReading() {
        stream?.resumeReading()
    }

    // MARK: Stream events

    package func streamOpened(_ stream: any ByteStream) {
        self.stream = stream
        lastProgress = loop.now
        var fields = request.fields
        if !fields.contains("upgrade"), request.method != .connect { fields.set("Connection", "close") }
        var output: [UInt8] = []
        do {
            try RequestEncoder.encode(
                method: request.method, target: request.target, host: request.host, fields: fields,
                length: request.body.count, into: &output)
        } catch {
            return fail(.unsendable(error))
        }
        output.append(contentsOf: request.body)
        stream.write(output)
    }

    package func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        lastProgress = loop.now
        let input = bytes.bindMemory(to: UInt8.self)
        var position = 0
        do throws(HTTPFault) {
            while completion != nil {
                switch try parser.next(input.span, &position) {
                case .needMore:
                    return
                case .head(let head, _):
                    self.head = head
                    checkTime()
                    configuration.onHead?(head)
                case .switched(let head):
                    let received = Array(input[position...])
                    stream.handler = nil
                    return complete(.success(.switched(head, stream, received: received)))
                case .body(let range):
                    receive(input[range])
                case .end(let trailers, _):
                    stream.closeWhenFlushed()
                    return completeResponse(trailers)
                }
            }
        } catch {
            fail(.malformed(error))
        }
    }

    package func streamPeerFinished(_ stream: any ByteStream) {
        finish(nil)
    }

    package func streamDrained(_ stream: any ByteStream) {}

    package func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        finish(error)
    }

    private func receive(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) {
        if let onBody = configuration.onBody {
            onBody(Array(bytes))
        } else {
            body.append(contentsOf: bytes)
        }
    }

    // MARK: Ends

    /// The stream is over: in order only where the response lasts until then, and without an error.
    private func finish(_ error: (any Error)?) {
        guard completion != nil else { return }
        if let error { return fail(.connection(error)) }
        guard parser.endsWithClose else { return fail(.closed) }
        stream?.closeWhenFlushed()
        completeResponse([:])
    }

    private func completeResponse(_ trailers: HTTPFields) {
        guard let head else { return fail(.closed) }
        complete(.success(.response(HTTPClientResponse(head: head, body: body, trailers: trailers))))
    }

    private func fail(_ error: HTTPClientError) {
        guard completion != nil else { return }
        stream?.abort()
        complete(.failure(error))
    }

    private func complete(_ result: Result<Outcome, HTTPClientError>) {
        guard let completion else { return }
        self.completion = nil
        stream = nil
        timer?.cancel()
        timer = nil
        completion(result)
    }

    private func armTimer() {
        let timer = loop.makeTimer { [weak self] in self?.checkTime() }
        self.timer = timer
        timer.arm(at: lastProgress + configuration.responseTimeout)
    }

    /// Looks at the limit of what is awaited now, and arms the timer for it.
    private func checkTime() {
        let limit = head == nil ? configuration.responseTimeout : configuration.streamTimeout
        guard let limit else {
            timer?.cancel()
            return
        }
        let deadline = lastProgress + limit
        if deadline <= loop.now {
            fail(.timedOut)
        } else {
            timer?.arm(at: deadline)
        }
    }
}
