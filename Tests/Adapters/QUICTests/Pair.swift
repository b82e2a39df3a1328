import Domain
import EventLoop
import QUIC
import Testing

/// A loop with endpoints and peers that keep what happens to them, for tests to drive and look at.
final class Pair {
    let loop: EventLoop
    let server: QUICEndpoint
    let client: QUICEndpoint
    let acceptor = Acceptor()
    let trust: QUICTrust

    static let loopback = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)

    init(
        loop: EventLoop? = nil,
        server configureServer: (inout QUICConfiguration) -> Void = { _ in },
        client configureClient: (inout QUICConfiguration) -> Void = { _ in }
    ) throws {
        let loop = try loop ?? EventLoop()
        self.loop = loop
        var serverConfiguration = QUICConfiguration()
        configureServer(&serverConfiguration)
        var clientConfiguration = QUICConfiguration()
        configureClient(&clientConfiguration)
        let credentials = try QUICServerCredentials(
            certificatePEM: TestCertificates.oneCertificate, keyPEM: TestCertificates.oneKey)
        server = try QUICEndpoint(
            loop: loop, address: Self.loopback, configuration: serverConfiguration,
            serverCredentials: credentials, delegate: acceptor)
        client = try QUICEndpoint(
            loop: loop, address: Self.loopback, configuration: clientConfiguration)
        trust = try QUICTrust(.pem(TestCertificates.oneCertificate))
    }

    deinit {
        server.close()
        client.close()
        loop.runOnce(waitingAtMost: .zero)
    }

    /// Runs the loop until `condition` holds; false after `seconds` of nothing doing.
    @discardableResult
    func run(seconds: Int = 60, until condition: () -> Bool) -> Bool {
        let deadline = SystemClock.now + .seconds(seconds)
        while !condition() {
            if SystemClock.now >= deadline { return false }
            loop.runOnce(waitingAtMost: .milliseconds(20))
        }
        return true
    }

    /// Runs the loop for a while, for things that must not happen.
    ///
    /// - Returns: the longest time between two batches, which tells how well the machine kept up.
    @discardableResult
    func run(milliseconds: Int) -> Duration {
        var (last, longestPause) = (SystemClock.now, Duration.zero)
        let deadline = last + .milliseconds(milliseconds)
        while last < deadline {
            loop.runOnce(waitingAtMost: .milliseconds(5))
            longestPause = max(longestPause, SystemClock.now - last)
            last = SystemClock.now
        }
        return longestPause
    }

    func connect(
        to address: SocketAddress? = nil, host: String? = "pop.test", pin: [UInt8]? = nil, skip: Bool = false,
        trust: QUICTrust? = nil
    ) throws -> Peer {
        let peer = Peer()
        let verification = QUICPeerVerification(
            trust: trust ?? self.trust, hostName: host, pinnedSHA256: pin, skip: skip)
        peer.connection = try client.connect(
            to: address ?? server.localAddress, verification: verification, delegate: peer)
        return peer
    }

    /// A connection with both ends up.
    func connected() throws -> (client: Peer, server: Peer) {
        let before = acceptor.peers.count
        let peer = try connect()
        try #require(run { peer.isConnected && acceptor.peers.count > before })
        return (peer, acceptor.peers[before])
    }

    /// A stream with both ends up, after one byte from the client.
    func stream() throws -> (client: Flow, server: Flow) {
        let (client, server) = try connected()
        let flow = try #require(client.open())
        flow.stream.write([0x2a])
        try #require(run { server.flows.first?.received == [0x2a] })
        server.flows[0].received = []
        return (flow, server.flows[0])
    }
}

/// Takes the server's connections.
final class Acceptor: QUICEndpointDelegate {
    var peers: [Peer] = []
    /// Told of each new peer before its first stream.
    var prepare: (Peer) -> Void = { _ in }

    func endpoint(_ endpoint: QUICEndpoint, accepted connection: QUICConnection) {
        let peer = Peer()
        peer.connection = connection
        peer.isConnected = true
        connection.delegate = peer
        peers.append(peer)
        prepare(peer)
    }
}

/// One end of a connection.
final class Peer: QUICConnectionDelegate {
    var connection: QUICConnection?
    var isConnected = false
    var flows: [Flow] = []
    var datagrams: [[UInt8]] = []
    var creditGrowths = 0
    var pathChanges = 0
    var closeReasons: [QUICCloseReason] = []
    var closedFlowsAtClose = 0
    var keepsDatagrams = true
    /// How new streams of the peer behave.
    var prepare: (Flow) -> Void = { _ in }

    func open() -> Flow? {
        guard let stream = connection?.openStream() else { return nil }
        let flow = Flow(stream)
        flows.append(flow)
        return flow
    }

    func quicConnected(_ connection: QUICConnection) {
        isConnected = true
    }

    func quicStreamOpened(_ connection: QUICConnection, _ stream: QUICStream) {
        let flow = Flow(stream)
        prepare(flow)
        flows.append(flow)
    }

    func quicStreamCreditGrew(_ connection: QUICConnection) {
        creditGrowths += 1
    }

    func quicDatagramReceived(_ connection: QUICConnection, _ bytes: UnsafeRawBufferPointer) {
        if keepsDatagrams { datagrams.append(Array(bytes)) }
    }

    func quicPathChanged(_ connection: QUICConnection) {
        pathChanges += 1
    }

    func quicClosed(_ connection: QUICConnection, _ reason: QUICCloseReason) {
        closedFlowsAtClose = flows.count { $0.isClosed }
        closeReasons.append(reason)
    }
}

/// One end of a stream.
final class Flow: QUICStreamDelegate {
    let stream: QUICStream
    var received: [UInt8] = []
    var receivedCount = 0
    var checksum: UInt64 = 14_695_981_039_346_656_037
    var keepsBytes = true
    var consumes = true
    var echoes = false
    var isFinished = false
    var resets: [UInt64] = []
    var stops: [UInt64] = []
    var writables = 0
    var batchesEnded = 0
    var closes = 0
    var isClosed: Bool { closes > 0 }
    /// Called for every chunk, from inside the library's callback.
    var onReceived: (Flow) -> Void = { _ in }
    var onWritable: (Flow) -> Void = { _ in }
    private var pending: [UInt8] = []

    init(_ stream: QUICStream) {
        self.stream = stream
        stream.delegate = self
    }

    func quicReceived(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer) {
        receivedCount += bytes.count
        if keepsBytes { received.append(contentsOf: bytes) }
        for byte in bytes where !keepsBytes { checksum = (checksum ^ UInt64(byte)) &* 1_099_511_628_211 }
        if consumes { stream.consumed(bytes.count) }
        if echoes { pending.append(contentsOf: bytes) }
        onReceived(self)
    }

    func quicPeerFinished(_ stream: QUICStream) {
        isFinished = true
        if echoes { echo() }
    }

    func quicPeerReset(_ stream: QUICStream, code: UInt64) { resets.append(code) }
    func quicPeerStoppedReading(_ stream: QUICStream, code: UInt64) { stops.append(code) }

    func quicWritable(_ stream: QUICStream) {
        writables += 1
        if echoes { echo() }
        onWritable(self)
    }

    func quicReceiveBatchEnded(_ stream: QUICStream) {
        batchesEnded += 1
        if echoes { echo() }
    }

    func quicStreamClosed(_ stream: QUICStream) { closes += 1 }

    private func echo() {
        let taken = stream.write(pending)
        pending.removeFirst(taken)
        if pending.isEmpty, isFinished { stream.finish() }
    }
}
