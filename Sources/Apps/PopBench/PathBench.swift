internal import Domain
internal import EventLoop
internal import Synchronization

/// Loads on the path client, node, device, target: the clients and the target are here, the rest runs.
struct PathBench {
    let ingress: SocketAddress
    let node: ProcessCost?
    let device: ProcessCost?

    func bulk(_ count: Int, bytes: Int, upwards: Bool) throws -> Figures {
        var figures = Figures(upwards ? "bulk_up" : "bulk_down")
        let target = try LoadTarget()
        let share = bytes / count
        var whole = 0
        let seconds = try measured(&figures, "cpu_per_gib", .seconds) {
            whole = try inParallel(count) { _ in
                let socket = try WaitingSocket(through: ingress, to: target.address)
                try upwards ? Self.upload(socket, share) : Self.download(socket, share)
            }
            return Double(share * whole) / Double(1 << 30)
        }
        figures.failures = count - whole
        figures.add("rate", Double(share * whole) * 8 / seconds / 1e9, "gbit_per_second")
        return figures
    }

    private static func upload(_ socket: WaitingSocket, _ count: Int) throws {
        try socket.write(LoadTarget.head("U"))
        let block = [UInt8](repeating: 0xa5, count: 256 << 10)
        var left = count
        while left > 0 {
            try socket.write(left < block.count ? Array(block.prefix(left)) : block)
            left -= min(left, block.count)
        }
        socket.finishWriting()
        _ = try socket.read(exactly: 1)
    }

    private static func download(_ socket: WaitingSocket, _ count: Int) throws {
        try socket.write(LoadTarget.head("D", count))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
        defer { buffer.deallocate() }
        var left = count
        while left > 0 {
            let read = try socket.read(into: buffer)
            guard read > 0 else { throw WaitingSocket.Failure(description: "cut with \(left) bytes missing") }
            left -= read
        }
    }

    /// Round trips of 64 bytes on one open connection.
    func latency(_ count: Int) throws -> Figures {
        var figures = Figures("latency")
        let target = try LoadTarget()
        let socket = try WaitingSocket(through: ingress, to: target.address)
        let message = LoadTarget.head("E") + [UInt8](repeating: 1, count: 48)
        try socket.write(message)
        _ = try socket.read(exactly: 48)
        var times: [Double] = []
        try measured(&figures, "cpu_per_round_trip", .microseconds) {
            for _ in 0..<count {
                let start = SystemClock.now
                try socket.write(message)
                _ = try socket.read(exactly: message.count)
                times.append(Double((SystemClock.now - start).nanoseconds) / 1_000)
            }
            return Double(count)
        }
        figures.add("round_trip", microseconds: times)
        return figures
    }

    /// New connections with an echo of 64 bytes each, `parallel` at a time.
    func churn(_ count: Int, parallel: Int) throws -> Figures {
        var figures = Figures("churn")
        let load = try ChurnLoad(count, parallel: parallel, to: try LoadTarget().address, through: ingress)
        let seconds = try measured(&figures, "cpu_per_connection", .milliseconds) {
            load.run()
            return Double(load.microseconds.count)
        }
        let made = load.microseconds
        figures.failures = count - made.count
        figures.add("rate", Double(made.count) / seconds, "per_second")
        figures.add("connection", microseconds: made)
        return figures
    }

    /// Memory of the node and of the device for connections that are open and silent.
    func idle(_ count: Int) throws -> Figures {
        var figures = Figures("idle")
        let target = try LoadTarget()
        let before = sides.map { $0.process.residentBytes }
        var sockets: [WaitingSocket] = []
        for _ in 0..<count {
            guard let socket = try? WaitingSocket(through: ingress, to: target.address) else {
                figures.failures += 1
                continue
            }
            try socket.write(LoadTarget.head("E") + [1])
            _ = try socket.read(exactly: 1)
            sockets.append(socket)
        }
        figures.add("connections", Double(sockets.count), "")
        for (side, before) in zip(sides, before) {
            let name = "memory_per_connection"
            figures.add(
                side.name == "node" ? name : "\(side.name)_\(name)",
                (side.process.residentBytes - before) / 1_024 / Double(max(1, sockets.count)), "kib")
        }
        return figures
    }

    // MARK: Parts

    private var sides: [(name: String, process: ProcessCost)] {
        [("node", node), ("device", device)].compactMap { name, process in process.map { (name, $0) } }
    }

    private enum CostUnit: String {
        case seconds
        case milliseconds = "ms"
        case microseconds = "us"

        var perSecond: Double {
            switch self {
            case .seconds: 1
            case .milliseconds: 1e3
            case .microseconds: 1e6
            }
        }
    }

    /// Runs `body`, which answers how much it has done, and notes how long that took and what node and device
    /// paid for each unit of it; seconds.
    @discardableResult
    private func measured(
        _ figures: inout Figures, _ name: String, _ unit: CostUnit, _ body: () throws -> Double
    ) throws -> Double {
        let costs = sides.map { $0.process.processorSeconds }
        let start = SystemClock.now
        let done = try body()
        let seconds = Double((SystemClock.now - start).nanoseconds) / 1e9
        figures.add("time", seconds, "seconds")
        for (side, cost) in zip(sides, costs) where done > 0 {
            figures.add(
                "\(side.name)_\(name)", (side.process.processorSeconds - cost) * unit.perSecond / done,
                unit.rawValue)
        }
        return seconds
    }

    /// Runs `body` on `count` threads; how many of them did all that they should.
    private func inParallel(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws -> Int {
        let work = ParallelWork(body: body)
        let threads = try (0..<count).map { index in
            try LoopThread(name: "client-\(index)") { work.run(index) }
        }
        for thread in threads { thread.join() }
        return work.successes
    }
}

private final class ParallelWork: Sendable {
    private let body: @Sendable (Int) throws -> Void
    private let succeeded = Mutex(0)

    init(body: @escaping @Sendable (Int) throws -> Void) {
        self.body = body
    }

    var successes: Int { succeeded.withLock { $0 } }

    func run(_ index: Int) {
        guard (try? body(index)) != nil else { return }
        succeeded.withLock { $0 += 1 }
    }
}
