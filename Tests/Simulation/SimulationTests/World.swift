import ClusterModel
import DeviceProtocol
import Domain
import Fleet
import TestKit

/// Three nodes, a few devices, a database, and all that can happen to them, drawn from one seed.
final class World {
    static let start: Int64 = 1_800_000_000_000_000
    static let peer = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 4_000)
    /// After this a store puts on disk what the database has not taken.
    static let patience = 250 * millisecond
    private static let trouble = 60 * second
    private static let rest = 150 * second

    var generator: SeededRandom
    private var timeline = Timeline()
    private(set) var database = ModelDatabase()
    private(set) var isDatabaseDown = false
    private(set) var nodes: [SimulatedNode] = []
    private(set) var devices: [SimulatedDevice] = []
    private(set) var deviceNames: [String] = []
    private(set) var wasKilled: Set<String> = []
    /// Devices that had two processes at once.
    private(set) var wasShared: Set<String> = []
    var invariants = ClusterInvariants()
    private var cutPaths: Set<String> = []
    private var told: Set<NodeID> = []
    private var isSlow = false
    private var urls: [PopURL] = []
    /// Set to see what happens, for one seed.
    var log: ((String) -> Void)?

    let idleTimeout = 15 * second
    var now: Int64 { timeline.now }

    init(seed: UInt64) {
        generator = SeededRandom(seed: seed)
    }

    func configuration(of id: NodeID) -> FleetConfiguration {
        FleetConfiguration(
            nodeID: id, quicAddress: ":443", heartbeatInterval: .seconds(5), heartbeatTimeout: .seconds(15),
            loadReportInterval: .seconds(3_600), resumeGrace: .seconds(8))
    }

    // MARK: Chance and time

    func random(_ range: ClosedRange<Int64>) -> Int64 { .random(in: range, using: &generator) }
    func chance(_ percent: Int64) -> Bool { random(1...100) <= percent }
    func latency() -> Int64 {
        isSlow && chance(20) ? random(1...2_000) * millisecond : random(100...3_000) * 1_000
    }
    func at(_ time: Int64, _ body: @escaping () -> Void) { timeline.at(time, body) }
    func after(_ delay: Int64, _ body: @escaping () -> Void) { timeline.at(now + delay, body) }

    private func run(until end: Int64) {
        while invariants.fault == nil, let next = timeline.next(until: end) { next() }
    }

    // MARK: The parts

    func node(at pop: PopURL) -> SimulatedNode? { nodes.first { $0.url == pop.description } }
    func isReachable(_ node: SimulatedNode) -> Bool { !isDatabaseDown && !node.isCutOff }
    func isCut(_ device: SimulatedDevice, _ node: SimulatedNode) -> Bool {
        cutPaths.contains("\(device.name) \(node.id)")
    }
    @discardableResult
    func transact<Value>(_ body: (inout ModelDatabase, Int64) -> Value) -> Value {
        let value = body(&database, Self.start + 7_000_000_000 + now / 1_000)
        invariants.check(database)
        for node in nodes where !database.takeovers(of: node.id).isEmpty && told.insert(node.id).inserted {
            // Told at once, or found by the next look.
            after(chance(60) ? latency() : random(1...1_000) * millisecond) { [self] in
                told.remove(node.id)
                node.lookAtTakeovers()
                after(second) { [self] in transact { _, _ in } }
            }
        }
        return value
    }

    // MARK: A run

    /// - Returns: the first fault; nil when all is well.
    func play() -> String? {
        let hour: Int64 = 3_600_000_000
        for index in 0..<3 {
            guard let id = NodeID("n\(index)"), let url = PopURL("wss://n\(index):443") else { continue }
            urls.append(url)
            let lead = chance(40) ? random(-5 * hour...5 * hour) : random(-50_000...50_000)
            nodes.append(SimulatedNode(self, id, url: url.description, clockLead: lead))
        }
        for index in 0..<4 {
            deviceNames.append("d\(index)")
            after(random(0...8_000) * millisecond) { [self] in startDevice("d\(index)") }
        }
        for _ in 0..<Int(random(3...10)) {
            at(random(1...Self.trouble / millisecond) * millisecond) { [self] in strike() }
        }
        for step in 1...Int((Self.trouble + Self.rest) / second / 5) {
            at(Int64(step) * 5 * second) { [self] in invariants.checkDead(self) }
        }
        run(until: Self.trouble)
        mend()
        run(until: now + Self.rest)
        invariants.checkRest(self)
        return invariants.fault
    }

    private func startDevice(_ name: String) {
        let pops = urls.shuffled(using: &generator)
        devices.append(SimulatedDevice(self, name, pops: pops))
    }

    private func strike() {
        guard let node = nodes.randomElement(using: &generator) else { return }
        let duration = random(200...40_000) * millisecond
        let kind = random(0...11)
        log?("\(now / millisecond) ms: kind \(kind), \(node.id), for \(duration / millisecond) ms")
        switch kind {
        case 0, 1:
            node.crash()
            if chance(70) { after(duration) { node.restart() } }
        case 2, 3: node.pause(duration)
        case 4, 5:
            node.cutOff(true)
            after(duration) { node.cutOff(false) }
        case 6: stopDatabase(for: random(200...20_000) * millisecond)
        case 7: cutPath(to: node, for: duration)
        case 8: restartDevice()
        case 9:
            node.drain(to: nodes.filter { $0 !== node })
            after(duration) { node.undrain() }
        case 10: shareName()
        default:
            isSlow = true
            after(duration) { [self] in isSlow = false }
        }
    }

    private func stopDatabase(for duration: Int64) {
        guard !isDatabaseDown else { return }
        isDatabaseDown = true
        for node in nodes { node.breakLinks() }
        after(duration) { [self] in startDatabase() }
    }

    private func startDatabase() {
        isDatabaseDown = false
        for node in nodes { node.disturbed() }
    }

    /// The connections of a device with a node are reset, or fall silent for good, and new ones don't come through.
    private func cutPath(to node: SimulatedNode, for duration: Int64) {
        guard let device = devices.randomElement(using: &generator), device.isRunning else { return }
        let (controls, data) = device.connections(to: node)
        if chance(40) { return controls.forEach { $0.reset() } }
        let path = "\(device.name) \(node.id)"
        cutPaths.insert(path)
        for control in controls { control.isSilent = true }
        if chance(70) { for connection in data { connection.fallSilent() } }
        after(duration) { [self] in cutPaths.remove(path) }
    }

    private func shareName() {
        guard chance(30), let name = deviceNames.randomElement(using: &generator) else { return }
        wasShared.insert(name)
        startDevice(name)
    }

    private func restartDevice() {
        guard let device = devices.randomElement(using: &generator), device.isRunning else { return }
        wasKilled.insert(device.name)
        device.kill()
        // Later than its last words, which would be taken for those of a newer process.
        after(random(2_500...8_000) * millisecond) { [self] in startDevice(device.name) }
    }

    private func mend() {
        log?("mended")
        isSlow = false
        cutPaths = []
        if isDatabaseDown { startDatabase() }
        for node in nodes {
            node.cutOff(false)
            node.restart()
            node.undrain()
        }
    }
}
