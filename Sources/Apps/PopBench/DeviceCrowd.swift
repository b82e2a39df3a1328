internal import DeviceAgent
package import DeviceProtocol
internal import Domain
internal import EventLoop
internal import Logging
internal import Observability
internal import ProgramKit
internal import QUIC
internal import TLS

/// Many devices in one process, each with a WSS and a QUIC connection of its own.
package struct DeviceCrowdPlan: Sendable, Equatable {
    package var pops: [PopURL]
    package var count: Int
    /// Ids are the prefix and a number.
    package var prefix: String
    /// Devices started in a second.
    package var perSecond: Int
}

/// Runs the devices of a ``DeviceCrowdPlan`` until a signal ends it. They trust any POP and reach any target: this
/// is for nodes that were set up to be measured.
final class DeviceCrowd {
    private let plan: DeviceCrowdPlan
    private let loop: EventLoop
    private let resolver: NameResolver
    private let transports: NetworkTransports
    private let pool = ChunkPool()
    private let load = MachineLoad()
    private let policy: TargetPolicy
    private let log: Logger
    private let tell: (String) -> Void
    private var agents: [DeviceAgent] = []
    private var signals: SignalWatch?
    private var startTimer: LoopTimer?
    private var tellTimer: LoopTimer?
    private let began: Instant
    private var ended = 0
    private var isStopping = false
    private var lastLine = ""

    private static let tellInterval = Duration.seconds(1)

    static func run(_ plan: DeviceCrowdPlan, tell: @escaping (String) -> Void) throws {
        LogSystem.bootstrap(level: .error, format: .text)
        let crowd = try DeviceCrowd(plan, tell: tell)
        crowd.run()
    }

    private init(_ plan: DeviceCrowdPlan, tell: @escaping (String) -> Void) throws {
        self.plan = plan
        self.tell = tell
        log = Logger(label: "pop.bench")
        _ = ProcessSettings.prepareDaemon()
        loop = try EventLoop()
        began = loop.now
        let stop = Stop()
        signals = try SignalWatch(on: loop, [SignalWatch.terminate, SignalWatch.interrupt]) { _ in stop.now?()
        }
        resolver = try NameResolver(on: loop)
        transports = NetworkTransports(
            loop: loop, resolver: resolver,
            NetworkTransports.Configuration(
                tls: try TLSContext.client(trust: .nobodyVerified), trust: try QUICTrust(.none),
                skipsVerification: true, token: nil))
        policy = TargetPolicy(allowed: ["0.0.0.0/0", "::/0"].compactMap { TargetRule($0) })
        startTimer = loop.makeTimer { [weak self] in self?.startSome() }
        tellTimer = loop.makeTimer { [weak self] in self?.tellCount() }
        stop.now = { [unowned self] in self.stop() }
    }

    private final class Stop {
        var now: (() -> Void)?
    }

    private func run() {
        startTimer?.arm(at: loop.now)
        tellTimer?.arm(at: loop.now + Self.tellInterval)
        loop.run()
        signals?.close()
        resolver.close()
    }

    /// As many as are due by now.
    private func startSome() {
        guard !isStopping else { return }
        let due = (loop.now - began).milliseconds * Int64(plan.perSecond) / 1_000 + 1
        while agents.count < min(plan.count, Int(due)) { startOne() }
        if agents.count < plan.count { startTimer?.arm(at: loop.now + .milliseconds(20)) }
    }

    private func startOne() {
        let agent = DeviceAgent(
            AgentConfiguration(
                deviceID: "\(plan.prefix)\(agents.count)", agentVersion: Release.version, pops: plan.pops),
            dialContext: DialContext(loop: loop, resolver: resolver, policy: policy), pool: pool,
            transports: transports, load: load, log: log, seed: SystemRandom().next()
        ) { [unowned self] _ in
            ended += 1
            if isStopping, ended == agents.count { loop.stop() }
        }
        agents.append(agent)
        agent.start()
    }

    private func tellCount() {
        tellTimer?.arm(at: loop.now + Self.tellInterval)
        let line = "\(agents.count { $0.isWhole }) of \(plan.count) devices are whole"
        guard line != lastLine else { return }
        lastLine = line
        tell(line)
    }

    private func stop() {
        guard !isStopping, ended < agents.count else { return loop.stop() }
        isStopping = true
        for agent in agents { agent.stop(reason: "the measurement is over") }
    }
}
