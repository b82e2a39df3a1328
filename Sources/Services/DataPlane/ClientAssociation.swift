internal import DataPath
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import QUIC
internal import SOCKS5

/// A client's UDP association (RFC 1928 section 7): its sockets, and a flow for each of its targets.
///
/// It ends with the client's TCP connection, or with the device's connection, whichever is first.
final class ClientAssociation: ReadinessHandler, DatagramSource {
    /// Targets that a client talks to at once; each takes a socket of the device.
    static let flows = 256
    /// What waits for devices in all its flows together: a question each, and room for a few big ones.
    static let queuedBytes = 256 << 10

    let id: AssociationID
    let connection: DeviceConnection
    /// The table holds its associations.
    private unowned(unsafe) let table: AssociationTable
    private let descriptor: Int32
    private let watch: ConnectionWatch
    private var registration: Registration?
    /// Whose datagrams are taken; its port is 0 until one has come.
    private var client: SocketAddress
    private let idleTimeout: Duration
    private let rate: UserRate?
    private var flows: [Target: DatagramFlow] = [:]
    /// A client mostly talks to one target for a while.
    private var lastFlow: DatagramFlow?
    private var isReadScheduled = false
    private var readTimer: LoopTimer?
    private var knownDrops: UInt32 = 0
    private var hasEnded = false

    init(_ pending: PendingAssociation, _ connection: DeviceConnection, _ table: AssociationTable) {
        id = pending.id
        self.connection = connection
        self.table = table
        descriptor = pending.datagramDescriptor
        client = pending.client
        idleTimeout = pending.idleTimeout
        rate = pending.rate
        watch = ConnectionWatch(pending.clientDescriptor)
    }

    /// Watches both sockets; they are the caller's if this throws.
    func start(reply: [UInt8]) throws(SystemError) {
        registration = try table.loop.register(descriptor, self, watchesWritable: false)
        do {
            try watch.start(on: table.loop) { [unowned self] isInOrder in
                end(isInOrder ? .finished : .clientReset, isCut: !isInOrder)
            }
        } catch {
            if let registration { table.loop.deregister(registration) }
            registration = nil
            throw error
        }
        // The reply is a few bytes on a connection that has carried none: the kernel's buffer takes it.
        _ = reply.withUnsafeBytes { Sockets.send(watch.descriptor, $0) }
    }

    /// Ends it with all its flows.
    func end(_ reason: CloseReason, isCut: Bool) {
        guard !hasEnded else { return }
        hasEnded = true
        table.writer.flush()
        lastFlow = nil
        for flow in flows.values where flow.isLive { finish(flow, reason) }
        for flow in flows.values { flow.timer?.cancel() }
        readTimer?.cancel()
        flows = [:]
        if let registration { table.loop.deregister(registration) }
        registration = nil
        countSocketDrops()
        Sockets.close(descriptor)
        watch.end(isCut: isCut)
        table.ended(self)
    }

    /// Counts what the kernel has dropped since the last time.
    func countSocketDrops() {
        let drops = Sockets.drops(descriptor)
        drop(.socketFull, times: Int(drops &- knownDrops))
        knownDrops = drops
    }

    // MARK: From the client

    func ready(_ readiness: Readiness) {
        if readiness.contains(.failed) { _ = Sockets.pendingError(descriptor, "association") }
        if readiness.contains(.readable), readTimer?.isArmed != true { receive() }
    }

    private func receive() {
        for _ in 0..<DatagramReader.roundsPerTurn {
            guard !hasEnded else { return }
            let room = connection.datagramRoomBytes
            switch table.reader.receive(descriptor, room: room, { received($0, from: $1) }) {
            case .empty: return
            // Nothing that a client can do about an error; the next datagram is as good as any.
            case .more, .failed: break
            }
            if connection.datagramRoomBytes < DatagramReader.slotBytes { return waitForRoom() }
        }
        guard !isReadScheduled, !hasEnded else { return }
        isReadScheduled = true
        table.loop.atEndOfBatch {
            self.isReadScheduled = false
            self.receive()
        }
    }

