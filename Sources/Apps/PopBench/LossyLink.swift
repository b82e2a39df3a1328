internal import DequeModule
internal import Domain
internal import EventLoop

/// A link between devices and a node: UDP with delay, loss and a rate, TCP as it is. One thread.
final class LossyLink {
    private let plan: LinkPlan
    private let loop: EventLoop
    private let reader = DatagramReader()
    private let writer = DatagramWriter()
    private var random = SystemRandom()
    private var signals: SignalWatch?
    private var listener: Listener?
    private let descriptor: Int32
    private var registration: Registration?
    private var flows: [SocketAddress: Flow] = [:]
    private var upward: Lane
    private var downward: Lane
    private var timer: LoopTimer?

    /// Datagrams that are due within this are sent together: a network card does no better.
    private static let granularity = Duration.microseconds(200)

    static func run(_ plan: LinkPlan) throws {
        _ = ProcessSettings.prepareDaemon()
        let link = try LossyLink(plan)
        link.loop.run()
    }

    private init(_ plan: LinkPlan) throws {
        self.plan = plan
        loop = try EventLoop()
        upward = Lane(plan)
        downward = Lane(plan)
        descriptor = try Sockets.bindDatagrams(plan.address)
        registration = try loop.register(descriptor, self)
        let loop = loop
        signals = try SignalWatch(on: loop, [SignalWatch.terminate, SignalWatch.interrupt]) { _ in loop.stop()
        }
        listener = try Listener(on: loop, plan.address) { descriptor, peer in
            ControlPipe.start(on: loop, descriptor, peer, to: plan.node)
        }
        timer = loop.makeTimer { [unowned self] in deliver() }
    }

    /// One device's datagrams: the socket that the node sees them come from.
    private final class Flow: ReadinessHandler {
        let device: SocketAddress
        let descriptor: Int32
        private unowned let link: LossyLink

        init(_ device: SocketAddress, _ link: LossyLink) throws(SystemError) {
            self.device = device
            self.link = link
            descriptor = try Sockets.connectDatagrams(link.plan.node)
            _ = try link.loop.register(descriptor, self)
        }

        func ready(_ readiness: Readiness) {
            if readiness.contains(.readable) {
                link.receive(descriptor) { link.enter(&link.downward, $0, self) }
            }
        }
    }

    private func receive(
        _ descriptor: Int32, _ received: (UnsafeMutableRawBufferPointer) -> Void
    ) {
        while reader.receive(descriptor, { bytes, _ in received(bytes) }) == .more {}
    }

    private func flow(of device: SocketAddress) -> Flow? {
        if let known = flows[device] { return known }
        flows[device] = try? Flow(device, self)
        return flows[device]
    }

    private func enter(_ lane: inout Lane, _ bytes: UnsafeMutableRawBufferPointer, _ flow: Flow) {
        lane.enter(Array(bytes), flow, at: loop.now, using: &random)
        if let timer, !timer.isArmed { timer.arm(at: loop.now + Self.granularity) }
    }

    private func deliver() {
        let now = loop.now + Self.granularity
        upward.leave(by: now) { bytes, flow in
            bytes.withUnsafeBytes { writer.append([], $0, to: nil, of: flow.descriptor, self) }
        }
        writer.flush()
        downward.leave(by: now) { bytes, flow in
            bytes.withUnsafeBytes { writer.append([], $0, to: flow.device, of: descriptor, self) }
        }
        writer.flush()
        guard let next = [upward.next, downward.next].compactMap({ $0 }).min() else { return }
        timer?.arm(at: max(next, loop.now + Self.granularity))
    }

    /// One direction.
    private struct Lane {
        private let plan: LinkPlan
        private var waiting: Deque<(due: Instant, bytes: [UInt8], flow: Flow)> = []
        /// When the last datagram will have gone onto the wire.
        private var freeAt = Instant(nanoseconds: 0)

        init(_ plan: LinkPlan) {
            self.plan = plan
        }

        var next: Instant? { waiting.first?.due }

        mutating func enter(
            _ bytes: [UInt8], _ flow: Flow, at now: Instant, using random: inout SystemRandom
        ) {
            guard bytes.count <= plan.payloadBytes,
                Int.random(in: 0..<1_000_000, using: &random) >= plan.lossPerMillion
            else { return }
            let start = max(now, freeAt)
            // What is before it on the wire, in bytes.
            let queued = Double((start - now).nanoseconds) * Double(plan.bitsPerSecond) / 8e9
            guard Int(queued) + bytes.count <= plan.queueBytes else { return }
            let wireTime = Duration.nanoseconds(
                Int64(Double(bytes.count) * 8e9 / Double(plan.bitsPerSecond)))
            freeAt = start + wireTime
            waiting.append((freeAt + plan.roundTrip / 2, bytes, flow))
        }

        mutating func leave(by now: Instant, _ send: ([UInt8], Flow) -> Void) {
            while let first = waiting.first, first.due <= now {
                waiting.removeFirst()
                send(first.bytes, first.flow)
            }
        }
    }
}

extension LossyLink: ReadinessHandler {
    func ready(_ readiness: Readiness) {
        guard readiness.contains(.readable) else { return }
        while reader.receive(
            descriptor,
            { bytes, sender in
                if let flow = flow(of: sender) { enter(&upward, bytes, flow) }
            }) == .more
        {}
    }
}

extension LossyLink: DatagramSource {
    func datagramsNotSent(_ count: Int, errorNumber: Int32) {}
}

/// A control connection passed on as it is: what is written on one stream goes out on the other.
private final class ControlPipe: ByteStreamHandler {
    private var other: (any ByteStream)?

    static func start(on loop: EventLoop, _ descriptor: Int32, _ peer: SocketAddress, to node: SocketAddress)
    {
        let (near, far) = (ControlPipe(), ControlPipe())
        guard let device = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: near) else {
            return
        }
        near.other = TCPStream.connect(on: loop, to: node, timeout: .seconds(10), handler: far)
        far.other = device
    }

    func streamOpened(_ stream: any ByteStream) {}
    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) { other?.write(bytes) }
    func streamPeerFinished(_ stream: any ByteStream) { other?.finishWriting() }
    func streamDrained(_ stream: any ByteStream) {}

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        let other = other
        self.other = nil
        if error == nil { other?.closeWhenFlushed() } else { other?.abort() }
    }
}
