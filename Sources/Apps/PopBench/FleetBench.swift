internal import DeviceAgent
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import Logging
internal import Observability

/// Connects devices, holds them, and tells what that costs a node.
struct FleetBench {
    let pop: PopURL
    let count: Int
    /// Handshakes at once; more make them wait for each other.
    let parallel: Int
    let seconds: Int
    let node: ProcessCost?

    /// How long all of them may take to become whole.
    private static let patience = Duration.seconds(300)
    private static let farewell = Duration.seconds(5)

    func run() throws -> Figures {
        LogSystem.bootstrap(level: .error, format: .text)
        var figures = Figures("fleet")
        let loop = try EventLoop()
        let crowd = try DeviceCrowd(on: loop, pops: [pop], prefix: "bench-")
        defer { crowd.close() }
        let memory = node?.residentBytes ?? 0
        let cost = node?.processorSeconds ?? 0
        let start = SystemClock.now
        let whole = connect(crowd, on: loop)
        let elapsed = Double((SystemClock.now - start).nanoseconds) / 1e9
        figures.add("devices", Double(whole), "")
        figures.add("rate", Double(whole) / elapsed, "per_second")
        if let node {
            figures.add(
                "node_cpu_per_device", (node.processorSeconds - cost) * 1_000 / Double(max(1, whole)), "ms")
        }
        let idleCost = node?.processorSeconds ?? 0
        let end = SystemClock.now + .seconds(seconds)
        while SystemClock.now < end { loop.runOnce(waitingAtMost: .milliseconds(100)) }
        let left = crowd.whole
        figures.failures = count - left
        if let node {
            figures.add(
                "node_memory_per_device", (node.residentBytes - memory) / 1_024 / Double(max(1, left)), "kib")
            figures.add(
                "node_cpu_idle", (node.processorSeconds - idleCost) * 1_000 / Double(max(1, seconds)),
                "ms_per_second")
        }
        leave(crowd, on: loop)
        return figures
    }

    /// How many became whole in time.
    private func connect(_ crowd: DeviceCrowd, on loop: EventLoop) -> Int {
        // A device may take long, so each is looked at until it is whole, whatever became of those after it.
        var connecting: [DeviceAgent] = []
        let limit = SystemClock.now + Self.patience
        while crowd.count < count || !connecting.isEmpty, SystemClock.now < limit {
            while crowd.count < count, connecting.count < parallel { connecting.append(crowd.startOne()) }
            loop.runOnce(waitingAtMost: .milliseconds(10))
            connecting.removeAll { $0.isWhole }
        }
        return crowd.count - connecting.count
    }

    private func leave(_ crowd: DeviceCrowd, on loop: EventLoop) {
        var isOver = false
        crowd.stop { isOver = true }
        let limit = SystemClock.now + Self.farewell
        while !isOver, SystemClock.now < limit { loop.runOnce(waitingAtMost: .milliseconds(50)) }
    }
}
