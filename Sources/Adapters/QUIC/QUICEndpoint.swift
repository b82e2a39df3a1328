internal import CLinux
internal import CQUIC
package import Domain
package import EventLoop

/// Server side: connections whose handshake is complete.
package protocol QUICEndpointDelegate: AnyObject {
    /// The application protocol is agreed on. Set the connection's delegate now.
    func endpoint(_ endpoint: QUICEndpoint, accepted connection: QUICConnection)
}

/// One UDP socket with the QUIC connections behind it, on one loop.
///
/// With credentials it is a server; without, a client that can open any number of connections. The loop holds
/// it until `close`.
package final class QUICEndpoint {
    package weak var delegate: (any QUICEndpointDelegate)?
    /// Where the socket is bound.
    package private(set) var localAddress: SocketAddress
    /// What new handshakes use; nil refuses them.
    package var serverCredentials: QUICServerCredentials?
    package internal(set) var metrics = QUICMetrics()
    package let configuration: QUICConfiguration

    let loop: EventLoop
    let rings: RingPool
    /// What the connections share inside the library.
    let workspace: OpaquePointer
    let batch: PacketBatch
    /// What a packet may take at most, on any path.
    let largestPayload: Int
    let table = ConnectionTable()
    var unauthenticated = UnauthenticatedConnections()
    var lingering = 0
    private(set) var isSendBlocked = false
    private var isWritableWatched = false
    private(set) var isClosed = false
    var resetBudget = StatelessResetBudget()

    private var descriptor: Int32
    private var registration: Registration?
    private let receiver: DatagramReceiver
    private var boundAddress: cl_address
    private let isWildcard: Bool
    private var touched: [QUICConnection] = []
    private var scheduled: [QUICConnection] = []
    private var waiting: [QUICConnection] = []
    private var unsent: [UnsentBatch] = []
    private var isFlushScheduled = false
    private var isReadScheduled = false
    private var isReading = false
    private var isToBeClosed: UInt64?
    private var hasSegmentation = true
    /// What the kernel has dropped of the current socket, as it was counted last.
    private var knownDrops: UInt32 = 0

    /// - Throws: ``QUICError`` when the address can't be bound.
    package init(
        loop: EventLoop, address: SocketAddress, configuration: QUICConfiguration,
        serverCredentials: QUICServerCredentials? = nil, delegate: (any QUICEndpointDelegate)? = nil
    ) throws(QUICError) {
        precondition(configuration.secret.count >= 16, "the endpoint's secret is too short")
        precondition(configuration.loopCount <= 256, "the first byte of a connection id tells its loop")
        precondition((0..<configuration.loopCount).contains(configuration.loopIndex), "no such loop")
        self.loop = loop
        self.configuration = configuration
        largestPayload = max(Int(CQ_LARGEST_UDP_PAYLOAD), configuration.fixedPayloadBytes ?? 0)
        self.serverCredentials = serverCredentials
        self.delegate = delegate
        rings = RingPool(ringBytes: max(TransmitRing.initialCapacity, configuration.transmitRingBytes))
        batch = PacketBatch()
        receiver = DatagramReceiver(slots: configuration.receiveSlots)
        (descriptor, localAddress) = try Self.bind(address, configuration)
        guard let workspace = cq_workspace_new() else {
            _ = cl_close(descriptor)
            throw .outOfMemory
        }
        self.workspace = workspace
        boundAddress = cl_address(localAddress)
        isWildcard = address.ip.isUnspecified
        do {
            registration = try loop.register(descriptor, self, watchesWritable: false)
        } catch {
            _ = cl_close(descriptor)
            throw .system(error)
        }
    }

    deinit {
        cq_workspace_free(workspace)
    }

    private static func bind(
        _ address: SocketAddress, _ configuration: QUICConfiguration
    ) throws(QUICError) -> (Int32, SocketAddress) {
        var system = cl_address(address)
        let result = cl_udp_bind(&system, configuration.reusePort, Int32(configuration.socketBufferBytes))
        guard result >= 0 else {
            throw .system(SystemError(call: "bind \(address)/udp", errorNumber: -result))
        }
        return (result, Sockets.localAddress(result) ?? address)
    }

    /// Lets the kernel steer packets over the `loopCount` sockets bound to this address, by their connection
    /// ids. Once, on any of them, when all are bound.
    package func steerPackets() throws(QUICError) {
        let result = cl_udp_steer_by_connection_id(descriptor, UInt32(configuration.loopCount))
        guard result >= 0 else {
            throw .system(SystemError(call: "SO_ATTACH_REUSEPORT_CBPF", errorNumber: -result))
        }
    }

    /// The counters, with what the kernel has to say of the socket.
    package func measure() -> QUICMetrics {
        guard !isClosed else { return metrics }
        let drops = cl_socket_drops(descriptor)
        metrics.packetsOverrun &+= UInt64(drops &- knownDrops)
        knownDrops = drops
        return metrics
    }

    // MARK: Commands

    /// Starts a connection; `quicConnected` or `quicClosed` follows.
    package func connect(
        to peer: SocketAddress, verification: QUICPeerVerification, delegate: any QUICConnectionDelegate
    ) throws(QUICError) -> QUICConnection {
        guard !isClosed, isToBeClosed == nil else { throw .endpointClosed }
        guard peer.ip.isIPv6 == localAddress.ip.isIPv6 else { throw .otherAddressFamily }
        let scid = makeConnectionID()
        let connection = QUICConnection(
            endpoint: self, isServer: false, peer: peer, sourceConnectionID: scid,
            credentials: verification.trust)
        guard let library = newClient(connection, peer, scid, verification) else {
            connection.dropTimer()
            throw .outOfMemory
        }
        connection.library = library
        connection.delegate = delegate
        route(scid, to: connection)
        metrics.handshakesStarted &+= 1
        metrics.handshakesInProgress += 1
        metrics.connections += 1
        schedule(connection)
        return connection
    }

    /// Moves all connections to a new socket, after a change of the machine's address: with path validation
    /// (RFC 9000 section 9) where the handshake is over.
    package func rebind(to address: SocketAddress) throws(QUICError) {
        guard !isClosed else { throw .endpointClosed }
        let (newDescriptor, newAddress) = try Self.bind(address, configuration)
        do {
            let newRegistration = try loop.register(newDescriptor, self, watchesWritable: false)
            if let registration { loop.deregister(registration) }
            _ = cl_close(descriptor)
            registration = newRegistration
        } catch {
            _ = cl_close(newDescriptor)
            throw .system(error)
        }
        descriptor = newDescriptor
        knownDrops = 0
        localAddress = newAddress
        boundAddress = cl_address(newAddress)
        unsent = []
        isSendBlocked = false
        isWritableWatched = false
        wakeWaiting()
        for connection in table.connections { migrate(connection) }
    }

    private func migrate(_ connection: QUICConnection) {
        guard let library = connection.library, !connection.isServer else { return }
        guard connection.phase == .open else {
            // Nobody may move during the handshake (RFC 9000 section 9); trying again is faster than waiting.
            connection.end(.silent(.handshakeFailed("the local address has changed")))
            return
        }
        var peer = cl_address(connection.peerAddress)
        cq_path_set(receiver.path, &boundAddress, &peer)
        receiver.forgetPath()
        connection.hasRebound = true
        let result = cq_migrate(library, receiver.path, nowNanoseconds)
        if result != CQ_OK { connection.libraryFailed(result) }
        schedule(connection)
    }

    /// Closes every connection with an application error code and gives the socket back.
    package func close(code: UInt64 = 0) {
        guard !isClosed, isToBeClosed == nil else { return }
        isToBeClosed = code
        // Delegates may call this from within a batch, where connections are in use.
        scheduleFlush()
    }

    private func closeNow(_ code: UInt64) {
        for connection in table.connections {
            guard connection.library != nil else { continue }
            let end = connection.pendingEnd ?? .application(code: code, text: [], reason: .endpointClosed)
            connection.terminate(end, keepsRoutes: false)
        }
        for connection in table.connections { forget(connection) }
        isClosed = true
        touched = []
        scheduled = []
        waiting = []
        unsent = []
        if let registration { loop.deregister(registration) }
        registration = nil
        _ = cl_close(descriptor)
        descriptor = -1
    }

    var nowNanoseconds: UInt64 { loop.now.nanoseconds }

    /// The least is what a datagram and what it takes besides fits into.
    var datagramQueueBytes: Int { max(16 << 10, configuration.datagramQueueBytes) }

    // MARK: Turns

    /// Gives the connection its turn at the end of the loop's batch.
    func schedule(_ connection: QUICConnection) {
        guard !connection.isTouched, !connection.isScheduled else { return }
        connection.isScheduled = true
        scheduled.append(connection)
        scheduleFlush()
    }

    /// Gives the connection its turn now.
    func run(_ connection: QUICConnection) {
        connection.settle()
    }

    /// Gives the connection a turn when the socket takes packets again.
    func waitForSocket(_ connection: QUICConnection) {
        guard !connection.isWaiting else { return }
        connection.isWaiting = true
        waiting.append(connection)
    }

    private func scheduleFlush() {
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        loop.atEndOfBatch { self.runScheduled() }
    }

    private func runScheduled() {
        isFlushScheduled = false
        guard !isClosed else { return }
        var connections: [QUICConnection] = []
        swap(&connections, &scheduled)
        for connection in connections {
            connection.isScheduled = false
            if connection.library != nil { connection.settle() }
        }
        if let code = isToBeClosed { closeNow(code) }
    }
}

