internal import ControlWire
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import QUIC

/// One device's QUIC connection on the node: the hello, then a stream for each conn (contract section 3).
///
/// ```
/// awaitingHello --DataHello--> awaitingDecision --acceptHello--> bound
///       |  10 s, garbage             | rejectHello: 0x101          | anything but conn streams: 0x104
///       +------------------------> closed <------------------------+
/// ```
final class DeviceConnection: QUICConnectionDelegate {
    private enum State {
        case awaitingHello
        case awaitingDecision(QUICStream)
        case bound(QUICStream)
        case closed
    }

    let id: DataConnectionID
    private let quic: QUICConnection
    /// The loop holds its connections.
    private unowned(unsafe) let owner: DataLoop
    private var state = State.awaitingHello
    private var helloTimer: LoopTimer?
    private let headers: HeaderWait
    /// How conns end when the connection does: told by who closes it here, SESSION_LOST otherwise.
    private(set) var endOfConns = CloseReason.sessionLost
    /// The associations whose flows go through this connection.
    var associations: [AssociationID: ClientAssociation] = [:]
    /// The flows that the device has been asked to open, by the ids in its datagrams.
    var flows: [UInt64: (association: ClientAssociation, flow: DatagramFlow)] = [:]

    /// The conns that every device may have at once (contract section 3).
    static let leastConns: UInt64 = 1_000
    /// The stream of the hello stays open beside those of the conns.
    static let initialStreams = leastConns + 1
    /// What a device that claims more, or has no limit, is granted: no process has as many descriptors.
    private static let mostConns: UInt64 = 1 << 20
    /// How long a device may take from the handshake to its DataHello.
    private static let helloTime = Duration.seconds(10)
    /// Connections of a node whose hello is not accepted yet, at about 100 KiB each: more than devices make that
    /// all come back at once, which wait for their handshakes.
    private static let mostBeforeHello = 4_096
    /// The least of them on one loop, of however many loops.
    private static let leastBeforeHello = 512

    static func limitsBeforeHello(loops: Int) -> QUICUnauthenticatedLimits {
        QUICUnauthenticatedLimits(
            windowBytes: UInt64(DataFraming.prefixBytes + DataFraming.maximumMessageBytes),
            maxConnections: max(leastBeforeHello, mostBeforeHello / loops))
    }

    init(id: DataConnectionID, quic: QUICConnection, owner: DataLoop) {
        self.id = id
        self.quic = quic
        self.owner = owner
        headers = HeaderWait(on: owner.loop)
        quic.delegate = self
        // A weak reference would make each retain and release, of which each datagram has some, take the slow
        // path.
        let timer = owner.loop.makeTimer { [unowned self] in
            close(code: DataPlaneError.protocolViolation, "no DataHello", ending: .error)
        }
        timer.arm(at: owner.loop.now + Self.helloTime)
        helloTimer = timer
    }

    /// Closes the connection; its conns end with `reason`. The first end counts: the hello's stream, which ends
    /// with every connection, tells of no new one.
    func close(code: UInt64, _ text: String, ending reason: CloseReason) {
        guard !quic.isClosed else { return }
        endOfConns = reason
        quic.close(code: code, reason: text)
    }

    // MARK: Hello

    /// - Parameter capacity: most conns at once of this device; 0 for no limit of its own.
    func acceptHello(capacity: UInt32) {
        guard case .awaitingDecision(let stream) = state else { return }
        quic.authenticated()
        let streams = capacity == 0 ? Self.mostConns : min(UInt64(capacity), Self.mostConns)
        if streams > Self.leastConns { quic.raiseStreamLimit(by: streams - Self.leastConns) }
        let ack = DataFraming.encode(DataCodec.encodeDataHelloAck(ok: true))
        _ = ack.withUnsafeBytes { stream.write($0) }
        state = .bound(stream)
    }

    func helloReceived(on stream: QUICStream, _ frame: [UInt8]) {
        guard case .awaitingHello = state else { return }
        guard let hello = try? DataCodec.decodeDataHello(frame) else {
            return violation("malformed DataHello")
        }
        helloTimer?.cancel()
        helloTimer = nil
        state = .awaitingDecision(stream)
        owner.tell(
            .hello(id, peer: quic.peerAddress, sessionID: hello.sessionID, dataToken: hello.dataToken))
    }

    func violation(_ text: String) {
        close(code: DataPlaneError.protocolViolation, text, ending: .error)
    }

    /// The first frame of a conn's stream has arrived, with what followed it.
    func headerReceived(on stream: QUICStream, _ frame: [UInt8], rest: [UInt8]) {
        guard let header = try? DataCodec.decodeStreamHeader(frame) else {
            return violation("malformed StreamHeader")
        }
        if case .bound = state,
            owner.open((header.connID, header.resolvedAddress), on: self, stream, received: rest)
        {
            return
        }
        stream.delegate = nil
        stream.reset(code: DataPlaneError.unknownConn)
        stream.stopReading(code: DataPlaneError.unknownConn)
    }

    // MARK: QUIC

    func quicConnected(_ connection: QUICConnection) {}

    func quicStreamOpened(_ connection: QUICConnection, _ stream: QUICStream) {
        switch state {
        case .awaitingHello:
            guard stream.id == 0 else { return violation("a stream before DataHello") }
            stream.delegate = FirstFrameReader(.hello, self)
        case .bound:
            let reader = FirstFrameReader(.conn, self)
            stream.delegate = reader
            headers.began(stream, reader)
        case .awaitingDecision:
            violation("a stream before DataHelloAck")
        case .closed:
            break
        }
    }

    /// The stream of the hello has ended, which the device may not do while its session lives.
    func helloStreamEnded() {
        if case .closed = state { return }
        violation("the first stream ended")
    }

    func quicStreamCreditGrew(_ connection: QUICConnection) {}

    func quicDatagramReceived(_ connection: QUICConnection, _ bytes: UnsafeRawBufferPointer) {
        guard
            let (flowID, start) = DatagramFraming.decode(
                Span(_unsafeElements: bytes.bindMemory(to: UInt8.self))),
            let (association, flow) = flows[flowID]
        else { return owner.associations.figures.dropped.note(.unknownFlow) }
        association.received(UnsafeRawBufferPointer(rebasing: bytes[start...]), flow)
    }

    /// What can be sent now without an older datagram giving way.
    var datagramRoomBytes: Int { quic.datagramRoomBytes }

    /// - Parameter bytes: begins with the flow's id.
    func sendDatagram(_ bytes: UnsafeRawBufferPointer) -> QUICDatagramResult {
        quic.sendDatagram(bytes)
    }

    func quicPathChanged(_ connection: QUICConnection) {
        guard hasSaidHello else { return }
        owner.tell(.pathChanged(id, peer: connection.peerAddress))
    }

    func quicClosed(_ connection: QUICConnection, _ reason: QUICCloseReason) {
        helloTimer?.cancel()
        headers.cancel()
        let wasKnown = hasSaidHello
        state = .closed
        for association in associations.values { association.end(endOfConns, isCut: true) }
        if wasKnown { owner.tell(.connectionClosed(id, reason: "\(reason)")) }
        owner.connectionEnded(self)
    }

    private var hasSaidHello: Bool {
        switch state {
        case .awaitingDecision, .bound: true
        case .awaitingHello, .closed: false
        }
    }
}
