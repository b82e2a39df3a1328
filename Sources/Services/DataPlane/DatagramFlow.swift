internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import SOCKS5

/// The datagrams between an association's client and one target: one conn.
///
/// ```
///   wanted --flowPlaced--> opening --flowOpened--> open --idle, ICMP, close--> barred --1 s--> gone
///      \--flowRefused--------\--device refuses---------------------------------^
/// ```
/// What the client sends before the device has opened the flow waits, so that a question that is asked once is
/// not lost. While a flow is barred, its target gets nothing: whoever goes on to send to a closed port does
/// not make the device open a socket for each datagram.
final class DatagramFlow {
    enum Phase {
        case wanted
        case opening(ConnID)
        case open(ConnID)
        case barred
    }

    /// What waits for the device at most.
    static let queuedDatagrams = 64
    static let queuedBytes = 64 << 10
    static let barredTime = Duration.seconds(1)

    let target: Target
    /// What the client's datagrams to the target begin with.
    let clientHeader: [UInt8]
    /// What the target's datagrams begin with on their way to the client.
    private(set) var replyHeader: [UInt8]
    private(set) var phase = Phase.wanted
    private(set) var flowID: UInt64 = 0
    private(set) var prefix: [UInt8] = []
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    var lastActivity: Instant
    /// Whether its counts wait to be told.
    var isReported = false
    var timer: LoopTimer?
    private var queue: [[UInt8]] = []
    private(set) var queuedByteCount = 0

    init(_ target: Target, clientHeader: [UInt8], now: Instant) {
        self.target = target
        self.clientHeader = clientHeader
        replyHeader = clientHeader
        lastActivity = now
    }

    var connID: ConnID? {
        switch phase {
        case .opening(let id), .open(let id): id
        case .wanted, .barred: nil
        }
    }

    var isLive: Bool {
        if case .barred = phase { false } else { true }
    }

    func placed(_ connID: ConnID, _ flowID: UInt64) {
        guard case .wanted = phase else { return }
        phase = .opening(connID)
        self.flowID = flowID
        prefix = DatagramFraming.encode(flowID)
    }

    /// The device takes datagrams from now on.
    ///
    /// - Returns: those that have waited, oldest first.
    func opened(_ resolvedAddress: String) -> [[UInt8]] {
        guard case .opening(let connID) = phase else { return [] }
        phase = .open(connID)
        // Clients know a sender by its address; who asked for a name learns here which one it has.
        if let address = SocketAddress(resolvedAddress) { replyHeader = SOCKS5DatagramHeader.encode(address) }
        defer { clearQueue() }
        return queue
    }

    /// Keeps a datagram until the flow is open; how many older ones gave way to it.
    func hold(_ payload: UnsafeRawBufferPointer) -> Int {
        queue.append(Array(payload))
        queuedByteCount += payload.count
        var dropped = 0
        while queue.count > Self.queuedDatagrams || queuedByteCount > Self.queuedBytes {
            queuedByteCount -= queue.removeFirst().count
            dropped += 1
        }
        return dropped
    }

    /// How many datagrams waited and are lost.
    func bar() -> Int {
        phase = .barred
        let lost = queue.count
        clearQueue()
        return lost
    }

    private func clearQueue() {
        queue = []
        queuedByteCount = 0
    }

    var progress: ConnProgress? {
        connID.map { ConnProgress(connID: $0, bytesSent: bytesSent, bytesReceived: bytesReceived) }
    }
}
