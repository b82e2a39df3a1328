internal import CQUIC

/// What happens on a ``QUICStream``; all on the loop's thread. Any call into the API is allowed meanwhile.
package protocol QUICStreamDelegate: AnyObject {
    /// Bytes in order, valid during the call. Their credit is given back later by `consumed`.
    func quicReceived(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer)
    /// FIN, after the last bytes.
    func quicPeerFinished(_ stream: QUICStream)
    /// RESET_STREAM: nothing more comes; bytes not received are lost.
    func quicPeerReset(_ stream: QUICStream, code: UInt64)
    /// STOP_SENDING: the peer reads no more; it has been answered with RESET_STREAM.
    func quicPeerStoppedReading(_ stream: QUICStream, code: UInt64)
    /// At least half of the transmit ring is free again after it had been full.
    func quicWritable(_ stream: QUICStream)
    /// The UDP batch that brought bytes for this stream is over: flush what was gathered.
    func quicReceiveBatchEnded(_ stream: QUICStream)
    /// Both directions are done, or the connection is gone. The last call.
    func quicStreamClosed(_ stream: QUICStream)
}

/// A bidirectional QUIC stream.
///
/// Its connection holds it until `quicStreamClosed`; after that every call is harmless and does nothing.
package final class QUICStream {
    /// RFC 9000 section 2.1.
    package let id: Int64
    /// Held until `quicStreamClosed`.
    package var delegate: (any QUICStreamDelegate)?

    /// Nil once the stream is closed.
    unowned(unsafe) private(set) var owner: QUICConnection?
    private var ring: TransmitRing?
    /// The stream offset up to which the peer has acknowledged.
    private var acknowledgedOffset: UInt64 = 0
    /// When it last grew, or the first of the bytes in flight was sent.
    private var acknowledgedAt: UInt64 = 0
    private var received = 0
    private var consumedCount = 0
    private(set) var wantsFinish = false
    private(set) var isFinishSent = false
    private(set) var isWriteEnded = false
    /// Whether the peer had acknowledged all bytes when the stream closed, and FIN was sent after them; false
    /// until then. Tells an end in order from the loss of the connection.
    package private(set) var hasDeliveredAll = false
    var isReadStopped = false
    /// Packets lost, as far as they have been counted.
    var countedLosses: UInt64 = 0
    private var wantsRoom = false

    // Places in the connection's lists.
    var isTouched = false
    var isInWritableList = false
    var isQueued = false
    unowned(unsafe) var nextSender: QUICStream?
    unowned(unsafe) var previousSender: QUICStream?

    init(id: Int64, owner: QUICConnection) {
        self.id = id
        self.owner = owner
    }

    deinit {
        // Only reached with memory when the owner went without closing the stream, which it never does.
        ring?.memory.deallocate()
    }

    /// The connection; nil once the stream is closed.
    package var connection: QUICConnection? { owner }
    package var isClosed: Bool { owner == nil }

    // MARK: Sending

    /// Room for bytes right now; 0 after `finish`, a reset, or the peer's STOP_SENDING.
    package var writableBytes: Int {
        guard canWrite else { return 0 }
        return ring?.free ?? TransmitRing.initialCapacity
    }

    /// Bytes written and not yet acknowledged by the peer.
    package var unacknowledgedBytes: Int { ring?.count ?? 0 }

    /// Lets `body` put bytes straight into the transmit ring: it fills the first piece, then the second, and
    /// answers how many bytes it put. When it leaves no room, `quicWritable` follows.
    @discardableResult
    package func withFreeSpace(
        _ body: (UnsafeMutableRawBufferPointer, UnsafeMutableRawBufferPointer) -> Int
    ) -> Int {
        guard canWrite, let owner else { return 0 }
        var ring = self.ring ?? owner.takeRing()
        ring.growIfUseful(onLongPath: owner.isLongPath)
        self.ring = ring
        guard ring.free > 0 else {
            wantsRoom = true
            return 0
        }
        let space = ring.space
        let added = body(space.0, space.1)
        // `body` may have closed the stream, which has taken the ring with it.
        guard self.ring != nil else { return 0 }
        self.ring?.put(added)
        if added > 0 {
            wantsRoom = added == ring.free
            owner.wantsToSend(self)
        } else if ring.count == 0 {
            releaseRing()
        }
        return added
    }

    /// Copies `bytes` as far as there is room; the number taken. When it is less, `quicWritable` follows.
    @discardableResult
    package func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return 0 }
        var taken = 0
        while taken < bytes.count {
            let added = withFreeSpace { first, second in
                let left = bytes.count - taken
                let firstCount = min(left, first.count)
                if let target = first.baseAddress {
                    target.copyMemory(from: base + taken, byteCount: firstCount)
                }
                let secondCount = min(left - firstCount, second.count)
                if let target = second.baseAddress, secondCount > 0 {
                    target.copyMemory(from: base + taken + firstCount, byteCount: secondCount)
                }
                return firstCount + secondCount
            }
            guard added > 0 else { break }
            taken += added
        }
        if taken < bytes.count, canWrite { wantsRoom = true }
        return taken
    }

    @discardableResult
    package func write(_ bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes { write($0) }
    }

    /// Sends FIN after what was written; nothing more can be written.
    package func finish() {
        guard canWrite, let owner else { return }
        wantsFinish = true
        owner.wantsToSend(self)
    }

    /// RESET_STREAM: what was written and is not delivered is dropped.
    package func reset(code: UInt64) {
        guard let owner, !isWriteEnded else { return }
        isWriteEnded = true
        owner.shutDown(self, code: code, direction: .write)
    }

    private var canWrite: Bool { owner != nil && !wantsFinish && !isWriteEnded }

    // MARK: Receiving

    /// STOP_SENDING: no more bytes are delivered; the peer answers with RESET_STREAM.
    package func stopReading(code: UInt64) {
        guard let owner, !isReadStopped else { return }
        isReadStopped = true
        owner.shutDown(self, code: code, direction: .read)
    }

    /// Gives the peer credit for `count` more bytes, at most what it has sent and has not been given back.
    package func consumed(_ count: Int) {
        guard let owner else { return }
        let credit = min(count, received - consumedCount)
        guard credit > 0 else { return }
        consumedCount += credit
        owner.extendCredit(self, credit)
    }

    /// Bytes received and not consumed.
    package var unconsumedBytes: Int { received - consumedCount }

    // MARK: For the connection

    /// Counts bytes from the library and tells whether they are to be delivered.
    func countReceived(_ count: Int) {
        received += count
    }

    /// The bytes whose credit the connection gives back by itself, once.
    func takeUnconsumed() -> Int {
        let unread = received - consumedCount
        consumedCount = received
        return unread
    }

    var hasSomethingToSend: Bool {
        guard !isWriteEnded else { return false }
        if let ring, ring.unsent > 0 { return true }
        return wantsFinish && !isFinishSent
    }

    /// Everything was sent and acknowledged, FIN at least sent.
    var isDelivered: Bool { isFinishSent && ring == nil }

    var unsentBytes: Int { ring?.unsent ?? 0 }

    var pieces: (first: UnsafeRawPointer?, firstCount: Int, second: UnsafeRawPointer?, secondCount: Int) {
        guard let ring, ring.unsent > 0 else { return (nil, 0, nil, 0) }
        let pieces = ring.pieces
        return (pieces.first, pieces.firstCount, pieces.second, pieces.secondCount)
    }

    /// The library has taken `count` bytes, and FIN when that was all and FIN was asked for.
    func markSent(_ count: Int, _ now: UInt64) {
        if ring?.sent == 0 { acknowledgedAt = now }
        ring?.markSent(count)
        if wantsFinish, unsentBytes == 0 { isFinishSent = true }
    }

    /// Whether bytes are in flight and none was acknowledged since `instant`.
    func isUnacknowledged(since instant: UInt64) -> Bool {
        (ring?.sent ?? 0) > 0 && acknowledgedAt < instant
    }

    /// Bytes before `offset` are acknowledged; answers whether `quicWritable` is due.
    func acknowledge(upTo offset: UInt64, _ now: UInt64) -> Bool {
        acknowledgedAt = now
        let count = Int(offset - acknowledgedOffset)
        acknowledgedOffset = offset
        guard count > 0, ring != nil else { return false }
        ring?.acknowledge(count)
        guard let ring else { return false }
        let isDue = wantsRoom && ring.isAtLeastHalfFree
        if ring.count == 0 { releaseRing() }
        if isDue { wantsRoom = false }
        return isDue
    }

    /// The peer stopped reading: nothing more is sent.
    func endWriting() {
        isWriteEnded = true
    }

    /// Gives the memory back and cuts the stream off.
    func detach() {
        hasDeliveredAll = isDelivered && !isWriteEnded
        releaseRing()
        owner = nil
        isWriteEnded = true
    }

    private func releaseRing() {
        guard let ring else { return }
        self.ring = nil
        owner?.giveBack(ring)
    }
}