extension QUICEndpoint: ReadinessHandler {
    package func ready(_ readiness: Readiness) {
        if readiness.contains(.writable), isSendBlocked { resumeSending() }
        if readiness.contains(.readable) { receive() }
    }

    private func receive() {
        for _ in 0..<QUICLimits.roundsPerEvent {
            guard !isClosed, registration != nil else { return }
            let filled = receiver.receive(descriptor)
            if filled > 0 { handle(filled) }
            // Fewer than asked for: the socket was empty, and the next packet is a new edge.
            if filled < receiver.capacity { return }
        }
        guard !isReadScheduled else { return }
        isReadScheduled = true
        // A weak reference would make each retain and release of the endpoint take the slow path for good.
        loop.atEndOfBatch {
            self.isReadScheduled = false
            self.receive()
        }
    }

    private func handle(_ filled: Int) {
        let now = nowNanoseconds
        table.forgetLast()
        isReading = true
        for index in 0..<filled {
            let slot = receiver.slots[index]
            guard slot.count > 0, let bytes = slot.bytes else { continue }
            // Nothing can be sent to port 0, so nobody is there.
            guard slot.peer.port != 0 else {
                drop(.malformed)
                continue
            }
            let local =
                isWildcard && serverCredentials != nil && slot.local.family != 0
                ? withPort(slot.local) : boundAddress
            receiver.setPath(local: local, peer: slot.peer)
            metrics.bytesReceived &+= UInt64(slot.count)
            loop.moved(Int(slot.count))
            var offset = 0
            let total = Int(slot.count)
            let segment = max(1, Int(slot.segment_size))
            metrics.packetsReceived &+= UInt64((total + segment - 1) / segment)
            while offset < total {
                let count = min(segment, total - offset)
                dispatch(
                    bytes.assumingMemoryBound(to: UInt8.self) + offset, count, slot, ecn: slot.ecn, now: now)
                offset += count
            }
        }
        isReading = false
        settleTouched()
    }

