internal import DeviceAgent
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import Logging
internal import Observability
internal import QUIC
internal import TLS

/// Thousands of devices in one process, each with a WebSocket over TLS and a QUIC connection of its own.
struct DeviceBench {
    let pop: PopURL
    let count: Int
    /// At once; more make the handshakes wait for each other.
    let parallel: Int
    let seconds: Int
    let node: ProcessCost?

    func run() throws -> Figures {
        var figures = Figures("fleet")
        let loop = try EventLoop()
        let resolver = try NameResolver(on: loop)
        defer { resolver.close() }
        let transports = NetworkTransports(
            loop: loop, resolver: resolver,
            NetworkTransports.Configuration(
                tls: try TLSContext.client(trust: .nobodyVerified, identity: nil),
                trust: try QUICTrust(.none),
                skipsVerification: true))
        let context = DialContext(
            loop: loop, resolver: resolver, policy: TargetPolicy(allowed: [], denied: []))
        let pool = ChunkPool()
        let load = MachineLoad()
        let log = Logger(label: "bench", factory: { _ in SwiftLogNoOpLogHandler() })
        let random = SystemRandom()
        let memory = node?.residentBytes ?? 0
        let cost = node?.processorSeconds ?? 0
        let start = SystemClock.now
        var agents: [DeviceAgent] = []
        var isWhole: [Bool] = []
        var whole = 0
        let limit = start + .seconds(300)
        while whole < count, SystemClock.now < limit {
            while agents.count < count, agents.count - whole < parallel {
                let configuration = AgentConfiguration(deviceID: "bench-\(agents.count)", pops: [pop])
                let agent = DeviceAgent(
                    configuration, dialContext: context, pool: pool, transports: transports, load: load,
                    log: log,
                    seed: random.next(), ended: { _ in })
                agents.append(agent)
                isWhole.append(false)
                agent.start()
            }
            loop.runOnce(waitingAtMost: .milliseconds(10))
            let from = max(0, whole - parallel)
            for index in from..<agents.count where !isWhole[index] && agents[index].isWhole {
                isWhole[index] = true
                whole += 1
            }
        }
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
        let left = agents.count { $0.isWhole }
        figures.failures = count - left
        if let node {
            figures.add(
                "node_memory_per_device", (node.residentBytes - memory) / 1_024 / Double(max(1, left)), "kib")
            figures.add(
                "node_cpu_idle", (node.processorSeconds - idleCost) * 1_000 / Double(max(1, seconds)),
                "ms_per_second")
        }
        for agent in agents { agent.stop(reason: "the bench is over") }
        let farewell = SystemClock.now + .seconds(1)
        while SystemClock.now < farewell { loop.runOnce(waitingAtMost: .milliseconds(50)) }
        return figures
    }
}
