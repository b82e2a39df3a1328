internal import CLinux
package import Domain

/// A ``ByteStream`` straight over a connected socket.
///
/// ```
///   connecting --> starting --> open --> closing --> ended
///        |             |          |         |          ^
///        +-------------+----------+---------+----------+
/// ```
/// `starting` is connected with `streamOpened` not told yet; `closing` has no handler any more and only
/// gets rid of what was written. Until it ends the loop holds the stream. Between events it owns no buffer.
package final class TCPStream: ByteStream, ReadinessHandler {
    package var handler: (any ByteStreamHandler)?
    package let peerAddress: SocketAddress

    private enum Phase {
        case connecting, starting, open, closing, ended
    }

    private let loop: EventLoop
    private let descriptor: Int32
    private var registration: Registration?
    private var phase: Phase
    private var pending = ByteQueue()
    /// The limit of connecting, or of a peer that doesn't take our last bytes.
    private var timer: LoopTimer?
    /// Told by the loop at the end of the batch.
    private var failure: StreamError?

    /// Whether the kernel may hold input that was not read yet.
    private var mayRead = false
    /// Whether the peer's FIN is known to be in the kernel's queue: then a short read is not the last one.
    private var isFinQueued = false
    private var isPaused = false
    private var isContinuationDue = false
    private var hasPeerFinished = false
    private var isFinishing = false
    private var hasFinished = false

    /// Most reads in one batch, so that one fast peer doesn't starve the others.
    private static let readsPerBatch = 8
    /// How long a closing stream waits for a peer that takes nothing.
    private static let flushPatience = Duration.seconds(30)

    /// Takes over a connected, non-blocking socket; `streamOpened` is told in this batch or the next.
    ///
    /// - Throws: the error of epoll_ctl; the descriptor is closed then.
    package init(
        on loop: EventLoop, adopting descriptor: Int32, peer: SocketAddress, handler: any ByteStreamHandler
    ) throws(SystemError) {
        self.loop = loop
        self.descriptor = descriptor
        self.handler = handler
        peerAddress = peer
        phase = .starting
        do {
            registration = try loop.register(descriptor, self)
        } catch {
            Sockets.close(descriptor)
            throw error
        }
        loop.atEndOfBatch { [self] in announce() }
    }

    /// Connects to `address`; what comes of it is told to `handler`: `streamOpened`, or `streamEnded` with
    /// ``StreamError/connectFailed(_:)`` or ``StreamError/connectTimedOut(_:)``.
    package static func connect(
        on loop: EventLoop, to address: SocketAddress, timeout: Duration, handler: any ByteStreamHandler
    ) -> TCPStream {
        do {
            let (descriptor, _) = try Sockets.connect(address)
            return TCPStream(
                connecting: descriptor, on: loop, to: address, timeout: timeout, handler: handler)
        } catch {
            return TCPStream(failed: error, on: loop, to: address, handler: handler)
        }
    }

    private init(
        connecting descriptor: Int32, on loop: EventLoop, to address: SocketAddress, timeout: Duration,
        handler: any ByteStreamHandler
    ) {
        self.loop = loop
        self.descriptor = descriptor
        self.handler = handler
        peerAddress = address
        phase = .connecting
        do {
            registration = try loop.register(descriptor, self)
        } catch {
            failAtEndOfBatch(.connectFailed(error))
            return
        }
        timer = loop.makeTimer { [weak self] in self?.end(.connectTimedOut(address)) }
        timer?.arm(at: loop.now + timeout)
    }

    private init(
        failed error: SystemError, on loop: EventLoop, to address: SocketAddress,
        handler: any ByteStreamHandler
    ) {
        self.loop = loop
        self.handler = handler
        descriptor = -1
        peerAddress = address
        phase = .connecting
        failAtEndOfBatch(.connectFailed(error))
    }

    package var bufferedBytes: Int { pending.count }

    package var localAddress: SocketAddress {
        let unknown = SocketAddress(ip: .v4(IPv4Address(0)), port: 0)
        return phase == .ended ? unknown : Sockets.localAddress(descriptor) ?? unknown
    }

    // MARK: Commands

    package func write(_ bytes: UnsafeRawBufferPointer) {
        guard phase != .closing, phase != .ended, !isFinishing, failure == nil else { return }
        guard phase != .connecting, pending.isEmpty else { return pending.append(bytes) }
        var rest = bytes
        while !rest.isEmpty {
            let sent = cl_send(descriptor, rest.baseAddress, rest.count)
            if sent == -Int(Errno.again) { return pending.append(rest) }
            guard sent >= 0 else {
                return failAtEndOfBatch(StreamError(Int32(-sent), during: "send"))
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[sent...])
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
        guard phase != .connecting, pending.isEmpty, failure == nil else { return }
        sendFin()
        if hasPeerFinished { continueAtEndOfBatch() }
    }

    package func closeWhenFlushed() {
        guard phase != .closing, phase != .ended else { return }
        handler = nil
        guard phase != .connecting, failure == nil else { return close() }
        phase = .closing
        if pending.isEmpty {
            closeGently()
        } else {
            timer = loop.makeTimer { [weak self] in self?.abort() }
            timer?.arm(at: loop.now + Self.flushPatience)
        }
    }

    package func abort() {
        guard phase != .ended else { return }
        handler = nil
        let descriptor = release(closing: true)
        if descriptor >= 0 { Sockets.closeWithReset(descriptor) }
    }

    /// Gives the connected socket back, registered nowhere; the stream ends and tells nobody.
    ///
    /// Nil, and nothing changes, when the stream is not open or has unsent bytes. All input delivered so far
    /// is the caller's; the rest is still in the kernel.
    package func detach() -> Int32? {
        guard phase == .open || phase == .starting, pending.isEmpty, !isFinishing, failure == nil
        else { return nil }
        handler = nil
        return release()
    }

    /// Gives the connected socket back as ``detach()`` does, with its watch going on: the caller transfers the
    /// registration to a handler of its own, which takes the socket for writable, and for what `readiness` says
    /// has been told of it and not been read yet.
    package func handOver() -> (descriptor: Int32, registration: Registration, readiness: Readiness)? {
        guard let registration, phase == .open || phase == .starting, pending.isEmpty, !isFinishing,
            failure == nil
        else { return nil }
        handler = nil
        self.registration = nil
        var readiness: Readiness = mayRead ? [.readable] : []
        if isFinQueued { readiness.insert(.peerClosed) }
        return (release(), registration, readiness)
    }

    // MARK: Events

    package func ready(_ readiness: Readiness) {
        if !readiness.isDisjoint(with: [.readable, .peerClosed, .failed]) { mayRead = true }
        if !readiness.isDisjoint(with: [.peerClosed, .failed]) { isFinQueued = true }
        switch phase {
        case .connecting:
            guard !readiness.isDisjoint(with: [.writable, .failed]) else { return }
            connected(mayHaveFailed: readiness.contains(.failed))
        case .starting:
            announce()
        case .open, .closing, .ended:
            break
        }
        if readiness.contains(.writable) || phase == .closing { flush() }
        if phase == .open, readiness.contains(.failed), isPaused || hasPeerFinished { checkForReset() }
        if phase == .closing, readiness.contains(.failed), !pending.isEmpty { close() }
        readAvailable()
    }

    private func connected(mayHaveFailed: Bool) {
        if mayHaveFailed, let error = Sockets.pendingError(descriptor, "connect to \(peerAddress)") {
            return end(.connectFailed(error))
        }
        timer?.cancel()
        timer = nil
        phase = .starting
        announce()
    }

    private func announce() {
        guard phase == .starting else { return }
        phase = .open
        handler?.streamOpened(self)
    }

    /// Tells a reset that no read would find, because nothing is to be read.
    private func checkForReset() {
        guard let error = Sockets.pendingError(descriptor, "socket") else { return }
        end(StreamError(error.errorNumber, during: "socket"))
    }

    private func readAvailable() {
        var reads = 0
        while phase == .open, mayRead, !isPaused, !hasPeerFinished {
            if reads == Self.readsPerBatch { return continueAtEndOfBatch() }
            reads += 1
            let count = cl_read(descriptor, loop.scratch.baseAddress, loop.scratch.count)
            switch count {
            case 1...:
                // A short read emptied the queue (epoll(7)), unless a FIN or an error stands behind it.
                if count < loop.scratch.count, !isFinQueued { mayRead = false }
                handler?.streamReceived(self, UnsafeRawBufferPointer(rebasing: loop.scratch[..<count]))
            case 0:
                hasPeerFinished = true
                handler?.streamPeerFinished(self)
                endIfBothFinished()
            case -Int(Errno.again):
                mayRead = false
            default:
                end(StreamError(Int32(-count), during: "read"))
            }
        }
    }

    private func flush() {
        guard phase != .connecting, !pending.isEmpty else { return }
        while !pending.isEmpty {
            let sent = pending.withUnsafeBytes { cl_send(descriptor, $0.baseAddress, $0.count) }
            if sent == -Int(Errno.again) { return }
            guard sent >= 0 else {
                return failAtEndOfBatch(StreamError(Int32(-sent), during: "send"))
            }
            pending.removeFirst(sent)
            if phase == .closing { timer?.arm(at: loop.now + Self.flushPatience) }
        }
        if phase == .closing { return closeGently() }
        if isFinishing { sendFin() }
        handler?.streamDrained(self)
        endIfBothFinished()
    }

    private func sendFin() {
        Sockets.shutdownWrite(descriptor)
        hasFinished = true
    }

    private func endIfBothFinished() {
        if phase == .open, hasPeerFinished, hasFinished { end(nil) }
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

    /// What the peer sent before the error is still delivered, as far as one batch goes.
    private func failAtEndOfBatch(_ error: StreamError) {
        guard failure == nil else { return }
        failure = error
        pending.removeAll()
        loop.atEndOfBatch { [self] in
            guard phase != .ended else { return }
            if phase == .open { readAvailable() }
            end(error)
        }
    }

    private func end(_ error: StreamError?) {
        guard phase != .ended else { return }
        let told = handler
        handler = nil
        close()
        told?.streamEnded(self, error: error)
    }

    private func closeGently() {
        guard !hasPeerFinished else { return close() }
        LingeringClose.start(on: loop, release())
    }

    private func close() {
        guard phase != .ended else { return }
        let descriptor = release(closing: true)
        if descriptor >= 0 { Sockets.close(descriptor) }
    }

    /// Ends the stream and leaves its descriptor open, in nobody's care.
    ///
    /// - Parameter closing: the descriptor is closed next.
    private func release(closing: Bool = false) -> Int32 {
        phase = .ended
        pending.removeAll()
        timer?.cancel()
        timer = nil
        if let registration { closing ? loop.forget(registration) : loop.deregister(registration) }
        registration = nil
        return descriptor
    }
}
