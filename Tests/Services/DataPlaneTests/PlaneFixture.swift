import ControlWire
import DataPath
import DataPlane
import DeviceProtocol
import Domain
import EventLoop
import QUIC
import QUICKit
import TLS
import Testing

/// The data plane with its threads, and a loop for the devices, the clients and what the plane tells.
final class PlaneFixture {
    let loop: EventLoop
    let plane: DataPlane
    let endpoint: QUICEndpoint
    private(set) var events: [DataEvent] = []
    private var isStopped = false
    private let mailbox: Mailbox<DataEvent>
    private var lastConn: UInt64 = 0

    init(loops: Int = 1, idleTimeout: Duration = .seconds(30)) throws {
        loop = try EventLoop()
        mailbox = try Mailbox()
        let identity = try #require(QUICPair.identity)
        plane = try DataPlane(
            DataPlaneConfiguration(
                address: Self.anyPort, certificatePEM: identity.certificateChainPEM,
                keyPEM: identity.privateKeyPEM, idleTimeout: idleTimeout, loops: loops),
            events: mailbox)
        var configuration = QUICConfiguration()
        configuration.maxIdleTimeout = idleTimeout
        endpoint = try QUICEndpoint(loop: loop, address: Self.anyPort, configuration: configuration)
        try loop.attach(mailbox) { [weak self] in self?.events.append($0) }
    }

    deinit {
        stop()
        endpoint.close()
        loop.runOnce(waitingAtMost: .zero)
    }

    private static let anyPort = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)

    func stop() {
        guard !isStopped else { return }
        isStopped = true
        plane.sendToAll(.stop)
        plane.join()
    }

    @discardableResult
    func run(seconds: Int = 60, until condition: () -> Bool) -> Bool {
        loop.run(seconds: seconds, until: condition)
    }

    func send(_ command: DataCommand, to index: Int = 0) {
        plane.commands[index].send(command)
    }

    // MARK: Devices

    /// A device's connection after the handshake.
    func connect(trusting identity: TLSIdentity? = nil) throws -> QUICPeer {
        let peer = try startToConnect(trusting: identity)
        try #require(run { peer.isConnected })
        return peer
    }

    func startToConnect(trusting identity: TLSIdentity? = nil) throws -> QUICPeer {
        let identity = try #require(identity ?? QUICPair.identity)
        let peer = QUICPeer()
        peer.connection = try endpoint.connect(
            to: plane.address,
            verification: QUICPeerVerification(
                trust: try QUICTrust(.pem(identity.certificateChainPEM)), hostName: "pop.test"),
            delegate: peer)
        return peer
    }

    /// A device that has said hello, by a token of its own; not yet answered.
    func greet(_ token: [UInt8]) throws -> (device: QUICPeer, hello: QUICFlow, id: DataConnectionID) {
        let device = try connect()
        let hello = try #require(device.open())
        hello.send(Frames.hello(token))
        try #require(run { greeting(token) != nil })
        return (device, hello, try #require(greeting(token)))
    }

    /// A device that may open streams for conns.
    func join(
        _ token: [UInt8] = [1], capacity: UInt32 = 0
    ) throws -> (device: QUICPeer, hello: QUICFlow, id: DataConnectionID) {
        let (device, hello, id) = try greet(token)
        send(.acceptHello(id, capacity: capacity), to: id.loop)
        try #require(run { !hello.received.isEmpty })
        return (device, hello, id)
    }

    /// The connection that has shown `token`.
    func greeting(_ token: [UInt8]) -> DataConnectionID? {
        for case .hello(let id, _, let session, token) in events where session == Frames.sessionID {
            return id
        }
        return nil
    }

    // MARK: Conns

    /// A client whose conn waits for a stream of `connection`.
    func expect(
        on connection: DataConnectionID, earlyBytes: [UInt8] = [], successReply: [UInt8] = Frames.success,
        idleTimeout: Duration? = nil, rate: UserRate? = nil
    ) throws -> (client: TCPEnd, connID: ConnID) {
        let (client, descriptor) = try TCPEnd.pair()
        lastConn += 1
        let connID = ConnID(high: 7, low: lastConn)
        let pending = PendingConn(
            connID: connID, connection: connection, clientDescriptor: descriptor, earlyBytes: earlyBytes,
            successReply: successReply, idleTimeout: idleTimeout, rate: rate)
        send(.expect(pending), to: connection.loop)
        return (client, connID)
    }

    /// A conn that is open, with both of its ends.
    func openConn(
        _ device: QUICPeer, _ id: DataConnectionID
    ) throws -> (client: TCPEnd, flow: QUICFlow, connID: ConnID) {
        let (client, connID) = try expect(on: id)
        let flow = try #require(device.open())
        flow.send(Frames.header(connID))
        try #require(run { polled(client).received == Frames.success })
        return (client, flow, connID)
    }

    func polled(_ client: TCPEnd) -> TCPEnd {
        client.poll()
        return client
    }

    /// Every end that was told of a conn; one at most is right.
    func ends(of connID: ConnID) -> [CloseReason] {
        events.compactMap {
            guard case .connEnded(let progress, let reason) = $0, progress.connID == connID else {
                return nil
            }
            return reason
        }
    }

    func openings(of connID: ConnID) -> [String] {
        events.compactMap {
            guard case .connOpened(connID, let address) = $0 else { return nil }
            return address
        }
    }

    func released(_ connID: ConnID) -> PendingConn? {
        for case .released(let conn) in events where conn.connID == connID { return conn }
        return nil
    }

    var stoppedLoops: [Int] {
        events.compactMap { if case .stopped(let loop) = $0 { loop } else { nil } }
    }

    func isClosed(_ id: DataConnectionID) -> Bool {
        events.contains { if case .connectionClosed(id, _) = $0 { true } else { false } }
    }
}

/// What a device sends first on its streams.
enum Frames {
    static let sessionID = [UInt8](repeating: 9, count: 16)
    static let success = Array("HTTP/1.1 200 OK\r\n\r\n".utf8)
    static let address = "192.0.2.7:443"

    static func hello(_ token: [UInt8]) -> [UInt8] {
        DataFraming.encode(DataCodec.encode(DataHello(sessionID: sessionID, dataToken: token)))
    }

    static func header(_ connID: ConnID) -> [UInt8] {
        DataFraming.encode(DataCodec.encode(StreamHeader(connID: connID, resolvedAddress: address)))
    }

    static let accepted = DataFraming.encode(DataCodec.encodeDataHelloAck(ok: true))
    /// A length of five and five bytes that are no message.
    static let malformed: [UInt8] = [0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0xff]
}
