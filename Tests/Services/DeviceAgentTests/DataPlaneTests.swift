import ControlWire
import DeviceAgent
import DeviceProtocol
import Domain
import EventLoop
import QUIC
import TLS
import Testing

/// The data plane of a POP on the test's loop: answers DataHello, and records what conns' streams bring.
private final class DataPlaneStandIn: QUICEndpointDelegate, QUICConnectionDelegate, QUICStreamDelegate {
    private(set) var endpoint: QUICEndpoint?
    private(set) var connections: [QUICConnection] = []
    private(set) var hello: DataHello?
    private(set) var header: StreamHeader?
    private(set) var connStream: QUICStream?
    private(set) var received: [UInt8] = []
    private(set) var hasFinished = false
    private(set) var resetCode: UInt64?
    private(set) var closeReason: QUICCloseReason?
    private var readers: [Int64: DataFrameReader] = [:]
    private let answer: [UInt8]

    init(_ loop: EventLoop, _ identity: TLSIdentity, answer: [UInt8]) throws {
        self.answer = answer
        endpoint = try QUICEndpoint(
            loop: loop, address: SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0),
            configuration: QUICConfiguration(),
            serverCredentials: QUICServerCredentials(
                certificatePEM: identity.certificateChainPEM, keyPEM: identity.privateKeyPEM),
            delegate: self)
    }

    var port: UInt16 { endpoint?.localAddress.port ?? 0 }

    func endpoint(_ endpoint: QUICEndpoint, accepted connection: QUICConnection) {
        connections.append(connection)
        connection.delegate = self
    }

    func quicConnected(_ connection: QUICConnection) {}
    func quicStreamCreditGrew(_ connection: QUICConnection) {}
    func quicDatagramReceived(_ connection: QUICConnection, _ bytes: UnsafeRawBufferPointer) {}
    func quicPathChanged(_ connection: QUICConnection) {}

    func quicStreamOpened(_ connection: QUICConnection, _ stream: QUICStream) {
        stream.delegate = self
        readers[stream.id] = DataFrameReader()
    }

    func quicClosed(_ connection: QUICConnection, _ reason: QUICCloseReason) {
        closeReason = reason
    }

    func quicReceived(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer) {
        stream.consumed(bytes.count)
        var rest = [UInt8](bytes)[...]
        if var reader = readers[stream.id] {
            guard let (consumed, frame) = try? reader.receive(Array(rest).span) else { return }
            readers[stream.id] = frame == nil ? reader : nil
            guard let frame else { return }
            rest = rest.dropFirst(consumed)
            if hello == nil {
                hello = try? DataCodec.decodeDataHello(frame)
                stream.write(answer)
            } else {
                header = try? DataCodec.decodeStreamHeader(frame)
                connStream = stream
            }
        }
        received += rest
    }

    func quicPeerFinished(_ stream: QUICStream) { hasFinished = true }
    func quicPeerReset(_ stream: QUICStream, code: UInt64) { resetCode = code }
    func quicPeerStoppedReading(_ stream: QUICStream, code: UInt64) {}
    func quicWritable(_ stream: QUICStream) {}
    func quicReceiveBatchEnded(_ stream: QUICStream) {}
    func quicStreamClosed(_ stream: QUICStream) {}
}

/// Control by the test, data over QUIC.
private final class MixedTransports: AgentTransports {
    let fakes = FakeTransports()
    var network: NetworkTransports?

    func connectControl(to pop: PopURL, _ events: @escaping (ControlEvent) -> Void) -> any ControlTransport {
        fakes.connectControl(to: pop, events)
    }

    func connectData(
        _ plan: DataPlan, address: IPAddress?, _ events: @escaping (DataEvent) -> Void
    ) -> any DataTransport {
        guard let network else { return fakes.connectData(plan, address: address, events) }
        return network.connectData(plan, address: address, events)
    }
}

@Suite struct DataPlaneTests {
    private let transports = MixedTransports()
    private let fixture: AgentFixture
    private let identity: TLSIdentity

