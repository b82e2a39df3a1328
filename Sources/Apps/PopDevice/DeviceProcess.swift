internal import DeviceAgent
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import JSON
internal import Logging
internal import Observability
internal import ProgramKit
internal import QUIC
internal import TLS

/// The device as a process: one loop on the main thread, until a signal ends it.
///
/// SIGTERM and SIGINT: Goodbye to every POP, then exit; a second one doesn't wait. SIGHUP is taken as a wish
/// to come back after another session of this device has replaced this one.
final class DeviceProcess {
    private let configuration: DeviceConfiguration
    private let loop: EventLoop
    private let log: Logger
    private let resolver: NameResolver
    private let pool = ChunkPool()
    private let load = MachineLoad()
    private let transports: NetworkTransports
    private var agent: DeviceAgent?
    private var signals: SignalWatch?
    private var isStopping = false

    /// Runs until a signal ends it.
    ///
    /// - Throws: `ConfigurationError` for a `ca_file` or `cert_file` that can't be used, and what the system
    ///   refuses.
    static func run(_ configuration: DeviceConfiguration) throws {
        LogSystem.bootstrap(level: configuration.logLevel, format: configuration.logFormat)
        try DeviceProcess(configuration).run()
    }

    private init(_ configuration: DeviceConfiguration) throws {
        self.configuration = configuration
        log = Logger(label: "pop.device")
        loop = try EventLoop(busyPoll: configuration.busyPoll)
        // Before the resolver's threads: signals are blocked for threads started afterwards.
        let watch = PendingSignals()
        signals = try SignalWatch(
            on: loop, [SignalWatch.terminate, SignalWatch.interrupt, SignalWatch.hangup]
        ) { watch.receive?($0) }
        resolver = try NameResolver(on: loop)
        transports = NetworkTransports(
            loop: loop, resolver: resolver, try Self.network(configuration))
        watch.receive = { [unowned self] in received($0) }
    }

    /// Where signals go once the process is made.
    private final class PendingSignals {
        var receive: ((Int32) -> Void)?
    }

    private static func network(
        _ configuration: DeviceConfiguration
    ) throws -> NetworkTransports.Configuration {
        if let identity = configuration.identity {
            // Tried apart from the trust, so that the fault is told by its key.
            do {
                _ = try TLSContext.client(trust: .nobodyVerified, identity: identity)
            } catch {
                throw ConfigurationError(key: "cert_file", message: "\(error)")
            }
        }
        do {
            let trust: (tls: TLSContext.Trust, quic: QUICTrust) =
                switch configuration.trust {
                case .system: (.system, try QUICTrust(.system))
                case .certificates(let pem): (.certificates(pem: pem), try QUICTrust(.pem(pem)))
                case .nobodyVerified: (.nobodyVerified, try QUICTrust(.none))
                }
            return NetworkTransports.Configuration(
                tls: try TLSContext.client(trust: trust.tls, identity: configuration.identity),
                trust: trust.quic, skipsVerification: configuration.trust == .nobodyVerified,
                token: configuration.token)
        } catch {
            guard case .certificates = configuration.trust else { throw error }
            throw ConfigurationError(key: "ca_file", message: "\(error)")
        }
    }

    private func run() throws {
        for warning in configuration.warnings { log.warning("\(warning)") }
        let limit = ProcessSettings.prepareDaemon()
        log.info(
            "pop-device starts",
            metadata: [
                "version": "\(Release.version)", "device_id": "\(configuration.agent.deviceID)",
                "open_files": "\(limit)",
            ])
        if configuration.trust == .nobodyVerified {
            log.warning("tls_skip_verify is set: anybody can pass for the POP")
        }
        startAgent()
        loop.run()
        signals?.close()
        resolver.close()
        log.info("pop-device has stopped")
    }

    private func startAgent() {
        let agent = DeviceAgent(
            configuration.agent,
            dialContext: DialContext(loop: loop, resolver: resolver, policy: configuration.policy),
            pool: pool, transports: transports, load: load, log: log, seed: SystemRandom().next()
        ) { [unowned self] end in ended(end) }
        self.agent = agent
        agent.start()
    }

    private func received(_ signal: Int32) {
        if signal == SignalWatch.hangup {
            if agent == nil, !isStopping { startAgent() }
            return
        }
        guard !isStopping, let agent else {
            loop.stop()
            return
        }
        isStopping = true
        log.info("stopping", metadata: ["signal": "\(signal)"])
        agent.stop(reason: "the device stops")
    }

    private func ended(_ end: AgentEnd) {
        agent = nil
        // A replaced device stays up and away: one that a supervisor restarts would take the place back.
        if end == .ordered { loop.stop() }
    }
}
