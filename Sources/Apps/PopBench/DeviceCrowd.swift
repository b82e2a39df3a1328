internal import DeviceAgent
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import Logging
internal import Observability
internal import ProgramKit
internal import QUIC
internal import TLS

/// Many devices on one loop, each with a WSS and a QUIC connection of its own. They trust any POP and reach
/// any target: this is for nodes that were set up to be measured.
final class DeviceCrowd {
    private let loop: EventLoop
    private let pops: [PopURL]
    private let prefix: String
    private let resolver: NameResolver
    private let transports: NetworkTransports
    private let dialContext: DialContext
    private let pool = ChunkPool()
    private let load = MachineLoad()
    private let log = Logger(label: "pop.bench")
    private var agents: [DeviceAgent] = []
    private var ended = 0
    private var allEnded: (() -> Void)?

    /// - Parameter prefix: ids are the prefix and a number.
    init(on loop: EventLoop, pops: [PopURL], prefix: String) throws {
        self.loop = loop
        self.pops = pops
        self.prefix = prefix
        resolver = try NameResolver(on: loop)
        transports = NetworkTransports(
            loop: loop, resolver: resolver,
            NetworkTransports.Configuration(
                tls: try TLSContext.client(trust: .nobodyVerified), trust: try QUICTrust(.none),
                skipsVerification: true, token: nil))
        let policy = TargetPolicy(allowed: ["0.0.0.0/0", "::/0"].compactMap { TargetRule($0) })
        dialContext = DialContext(loop: loop, resolver: resolver, policy: policy)
    }

    /// Devices started.
    var count: Int { agents.count }

    /// Devices that have both of their connections now.
    var whole: Int { agents.count { $0.isWhole } }

    /// Starts one more device.
    @discardableResult
    func startOne() -> DeviceAgent {
        let agent = DeviceAgent(
            AgentConfiguration(
                deviceID: "\(prefix)\(agents.count)", agentVersion: Release.version, pops: pops),
            dialContext: dialContext, pool: pool, transports: transports, load: load, log: log,
            seed: SystemRandom().next()
        ) { [unowned self] _ in
            ended += 1
            if ended == agents.count { allEnded?() }
        }
        agents.append(agent)
        agent.start()
        return agent
    }

    /// Has every device say Goodbye; `done` is told when their last bytes have left.
    func stop(_ done: @escaping () -> Void) {
        guard ended < agents.count else { return done() }
        allEnded = done
        for agent in agents { agent.stop(reason: "the measurement is over") }
    }

    /// Gives back what the devices shared; none may be started after it.
    func close() {
        resolver.close()
    }
}
