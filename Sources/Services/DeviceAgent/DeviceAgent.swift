internal import ControlWire
internal import DequeModule
package import DeviceProtocol
internal import Domain
package import EventLoop
package import Logging
package import Observability

/// A device agent on a loop: connects to its POPs, keeps both planes of a session alive, and opens
/// connections to targets on the POP's behalf.
///
/// All decisions are those of ``DeviceProtocol/AgentMachine``; this class performs them and reports back. A
/// process may have many agents: what they share (resolver, policy, load, transports, chunk pool) is given
/// to each. An agent belongs to the thread of its loop.
package final class DeviceAgent {
    package let loop: EventLoop
    let pool: ChunkPool

    let dialContext: DialContext
    private let transports: any AgentTransports
    private let load: MachineLoad
    let log: Logger
    let machine: AgentMachine
    private(set) var links: [AgentSessionNumber: Link] = [:]
    private var actions: Deque<AgentAction> = []
    private var isPerforming = false
    private var timer: LoopTimer?
    /// Numbers this agent's connections, so that events of one that was given up are known as such.
    private var lastSerial = 0
    /// Control connections that are closing and not gone.
    private var closing: Set<Int> = []
    private var end: AgentEnd?
    private var lingerTimer: LoopTimer?
    private let ended: (AgentEnd) -> Void

    /// How long Goodbyes and close frames may take to leave when the agent stops.
    private static let lingerTimeout = Duration.seconds(2)
    /// QUIC sends its last packets at the end of a batch; this is some batches later.
    private static let lastPackets = Duration.milliseconds(20)
    /// The longest text of ours that goes into a message; causes can quote what peers sent.
    static let longestText = 512

    /// What belongs to one session of the machine.
    final class Link {
        var control: (any ControlTransport)?
        /// Framed messages that go out together at the end of the loop's batch.
        var outbound: [UInt8] = []
        /// Tells events of this connection from those of earlier ones.
        var controlSerial = 0
        var controlPeer: IPAddress?
        var data: (any DataTransport)? {
            didSet { flows.link = data }
        }
        var dataSerial = 0
        var pop: PopURL?
        var conns: [ConnID: AgentConn] = [:]
        /// Conns without a stream, in the order in which their targets were reached.
        var waiting: Deque<ConnID> = []
        let flows: AgentFlows
        /// Of conns that have ended.
        var bytesSent: UInt64 = 0
        var bytesReceived: UInt64 = 0

        init(_ flows: AgentFlows) {
            self.flows = flows
        }
    }

    /// - Parameters:
    ///   - seed: random; the agent's waits are drawn from it.
    ///   - ended: is told once, when the agent has stopped for good and its last bytes have left.
    package init(
        _ configuration: AgentConfiguration, dialContext: DialContext, pool: ChunkPool,
        transports: any AgentTransports, load: MachineLoad, log: Logger, seed: UInt64,
        ended: @escaping (AgentEnd) -> Void
    ) {
        loop = dialContext.loop
        self.dialContext = dialContext
        self.pool = pool
        self.transports = transports
        self.load = load
        self.log = log
        self.ended = ended
        machine = AgentMachine(configuration, seed: seed)
        timer = loop.makeTimer { [weak self] in self?.expire() }
    }

    /// Begins to look for a POP.
    package func start() {
        perform(machine.start(now: loop.now))
    }

    /// Says Goodbye everywhere and stops; `ended` follows.
    package func stop(reason: String) {
        perform(machine.stop(reason: reason, now: loop.now))
    }

    /// Whether the current session has both planes.
    package var isWhole: Bool { machine.isWhole }

    // MARK: The machine

    private func expire() {
        perform(machine.expire(now: loop.now))
    }

    /// Performs what the machine wants; what comes of it at once is put behind.
    func perform(_ wanted: [AgentAction]) {
        actions.append(contentsOf: wanted)
        guard !isPerforming else { return }
        isPerforming = true
        while let action = actions.popFirst() { perform(action) }
        isPerforming = false
        timer?.arm(at: machine.nextDeadline)
    }

    private func perform(_ action: AgentAction) {
        switch action {
        case .connectControl(let number, let pop): connectControl(number, pop)
        case .send(let number, let message): send(number, message)
        case .sendHeartbeat(let number, let sequence):
            let sentAt = SystemClock.wall.milliseconds
            send(number, .heartbeat(Heartbeat(sequence: sequence, sentAtUnixMilliseconds: sentAt)))
        case .reportLoad(let number): reportLoad(number)
        case .closeControl(let number, let code): closeControl(number, code)
        case .connectData(let number, let plan): connectData(number, plan)
        case .closeData(let number, let code): closeData(number, code)
        case .dial(let number, let connID, let target, let timeoutMilliseconds):
            dial(number, connID, target, timeoutMilliseconds)
        case .openFlow(let number, let connID, let target, let flowID, let idleTimeout):
            links[number]?.flows.open(connID, target, flowID: flowID, idleTimeout: idleTimeout, dialContext)
        case .endConn(let number, let connID, let reason):
            guard let link = links[number], !link.flows.end(connID, reason) else { return }
            link.conns[connID]?.end(reason)
        case .note(let number, let note): self.note(number, note)
        case .forget(let number): forget(number)
        case .finished(let end): finished(end)
        }
    }

    // MARK: Control

    private func connectControl(_ number: AgentSessionNumber, _ pop: PopURL) {
        let link = links[number] ?? Link(AgentFlows(number, dialContext.datagrams, loop, self))
        links[number] = link
        link.pop = pop
        lastSerial += 1
        let serial = lastSerial
        link.controlSerial = serial
        log.debug("connecting to the POP", metadata: ["pop": "\(pop)"])
        link.control = transports.connectControl(to: pop) { [weak self] event in
            self?.controlEvent(number, serial, event)
        }
    }

    private func controlEvent(_ number: AgentSessionNumber, _ serial: Int, _ event: ControlEvent) {
        if closing.contains(serial) {
            switch event {
            case .closed, .failed: closed(serial)
            case .opened, .received: break
            }
            return
        }
        guard let link = links[number], link.control != nil, link.controlSerial == serial else { return }
        switch event {
        case .opened(let peer):
            link.controlPeer = peer
            perform(machine.controlConnected(number, now: loop.now))
        case .received(let message):
            received(number, link, serial, message)
        case .failed(let failure, let text):
            lost(link)
            log.warning("no control connection", metadata: ["pop": "\(popName(number))", "cause": "\(text)"])
            perform(machine.controlFailed(number, failure, now: loop.now))
        case .closed(let code, let text):
            lost(link)
            log.debug("control connection closed", metadata: ["cause": "\(text)"])
            perform(machine.controlClosed(number, code: code, now: loop.now))
        }
    }

    private func received(
        _ number: AgentSessionNumber, _ link: Link, _ serial: Int, _ message: [UInt8]
    ) {
        var reader = ControlFrameReader(message)
        do throws(ControlFramingViolation) {
            // A message may end the session, and with it the interest in the rest.
            while link.controlSerial == serial, link.control != nil, let frame = try reader.next() {
                switch Result(catching: { () throws(WireError) in try ControlCodec.decode(frame) }) {
                case .success(let message):
                    perform(machine.received(number, message, now: loop.now))
                case .failure(let error):
                    violated(number, link, "\(error)", closeCode: error.closeCode)
                }
            }
        } catch {
            violated(number, link, "\(error)", closeCode: error.closeCode)
        }
    }

    private func lost(_ link: Link) {
        link.control = nil
        link.outbound = []
    }

    /// The POP broke the protocol: the connection is closed as the protocol says, and so it is lost.
    private func violated(
        _ number: AgentSessionNumber, _ link: Link, _ text: String, closeCode: UInt16
    ) {
        log.warning("the POP broke the protocol", metadata: ["cause": "\(text)"])
        closeControl(number, closeCode)
        perform(machine.controlClosed(number, code: nil, now: loop.now))
    }

    private func send(_ number: AgentSessionNumber, _ message: ControlMessage) {
        guard let link = links[number], link.control != nil else { return }
        let frame = ControlFraming.encode(ControlCodec.encode(message))
        if link.outbound.count + frame.count > ControlFraming.maximumWebSocketMessageBytes { flush(link) }
        if link.outbound.isEmpty { loop.atEndOfBatch { [self] in flush(link) } }
        link.outbound += frame
    }

    private func flush(_ link: Link) {
        guard !link.outbound.isEmpty else { return }
        let message = link.outbound
        link.outbound = []
        link.control?.send(message)
    }

    private func closeControl(_ number: AgentSessionNumber, _ code: UInt16) {
        guard let link = links[number], let control = link.control else { return }
        flush(link)
        link.control = nil
        closing.insert(link.controlSerial)
        control.close(code: code)
    }

    /// A connection that was closed here is gone.
    private func closed(_ serial: Int) {
        closing.remove(serial)
        if end != nil, closing.isEmpty { lingerTimer?.arm(at: loop.now + Self.lastPackets) }
    }

    private func reportLoad(_ number: AgentSessionNumber) {
        guard let link = links[number] else { return }
        let sample = load.sample(now: loop.now)
        var sent = link.bytesSent
        var received = link.bytesReceived
        for conn in link.conns.values {
            sent &+= conn.bytesSent
            received &+= conn.bytesReceived
        }
        for flow in link.flows.all {
            sent &+= flow.bytesSent
            received &+= flow.bytesReceived
        }
        let report = LoadReport(
            sampledAtUnixMilliseconds: SystemClock.wall.milliseconds,
            activeConns: UInt32(clamping: link.conns.count + link.flows.count), bytesSent: sent,
            bytesReceived: received,
            cpuUtilization: sample.cpuUtilization, memoryUsedBytes: sample.memory?.usedBytes ?? 0,
            memoryTotalBytes: sample.memory?.totalBytes ?? 0)
        send(number, .loadReport(report))
    }

    // MARK: Data

    private func connectData(_ number: AgentSessionNumber, _ plan: DataPlan) {
        guard let link = links[number] else { return }
        lastSerial += 1
        let serial = lastSerial
        link.dataSerial = serial
        let isSameHost = link.pop?.host == plan.host
        link.data = transports.connectData(plan, address: isSameHost ? link.controlPeer : nil) {
            [weak self] event in
            self?.dataEvent(number, serial, event)
        }
        link.data?.receivedDatagram = { [flows = link.flows] in flows.received($0) }
    }

    private func dataEvent(_ number: AgentSessionNumber, _ serial: Int, _ event: DataEvent) {
        // Events of a connection that was given up are of no interest.
        guard let link = links[number], link.data != nil, link.dataSerial == serial else { return }
        switch event {
        case .acknowledged:
            perform(machine.dataConnected(number, now: loop.now))
            openStreams(link)
        case .creditGrew:
            openStreams(link)
        case .closed(let code, let text):
            link.data = nil
            link.flows.endAll(.sessionLost)
            log.info("data connection closed", metadata: ["cause": "\(text)"])
            perform(machine.dataClosed(number, code: code, now: loop.now))
        }
    }

    private func closeData(_ number: AgentSessionNumber, _ code: UInt64) {
        guard let link = links[number], let data = link.data else { return }
        link.data = nil
        data.close(code: code)
    }

    // MARK: Conns

    private func dial(
        _ number: AgentSessionNumber, _ connID: ConnID, _ target: String, _ timeoutMilliseconds: UInt32
    ) {
        guard let link = links[number] else { return }
        log.trace("dialling", metadata: ["conn_id": "\(connID)"])
        let conn = AgentConn(connID, number, self)
        link.conns[connID] = conn
        conn.start(target, timeoutMilliseconds: timeoutMilliseconds, dialContext)
    }

    /// The conn's target is reached: it gets a stream as soon as there is credit for one.
    func connWaits(_ conn: AgentConn) {
        guard let link = links[conn.session] else { return }
        link.waiting.append(conn.connID)
        openStreams(link)
    }

    private func openStreams(_ link: Link) {
        while let connID = link.waiting.first {
            guard let conn = link.conns[connID], conn.phase == .waiting else {
                link.waiting.removeFirst()
                continue
            }
            guard let stream = link.data?.openStream() else { return }
            link.waiting.removeFirst()
            conn.begin(on: stream)
        }
    }

    func connOpened(_ conn: AgentConn) {
        log.trace("conn opened", metadata: ["conn_id": "\(conn.connID)"])
        perform(machine.connOpened(conn.session, conn.connID, now: loop.now))
    }

    func connFailed(
        _ conn: AgentConn, _ error: OpenError, _ text: String, _ address: SocketAddress?,
        _ connectTimeMilliseconds: UInt32
    ) {
        connDropped(conn)
        log.debug(
            "target not reached",
            metadata: ["conn_id": "\(conn.connID)", "error": "\(error)", "cause": "\(text)"])
        perform(
            machine.connFailed(
                conn.session, conn.connID, error, String(text.prefix(Self.longestText)),
                resolvedAddress: address?.description ?? "",
                connectTimeMilliseconds: connectTimeMilliseconds, now: loop.now))
    }

    func connEnded(_ conn: AgentConn, _ reason: CloseReason, _ detail: String) {
        connDropped(conn)
        log.trace("conn ended", metadata: ["conn_id": "\(conn.connID)", "reason": "\(reason)"])
        if let link = links[conn.session] {
            link.bytesSent &+= conn.bytesSent
            link.bytesReceived &+= conn.bytesReceived
        }
        let closed = ConnClosed(
            connID: conn.connID, reason: reason, detail: detail, bytesSent: conn.bytesSent,
            bytesReceived: conn.bytesReceived)
        perform(machine.connEnded(conn.session, closed, now: loop.now))
    }

    func connDropped(_ conn: AgentConn) {
        guard let link = links[conn.session], link.conns[conn.connID] === conn else { return }
        link.conns[conn.connID] = nil
    }

    // MARK: End

    private func forget(_ number: AgentSessionNumber) {
        guard let link = links.removeValue(forKey: number) else { return }
        for conn in link.conns.values { conn.end(.sessionLost) }
        link.flows.endAll(.sessionLost)
    }

    private func finished(_ end: AgentEnd) {
        self.end = end
        timer?.cancel()
        if end == .replaced {
            log.warning("replaced by another session of this device; not coming back by itself")
        }
        let timer = loop.makeTimer { [weak self] in self?.tellEnd() }
        lingerTimer = timer
        timer.arm(at: loop.now + (closing.isEmpty ? Self.lastPackets : Self.lingerTimeout))
    }

    private func tellEnd() {
        guard let end, lingerTimer != nil else { return }
        lingerTimer?.cancel()
        lingerTimer = nil
        ended(end)
    }

    private func popName(_ number: AgentSessionNumber) -> String {
        links[number]?.pop.map { $0.description } ?? ""
    }

    private func note(_ number: AgentSessionNumber, _ note: AgentNote) {
        let pop = popName(number)
        switch note {
        case .registered(let sessionID, let nodeID, let resumed):
            log.info(
                "registered",
                metadata: [
                    "pop": "\(pop)", "session_id": "\(sessionID)", "node_id": "\(nodeID)",
                    "resumed": "\(resumed)",
                ])
        case .refused(let status, let text):
            log.warning(
                "registration refused",
                metadata: ["pop": "\(pop)", "status": "\(status)", "cause": "\(text)"])
        case .whole:
            log.info("both planes are up", metadata: ["pop": "\(pop)"])
        case .controlLost(let code):
            let text = code.map { String($0) } ?? "none"
            log.info("control connection lost", metadata: ["pop": "\(pop)", "close_code": "\(text)"])
        case .controlSilent:
            log.warning("the POP is silent", metadata: ["pop": "\(pop)"])
        case .dataLost(let code):
            let text = code.map { "0x" + String($0, radix: 16) } ?? "none"
            log.info("data connection lost", metadata: ["pop": "\(pop)", "error_code": "\(text)"])
        case .draining(let deadlineMilliseconds):
            log.info(
                "the POP drains", metadata: ["pop": "\(pop)", "deadline_ms": "\(deadlineMilliseconds)"])
        case .moving:
            log.info("moving to another POP", metadata: ["pop": "\(pop)"])
        case .protocolError(let text):
            log.warning("the POP broke the protocol", metadata: ["pop": "\(pop)", "cause": "\(text)"])
        }
    }
}