    private func withPort(_ address: cl_address) -> cl_address {
        var result = address
        result.port = boundAddress.port
        return result
    }

    @inline(__always)
    private func dispatch(
        _ packet: UnsafeMutablePointer<UInt8>, _ count: Int, _ slot: cl_datagram_slot, ecn: UInt8, now: UInt64
    ) {
        let idLength = QUICLimits.connectionIDLength
        if packet[0] & 0x80 == 0 {
            guard count > 1 + idLength else { return drop(.malformed) }
            let word = UnsafeRawPointer(packet).loadUnaligned(fromByteOffset: 1, as: UInt64.self)
            if let connection = table.find(shortID: word) {
                deliver(packet, count, to: connection, ecn: ecn, now: now)
            } else if count >= 21, let connection = table.find(ResetToken(packet + (count - 16))) {
                // A stateless reset: only its last bytes tell whose it is; the library checks them again.
                deliver(packet, count, to: connection, ecn: ecn, now: now)
            } else {
                answerUnknown(packet, count, ConnectionID(word: word), peer: slot.peer)
            }
            return
        }
        var header = cq_header()
        let kind = cq_decode_header(packet, count, idLength, &header)
        if Int(kind) != CQ_HEADER_INVALID, let connection = table.find(ConnectionID(header.dcid)) {
            deliver(packet, count, to: connection, ecn: ecn, now: now)
        } else {
            answerLongHeader(packet, count, kind, header, peer: slot.peer, now: now)
        }
    }

    func deliver(
        _ packet: UnsafeMutablePointer<UInt8>, _ count: Int, to connection: QUICConnection, ecn: UInt8,
        now: UInt64
    ) {
        guard connection.library != nil else {
            connection.receivedAfterEnd()
            return
        }
        if !connection.isTouched {
            connection.isTouched = true
            touched.append(connection)
        }
        connection.read(packet, count, receiver.path, ecn: ecn, now: now)
    }

    private func settleTouched() {
        var connections: [QUICConnection] = []
        swap(&connections, &touched)
        for connection in connections {
            // What comes up during its turn is for the next one.
            connection.isTouched = false
            if connection.library != nil { connection.settle(afterPackets: true) }
        }
        if touched.isEmpty {
            connections.removeAll(keepingCapacity: true)
            swap(&connections, &touched)
        }
    }

    var receivePath: OpaquePointer { receiver.path }
    /// The address that the packet at hand was sent to.
    var receivedAt: cl_address { receiver.local }
    var localSystemAddress: cl_address { boundAddress }
}

// Sending.
extension QUICEndpoint {
    struct UnsentBatch {
        let bytes: [UInt8]
        let segmentSize: Int
        let ecn: UInt8
        var local: cl_address
        var peer: cl_address
    }

