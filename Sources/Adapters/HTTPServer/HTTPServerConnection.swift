internal import Domain
internal import EventLoop
internal import HTTP1
internal import TLS

/// One connection of an ``HTTPServer``: carries bytes between its stream, the machine and the exchanges.
///
/// Between requests it owns no buffer: output is collected in one that the server lends for the length of
/// an event, and input is kept only when it can't be read yet.
final class HTTPServerConnection: ByteStreamHandler {
    private(set) var stream: (any ByteStream)?

    private let server: HTTPServer
    private var machine: ServerConnection
    private var timer: LoopTimer?
    private var peerAddress = SocketAddress(ip: .v4(IPv4Address(0)), port: 0)
    /// Unanswered requests, in order; the first one's output goes out.
    private var exchanges: [HTTPExchange] = []
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    private var continueIsDue = false
    /// A request that may switch protocols, held until all before it are answered.
    private var switching: HTTPRequest?
    /// Input that has to wait for answers.
    private var waiting: [UInt8] = []
    private var output: [UInt8] = []
    /// How many calls down the stack collect output, to be sent by the outermost.
    private var corks = 0
    private var isReading = false
    private var isPaused = false
    private var hasPeerFinished = false
    private var isHandshaking = false
    private var writtenBytes = 0
    private var takenBytes = 0

    /// A body above this goes to the stream by itself: one copy less.
    private static let directWriteBytes = 16_384
    /// Output collected over several answers goes out at this size.
    private static let flushBytes = 32_768
    /// What is allocated for a told length before any of it has come.
    private static let bodyReserveBytes = 65_536

    init(server: HTTPServer) {
        self.server = server
        machine = ServerConnection(
            limits: server.configuration.limits, times: server.configuration.times, now: server.loop.now)
    }

    func attach(_ stream: any ByteStream) {
        self.stream = stream
        peerAddress = stream.peerAddress
        isHandshaking = (stream as? TLSStream)?.isHandshaking ?? false
        // Cancelled by `release`, without which no connection ends.
        timer = server.loop.makeTimer { [unowned self] in timerFired() }
        armTimer()
    }

    // MARK: Stream events

