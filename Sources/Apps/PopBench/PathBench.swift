internal import Domain
internal import EventLoop
internal import Synchronization

/// Loads on the path client, node, device, target: the clients and the target are here, the rest runs.
struct PathBench {
    let ingress: SocketAddress
    let node: ProcessCost?

    func bulk(_ count: Int, bytes: Int, upwards: Bool) throws -> Figures {
        var figures = Figures(upwards ? "bulk_up" : "bulk_down")
        let target = try LoadTarget()
        let share = bytes / count
        figures.failures = try measured(
            &figures, per: Double(share * count) / Double(1 << 30), "cpu_per_gib", .seconds
        ) {
            try inParallel(count) { _ in
                let socket = try WaitingSocket(through: ingress, to: target.address)
                try upwards ? Self.upload(socket, share) : Self.download(socket, share)
            }
        }
        let seconds = figures.all.first?.value ?? 1
        figures.add("rate", Double(share * count) * 8 / seconds / 1e9, "gbit_per_second")
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
        figures.failures = try measured(&figures, per: Double(count), "cpu_per_round_trip", .microseconds) {
            for _ in 0..<count {
                let start = SystemClock.now
                try socket.write(message)
                _ = try socket.read(exactly: message.count)
                times.append(Double((SystemClock.now - start).nanoseconds) / 1_000)
            }
            return 0
        }
        figures.add("round_trip", microseconds: times)
        return figures
    }

    /// New connections with an echo of 64 bytes each, `parallel` at a time.
    func churn(_ count: Int, parallel: Int) throws -> Figures {
        var figures = Figures("churn")
        let target = try LoadTarget()
        let share = count / parallel
        let times = Mutex<[Double]>([])
        figures.failures = try measured(
            &figures, per: Double(share * parallel), "cpu_per_connection", .milliseconds
        ) {
            try inParallel(parallel) { _ in
                var own: [Double] = []
                for _ in 0..<share {
                    let start = SystemClock.now
                    let socket = try WaitingSocket(through: ingress, to: target.address)
                    let message = LoadTarget.head("E") + [UInt8](repeating: 1, count: 48)
                    try socket.write(message)
                    _ = try socket.read(exactly: 48)
                    own.append(Double((SystemClock.now - start).nanoseconds) / 1_000)
                }
                times.withLock { $0 += own }
            }
        }
        let seconds = figures.all.first?.value ?? 1
        figures.add("rate", Double(share * parallel) / seconds, "per_second")
        figures.add("connection", microseconds: times.withLock { $0 })
        return figures
    }

    /// Memory of the node for connections that are open and silent.
    func idle(_ count: Int) throws -> Figures {
        var figures = Figures("idle")
        let target = try LoadTarget()
        let before = node?.residentBytes ?? 0
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
        if let node {
            figures.add(
                "memory_per_connection",
                (node.residentBytes - before) / 1_024 / Double(max(1, sockets.count)), "kib")
        }
        return figures
    }

    // MARK: Parts

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

    /// Runs `body`, which answers how much failed, and notes how long it took and what the node paid for it.
    private func measured(
        _ figures: inout Figures, per units: Double, _ name: String, _ unit: CostUnit,
        _ body: () throws -> Int
    ) throws -> Int {
        let cost = node?.processorSeconds ?? 0
        let start = SystemClock.now
        let failures = try body()
        figures.add("time", Double((SystemClock.now - start).nanoseconds) / 1e9, "seconds")
        if let node {
            let paid = (node.processorSeconds - cost) * unit.perSecond / units
            figures.add("node_\(name)", paid, unit.rawValue)
        }
        return failures
    }

    private func inParallel(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws -> Int {
        let work = ParallelWork(body: body)
        let threads = try (0..<count).map { index in
            try LoopThread(name: "client-\(index)") { work.run(index) }
        }
        for thread in threads { thread.join() }
        return work.failures
    }
}

private final class ParallelWork: Sendable {
    private let body: @Sendable (Int) throws -> Void
    private let failed = Mutex(0)

    init(body: @escaping @Sendable (Int) throws -> Void) {
        self.body = body
    }

    var failures: Int { failed.withLock { $0 } }

    func run(_ index: Int) {
        do { try body(index) } catch { failed.withLock { $0 += 1 } }
    }
}
