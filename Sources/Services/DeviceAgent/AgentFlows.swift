internal import DeviceProtocol
internal import Domain
internal import EventLoop

/// Learns what becomes of the flows of one session.
protocol AgentFlowsOwner: AnyObject {
    func flowOpened(_ flow: AgentFlow, of session: AgentSessionNumber, at address: SocketAddress)
    func flowFailed(_ flow: AgentFlow, of session: AgentSessionNumber, _ error: OpenError, _ text: String)
    func flowEnded(
        _ flow: AgentFlow, of session: AgentSessionNumber, _ reason: CloseReason, _ detail: String)
}

/// The UDP flows of one session, found by the ids in the datagrams of its data connection.
final class AgentFlows {
    let loop: EventLoop
    let reader: DatagramReader
    let writer: DatagramWriter
    /// Where datagrams to the POP go; nil while there is no data connection.
    var link: (any DataTransport)?

    private let session: AgentSessionNumber
    private unowned let owner: any AgentFlowsOwner
    private var byConn: [ConnID: AgentFlow] = [:]
    private var byID: [UInt64: AgentFlow] = [:]
    /// A POP mostly sends to one flow for a while.
    private var lastFlow: AgentFlow?
    private var isFlushScheduled = false

    init(
        _ session: AgentSessionNumber, _ buffers: DatagramBuffers, _ loop: EventLoop,
        _ owner: any AgentFlowsOwner
    ) {
        self.session = session
        self.loop = loop
        self.owner = owner
        reader = buffers.reader
        writer = buffers.writer
    }

    var count: Int { byConn.count }
    var all: some Collection<AgentFlow> { byConn.values }

    func open(
        _ connID: ConnID, _ target: String, flowID: UInt64, idleTimeout: Duration, _ context: DialContext
    ) {
        guard byID[flowID] == nil else {
            let double = AgentFlow(connID, flowID: flowID, idleTimeout: idleTimeout, self)
            return owner.flowFailed(double, of: session, .internal, "the flow id is in use")
        }
        let flow = AgentFlow(connID, flowID: flowID, idleTimeout: idleTimeout, self)
        byConn[connID] = flow
        byID[flowID] = flow
        flow.start(target, context)
    }

    /// Ends the flow that carries the conn; whether there is one.
    func end(_ connID: ConnID, _ reason: CloseReason) -> Bool {
        guard let flow = byConn[connID] else { return false }
        flow.end(reason)
        return true
    }

    func endAll(_ reason: CloseReason) {
        for flow in Array(byConn.values) { flow.end(reason) }
    }

    /// A datagram of the POP.
    func received(_ datagram: UnsafeRawBufferPointer) {
        let bytes = Span<UInt8>(_unsafeElements: datagram.bindMemory(to: UInt8.self))
        guard let (flowID, start) = DatagramFraming.decode(bytes) else { return }
        if lastFlow?.flowID != flowID { lastFlow = byID[flowID] }
        lastFlow?.send(UnsafeRawBufferPointer(rebasing: datagram[start...]))
    }

    /// Lets what was written leave at the end of the batch.
    func scheduleFlush() {
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        loop.atEndOfBatch {
            self.isFlushScheduled = false
            self.writer.flush()
        }
    }

    // MARK: What flows tell

    func opened(_ flow: AgentFlow, _ address: SocketAddress) {
        owner.flowOpened(flow, of: session, at: address)
    }

    func failed(_ flow: AgentFlow, _ error: OpenError, _ text: String) {
        dropped(flow)
        owner.flowFailed(flow, of: session, error, text)
    }

    func ended(_ flow: AgentFlow, _ reason: CloseReason, _ detail: String) {
        dropped(flow)
        owner.flowEnded(flow, of: session, reason, detail)
    }

    func dropped(_ flow: AgentFlow) {
        byConn[flow.connID] = nil
        byID[flow.flowID] = nil
        if lastFlow === flow { lastFlow = nil }
    }
}

/// What the flows of a loop read to and write from, taken with the first of them.
final class DatagramBuffers {
    private(set) lazy var reader = DatagramReader()
    private(set) lazy var writer = DatagramWriter()
}