    /// The device's acknowledgements make room. Then the rest is read, room or not: what is old gives way.
    private func waitForRoom() {
        guard !hasEnded else { return }
        let timer = readTimer ?? table.loop.makeTimer { [unowned self] in receive() }
        readTimer = timer
        timer.arm(at: table.loop.now + DatagramReader.pauseForRoom)
    }

    private func received(_ datagram: UnsafeMutableRawBufferPointer, from sender: SocketAddress) {
        guard isClient(sender) else { return drop(.foreignSource) }
        if let flow = lastFlow, flow.isLive, flow.clientHeader.count <= datagram.count,
            flow.clientHeader.withUnsafeBytes({ $0.elementsEqual(datagram.prefix($0.count)) })
        {
            return pass(datagram, flow.clientHeader.count, flow)
        }
        do throws(SOCKS5DatagramFault) {
            let header = try SOCKS5DatagramHeader(
                Span(_unsafeElements: UnsafeRawBufferPointer(datagram).bindMemory(to: UInt8.self)))
            if client.port == 0 { client = sender }
            guard let flow = flow(header, datagram) else { return drop(.flowLimit) }
            lastFlow = flow
            pass(datagram, header.byteCount, flow)
        } catch {
            switch error {
            case .fragment: drop(.fragment)
            case .malformed: drop(.malformed)
            }
        }
    }

    private func isClient(_ sender: SocketAddress) -> Bool {
        sender.ip == client.ip && (client.port == 0 || sender.port == client.port)
    }

    private func flow(_ header: SOCKS5DatagramHeader, _ datagram: UnsafeMutableRawBufferPointer)
        -> DatagramFlow?
    {
        if let known = flows[header.target] { return known }
        guard flows.count < Self.flows else { return nil }
        let flow = DatagramFlow(
            header.target, clientHeader: Array(datagram.prefix(header.byteCount)), now: table.loop.now)
        flows[header.target] = flow
        table.want(header.target, id)
        return flow
    }

    /// Sends a datagram on to the device, or keeps it until the device is ready for it.
    private func pass(_ datagram: UnsafeMutableRawBufferPointer, _ headerBytes: Int, _ flow: DatagramFlow) {
        let payload = UnsafeRawBufferPointer(rebasing: datagram[headerBytes...])
        guard isAdmitted(payload.count) else { return drop(.rateLimit) }
        switch flow.phase {
        case .wanted, .opening:
            let waiting = flows.values.reduce(payload.count) { $0 + $1.queuedByteCount }
            guard waiting <= Self.queuedBytes else { return drop(.openingQueueFull) }
            drop(.openingQueueFull, times: flow.hold(payload))
        case .barred:
            drop(.refused)
        case .open:
            // The client's header is longer than any flow id, which takes the last of its bytes.
            let start = headerBytes - flow.prefix.count
            UnsafeMutableRawBufferPointer(rebasing: datagram[start..<headerBytes]).copyBytes(
                from: flow.prefix)
            send(UnsafeRawBufferPointer(rebasing: datagram[start...]), payload.count, flow)
        }
    }

    private func send(_ framed: UnsafeRawBufferPointer, _ payloadBytes: Int, _ flow: DatagramFlow) {
        switch connection.sendDatagram(framed) {
        case .queuedDroppingOldest(let count): drop(.connectionQueueFull, times: count)
        case .queued: break
        case .tooLarge: return drop(.tooLarge)
        case .unavailable: return drop(.refused)
        }
        table.figures.datagramsSent &+= 1
        flow.bytesSent &+= UInt64(payloadBytes)
        noteActivity(flow)
    }

    // MARK: From the device

    /// A datagram of the device.
    func received(_ payload: UnsafeRawBufferPointer, _ flow: DatagramFlow) {
        guard isAdmitted(payload.count) else { return drop(.rateLimit) }
        flow.bytesReceived &+= UInt64(payload.count)
        table.figures.datagramsReceived &+= 1
        noteActivity(flow)
        table.writer.append(flow.replyHeader, payload, to: client, of: descriptor, self)
        table.scheduleFlush()
    }

    func datagramsNotSent(_ count: Int, errorNumber: Int32) {
        drop(.clientSocket, times: count)
    }

    // MARK: Flows

    func placed(_ target: Target, _ connID: ConnID, _ flowID: UInt64) -> DatagramFlow? {
        guard let flow = flows[target], case .wanted = flow.phase else { return nil }
        flow.placed(connID, flowID)
        connection.flows[flowID] = (self, flow)
        return flow
    }

