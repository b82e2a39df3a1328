internal import CLinux
internal import CQUIC
package import Domain
internal import EventLoop

/// What happens on a ``QUICConnection``; all on the loop's thread. Any call into the API is allowed then.
package protocol QUICConnectionDelegate: AnyObject {
    /// Client side: the handshake is complete and the peer is who it should be.
    func quicConnected(_ connection: QUICConnection)
    /// The peer has opened a stream: set its delegate now, its first bytes follow.
    func quicStreamOpened(_ connection: QUICConnection, _ stream: QUICStream)
    /// `openStream` may succeed again.
    func quicStreamCreditGrew(_ connection: QUICConnection)
    func quicDatagramReceived(_ connection: QUICConnection, _ bytes: UnsafeRawBufferPointer)
    /// A new path is validated: `peerAddress` (on a client: the local address) has changed.
    func quicPathChanged(_ connection: QUICConnection)
    /// Exactly once, last; the streams have been told before.
    func quicClosed(_ connection: QUICConnection, _ reason: QUICCloseReason)
}

/// One QUIC connection, of either role. Its endpoint holds it until it has ended.
///
/// The library forbids most calls from inside its callbacks, and nothing may be freed there. So what a
/// delegate asks for in a callback is noted and done when the library has returned (`settle`), once for each
/// batch of packets:
///
/// ```
///   packets in -> cq_read (callbacks: data, resets, acknowledgements)
///   batch over -> receive-batch-ended, writable, closed streams, close -> one writing turn -> timer
/// ```
package final class QUICConnection {
    /// Held until `quicClosed`.
    package var delegate: (any QUICConnectionDelegate)?
    package let isServer: Bool
    /// The validated address of the peer.
    package internal(set) var peerAddress: SocketAddress
    /// Our first connection id, for logs.
    package let sourceConnectionID: [UInt8]

    unowned(unsafe) let endpoint: QUICEndpoint
    /// Nil once the connection has ended.
    var library: OpaquePointer?
    var phase = Phase.handshake
    var connectionIDs: [ConnectionID]
    var peerResetTokens: [ResetToken] = []
    var streams: [Int64: QUICStream] = [:]
    var counters = QUICStatistics()
    var datagrams: DatagramQueue?
    /// In datagrams received since this side last wrote.
    var unacknowledgedDatagramBytes = 0
    /// A client's or server's credentials; the TLS session needs them until the handshake is over.
    var credentials: AnyObject?
    private(set) var timer: LoopTimer?
    /// When the connection's round trip and congestion window are noted next.
    var nextSampleAt: UInt64 = 0
    /// Where the endpoint counts it as one that is not authenticated.
    var countedAs: NetworkOrigin?
    /// What the window of the connection lacks until it is authenticated.
    var windowHeldBack: UInt64 = 0
    /// Credit of the connection that waits to be worth a frame, and how much is.
    var creditHeldBack: UInt64 = 0
    var leastCredit: UInt64 = 0
    /// When acknowledgements and credit that wait for company go out at the latest.
    var delayedWriteAt: UInt64?

    // What the library's callbacks leave for `settle`.
    var isInLibrary = false
    var touchedStreams: [QUICStream] = []
    var writableStreams: [QUICStream] = []
    var closedStreams: [QUICStream] = []
    /// Found shut by the peer when written to.
    var stoppedStreams: [QUICStream] = []
    var shutdowns: [Shutdown] = []
    var pendingEnd: End?
    var isPathValidationDone = false
    var isTLSToBeFreed = false
    var isStreamLimitRaised = false
    /// A client has moved to a new local address whose validation is under way.
    var hasRebound = false

    // Places in the endpoint's lists.
    var isTouched = false
    var isScheduled = false
    var isWaiting = false

    // Streams with something to send, as a ring of their own; the head has its turn.
    unowned(unsafe) var firstSender: QUICStream?
    var packetsOfTurn = 0
    /// How many of them the head may send, which the pace of the present turn decides.
    var packetsPerTurn = QUICLimits.packetsPerStreamTurn
    /// Whether bursts are spread over time, as they are until the path is found to be short.
    var isPaced: Bool

    /// How long UDP payloads may be on this path whatever discovery has found (RFC 8899 section 4.3).
    var largestPayload: Int
    /// Whether there was once enough in flight for larger packets to matter.
    var movesMuch: Bool
    /// When it is next asked whether large packets arrive.
    var nextPathCheckAt: UInt64 = 0
    /// Since a large one arrived last.
    var largeDatagramsLost = 0

    /// Whether round trips take so long that much more is in flight than in a processor's cache.
    var isLongPath = false

    // The rest of a closed connection.
    var closePacket: [UInt8] = []
    var packetsSinceClose = 0
    var isLingering = false
    var lastLocal = cl_address()
    var lastPeer = cl_address()

    enum Phase {
        case handshake
        case open
        /// `CONNECTION_CLOSE` was sent (RFC 9000 section 10.2.1): late packets are answered with it.
        case closing
        /// The peer has closed (section 10.2.2): late packets are swallowed.
        case draining
        case gone
    }

    enum Direction { case read, write }

    struct Shutdown {
        let stream: QUICStream
        let code: UInt64
        let direction: Direction
    }

    /// Why and how the connection is to end, once the library has returned.
    enum End {
        case application(code: UInt64, text: [UInt8], reason: QUICCloseReason)
        /// The library found an error; it says with which packet to close.
        case failed(QUICCloseReason)
        case drained(QUICCloseReason)
        case silent(QUICCloseReason)
    }

    init(
        endpoint: QUICEndpoint, isServer: Bool, peer: SocketAddress, sourceConnectionID: ConnectionID,
        credentials: AnyObject
    ) {
        self.endpoint = endpoint
        self.isServer = isServer
        isPaced = endpoint.configuration.isPaced
        largestPayload = endpoint.largestPayload
        movesMuch = endpoint.configuration.fixedPayloadBytes != nil
        peerAddress = peer
        self.sourceConnectionID = sourceConnectionID.bytes
        connectionIDs = []
        // With the client's first one and those that the peer is given to spare.
        connectionIDs.reserveCapacity(5)
        connectionIDs.append(sourceConnectionID)
        self.credentials = credentials
        // A cycle, so that a timer that is due can't outlive the connection; `dropTimer` breaks it.
        timer = endpoint.loop.makeTimer { self.timerFired() }
    }

    deinit {
        if let library { cq_free(library) }
    }

    // MARK: State

    /// Whether the connection has ended, or is about to after `close`.
    package var isClosed: Bool { library == nil || pendingEnd != nil }

    package var isEstablished: Bool { phase == .open && !isClosed }

    package var smoothedRTT: Duration {
        guard let library else { return .zero }
        var info = cq_info()
        cq_get_info(library, &info)
        return .nanoseconds(Int64(clamping: info.smoothed_rtt))
    }

    package var statistics: QUICStatistics {
        var result = counters
        if let library {
            for stream in streams.values {
                result.packetsLost &+= cq_stream_loss_count(library, stream.id) &- stream.countedLosses
            }
        }
        return result
    }

    /// The largest datagram that can be sent now; 0 when the peer takes none.
    package var datagramLimitBytes: Int {
        guard let library, phase == .open else { return 0 }
        return cq_datagram_limit(library, largestPayload)
    }

    /// What can be queued by `sendDatagram` now without an older one giving way.
    package var datagramRoomBytes: Int {
        datagrams.map { $0.capacity - $0.usedBytes } ?? endpoint.datagramQueueBytes
    }

    /// Datagrams that wait to be sent.
    package var queuedDatagrams: Int { datagrams?.count ?? 0 }

    // MARK: Commands

    /// Opens a bidirectional stream; nil without credit (`quicStreamCreditGrew` follows) or after the end.
    package func openStream() -> QUICStream? {
        guard let library, !isClosed else { return nil }
        var id: Int64 = -1
        guard cq_open_stream(library, nil, &id) == CQ_OK else { return nil }
        return addStream(id)
    }

    /// Lets the peer have `count` more bidirectional streams open at once.
    package func raiseStreamLimit(by count: UInt64) {
        guard let library, !isClosed, count > 0 else { return }
        cq_extend_streams(library, count)
        endpoint.schedule(self)
    }

    /// Queues a datagram; it is sent once, and lost when the network loses it.
    package func sendDatagram(_ bytes: UnsafeRawBufferPointer) -> QUICDatagramResult {
        guard phase == .open, !isClosed else { return .unavailable }
        let limit = datagramLimitBytes
        guard limit > 0 else { return .unavailable }
        guard bytes.count <= limit else {
            endpoint.metrics.datagramsDropped.note(.tooLarge)
            return .tooLarge(limitBytes: limit)
        }
        let queue = datagrams ?? DatagramQueue(capacity: endpoint.datagramQueueBytes)
        datagrams = queue
        guard let dropped = queue.append(bytes) else {
            endpoint.metrics.datagramsDropped.note(.tooLarge)
            return .tooLarge(limitBytes: limit)
        }
        endpoint.schedule(self)
        // Whoever reads a burst hands on more than the queue holds before the loop ends its batch.
        if queue.bytesSinceTurn >= min(QUICLimits.datagramBytesPerTurn, queue.capacity / 2), !isInLibrary {
            queue.bytesSinceTurn = 0
            writeTurn()
        }
        guard dropped > 0 else { return .queued }
        endpoint.metrics.datagramsDropped.note(.queueFull, times: UInt64(dropped))
        return .queuedDroppingOldest(dropped)
    }

    /// Ends the connection with an application error code; `quicClosed` follows, not within this call.
    package func close(code: UInt64, reason: String = "") {
        end(.application(code: code, text: Array(reason.utf8.prefix(200)), reason: .local(code: code)))
    }

    /// Sends the next packets under new keys (RFC 9001 section 6); false when it is too early.
    package func initiateKeyUpdate() -> Bool {
        guard let library, phase == .open, !isInLibrary else { return false }
        // The library makes the keys after the next ones while it writes.
        endpoint.schedule(self)
        return cq_initiate_key_update(library, endpoint.nowNanoseconds) == CQ_OK
    }

    /// Notes the end; the first one counts.
    func end(_ end: End) {
        guard library != nil, pendingEnd == nil else { return }
        pendingEnd = end
        endpoint.schedule(self)
    }

    // MARK: For the streams

    func addStream(_ id: Int64) -> QUICStream? {
        guard let library else { return nil }
        let stream = QUICStream(id: id, owner: self)
        guard cq_set_stream_context(library, id, Unmanaged.passUnretained(stream).toOpaque()) == CQ_OK else {
            return nil
        }
        streams[id] = stream
        endpoint.metrics.streams += 1
        endpoint.metrics.streamsOpened &+= 1
        return stream
    }

    func takeRing() -> TransmitRing { endpoint.rings.take() }
    func giveBack(_ ring: TransmitRing) { endpoint.rings.giveBack(ring) }

    func wantsToSend(_ stream: QUICStream) {
        if !stream.isQueued { enqueue(stream) }
        endpoint.schedule(self)
    }

    func shutDown(_ stream: QUICStream, code: UInt64, direction: Direction) {
        guard library != nil, pendingEnd == nil else { return }
        // Error codes are 62-bit numbers on the wire.
        let shutdown = Shutdown(stream: stream, code: min(code, 1 << 62 - 1), direction: direction)
        if isInLibrary {
            shutdowns.append(shutdown)
        } else {
            perform(shutdown)
        }
        endpoint.schedule(self)
    }

    func perform(_ shutdown: Shutdown) {
        guard let library, !shutdown.stream.isClosed else { return }
        let stream = shutdown.stream
        isInLibrary = true
        defer { isInLibrary = false }
        switch shutdown.direction {
        case .write:
            dequeue(stream)
            endpoint.resetSent(shutdown.code)
            _ = cq_reset_stream(library, stream.id, shutdown.code)
        case .read:
            extendConnection(library, stream.takeUnconsumed())
            _ = cq_stop_sending(library, stream.id, shutdown.code)
        }
    }

    /// Counts what the library has found lost of a stream since the last time.
    ///
    /// - Parameter stream: nil for one that was never told of.
    func countLosses(of stream: QUICStream?, _ id: Int64) {
        guard let library else { return }
        let losses = cq_stream_loss_count(library, id)
        let new = losses &- (stream?.countedLosses ?? 0)
        stream?.countedLosses = losses
        counters.packetsLost &+= new
        endpoint.metrics.packetsLost &+= new
    }

    func extendCredit(_ stream: QUICStream, _ count: Int) {
        guard let library else { return }
        if !stream.isReadStopped { cq_extend_stream(library, stream.id, UInt64(count)) }
        extendConnection(library, count)
        delayWriting()
    }

    // MARK: The ring of senders

    func enqueue(_ stream: QUICStream) {
        guard !stream.isQueued else { return }
        stream.isQueued = true
        guard let first = firstSender, let last = first.previousSender else {
            stream.nextSender = stream
            stream.previousSender = stream
            firstSender = stream
            packetsOfTurn = 0
            return
        }
        stream.nextSender = first
        stream.previousSender = last
        last.nextSender = stream
        first.previousSender = stream
    }

    func dequeue(_ stream: QUICStream) {
        guard stream.isQueued, let next = stream.nextSender, let previous = stream.previousSender else {
            return
        }
        stream.isQueued = false
        stream.nextSender = nil
        stream.previousSender = nil
        if next === stream {
            firstSender = nil
            return
        }
        previous.nextSender = next
        next.previousSender = previous
        if firstSender === stream {
            firstSender = next
            packetsOfTurn = 0
        }
    }

    func rotateSenders() {
        firstSender = firstSender?.nextSender
        packetsOfTurn = 0
    }

    // MARK: Timer

    func armTimer() {
        guard let library, let timer else { return }
        let expiry = Instant(nanoseconds: min(cq_expiry(library), delayedWriteAt ?? .max))
        if timer.armedDeadline != expiry { timer.arm(at: expiry) }
    }

    /// Lets acknowledgements and credit wait for company: at most half a millisecond, unless something else
    /// is written before.
    func delayWriting() {
        guard delayedWriteAt == nil else { return }
        delayedWriteAt = endpoint.nowNanoseconds + QUICLimits.acknowledgementDelayNanoseconds
        armTimer()
    }

    func armTimer(at deadline: Instant) {
        timer?.arm(at: deadline)
    }

    func dropTimer() {
        timer?.cancel()
        timer = nil
    }

    private func timerFired() {
        guard phase != .gone else { return }
        guard let library else {
            endpoint.forget(self)
            return
        }
        let now = endpoint.nowNanoseconds
        if cq_expiry(library) <= now {
            isInLibrary = true
            let result = cq_handle_expiry(library, now)
            isInLibrary = false
            if result != CQ_OK { libraryFailed(result) }
        }
        endpoint.run(self)
    }
}
