internal import COpenSSL
package import Domain
package import EventLoop

/// A ``ByteStream`` of TLS records, with OpenSSL reading and writing the socket itself.
///
/// ```
///   connecting --> handshaking --> open --> closing --> ended
///        |              |            |         |          ^
///        +--------------+------------+---------+----------+
/// ```
/// `streamOpened` comes after the handshake, with the peer verified. `closing` has no handler any more and
/// only gets rid of what was written. Between events OpenSSL has released its buffers and this owns none.
/// The peer's close_notify is `streamPeerFinished`; FIN without it is an error (`truncated`).
package final class TLSStream: ByteStream, ReadinessHandler {
    package var handler: (any ByteStreamHandler)?
    package let peerAddress: SocketAddress

    private enum Phase {
        case connecting, handshaking, open, closing, ended
    }

    private let loop: EventLoop
    private let context: TLSContext
    private let descriptor: Int32
    private var session: OpaquePointer?
    private var registration: Registration?
    private var phase: Phase
    /// Plain bytes; their first ones may already stand encrypted inside OpenSSL, which asks to be given the
    /// same ones again.
    private var pending = ByteQueue()
    /// The limit of connecting and handshake, or of a peer that doesn't take our last bytes.
    private var timer: LoopTimer?
    /// Told by the loop at the end of the batch; the session is not touched any more.
    private var failure: (any Error)?

    /// Whether the kernel or OpenSSL may hold input.
    private var mayRead = false
    private var isPaused = false
    private var isContinuationDue = false
    private var hasPeerFinished = false
    private var isFinishing = false
    private var hasFinished = false

    /// Most records (of 16 KiB at most) in one batch, so that one fast peer doesn't starve the others.
    private static let readsPerBatch = 32
    /// How long a closing stream waits for a peer that takes nothing.
    private static let flushPatience = Duration.seconds(30)
    /// Enough for a few round trips of a slow path; a peer that is silent must not hold a session for long.
    package static let defaultHandshakeTimeout = Duration.seconds(10)

    // MARK: Making

    /// The server's side of a connection just accepted; takes the descriptor over.
    ///
    /// - Throws: `SystemError` or ``TLSError``; the descriptor is closed then.
    package static func accept(
        on loop: EventLoop, _ descriptor: Int32, peer: SocketAddress, context: TLSContext,
        handshakeTimeout: Duration = defaultHandshakeTimeout, handler: any ByteStreamHandler
    ) throws -> TLSStream {
        precondition(context.isServer, "a client's context can't accept")
        let stream = TLSStream(on: loop, descriptor, peer, context, .handshaking, handler)
        do {
            try stream.makeSession()
            stream.registration = try loop.register(descriptor, stream)
        } catch {
            stream.handler = nil
            stream.close()
            throw error
        }
        stream.armTimer(handshakeTimeout)
        return stream
    }

    /// Connects to `address` and demands a certificate for `host` (an IP literal, or a name that is also
    /// sent as SNI), unless `context` verifies nobody.
    ///
    /// - Parameter timeout: for the connection and the handshake together.
    /// What comes of it is told to `handler`: `streamOpened`, or `streamEnded` with a `StreamError`
    /// (not connected) or a ``TLSError``.
    package static func connect(
        on loop: EventLoop, to address: SocketAddress, host: String, context: TLSContext,
        timeout: Duration = defaultHandshakeTimeout, handler: any ByteStreamHandler
    ) -> TLSStream {
        precondition(!context.isServer, "a server's context can't connect")
        let descriptor: Int32
        do {
            descriptor = try Sockets.connect(address).descriptor
        } catch {
            let stream = TLSStream(on: loop, -1, address, context, .connecting, handler)
            stream.failAtEndOfBatch(StreamError.connectFailed(error))
            return stream
        }
        let stream = TLSStream(on: loop, descriptor, address, context, .connecting, handler)
        do {
            try stream.makeSession()
            try stream.expect(host)
            stream.registration = try loop.register(descriptor, stream)
        } catch {
            stream.failAtEndOfBatch(error)
            return stream
        }
        stream.armTimer(timeout)
        return stream
    }

    private init(
        on loop: EventLoop, _ descriptor: Int32, _ peer: SocketAddress, _ context: TLSContext, _ phase: Phase,
        _ handler: any ByteStreamHandler
    ) {
        self.loop = loop
        self.descriptor = descriptor
        self.context = context
        self.phase = phase
        self.handler = handler
        peerAddress = peer
    }

    private func makeSession() throws(TLSError) {
        session = co_session_new(context.pointer, descriptor, context.isServer)
        guard session != nil else { throw .takingStack(.sessionFailed, during: "make a TLS session") }
    }

    private func expect(_ host: String) throws(TLSError) {
        let result: Int32
        if let address = IPAddress(host) {
            guard context.verifiesPeer else { return }
            let bytes: [UInt8] =
                switch address {
                case .v4(let v4): Self.bytes(v4.value)
                case .v6(let v6): Self.bytes(v6.high) + Self.bytes(v6.low)
                }
            result = co_session_expect_ip(session, bytes, bytes.count)
        } else {
            guard Target.isHostName(host) else {
                throw TLSError(.configuration, during: "verify the host \"\(host)\"")
            }
            // The dot of a fully qualified name stands in no certificate (RFC 6066 section 3).
            let name = host.hasSuffix(".") ? String(host.dropLast()) : host
            result = co_session_expect_name(session, name, context.verifiesPeer)
        }
        guard result == 1 else { throw .takingStack(.configuration, during: "verify the host \"\(host)\"") }
    }

    private static func bytes(_ number: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: number.bigEndian) { Array($0) }
    }

    private func armTimer(_ timeout: Duration) {
        // The timer goes with the registration, by which the loop holds the stream. A weak reference would cost
        // memory until the end, and make each retain and release take the slow path.
        timer = loop.makeTimer { [unowned self] in timedOut() }
        timer?.arm(at: loop.now + timeout)
    }

    // MARK: What is known of the peer

    package var bufferedBytes: Int { pending.count }

    /// Whether `streamOpened` is still to come.
    package var isHandshaking: Bool { phase == .connecting || phase == .handshaking }

    package var localAddress: SocketAddress {
        let unknown = SocketAddress(ip: .v4(IPv4Address(0)), port: 0)
        return phase == .ended ? unknown : Sockets.localAddress(descriptor) ?? unknown
    }

    /// The certificate the peer has shown; nil without one and after the end.
    package var peerCertificate: X509Certificate? {
        guard let session else { return nil }
        let size = co_peer_certificate(session, nil, 0)
        guard size > 0 else { return nil }
        let der = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
            filled = co_peer_certificate(session, buffer.baseAddress, size)
        }
        return X509Certificate(der: der)
    }

    /// SHA-256 of the DER of the certificate the peer has shown.
    package var peerCertificateSHA256: [UInt8]? { peerCertificate?.sha256 }

    /// The protocol ALPN came to; nil when none was negotiated and after the end.
    package var applicationProtocol: String? {
        guard let session else { return nil }
        var bytes: UnsafePointer<UInt8>?
        let count = co_selected_protocol(session, &bytes)
        guard count > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }

    /// "TLSv1.3" or "TLSv1.2"; empty after the end.
    package var version: String {
        session.map { String(cString: co_version($0)) } ?? ""
    }

    // MARK: Commands

    package func write(_ bytes: UnsafeRawBufferPointer) {
        guard phase != .closing, phase != .ended, !isFinishing, failure == nil else { return }
        guard phase == .open, pending.isEmpty else { return pending.append(bytes) }
        var rest = bytes
        while !rest.isEmpty {
            guard let taken = send(rest) else { return }
            if taken == 0 { return pending.append(rest) }
            rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
        }
    }

    package func pauseReading() {
        isPaused = true
    }

    package func resumeReading() {
        guard isPaused else { return }
        isPaused = false
        if mayRead { continueAtEndOfBatch() }
    }

    package func finishWriting() {
        guard phase != .closing, phase != .ended, !isFinishing else { return }
        isFinishing = true
        guard phase == .open, pending.isEmpty, failure == nil else { return }
        if sendFinish(), hasPeerFinished { continueAtEndOfBatch() }
    }

    package func closeWhenFlushed() {
        guard phase != .closing, phase != .ended else { return }
        handler = nil
        guard phase == .open, failure == nil else { return close() }
        phase = .closing
        if pending.isEmpty, sendFinish() { return closeGently() }
        if phase == .closing { armTimer(Self.flushPatience) }
    }

    package func abort() {
        guard phase != .ended else { return }
        handler = nil
        let descriptor = release()
        if descriptor >= 0 { Sockets.closeWithReset(descriptor) }
    }

    // MARK: Events

    package func ready(_ readiness: Readiness) {
        if phase == .connecting {
            guard !readiness.isDisjoint(with: [.writable, .failed]) else { return }
            if let error = Sockets.pendingError(descriptor, "connect to \(peerAddress)") {
                return end(StreamError.connectFailed(error))
            }
            phase = .handshaking
        }
        guard failure == nil else { return }
        if readiness.contains(.readable) || readiness.contains(.peerClosed) || readiness.contains(.failed) {
            mayRead = true
        }
        if phase == .handshaking { handshake() }
        flush()
        if phase == .open, readiness.contains(.failed), isPaused || hasPeerFinished { checkForReset() }
        readAvailable()
    }

    private func timedOut() {
        switch phase {
        case .connecting: end(StreamError.connectTimedOut(peerAddress))
        case .handshaking: end(TLSError(.handshakeTimedOut, during: "handshake with \(peerAddress)"))
        case .closing: abort()
        case .open, .ended: break
        }
    }

    private func handshake() {
        var errorNumber: Int32 = 0
        let result = co_handshake(session, &errorNumber)
        switch Int(result) {
        case 1:
            timer?.cancel()
            timer = nil
            phase = .open
            // The edge that brought the handshake's last bytes may have brought more.
            mayRead = true
            handler?.streamOpened(self)
            if phase == .open, isFinishing, pending.isEmpty, !hasFinished { _ = sendFinish() }
        case Int(CO_WANT_READ), Int(CO_WANT_WRITE):
            return
        case Int(CO_SYSTEM):
            end(StreamError(errorNumber, during: "handshake"))
        default:
            end(handshakeError(Int(result)))
        }
    }

    private func handshakeError(_ result: Int) -> TLSError {
        let operation = "handshake with \(peerAddress)"
        let verdict = co_verify_result(session)
        if result == Int(CO_FAILED), verdict != 0 {
            let text = String(cString: co_verify_text(verdict))
            return .takingStack(.certificateRefused(text), during: operation)
        }
        if result == Int(CO_FAILED) { return .takingStack(.handshakeFailed, during: operation) }
        return TLSError(.handshakeFailed, during: operation, stack: ["the peer closed the connection"])
    }

    /// Tells a reset that no read would find, because nothing is to be read.
    private func checkForReset() {
        guard let error = Sockets.pendingError(descriptor, "socket") else { return }
        end(StreamError(error.errorNumber, during: "socket"))
    }

    private func readAvailable() {
        var reads = 0
        while phase == .open, mayRead, !isPaused, !hasPeerFinished, failure == nil {
            if reads == Self.readsPerBatch { return continueAtEndOfBatch() }
            reads += 1
            var errorNumber: Int32 = 0
            let count = co_read(session, loop.scratch.baseAddress, loop.scratch.count, &errorNumber)
            switch count {
            case 1...:
                handler?.streamReceived(self, UnsafeRawBufferPointer(rebasing: loop.scratch[..<count]))
            case Int(CO_WANT_READ):
                mayRead = false
            case Int(CO_WANT_WRITE):
                // An answer to a key update has no room: the next writable event reads again.
                return
            case Int(CO_CLOSED):
                hasPeerFinished = true
                handler?.streamPeerFinished(self)
                endIfBothFinished()
            default:
                end(sessionError(count, errorNumber, during: "read from \(peerAddress)"))
            }
        }
    }

    private func sessionError(_ result: Int, _ errorNumber: Int32, during operation: String) -> any Error {
        switch result {
        case Int(CO_SYSTEM): StreamError(errorNumber, during: operation)
        case Int(CO_TRUNCATED): TLSError(.truncated, during: operation)
        default: TLSError.takingStack(.sessionFailed, during: operation)
        }
    }

    /// Bytes taken, 0 when the socket is full, nil when the session is broken.
    private func send(_ bytes: UnsafeRawBufferPointer) -> Int? {
        var errorNumber: Int32 = 0
        let count = co_write(session, bytes.baseAddress, bytes.count, &errorNumber)
        switch count {
        case 1...: return count
        case Int(CO_WANT_READ), Int(CO_WANT_WRITE): return 0
        default:
            failAtEndOfBatch(sessionError(count, errorNumber, during: "write to \(peerAddress)"))
            return nil
        }
    }

    private func flush() {
        guard phase == .open || phase == .closing, failure == nil else { return }
        let hadPending = !pending.isEmpty
        while !pending.isEmpty {
            guard let taken = pending.withUnsafeBytes({ send($0) }), taken > 0 else { return }
            pending.removeFirst(taken)
            if phase == .closing { timer?.arm(at: loop.now + Self.flushPatience) }
        }
        if phase == .closing {
            if sendFinish() { closeGently() }
            return
        }
        if isFinishing, !hasFinished { _ = sendFinish() }
        if hadPending, failure == nil { handler?.streamDrained(self) }
        endIfBothFinished()
    }

    /// Sends close_notify and FIN; false when the socket has no room now or the session is broken.
    private func sendFinish() -> Bool {
        if hasFinished { return true }
        var errorNumber: Int32 = 0
        let result = co_close_notify(session, &errorNumber)
        switch Int(result) {
        case 1:
            hasFinished = true
            Sockets.shutdownWrite(descriptor)
            return true
        case Int(CO_WANT_READ), Int(CO_WANT_WRITE):
            return false
        default:
            failAtEndOfBatch(sessionError(Int(result), errorNumber, during: "close to \(peerAddress)"))
            return false
        }
    }

    private func endIfBothFinished() {
        if phase == .open, hasPeerFinished, hasFinished, failure == nil { end(nil) }
    }

    private func continueAtEndOfBatch() {
        guard !isContinuationDue else { return }
        isContinuationDue = true
        loop.atEndOfBatch { [self] in
            isContinuationDue = false
            readAvailable()
            endIfBothFinished()
        }
    }

    // MARK: Ends

    private func failAtEndOfBatch(_ error: any Error) {
        guard failure == nil else { return }
        failure = error
        pending.removeAll()
        loop.atEndOfBatch { [self] in end(error) }
    }

    private func end(_ error: (any Error)?) {
        guard phase != .ended else { return }
        let told = handler
        handler = nil
        if error is TLSError {
            // The alert that says why must not be overtaken by a RST.
            closeGently()
        } else {
            close()
        }
        told?.streamEnded(self, error: error)
    }

    private func closeGently() {
        let isComplete = hasPeerFinished || registration == nil
        let descriptor = release()
        if isComplete {
            if descriptor >= 0 { Sockets.close(descriptor) }
        } else {
            LingeringClose.start(on: loop, descriptor)
        }
    }

    private func close() {
        guard phase != .ended else { return }
        let descriptor = release()
        if descriptor >= 0 { Sockets.close(descriptor) }
    }

    /// Ends the stream and leaves its descriptor open, in nobody's care.
    private func release() -> Int32 {
        phase = .ended
        pending.removeAll()
        timer?.cancel()
        timer = nil
        if let registration { loop.deregister(registration) }
        registration = nil
        if let session { co_session_free(session) }
        session = nil
        return descriptor
    }
}