    func refused(_ target: Target, _ refusal: FlowRefusal) {
        guard let flow = flows[target], case .wanted = flow.phase else { return }
        finish(flow, .error)
        if refusal == .leaving, !flows.values.contains(where: \.isLive) {
            // The client finds a device that stays by associating anew.
            end(.sessionLost, isCut: true)
        }
    }

    func opened(_ flow: DatagramFlow, _ resolvedAddress: String) {
        guard case .opening = flow.phase else { return }
        table.figures.flowsOpened &+= 1
        flow.lastActivity = table.loop.now
        let timer = table.loop.makeTimer { [unowned self, unowned flow] in checkIdle(flow) }
        flow.timer = timer
        timer.arm(at: table.loop.now + idleTimeout)
        for payload in flow.opened(resolvedAddress) {
            (flow.prefix + payload).withUnsafeBytes { send($0, payload.count, flow) }
        }
    }

    func end(_ flow: DatagramFlow, _ reason: CloseReason) {
        guard flow.isLive else { return }
        finish(flow, reason)
    }

    /// Ends the flow and keeps its target from getting another one at once.
    private func finish(_ flow: DatagramFlow, _ reason: CloseReason) {
        table.flowEnded(flow, reason)
        if flow.connID != nil { connection.flows[flow.flowID] = nil }
        drop(.refused, times: flow.bar())
        if lastFlow === flow { lastFlow = nil }
        flow.timer?.cancel()
        guard !hasEnded else { return }
        if reason == .idle {
            flows[flow.target] = nil
            return
        }
        let timer = table.loop.makeTimer { [unowned self, unowned flow] in
            flow.timer = nil
            flows[flow.target] = nil
        }
        flow.timer = timer
        timer.arm(at: table.loop.now + DatagramFlow.barredTime)
    }

    private func checkIdle(_ flow: DatagramFlow) {
        let deadline = flow.lastActivity + idleTimeout
        if table.loop.now >= deadline {
            finish(flow, .idle)
        } else {
            flow.timer?.arm(at: deadline)
        }
    }

    private func noteActivity(_ flow: DatagramFlow) {
        flow.lastActivity = table.loop.now
        table.flowMoved(flow)
    }

    private func isAdmitted(_ count: Int) -> Bool {
        rate?.admits(count, at: table.loop.now) ?? true
    }

    private func drop(_ cause: DatagramDropCause, times: Int = 1) {
        if times > 0 { table.figures.dropped.note(cause, times: UInt64(times)) }
    }
}

/// Watches a TCP connection on which nothing more is expected, for its end.
private final class ConnectionWatch: ReadinessHandler {
    let descriptor: Int32
    private var loop: EventLoop?
    private var registration: Registration?
    private var ended: ((_ isInOrder: Bool) -> Void)?

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
    }

    func start(on loop: EventLoop, _ ended: @escaping (_ isInOrder: Bool) -> Void) throws(SystemError) {
        registration = try loop.register(descriptor, self)
        self.loop = loop
        self.ended = ended
        // Nothing else tells of a client that has gone without a word.
        Sockets.keepAlive(descriptor)
    }

    func end(isCut: Bool) {
        ended = nil
        if let registration { loop?.deregister(registration) }
        registration = nil
        loop = nil
        if isCut { Sockets.closeWithReset(descriptor) } else { Sockets.close(descriptor) }
    }

    func ready(_ readiness: Readiness) {
        if readiness.contains(.failed), Sockets.pendingError(descriptor, "association") != nil {
            return tell(false)
        }
        if readiness.contains(.peerClosed) { return tell(true) }
        // What a client says here means nothing, and is not kept. A bounded number of reads: one that floods has
        // its connection stand still.
        for _ in 0..<16 {
            guard let loop else { return }
            let result = Sockets.read(descriptor, loop.scratch)
            if result == 0 { return tell(true) }
            if result == -Int(Errno.again) { return }
            if result < 0, result != -Int(Errno.interrupted) { return tell(false) }
        }
    }

    private func tell(_ isInOrder: Bool) {
        let told = ended
        ended = nil
        told?(isInOrder)
    }
}