    init() throws {
        fixture = try AgentFixture(transports: transports)
        identity = try SelfSignedCertificate.make(hosts: ["pop.test"])
    }

    private func network(skipping: Bool = false) throws {
        transports.network = NetworkTransports(
            loop: fixture.loop, resolver: fixture.resolver,
            NetworkTransports.Configuration(
                tls: try TLSContext.client(trust: .nobodyVerified), trust: try QUICTrust(.none),
                skipsVerification: skipping))
    }

    private func register(port: UInt16, pin: [UInt8]) throws -> FakeControl {
        fixture.agent.start()
        let control = try #require(transports.fakes.controls.first)
        control.open()
        control.receive(
            .registerResponse(
                RegisterResponse(
                    status: .ok, quicAddress: ":\(port)", sessionID: AgentFixture.sessionID.bytes,
                    dataToken: [UInt8](repeating: 7, count: 32), quicCertificateSHA256: pin)))
        return control
    }

    private var pin: [UInt8] {
        get throws { try #require(QUICServerCredentials.pin(certificatePEM: identity.certificateChainPEM)) }
    }

    private static let accepted = DataFraming.encode(DataCodec.encodeDataHelloAck(ok: true))

    @Test func pinnedCertificateIsAcceptedAndBytesFlowBothWays() throws {
        let pop = try DataPlaneStandIn(fixture.loop, identity, answer: Self.accepted)
        try network()
        let control = try register(port: pop.port, pin: try pin)
        fixture.run { fixture.agent.isWhole }
        #expect(pop.hello?.sessionID == AgentFixture.sessionID.bytes)
        let echo = try EchoTarget(fixture.loop)
        control.receive(AgentFixture.openTCP("127.0.0.1:\(echo.port)"))
        fixture.run { pop.connStream != nil }
        #expect(
            pop.header
                == StreamHeader(connID: AgentFixture.connID, resolvedAddress: "127.0.0.1:\(echo.port)"))
        let payload = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        pop.connStream?.write(payload)
        fixture.run { pop.received.count == payload.count }
        #expect(pop.received == payload)
        pop.connStream?.finish()
        fixture.run { pop.hasFinished && control.sent.contains { $0.isConnClosed } }
        let closed = control.sent.compactMap { if case .connClosed(let closed) = $0 { closed } else { nil } }
        #expect(
            closed == [
                ConnClosed(
                    connID: AgentFixture.connID, reason: .finished, bytesSent: UInt64(payload.count),
                    bytesReceived: UInt64(payload.count))
            ])
        echo.close()
    }

    @Test func closeCommandResetsBothSides() throws {
        let pop = try DataPlaneStandIn(fixture.loop, identity, answer: Self.accepted)
        try network()
        let control = try register(port: pop.port, pin: try pin)
        fixture.run { fixture.agent.isWhole }
        let echo = try EchoTarget(fixture.loop)
        control.receive(AgentFixture.openTCP("127.0.0.1:\(echo.port)"))
        fixture.run { pop.connStream != nil }
        control.receive(.command(Command(connID: AgentFixture.connID, body: .close(.admin))))
        fixture.run { pop.resetCode != nil }
        #expect(pop.resetCode == DataPlaneError.closedByAdmin)
        fixture.run { control.sent.contains { $0.isConnClosed } }
        #expect(control.sent.contains { $0.isConnClosed })
        fixture.run { echo.wasReset }
        #expect(echo.wasReset)
        echo.close()
    }

    @Test func certificateThatIsNeitherPinnedNorTrustedIsRefused() throws {
        let pop = try DataPlaneStandIn(fixture.loop, identity, answer: Self.accepted)
        try network()
        let control = try register(port: pop.port, pin: [UInt8](repeating: 1, count: 32))
        fixture.run { control.sent.count > 3 }
        #expect(!fixture.agent.isWhole)
        #expect(pop.hello == nil)
    }

    @Test func skippedVerificationAcceptsAnyCertificate() throws {
        let pop = try DataPlaneStandIn(fixture.loop, identity, answer: Self.accepted)
        try network(skipping: true)
        _ = try register(port: pop.port, pin: [])
        fixture.run { fixture.agent.isWhole }
        #expect(fixture.agent.isWhole)
    }

    @Test(
        arguments: [
            DataFraming.encode([0x08, 0x00]), [0, 1, 0, 0], DataFraming.encode([0xff]),
            [0, 0, 0, 2, 8, 1, 9],
        ] as [[UInt8]])
    func answerThatIsNoAckIsAViolation(answer: [UInt8]) throws {
        let pop = try DataPlaneStandIn(fixture.loop, identity, answer: answer)
        try network(skipping: true)
        _ = try register(port: pop.port, pin: [])
        fixture.run { pop.closeReason != nil }
        guard case .peerApplication(let code, _)? = pop.closeReason else {
            Issue.record("closed with \(String(describing: pop.closeReason))")
            return
        }
        #expect(code == DataPlaneError.protocolViolation)
    }

    @Test func lostDataConnectionEndsConnsAndRegistersAgain() throws {
        let pop = try DataPlaneStandIn(fixture.loop, identity, answer: Self.accepted)
        try network()
        let control = try register(port: pop.port, pin: try pin)
        fixture.run { fixture.agent.isWhole }
        let echo = try EchoTarget(fixture.loop)
        control.receive(AgentFixture.openTCP("127.0.0.1:\(echo.port)"))
        fixture.run { pop.connStream != nil }
        _ = control.takeSent()
        pop.connections.first?.close(code: DataPlaneError.heartbeatLost)
        fixture.run { control.sent.count >= 2 }
        let sent = control.takeSent()
        guard case .connClosed(let closed)? = sent.first, case .registerRequest(let request)? = sent.last
        else {
            Issue.record("sent \(sent)")
            return
        }
        #expect(closed.reason == .sessionLost)
        #expect(request.resumeSessionID == AgentFixture.sessionID.bytes)
        fixture.run { echo.wasReset }
        #expect(echo.wasReset)
        echo.close()
    }

    @Test func stopClosesTheDataConnectionInOrder() throws {
        let pop = try DataPlaneStandIn(fixture.loop, identity, answer: Self.accepted)
        try network()
        let control = try register(port: pop.port, pin: try pin)
        fixture.run { fixture.agent.isWhole }
        fixture.agent.stop(reason: "test")
        control.events(.closed(code: 1_000, ""))
        fixture.run { pop.closeReason != nil && fixture.end != nil }
        guard case .peerApplication(let code, _)? = pop.closeReason else {
            Issue.record("closed with \(String(describing: pop.closeReason))")
            return
        }
        #expect(code == DataPlaneError.normalEnd)
        #expect(fixture.end == .ordered)
    }
}

extension ControlMessage {
    var isConnClosed: Bool { if case .connClosed = self { true } else { false } }
}

/// A target that sends back what it gets, FIN included.
final class EchoTarget: ByteStreamHandler {
    private var listener: Listener?
    private var streams: [TCPStream] = []
    private(set) var wasReset = false

    var port: UInt16 { listener?.address.port ?? 0 }

    init(_ loop: EventLoop) throws {
        let address = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        listener = try Listener(on: loop, address) { [weak self] descriptor, peer in
            guard let self,
                let stream = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: self)
            else { return }
            streams.append(stream)
        }
    }

    func close() {
        listener?.close()
        for stream in streams { stream.abort() }
        streams = []
    }

    func streamOpened(_ stream: any ByteStream) {}
    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) { stream.write(bytes) }
    func streamPeerFinished(_ stream: any ByteStream) { stream.finishWriting() }
    func streamDrained(_ stream: any ByteStream) {}
    func streamEnded(_ stream: any ByteStream, error: (any Error)?) { wasReset = error != nil }
}
