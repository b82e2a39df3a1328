internal import DeviceProtocol
internal import Domain
internal import EventLoop

/// One UDP flow of a device: a socket connected to its target, and the id that its datagrams carry.
///
/// ```
///   opening --socket--> open --idle, ICMP error, ordered--> ended
///      \------failed, ordered-------------------------------^
/// ```
final class AgentFlow: ReadinessHandler, DatagramSource {
    enum Phase {
        case opening
        case open
        case ended
    }

    let connID: ConnID
    let flowID: UInt64
    private(set) var phase = Phase.opening
    /// Payload towards the target, and from it.
    private(set) var bytesSent: UInt64 = 0
    private(set) var bytesReceived: UInt64 = 0
    private(set) var address: SocketAddress?

    /// It holds its flows until they have ended.
    private unowned(unsafe) let flows: AgentFlows
    private let idleTimeout: Duration
    private let started: Instant
    private let prefix: [UInt8]
    private var lookup: TargetLookup?
    private var descriptor: Int32 = -1
    private var registration: Registration?
    private var timer: LoopTimer?
    private var lastActivity: Instant
    private var isReadScheduled = false
    private var readTimer: LoopTimer?

    init(_ connID: ConnID, flowID: UInt64, idleTimeout: Duration, _ flows: AgentFlows) {
        self.connID = connID
        self.flowID = flowID
        self.idleTimeout = idleTimeout
        self.flows = flows
        prefix = DatagramFraming.encode(flowID)
        started = flows.loop.now
        lastActivity = started
    }

    func start(_ target: String, _ context: DialContext) {
        // Cancelled before the flow goes. A weak reference would make each retain and release, of which each
        // datagram has some, take the slow path.
        lookup = TargetLookup(target, context) { [unowned self] result in found(result) }
        let timer = flows.loop.makeTimer { [unowned self] in timerFired() }
        timer.arm(at: started + TargetDial.defaultTimeout)
        self.timer = timer
    }

    var elapsedMilliseconds: UInt32 { UInt32(clamping: (flows.loop.now - started).milliseconds) }

    private func found(_ result: Result<[SocketAddress], LookupFailure>) {
        lookup = nil
        guard phase == .opening else { return }
        switch result {
        case .failure(let failure):
            fail(failure.error, failure.text)
        case .success(let addresses):
            open(addresses)
        }
    }

    /// Takes the first address that there is a way to; whether anybody listens there only time tells.
    private func open(_ addresses: [SocketAddress]) {
        var failure: SystemError?
        for candidate in addresses {
            address = candidate
            do throws(SystemError) {
                descriptor = try Sockets.connectDatagrams(candidate)
                registration = try flows.loop.register(descriptor, self, watchesWritable: false)
                phase = .open
                lastActivity = flows.loop.now
                timer?.arm(at: lastActivity + idleTimeout)
                return flows.opened(self, candidate)
            } catch {
                if descriptor >= 0 { Sockets.close(descriptor) }
                descriptor = -1
                failure = error
            }
        }
        fail(
            failure.map { OpenError(errorNumber: $0.errorNumber) } ?? .internal,
            failure.map { "\($0)" } ?? "no address")
    }

    private func fail(_ error: OpenError, _ text: String) {
        release()
        flows.failed(self, error, text)
    }

    // MARK: Datagrams

    /// A payload for the target.
    func send(_ payload: UnsafeRawBufferPointer) {
        guard phase == .open else { return }
        bytesSent &+= UInt64(payload.count)
        lastActivity = flows.loop.now
        flows.writer.append([], payload, to: nil, of: descriptor, self)
        flows.scheduleFlush()
    }

    func datagramsNotSent(_ count: Int, errorNumber: Int32) {
        // A full buffer loses datagrams as the network does; ICMP's word of an earlier one ends the flow.
        switch errorNumber {
        case Errno.connectionRefused, Errno.hostUnreachable, Errno.networkUnreachable:
            let error = SystemError(call: "send", errorNumber: errorNumber)
            flows.loop.atEndOfBatch { self.end(.error, error.description) }
        default:
            break
        }
    }

    func ready(_ readiness: Readiness) {
        guard phase == .open else { return }
        if readiness.contains(.readable), readTimer?.isArmed != true { receive() }
        guard phase == .open, readiness.contains(.failed),
            let error = Sockets.pendingError(descriptor, "flow")
        else { return }
        end(.error, error.description)
    }

    private func receive() {
        for _ in 0..<DatagramReader.roundsPerTurn {
            guard phase == .open else { return }
            let room = flows.link?.datagramRoomBytes ?? .max
            switch flows.reader.receive(descriptor, room: room, { datagram, _ in received(datagram) }) {
            case .more: break
            case .empty: return
            case .failed(let errorNumber):
                return end(.error, SystemError(call: "receive", errorNumber: errorNumber).description)
            }
            if let link = flows.link, link.datagramRoomBytes < DatagramReader.slotBytes {
                return waitForRoom()
            }
        }
        guard !isReadScheduled, phase == .open else { return }
        isReadScheduled = true
        flows.loop.atEndOfBatch {
            self.isReadScheduled = false
            self.receive()
        }
    }

    /// The POP's acknowledgements make room. Then the rest is read, room or not: what is old gives way.
    private func waitForRoom() {
        guard phase == .open else { return }
        let timer = readTimer ?? flows.loop.makeTimer { [unowned self] in receive() }
        readTimer = timer
        timer.arm(at: flows.loop.now + DatagramReader.pauseForRoom)
    }

    private func received(_ datagram: UnsafeMutableRawBufferPointer) {
        bytesReceived &+= UInt64(datagram.count)
        lastActivity = flows.loop.now
        // Before an empty datagram there is room for the flow's id as before any other.
        guard let base = datagram.baseAddress else { return }
        let framed = UnsafeMutableRawBufferPointer(
            start: base - prefix.count, count: prefix.count + datagram.count)
        framed.copyBytes(from: prefix)
        flows.link?.sendDatagram(UnsafeRawBufferPointer(framed))
    }

    // MARK: End

    /// Ends the flow at once, whatever it is doing.
    func end(_ reason: CloseReason, _ detail: String = "") {
        switch phase {
        case .ended:
            break
        case .opening:
            release()
            flows.dropped(self)
        case .open:
            flows.writer.flush()
            // What did not leave may have ended it already.
            guard phase == .open else { return }
            release()
            flows.ended(self, reason, detail)
        }
    }

    private func release() {
        phase = .ended
        lookup?.cancel()
        lookup = nil
        timer?.cancel()
        timer = nil
        readTimer?.cancel()
        if let registration { flows.loop.deregister(registration) }
        registration = nil
        if descriptor >= 0 { Sockets.close(descriptor) }
        descriptor = -1
    }

    private func timerFired() {
        guard phase == .open else { return fail(.timeout, "the target's name was not resolved in time") }
        let deadline = lastActivity + idleTimeout
        if flows.loop.now >= deadline { return end(.idle) }
        timer?.arm(at: deadline)
    }
}
