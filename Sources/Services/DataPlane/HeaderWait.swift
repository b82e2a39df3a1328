internal import DequeModule
internal import Domain
internal import EventLoop
internal import QUIC

/// Gives up streams of one connection that don't say in time which conn they are of: a device may have as many
/// streams as it says that it has conns, and each takes memory.
///
/// Nearly every header comes with the packet that opens its stream, and costs one entry in a list of the batch.
final class HeaderWait {
    /// As long as a device has for its hello.
    static let limit = Duration.seconds(10)

    private let loop: EventLoop
    private var opened: [(stream: QUICStream, reader: FirstFrameReader)] = []
    private var late: Deque<(stream: QUICStream, reader: FirstFrameReader, until: Instant)> = []
    private var timer: LoopTimer?

    init(on loop: EventLoop) {
        self.loop = loop
    }

    func began(_ stream: QUICStream, _ reader: FirstFrameReader) {
        if opened.isEmpty { loop.atEndOfBatch { self.batchEnded() } }
        opened.append((stream, reader))
    }

    /// The connection is over, and its streams with it.
    func cancel() {
        opened = []
        late = []
        timer?.cancel()
        timer = nil
    }

    private func batchEnded() {
        let until = loop.now + Self.limit
        for (stream, reader) in opened where !reader.isDone { late.append((stream, reader, until)) }
        opened.removeAll(keepingCapacity: opened.capacity <= 64)
        arm()
    }

    private func arm() {
        while let first = late.first, first.reader.isDone { late.removeFirst() }
        guard let first = late.first else { return }
        let timer = timer ?? loop.makeTimer { [weak self] in self?.timeIsUp() }
        self.timer = timer
        timer.arm(at: first.until)
    }

    private func timeIsUp() {
        while let first = late.first, first.until <= loop.now {
            late.removeFirst()
            if !first.reader.isDone { first.reader.giveUp(first.stream) }
        }
        arm()
    }
}
