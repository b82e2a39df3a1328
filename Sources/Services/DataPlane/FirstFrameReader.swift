internal import DeviceProtocol
internal import Domain
internal import QUIC

/// Reads the frame a device's stream begins with: the hello of its first stream, the header of a conn's.
final class FirstFrameReader: QUICStreamDelegate {
    enum Kind {
        case hello
        case conn
    }

    private let kind: Kind
    /// Holds it as the connection's streams are held: until it has ended.
    private let connection: DeviceConnection
    private var reader = DataFrameReader()
    /// Whether its frame has come, or never will.
    private(set) var isDone = false

    init(_ kind: Kind, _ connection: DeviceConnection) {
        self.kind = kind
        self.connection = connection
    }

    func quicReceived(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer) {
        guard !isDone else {
            // The hello's stream carries nothing after it.
            connection.violation("bytes after DataHello")
            return
        }
        let frame: [UInt8]?
        let consumed: Int
        do {
            (consumed, frame) = try reader.receive(Span(_unsafeElements: bytes.bindMemory(to: UInt8.self)))
        } catch {
            isDone = true
            connection.violation("\(error)")
            return
        }
        stream.consumed(consumed)
        guard let frame else { return }
        isDone = true
        switch kind {
        case .hello:
            connection.helloReceived(on: stream, frame)
            if consumed < bytes.count { connection.violation("bytes after DataHello") }
        case .conn:
            connection.headerReceived(on: stream, frame, rest: Array(bytes[consumed...]))
        }
    }

    func quicPeerFinished(_ stream: QUICStream) { ended(stream) }

    func quicPeerReset(_ stream: QUICStream, code: UInt64) { ended(stream) }

    func quicPeerStoppedReading(_ stream: QUICStream, code: UInt64) { ended(stream) }

    func quicWritable(_ stream: QUICStream) {}

    func quicReceiveBatchEnded(_ stream: QUICStream) {}

    func quicStreamClosed(_ stream: QUICStream) {
        if kind == .hello { connection.helloStreamEnded() }
    }

    private func ended(_ stream: QUICStream) {
        switch kind {
        case .hello:
            connection.helloStreamEnded()
        case .conn:
            giveUp(stream)
        }
    }

    /// The stream ends before its header is whole: there is no conn that it could belong to.
    func giveUp(_ stream: QUICStream) {
        isDone = true
        stream.delegate = nil
        stream.reset(code: DataPlaneError.unknownConn)
        stream.stopReading(code: DataPlaneError.unknownConn)
    }
}
