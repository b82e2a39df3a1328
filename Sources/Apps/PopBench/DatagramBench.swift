internal import Domain
internal import EventLoop
internal import Glibc
internal import Synchronization

/// Datagrams through a UDP association: a flood one way with its losses, and queries as DNS makes them.
struct DatagramBench {
    let ingress: SocketAddress
    let node: ProcessCost?
    let device: ProcessCost?
    let rate: Int
    let bytes: Int
    let seconds: Int
    let queries: Int

    private static let loopback = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)

    func run() throws -> Figures {
        var figures = Figures("udp")
        try query(&figures)
        try flood(&figures)
        return figures
    }

    /// Queries one at a time: the first ones open a flow each, the others use an open one.
    private func query(_ figures: inout Figures) throws {
        let association = try Association(ingress)
        let opening = min(200, queries)
        let echoes = try (0..<opening).map { _ in try EchoSocket() }
        var first: [Double] = []
        for echo in echoes { first.append(try association.ask(echo)) }
        var later: [Double] = []
        for _ in 0..<queries { later.append(try association.ask(echoes[0])) }
        figures.add("query_new_flow", microseconds: first)
        figures.add("query_open_flow", microseconds: later)
    }

    private func flood(_ figures: inout Figures) throws {
        let association = try Association(ingress)
        let sink = try EchoSocket()
        // Opens the flow, so that what is counted is the flood alone.
        _ = try association.ask(sink)
        let counter = Counter(sink.descriptor)
        let thread = try LoopThread(name: "sink") { counter.run() }
        let costs = [node, device].map { $0?.processorSeconds ?? 0 }
        let start = SystemClock.now
        let sent = association.flood(sink, rate: rate, bytes: bytes, seconds: seconds)
        let elapsed = Double((SystemClock.now - start).nanoseconds) / 1e9
        // What is under way arrives within this time, or never.
        counter.stop(after: 500_000_000)
        thread.join()
        let received = counter.received.load(ordering: .relaxed)
        figures.add("sent", Double(sent) / elapsed, "per_second")
        figures.add("received", Double(received) / elapsed, "per_second")
        figures.add("lost", Double(sent - min(sent, received)) / Double(max(1, sent)) * 100, "percent")
        for (side, process, cost) in [("node", node, costs[0]), ("device", device, costs[1])] {
            guard let process else { continue }
            figures.add(
                "\(side)_cpu_per_datagram",
                (process.processorSeconds - cost) / Double(max(1, received)) * 1e6,
                "us")
        }
    }

    /// Counts datagrams until it is told to stop.
    private final class Counter: @unchecked Sendable {
        let received = Atomic(0)
        private let descriptor: Int32
        private let deadline = Atomic(UInt64.max)

        init(_ descriptor: Int32) {
            self.descriptor = descriptor
        }

        func stop(after nanoseconds: UInt64) {
            deadline.store(SystemClock.now.nanoseconds + nanoseconds, ordering: .relaxed)
        }

        func run() {
            let reader = DatagramReader()
            while SystemClock.now.nanoseconds < deadline.load(ordering: .relaxed) {
                var count = 0
                let outcome = reader.receive(descriptor) { _, _ in count += 1 }
                received.add(count, ordering: .relaxed)
                if outcome != .more {
                    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                    _ = poll(&entry, 1, 50)
                }
            }
        }
    }
}

/// A UDP socket that answers a query with itself when it is asked to.
private final class EchoSocket {
    let descriptor: Int32
    let address: SocketAddress
    private let reader = DatagramReader()
    private let writer = DatagramWriter()

    init() throws {
        let any = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        descriptor = try Sockets.bindDatagrams(any)
        var buffer: Int32 = 4 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &buffer, 4)
        address = Sockets.localAddress(descriptor) ?? any
    }

    deinit {
        Sockets.close(descriptor)
    }

    func answerOne() throws {
        try WaitingSocket.wait(descriptor, Int16(POLLIN))
        let sink = Sink()
        _ = reader.receive(descriptor) { bytes, peer in
            writer.append([], UnsafeRawBufferPointer(bytes), to: peer, of: descriptor, sink)
        }
        writer.flush()
    }
}

private final class Sink: DatagramSource {
    func datagramsNotSent(_ count: Int, errorNumber: Int32) {}
}

/// A client's association, used from one thread.
private final class Association: DatagramSource {
    private let control: WaitingSocket
    private let descriptor: Int32
    private let relay: SocketAddress
    private let reader = DatagramReader()
    private let writer = DatagramWriter()
    private var notSent = 0

    init(_ ingress: SocketAddress) throws {
        let any = SocketAddress(ip: .v4(IPv4Address(0)), port: 0)
        control = try WaitingSocket(connectingTo: ingress)
        relay = try control.request(3, any)
        descriptor = try Sockets.bindDatagrams(SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0))
    }

    deinit {
        Sockets.close(descriptor)
    }

    private func header(_ target: SocketAddress) -> [UInt8] {
        guard case .v4(let ip) = target.ip else { return [] }
        return [0, 0, 0, 1] + (0..<4).map { UInt8(truncatingIfNeeded: ip.value >> UInt32(24 - 8 * $0)) }
            + [UInt8(target.port >> 8), UInt8(truncatingIfNeeded: target.port)]
    }

    /// Sends a query of 64 bytes and waits for its answer, which this thread gives too; microseconds.
    func ask(_ echo: EchoSocket) throws -> Double {
        let payload = [UInt8](repeating: 7, count: 64)
        let start = SystemClock.now
        payload.withUnsafeBytes { writer.append(header(echo.address), $0, to: relay, of: descriptor, self) }
        writer.flush()
        try echo.answerOne()
        try WaitingSocket.wait(descriptor, Int16(POLLIN))
        _ = reader.receive(descriptor) { _, _ in }
        return Double((SystemClock.now - start).nanoseconds) / 1_000
    }

    /// Sends at `rate` datagrams a second; how many left.
    func flood(_ sink: EchoSocket, rate: Int, bytes: Int, seconds: Int) -> Int {
        let payload = [UInt8](repeating: 7, count: bytes)
        let header = header(sink.address)
        let start = SystemClock.now
        let total = rate * seconds
        var sent = 0
        while sent < total {
            let elapsed = Double((SystemClock.now - start).nanoseconds) / 1e9
            let due = min(total, Int(elapsed * Double(rate)))
            guard due > sent else {
                // What is due in a millisecond goes out by a few system calls.
                _ = poll(nil, 0, 1)
                continue
            }
            payload.withUnsafeBytes { bytes in
                for _ in sent..<due { writer.append(header, bytes, to: relay, of: descriptor, self) }
            }
            writer.flush()
            sent = due
        }
        return sent - notSent
    }

    func datagramsNotSent(_ count: Int, errorNumber: Int32) {
        notSent += count
    }
}