    /// Sends the batch.
    func flush() {
        guard batch.count > 0 else { return }
        var local = sourceAddress(batch.local)
        var peer = batch.peer
        metrics.packetsSent &+= UInt64(batch.segments)
        metrics.bytesSent &+= UInt64(batch.count)
        loop.moved(batch.count)
        send(batch.bytes, batch.count, batch.segmentSize, batch.ecn, &local, &peer)
        batch.clear()
    }

    /// Sends one packet that belongs to no batch.
    func sendAlone(_ packet: [UInt8], from local: cl_address, to peer: cl_address) {
        metrics.packetsSent &+= 1
        metrics.bytesSent &+= UInt64(packet.count)
        var local = sourceAddress(local)
        var peer = peer
        packet.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            send(base, bytes.count, bytes.count, 0, &local, &peer)
        }
    }

    /// Only a server on all addresses must say from which one it answers.
    private func sourceAddress(_ address: cl_address) -> cl_address {
        isWildcard && serverCredentials != nil ? address : cl_address()
    }

    private func send(
        _ bytes: UnsafeRawPointer, _ count: Int, _ segmentSize: Int, _ ecn: UInt8,
        _ local: inout cl_address, _ peer: inout cl_address
    ) {
        if isSendBlocked {
            keep(bytes, count, segmentSize, ecn, local, peer)
            return
        }
        if !hasSegmentation, segmentSize < count {
            sendSegments(bytes, count, segmentSize, ecn, local, peer)
            return
        }
        let result = cl_udp_send(
            descriptor, bytes, count, UInt16(clamping: segmentSize), ecn, &peer, &local)
        guard result < 0 else { return }
        switch Int32(-result) {
        case Errno.again:
            isSendBlocked = true
            watchWritable(true)
            keep(bytes, count, segmentSize, ecn, local, peer)
        case Errno.inputOutput where segmentSize < count,
            Errno.invalidArgument where segmentSize < count:
            // The interface can't cut segments (no checksum offload), if each by itself is taken.
            if sendSegments(bytes, count, segmentSize, ecn, local, peer) { hasSegmentation = false }
        default:
            // As good as lost on the way: the library sends again or gives up in its time. Probes of the path MTU
            // that are too long for the interface end here too, and what the system has no memory for, which it
            // would not tell the end of.
            metrics.sendsFailed &+= 1
        }
    }

    /// - Returns: whether the system has taken the first of them.
    @discardableResult
    private func sendSegments(
        _ bytes: UnsafeRawPointer, _ count: Int, _ segmentSize: Int, _ ecn: UInt8,
        _ local: cl_address, _ peer: cl_address
    ) -> Bool {
        var local = local
        var peer = peer
        var offset = 0
        let failed = metrics.sendsFailed
        var isFirstTaken = false
        while offset < count {
            let size = min(segmentSize, count - offset)
            send(bytes + offset, size, size, ecn, &local, &peer)
            if offset == 0 { isFirstTaken = metrics.sendsFailed == failed && !isSendBlocked }
            offset += size
        }
        return isFirstTaken
    }

    private func keep(
        _ bytes: UnsafeRawPointer, _ count: Int, _ segmentSize: Int, _ ecn: UInt8, _ local: cl_address,
        _ peer: cl_address
    ) {
        guard unsent.count < QUICLimits.unsentBatches else {
            metrics.sendsFailed &+= 1
            return
        }
        let copy = [UInt8](UnsafeRawBufferPointer(start: bytes, count: count))
        unsent.append(
            UnsentBatch(bytes: copy, segmentSize: segmentSize, ecn: ecn, local: local, peer: peer))
    }

    private func resumeSending() {
        isSendBlocked = false
        var batches: [UnsentBatch] = []
        swap(&batches, &unsent)
        for batch in batches {
            var local = batch.local
            var peer = batch.peer
            batch.bytes.withUnsafeBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                send(base, bytes.count, batch.segmentSize, batch.ecn, &local, &peer)
            }
        }
        guard !isSendBlocked else { return }
        watchWritable(false)
        wakeWaiting()
    }

    /// Only while the socket is full: the kernel tells of each datagram that has left it.
    private func watchWritable(_ isWatched: Bool) {
        guard let registration, isWritableWatched != isWatched else { return }
        isWritableWatched = isWatched
        loop.watchWritable(registration, isWatched)
    }

    private func wakeWaiting() {
        let connections = waiting
        waiting = []
        for connection in connections {
            connection.isWaiting = false
            if connection.library != nil { schedule(connection) }
        }
    }
}

extension IPAddress {
    fileprivate var isIPv6: Bool {
        if case .v6 = self { true } else { false }
    }
}