    func streamOpened(_ stream: any ByteStream) {
        guard isHandshaking, let name = (stream as? TLSStream)?.version else { return }
        isHandshaking = false
        // Others are not offered by our contexts.
        if let version = TLSVersion(rawValue: name) { server.statistics.handshakes.note(version) }
    }

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        guard !machine.isShut else { return pause() }
        server.statistics.bytesReceived &+= UInt64(bytes.count)
        cork()
        if waiting.isEmpty, !isReading {
            let input = bytes.bindMemory(to: UInt8.self)
            let read = self.read(input.span)
            if read < input.count { waiting = Array(input[read...]) }
        } else {
            waiting.append(contentsOf: bytes)
        }
        uncork()
    }

    func streamPeerFinished(_ stream: any ByteStream) {
        machine.peerFinished()
        hasPeerFinished = true
        dropIncomplete()
        cork()
        uncork()
    }

    func streamDrained(_ stream: any ByteStream) {
        machine.outputTaken(now: server.loop.now)
        exchanges.first?.onDrained?()
        cork()
        uncork()
    }

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        handshakeFailed(TLSHandshakeFault(error))
        forget()
    }

    // MARK: Reading

    /// Reads requests as far as the machine allows; the number of octets read.
    private func read(_ input: Span<UInt8>) -> Int {
        isReading = true
        defer { isReading = false }
        var position = 0
        while stream != nil, !isOutputHigh {
            switch machine.next(input, &position, now: server.loop.now) {
            case .pause:
                if position == input.count, machine.takesInput { sendContinueIfDue() }
                return position
            case .head(let head):
                begin(head)
            case .body(let range):
                continueIsDue = false
                input.extracting(range).withUnsafeBufferPointer { body.append(contentsOf: $0) }
            case .end(let trailers):
                complete(trailers)
            case .refuse(let fault):
                refuse(fault)
                return input.count
            }
        }
        return position
    }

    /// Whether so much output waits for the client that no further request is read; `streamDrained` follows.
    private var isOutputHigh: Bool {
        if output.count >= Self.flushBytes { flush() }
        return stream?.bufferedBytes ?? 0 > server.configuration.outputHighWater
    }

    private func begin(_ head: HTTPRequestHead) {
        guard head.framing != .none else {
            self.head = head
            return
        }
        switch server.handler.plan(forContentOf: head, from: peerAddress) {
        case .leave:
            machine.leaveContent()
            let request = HTTPRequest(head: head, isContentLeft: true, peerAddress: peerAddress)
            // What is behind the head is not the other protocol's.
            deliver(request, maySwitch: false)
        case .read(let bound):
            self.head = head
            machine.setBodyBound(bound ?? server.configuration.limits.bodyBytes)
            if case .length(let length) = head.framing {
                body.reserveCapacity(min(length, Self.bodyReserveBytes))
            }
            continueIsDue = head.expectsContinue
        }
    }

    /// 100 (Continue) keeps its place behind the responses that are still to come.
    private func sendContinueIfDue() {
        guard continueIsDue, exchanges.isEmpty else { return }
        continueIsDue = false
        ResponseEncoder.encodeInterim(.continue, into: &output)
    }

    private func complete(_ trailers: HTTPFields) {
        guard let head else { return }
        let request = HTTPRequest(head: head, body: body, trailers: trailers, peerAddress: peerAddress)
        self.head = nil
        body = []
        continueIsDue = false
        if head.offersUpgrade || head.method == .connect {
            switching = request
        } else {
            deliver(request, maySwitch: false)
        }
    }

    private func deliver(_ request: HTTPRequest, maySwitch: Bool) {
        server.statistics.requests += 1
        let exchange = HTTPExchange(
            request: ResponseEncoder.Request(request.head), maySwitch: maySwitch,
            keepsAlive: machine.persists(after: request.head) && !request.isContentLeft, connection: self)
        exchanges.append(exchange)
        server.handler.handle(request, HTTPResponder(exchange))
    }

    private func refuse(_ fault: HTTPFault) {
        server.statistics.faults.note(fault)
        let answer =
            server.handler.refusal(for: fault, of: head, from: peerAddress)
            ?? HTTPServer.problem(fault.status, code: fault.code, detail: fault.explanation)
        dropIncomplete()
        waiting = []
        let exchange = HTTPExchange(
            request: ResponseEncoder.Request(), maySwitch: false, keepsAlive: false, connection: self)
        exchanges.append(exchange)
        respond(exchange, answer.head, answer.body)
    }

    /// Forgets the request that is being read.
    private func dropIncomplete() {
        head = nil
        body = []
        continueIsDue = false
    }

    /// Goes on with what had to wait, as far as it can now.
    private func proceed() {
        repeat {
            readWaiting()
        } while deliverSwitching()
        if machine.isShut { waiting = [] }
        if stream != nil, machine.takesInput { sendContinueIfDue() }
        // A shut connection reads on to notice that the client went away, until it brings something.
        let isHeldBack = !machine.takesInput && !machine.isShut
        if !waiting.isEmpty || isHeldBack || isOutputHigh { pause() } else { resume() }
    }

    private func readWaiting() {
        while stream != nil, !waiting.isEmpty, machine.takesInput, !isOutputHigh {
            let input = waiting
            waiting = []
            let read = self.read(input.span)
            guard read < input.count, stream != nil else { continue }
            waiting = Array(input[read...])
            if read == 0 { return }
        }
    }

    /// True when there was a request to hand to the handler.
    private func deliverSwitching() -> Bool {
        guard exchanges.isEmpty, let request = switching else { return false }
        switching = nil
        deliver(request, maySwitch: true)
        return true
    }

    private func pause() {
        guard !isPaused else { return }
        isPaused = true
        machine.inputHeld(true, now: server.loop.now)
        stream?.pauseReading()
    }

    private func resume() {
        guard isPaused else { return }
        isPaused = false
        machine.inputHeld(false, now: server.loop.now)
        stream?.resumeReading()
    }

    // MARK: Answering

    func respond(_ exchange: HTTPExchange, _ head: HTTPResponseHead, _ body: [UInt8]) {
        guard stream != nil else { return }
        cork()
        let content = encodeHead(exchange, head, length: body.count)
        if content != .none { put(exchange, body) }
        finish(exchange)
        uncork()
    }

    func respondInternalError(_ exchange: HTTPExchange) {
        let problem = HTTPServer.problem(
            .internalServerError, code: "internal_error", detail: "The request was not answered.")
        respond(exchange, problem.head, problem.body)
    }

    func start(_ exchange: HTTPExchange, _ head: HTTPResponseHead, length: Int?) {
        guard stream != nil else { return }
        cork()
        let content = encodeHead(exchange, head, length: length)
        exchange.state = .streaming(content: content, remaining: content == .none ? nil : length)
        uncork()
    }

    func write(_ exchange: HTTPExchange, _ bytes: [UInt8]) {
        guard stream != nil, case .streaming(let content, let remaining) = exchange.state, content != .none
        else { return }
        if let remaining {
            // More than was told would be taken for the next response.
            guard bytes.count <= remaining else { return abort() }
            exchange.state = .streaming(content: content, remaining: remaining - bytes.count)
        }
        cork()
        if content == .chunked {
            withOutput(of: exchange) { ResponseEncoder.encodeChunkHead(bytes.count, into: &$0) }
            put(exchange, bytes)
            withOutput(of: exchange) { $0.append(contentsOf: ResponseEncoder.chunkEnd) }
        } else {
            put(exchange, bytes)
        }
        uncork()
    }

    func end(_ exchange: HTTPExchange, trailers: HTTPFields) {
        guard stream != nil, case .streaming(let content, let remaining) = exchange.state else { return }
        guard remaining ?? 0 == 0 else { return abort() }
        cork()
        if content == .chunked {
            withOutput(of: exchange) { ResponseEncoder.encodeLastChunk(trailers, into: &$0) }
        }
        finish(exchange)
        uncork()
    }

    private func encodeHead(
        _ exchange: HTTPExchange, _ head: HTTPResponseHead, length: Int?
    ) -> ResponseEncoder.Content {
        // While stopping, the last answer says so; those before it must not, or it would be lost.
        let isLast = machine.isStopping && exchange === exchanges.last && self.head == nil && switching == nil
        var keepsAlive = exchange.keepsAlive && !isLast
        let date = server.date
        let content = withOutput(of: exchange) { output in
            ResponseEncoder.encode(
                head, to: exchange.request, length: length, keepsAlive: &keepsAlive, date: date, into: &output
            )
        }
        exchange.persists = keepsAlive
        if !keepsAlive { announceClose() }
        return content
    }

    /// Nothing behind the response that says so is done any more, however long it takes to be complete.
    private func announceClose() {
        machine.announcedClose()
        dropIncomplete()
        waiting = []
        switching = nil
    }

    private func withOutput<Result>(of exchange: HTTPExchange, _ body: (inout [UInt8]) -> Result) -> Result {
        exchange === exchanges.first ? body(&output) : body(&exchange.pending)
    }

    /// Adds content to the output; a large piece in its turn goes straight to the stream.
    private func put(_ exchange: HTTPExchange, _ bytes: [UInt8]) {
        if bytes.count >= Self.directWriteBytes, exchange === exchanges.first {
            flush()
            bytes.withUnsafeBytes { send($0) }
        } else {
            withOutput(of: exchange) { $0.append(contentsOf: bytes) }
        }
    }

    private func finish(_ exchange: HTTPExchange) {
        exchange.end()
        guard exchange === exchanges.first else { return }
        while let first = exchanges.first {
            if !first.pending.isEmpty {
                output.append(contentsOf: first.pending)
                first.pending = []
            }
            guard first.hasEnded else { return }
            exchanges.removeFirst()
            machine.answered(persists: first.persists, now: server.loop.now)
            // Whoever was told that the connection closes expects no answer behind it.
            if !first.persists { return cancelExchanges() }
        }
    }

    private func cancelExchanges() {
        let cancelled = exchanges
        exchanges = []
        switching = nil
        for exchange in cancelled { exchange.cancel() }
    }

    /// Sends 101 and lets go of the stream.
    func handOver(_ exchange: HTTPExchange, _ head: HTTPResponseHead) -> HTTPResponder.Upgraded? {
        guard let stream, exchange === exchanges.first else { return nil }
        // Whoever takes the stream would never be told of its end.
        guard !hasPeerFinished else {
            abort()
            return nil
        }
        ResponseEncoder.encodeSwitch(head, date: server.date, into: &output)
        flush()
        exchange.end()
        let received = waiting
        exchanges = []
        resume()
        stream.handler = nil
        release()
        return HTTPResponder.Upgraded(stream: stream, received: received)
    }

    // MARK: Output

    private func cork() {
        if corks == 0, output.capacity == 0 { output = server.takeBuffer() }
        corks += 1
    }

    private func uncork() {
        if corks == 1 { proceed() }
        corks -= 1
        guard corks == 0 else { return }
        flush()
        server.giveBack(output)
        output = []
        guard let stream else { return }
        if machine.isShut, exchanges.isEmpty, switching == nil {
            stream.closeWhenFlushed()
            return release()
        }
        armTimer()
    }

    private func flush() {
        guard !output.isEmpty else { return }
        output.withUnsafeBytes { send($0) }
        output.removeAll(keepingCapacity: true)
    }

    private func send(_ bytes: UnsafeRawBufferPointer) {
        guard let stream else { return }
        let wasBlocked = stream.bufferedBytes > 0
        stream.write(bytes)
        writtenBytes &+= bytes.count
        server.statistics.bytesSent &+= UInt64(bytes.count)
        if !wasBlocked, stream.bufferedBytes > 0 {
            takenBytes = writtenBytes &- stream.bufferedBytes
            machine.outputBlocked(since: server.loop.now)
        }
    }

    // MARK: Time and ends

    /// Arms the timer when it would come too late; one that comes too early looks again.
    private func armTimer() {
        let deadline = machine.deadline
        if deadline < timer?.armedDeadline ?? .distantFuture { timer?.arm(at: deadline) }
    }

    private func timerFired() {
        guard let stream else { return }
        let taken = writtenBytes &- stream.bufferedBytes
        if stream.bufferedBytes > 0, taken != takenBytes {
            takenBytes = taken
            machine.outputBlocked(since: server.loop.now)
        }
        switch machine.expire(now: server.loop.now) {
        case .none:
            armTimer()
        case .refuse(let fault):
            cork()
            refuse(fault)
            uncork()
        case .close:
            stream.closeWhenFlushed()
            release()
        case .abort:
            abort()
        }
    }

    /// Ends after what is in flight.
    func stop() {
        machine.stop()
        cork()
        uncork()
    }

    func abort() {
        stream?.abort()
        forget()
    }

    private func forget() {
        guard stream != nil else { return }
        release()
    }

    private func handshakeFailed(_ fault: TLSHandshakeFault) {
        guard isHandshaking else { return }
        isHandshaking = false
        server.statistics.handshakesFailed.note(fault)
    }

    /// Lets go of everything; nothing is told to this connection any more.
    private func release() {
        handshakeFailed(.givenUp)
        stream = nil
        timer?.cancel()
        timer = nil
        dropIncomplete()
        waiting = []
        cancelExchanges()
        server.remove(self)
    }
}
