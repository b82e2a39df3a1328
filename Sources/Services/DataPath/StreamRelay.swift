package import Domain
package import EventLoop
package import QUIC

/// How a relay ended.
package enum RelayEnd: Sendable, Hashable {
    /// Both directions ended in order and everything was delivered.
    case finished
    /// The socket's peer reset the TCP connection, or it failed.
    case socketReset
    /// The other end of the stream cut it, with this application error code.
    case streamReset(code: UInt64)
    /// The QUIC connection is gone.
    case connectionLost
    /// No byte moved for the idle timeout.
    case idle
    /// `close` was called here.
    case closed(CloseReason)
}

/// Learns of a relay's opening moves and its end.
package protocol StreamRelayOwner: AnyObject {
    /// Bytes moved for the first time since `takeProgress`.
    func relayMoved(_ relay: StreamRelay)
    /// The relay has ended and let go of socket and stream; told once, last.
    func relayEnded(_ relay: StreamRelay, _ end: RelayEnd)
}

/// Carries bytes between a TCP socket and a QUIC stream, both ways, half-close and reset kept apart.
///
/// ```
///   socket --readv--> the stream's transmit ring --> packets
///   packets --> staging queue --sendmsg, once a batch--> socket --> flow-control credit
/// ```
/// Back-pressure needs no rule of its own: reading the socket stops while the ring is full, and credit is
/// given to the sender only for bytes the socket has taken. A FIN follows the last byte in each direction by
/// itself; a reset of either side, or the loss of the connection, resets the other side (contract section 3).
///
/// Where the user has a rate, nothing is read from the socket, nor sent to it, without having been taken from the
/// rate first; what waits for it is left to the kernel and to the sender's credit, and costs no work.
///
/// The relay is made with the socket alone and may wait for its stream; until then it only watches for a
/// reset of the socket.
package final class StreamRelay: ReadinessHandler, QUICStreamDelegate {
    package let connID: ConnID
    /// Bytes read from the socket.
    package private(set) var bytesFromSocket: UInt64 = 0
    /// Bytes the socket has taken.
    package private(set) var bytesToSocket: UInt64 = 0
    /// When the last byte moved in either direction.
    package private(set) var lastActivity: Instant

    private let loop: EventLoop
    private let descriptor: Int32
    /// Held until the end.
    private var owner: (any StreamRelayOwner)?
    private var registration: Registration?
    private var stream: QUICStream?
    private var staging: StagingQueue
    private let idleTimeout: Duration?
    private var idleTimer: LoopTimer?
    private let rate: RateGate?
    /// Whether it is among those that wait at the gate.
    var isWaitingForRate = false
    /// Which direction is first when there is not enough for both.
    private var isSocketFirst = false

    private var socketReadable = false
    private var socketWritable = true
    /// Whether a FIN may stand in the kernel behind what a short read brings.
    private var mayHideFin = false
    /// The socket's FIN has been read and passed on to the stream.
    private var socketFinished = false
    /// The stream's FIN has been received.
    private var streamFinished = false
    /// The stream's FIN has been passed on to the socket.
    private var finSent = false
    /// Both directions of the socket are done; the stream may still wait for its last acknowledgements.
    private var isSocketClosed = false
    /// The stream is over in both directions, in order.
    private var isStreamClosed = false
    private var hasEnded = false
    private var isReported = false
    /// Bytes read from the socket before the relay began.
    private var earlyBytes: [UInt8]
    /// Bytes in the staging queue that did not come from the stream and so carry no credit.
    private var uncredited = 0

    /// Watches `descriptor`, which the relay owns from here on.
    ///
    /// - Parameters:
    ///   - earlyBytes: what was read from the socket before; first towards the stream.
    ///   - rate: nil for no limit.
    /// - Throws: the error of epoll_ctl; the descriptor is still the caller's then.
    package init(
        on loop: EventLoop, pool: ChunkPool, connID: ConnID, descriptor: Int32, earlyBytes: [UInt8] = [],
        idleTimeout: Duration?, rate: RateGate? = nil, owner: any StreamRelayOwner
    ) throws(SystemError) {
        self.loop = loop
        self.connID = connID
        self.descriptor = descriptor
        self.owner = owner
        self.idleTimeout = idleTimeout
        self.rate = rate
        self.earlyBytes = earlyBytes
        staging = StagingQueue(pool: pool)
        lastActivity = loop.now
        registration = try loop.register(descriptor, self)
    }

    /// Takes over `descriptor` with its watch on the loop, of which `readiness` was told before.
    package init(
        on loop: EventLoop, pool: ChunkPool, connID: ConnID, descriptor: Int32,
        watchedAs registration: Registration, readiness: Readiness, idleTimeout: Duration?,
        owner: any StreamRelayOwner
    ) {
        self.loop = loop
        self.connID = connID
        self.descriptor = descriptor
        self.owner = owner
        self.idleTimeout = idleTimeout
        self.registration = registration
        rate = nil
        earlyBytes = []
        staging = StagingQueue(pool: pool)
        lastActivity = loop.now
        socketReadable = readiness.contains(.readable)
        mayHideFin = readiness.contains(.peerClosed)
        loop.transfer(registration, to: self)
    }

    /// Starts to carry bytes between the socket and `stream`.
    ///
    /// - Parameters:
    ///   - preface: written to the socket before any byte of the stream; not counted.
    ///   - received: bytes of the stream that were read already and are not credited yet.
    package func attach(_ stream: QUICStream, preface: [UInt8] = [], received: [UInt8] = []) {
        guard !hasEnded else { return }
        self.stream = stream
        stream.delegate = self
        // The wait for the stream is the time of the dial, not of an idle conn.
        lastActivity = loop.now
        armIdleTimer()
        if !preface.isEmpty {
            uncredited += preface.count
            preface.withUnsafeBytes { staging.append($0) }
        }
        received.withUnsafeBytes { staging.append($0) }
        flushToSocket()
        pumpFromSocket()
    }

    /// Ends both sides at once: RST to the socket, RESET_STREAM and STOP_SENDING to the stream.
    package func close(_ reason: CloseReason) {
        let code = reason == .admin ? DataPlaneError.closedByAdmin : DataPlaneError.streamCancelled
        end(.closed(reason), streamCode: code)
    }

    /// Ends a relay that has no stream: sends `reply`, then FIN, and closes when the peer has, or soon.
    package func finish(with reply: [UInt8], _ reason: CloseReason) {
        guard !hasEnded else { return }
        hasEnded = true
        // The reply is a few bytes on a connection that has carried none: the kernel's buffer takes it.
        _ = reply.withUnsafeBytes { Sockets.send(descriptor, $0) }
        detachSocket()
        LingeringClose.start(on: loop, descriptor)
        report(.closed(reason))
    }

    /// Lets go of the socket of a relay that has no stream, without ending anything; the descriptor is the
    /// caller's again, and the owner is told nothing.
    package func release() {
        guard !hasEnded else { return }
        hasEnded = true
        owner = nil
        detachSocket()
    }

    /// Lets the relay be reported by `relayMoved` again.
    package func takeProgress() -> ConnProgressCounts {
        isReported = false
        return ConnProgressCounts(fromSocket: bytesFromSocket, toSocket: bytesToSocket)
    }

    // MARK: Socket

    package func ready(_ readiness: Readiness) {
        guard !hasEnded else { return }
        if readiness.contains(.error), Sockets.pendingError(descriptor, "relay") != nil {
            return end(.socketReset, streamCode: DataPlaneError.streamReset)
        }
        if readiness.contains(.writable) {
            socketWritable = true
            flushToSocket()
        }
        if readiness.contains(.peerClosed) || readiness.contains(.failed) { mayHideFin = true }
        if readiness.contains(.readable) || mayHideFin {
            socketReadable = true
            pumpFromSocket()
        }
    }

    /// Reads the socket straight into the stream's ring until either has no more to give or take.
    private func pumpFromSocket() {
        guard let stream, !hasEnded, !socketFinished else { return }
        guard sendEarlyBytes(to: stream) else { return }
        var moved = 0
        while socketReadable {
            var asked = 0
            var result = 0
            _ = stream.withFreeSpace { first, second in
                let room = first.count + second.count
                asked = take(room)
                guard asked > 0 else { return 0 }
                result = Sockets.read(descriptor, first.first(asked), second.first(asked - first.count))
                rate?.giveBack(asked - max(0, result))
                return max(0, result)
            }
            guard asked > 0 else { break }
            if result > 0 {
                moved += result
                // A short read has emptied the socket.
                if result < asked && !mayHideFin { socketReadable = false }
            } else if result == 0 {
                socketFinished = true
                stream.finish()
                break
            } else if -result == Int(Errno.again) {
                socketReadable = false
                mayHideFin = false
            } else if -result != Int(Errno.interrupted) {
                noteActivity(fromSocket: moved, toSocket: 0)
                return end(.socketReset, streamCode: DataPlaneError.streamReset)
            }
        }
        noteActivity(fromSocket: moved, toSocket: 0)
    }

    /// Whether everything that was read before the relay began has been put into the ring.
    private func sendEarlyBytes(to stream: QUICStream) -> Bool {
        guard !earlyBytes.isEmpty else { return true }
        let granted = take(earlyBytes.count)
        guard granted > 0 else { return false }
        let taken = earlyBytes.withUnsafeBytes {
            stream.write(UnsafeRawBufferPointer(rebasing: $0[..<granted]))
        }
        rate?.giveBack(granted - taken)
        noteActivity(fromSocket: taken, toSocket: 0)
        earlyBytes.removeFirst(taken)
        return earlyBytes.isEmpty || taken == granted && sendEarlyBytes(to: stream)
    }

    /// How many of `wanted` bytes may move now; when none may, `rateAllows` follows.
    private func take(_ wanted: Int) -> Int {
        rate?.take(wanted, for: self) ?? wanted
    }

    /// The user's rate has something for this relay.
    func rateAllows() {
        guard !hasEnded else { return }
        isSocketFirst.toggle()
        if isSocketFirst { pumpFromSocket() }
        flushToSocket()
        if !isSocketFirst { pumpFromSocket() }
    }

    private func flushToSocket() {
        guard !hasEnded, socketWritable else { return }
        while !staging.isEmpty {
            // What is the node's own is not the user's.
            let granted = take(staging.count - uncredited)
            let most = uncredited + granted
            guard most > 0 else { return }
            let (sent, errorNumber) = staging.send(to: descriptor, atMost: most)
            let credit = max(0, sent - uncredited)
            uncredited -= sent - credit
            rate?.giveBack(granted - credit)
            noteActivity(fromSocket: 0, toSocket: credit)
            if credit > 0 { stream?.consumed(credit) }
            if errorNumber == Errno.again {
                socketWritable = false
                return
            }
            if errorNumber != 0 { return end(.socketReset, streamCode: DataPlaneError.streamReset) }
        }
        if streamFinished && !finSent && staging.isEmpty {
            finSent = true
            if socketFinished { closeSocket() } else { Sockets.shutdownWrite(descriptor) }
        }
        if finSent && isStreamClosed { conclude() }
    }

    // MARK: Stream

    package func quicReceived(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer) {
        guard !hasEnded else { return }
        staging.append(bytes)
    }

    package func quicReceiveBatchEnded(_ stream: QUICStream) {
        flushToSocket()
    }

    package func quicPeerFinished(_ stream: QUICStream) {
        streamFinished = true
        flushToSocket()
    }

    package func quicPeerReset(_ stream: QUICStream, code: UInt64) {
        end(.streamReset(code: code), streamCode: DataPlaneError.streamReset)
    }

    package func quicPeerStoppedReading(_ stream: QUICStream, code: UInt64) {
        end(.streamReset(code: code), streamCode: DataPlaneError.streamReset)
    }

    package func quicWritable(_ stream: QUICStream) {
        pumpFromSocket()
    }

    package func quicStreamClosed(_ stream: QUICStream) {
        guard !hasEnded else { return }
        // After the loss of the connection, bytes may have been left over that were never to arrive.
        guard socketFinished, streamFinished, stream.hasDeliveredAll else {
            return end(.connectionLost, streamCode: DataPlaneError.streamCancelled)
        }
        self.stream = nil
        // The stream's last bytes may still wait for a slow socket.
        isStreamClosed = true
        flushToSocket()
    }

    // MARK: Idle and end

    private func noteActivity(fromSocket: Int, toSocket: Int) {
        guard fromSocket > 0 || toSocket > 0 else { return }
        bytesFromSocket += UInt64(fromSocket)
        bytesToSocket += UInt64(toSocket)
        lastActivity = loop.now
        if !isReported {
            isReported = true
            owner?.relayMoved(self)
        }
    }

    private func armIdleTimer() {
        guard let idleTimeout, !hasEnded else { return }
        // A weak reference would make each retain and release of the relay take the slow path for good; the timer
        // is cancelled before the relay goes.
        let timer = idleTimer ?? loop.makeTimer { [unowned self] in checkIdle() }
        idleTimer = timer
        timer.arm(at: lastActivity + idleTimeout)
    }

    private func checkIdle() {
        guard let idleTimeout, !hasEnded else { return }
        if loop.now >= lastActivity + idleTimeout {
            end(.idle, streamCode: DataPlaneError.streamCancelled)
        } else {
            armIdleTimer()
        }
    }

    private func end(_ end: RelayEnd, streamCode: UInt64) {
        guard !hasEnded else { return }
        hasEnded = true
        if let stream {
            stream.delegate = nil
            stream.reset(code: streamCode)
            stream.stopReading(code: streamCode)
        }
        if isSocketClosed {
            detachSocket()
        } else {
            detachSocket(closing: true)
            Sockets.closeWithReset(descriptor)
        }
        report(end)
    }

    private func conclude() {
        guard !hasEnded else { return }
        hasEnded = true
        closeSocket()
        detachSocket()
        report(.finished)
    }

    /// Closes a socket that has taken everything and has nothing more to give.
    private func closeSocket() {
        guard !isSocketClosed else { return }
        isSocketClosed = true
        if let registration { loop.forget(registration) }
        registration = nil
        Sockets.close(descriptor)
    }

    /// - Parameter closing: the socket is closed next.
    private func detachSocket(closing: Bool = false) {
        idleTimer?.cancel()
        idleTimer = nil
        if let registration { closing ? loop.forget(registration) : loop.deregister(registration) }
        registration = nil
        staging.removeAll()
    }

    private func report(_ end: RelayEnd) {
        stream = nil
        let owner = owner
        self.owner = nil
        owner?.relayEnded(self, end)
    }
}

/// The bytes of a relay so far.
package struct ConnProgressCounts: Sendable, Hashable {
    package let fromSocket: UInt64
    package let toSocket: UInt64
}

extension UnsafeMutableRawBufferPointer {
    /// As many of the first `count` bytes as there are.
    fileprivate func first(_ count: Int) -> UnsafeMutableRawBufferPointer {
        count >= self.count ? self : UnsafeMutableRawBufferPointer(rebasing: self[..<Swift.max(0, count)])
    }
}
