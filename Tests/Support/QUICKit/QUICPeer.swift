package import QUIC

/// Accepts a server's connections.
package final class QUICAcceptor: QUICEndpointDelegate {
    package private(set) var peers: [QUICPeer] = []

    package init() {}

    package func endpoint(_ endpoint: QUICEndpoint, accepted connection: QUICConnection) {
        let peer = QUICPeer()
        peer.connection = connection
        connection.delegate = peer
        peers.append(peer)
    }
}

/// One end of a QUIC connection, which keeps what happens to it.
package final class QUICPeer: QUICConnectionDelegate {
    package var connection: QUICConnection?
    package private(set) var isConnected = false
    /// The streams the other end has opened; each with a flow as its delegate unless `adopt` took it.
    package private(set) var streams: [QUICFlow] = []
    package private(set) var datagrams: [[UInt8]] = []
    package private(set) var closeReason: QUICCloseReason?
    /// Takes a stream that the other end opened, instead of a flow.
    package var adopt: ((QUICStream) -> Void)?

    package init() {}

    package func open() -> QUICFlow? {
        connection?.openStream().map { QUICFlow($0) }
    }

    /// The application error code the other end has closed with.
    package var peerCode: UInt64? {
        if case .peerApplication(let code, _)? = closeReason { code } else { nil }
    }

    package func quicConnected(_ connection: QUICConnection) { isConnected = true }

    package func quicStreamOpened(_ connection: QUICConnection, _ stream: QUICStream) {
        if let adopt {
            adopt(stream)
        } else {
            streams.append(QUICFlow(stream))
        }
    }

    package func quicStreamCreditGrew(_ connection: QUICConnection) {}
    package func quicDatagramReceived(_ connection: QUICConnection, _ bytes: UnsafeRawBufferPointer) {
        datagrams.append(Array(bytes))
    }
    package func quicPathChanged(_ connection: QUICConnection) {}
    package func quicClosed(_ connection: QUICConnection, _ reason: QUICCloseReason) { closeReason = reason }
}

/// One end of a stream: keeps what it receives, and sends what it is given as there is room.
package final class QUICFlow: QUICStreamDelegate {
    package let stream: QUICStream
    package private(set) var received: [UInt8] = []
    package private(set) var isFinished = false
    package private(set) var resetCode: UInt64?
    package private(set) var stopCode: UInt64?
    package private(set) var isClosed = false
    /// Whether what arrives is given back as credit.
    package var givesCredit = true
    /// Bytes the ring has taken.
    package private(set) var sentCount = 0
    private var unsent: [UInt8] = []
    private var isFinishing = false

    package init(_ stream: QUICStream) {
        self.stream = stream
        stream.delegate = self
    }

    package func send(_ bytes: [UInt8]) {
        unsent.append(contentsOf: bytes)
        pump()
    }

    /// FIN after what was given to `send`.
    package func finish() {
        isFinishing = true
        pump()
    }

    private func pump() {
        let taken = stream.write(unsent)
        sentCount += taken
        unsent.removeFirst(taken)
        if unsent.isEmpty, isFinishing { stream.finish() }
    }

    package func quicReceived(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer) {
        received.append(contentsOf: bytes)
        if givesCredit { stream.consumed(bytes.count) }
    }

    package func quicPeerFinished(_ stream: QUICStream) { isFinished = true }
    package func quicPeerReset(_ stream: QUICStream, code: UInt64) { resetCode = code }
    package func quicPeerStoppedReading(_ stream: QUICStream, code: UInt64) { stopCode = code }
    package func quicWritable(_ stream: QUICStream) { pump() }
    package func quicReceiveBatchEnded(_ stream: QUICStream) {}
    package func quicStreamClosed(_ stream: QUICStream) { isClosed = true }
}
