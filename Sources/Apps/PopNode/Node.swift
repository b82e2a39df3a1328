internal import AdminAPI
internal import Admissions
internal import ClusterMember
internal import DataPlane
internal import DevicePlane
internal import Domain
internal import EmbeddedPostgres
internal import EventLoop
internal import Fleet
internal import Ingress
internal import Logging
internal import Observability
internal import ProgramKit
internal import QUIC
internal import Store
internal import TLS

extension NodeActions {
    /// The node as it runs in production.
    package static var live: NodeActions {
        NodeActions(serve: { try Node.serve($0) }, migrate: { try NodeDatabase.migrate($0, $1) })
    }
}

/// Why a node can't run.
package struct NodeError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// A running node: all its parts, in the order in which they start.
///
/// Everything here lives on the control loop, which is the main thread.
final class Node {
    private let configuration: NodeConfiguration
    private let logger = Logger(label: "node")
    private let loop: EventLoop
    private let files: NodeFiles
    private let postgres: EmbeddedPostgres?
    private let dataPlane: DataPlane
    private let dataMetrics: DataPlaneMetrics
    private let store: StoreClient
    private let observer: NodeObserver
    private let sessions: ClusterSessions
    private let plane: DevicePlane
    private let ingress: Ingress
    private let passwords: PasswordWorker
    private let sticky: StickySessions
    private let listeners: NodeListeners
    private var signals: SignalWatch?
    private var sampler: NodeSampler?
    private var takers: TakerWatch?
    private let standing: StandingKeeper
    private var isStopping = false
    private var stopTimer: LoopTimer?

    /// Runs a node until SIGTERM or SIGINT.
    static func serve(_ configuration: NodeConfiguration) throws {
        LogSystem.bootstrap(level: configuration.log.level, format: configuration.log.format)
        let logger = Logger(label: "node")
        for warning in configuration.warnings { logger.warning("\(warning)") }
        ProcessSettings.prepareDaemon()
        let loop = try EventLoop(busyPoll: configuration.node.busyPoll)
        // Before the first thread: threads inherit the blocked signals, and none of them is killed by one.
        var stop: ((Int32) -> Void)?
        var early: [Int32] = []
        let signals = try SignalWatch(
            on: loop, [SignalWatch.hangup, SignalWatch.interrupt, SignalWatch.terminate]
        ) { number in
            if let stop { stop(number) } else { early.append(number) }
        }
        let node = try Node(configuration, loop)
        node.signals = signals
        stop = { [weak node] in node?.received($0) }
        for number in early { node.received(number) }
        logger.notice("serving", metadata: node.addresses)
        loop.run()
        node.postgres?.stop()
        logger.notice("stopped")
    }

    private init(_ configuration: NodeConfiguration, _ loop: EventLoop) throws {
        self.configuration = configuration
        self.loop = loop
        files = try NodeFiles(directory: configuration.node.dataDirectory)
        let id = try configuration.node.id ?? files.nodeID()
        let certificates = try NodeCertificates(configuration, files)
        postgres = try NodeDatabase.startEmbedded(configuration, files)
        let events = try Mailbox<DataEvent>()
        dataPlane = try DataPlane(
            DataPlaneConfiguration(
                address: SocketAddress(ip: configuration.device.bind, port: configuration.device.quicPort),
                certificatePEM: certificates.device.certificateChainPEM,
                keyPEM: certificates.device.privateKeyPEM,
                idleTimeout: configuration.device.heartbeatTimeout,
                loops: min(ProcessSettings.processorCount, DataPlaneConfiguration.mostLoops),
                busyPoll: configuration.node.busyPoll),
            events: events)
        dataMetrics = DataPlaneMetrics(dataPlane.commands)
        plane = DevicePlane(
            on: loop,
            configuration: FleetConfiguration(
                configuration, id, quicPort: dataPlane.address.port, certificates),
            dataLoops: dataPlane.commands, logger: Logger(label: "devices"))
        standing = StandingKeeper(path: files.standingPath, logger: logger)
        let kept = try standing.read()
        let record = NodeRecord(
            configuration, id, quicPort: dataPlane.address.port, keptDrain: kept?.drain?.drainID)
        store = try StoreClient(
            on: loop,
            StoreConfiguration(
                configuration, record,
                url: postgres?.connectionString ?? configuration.database.url ?? "",
                outboxPath: files.outboxPath),
            log: Logger(label: "store"))
        plane.learnEpoch(store.lastEpoch)
        observer = NodeObserver(plane: plane, store: store)
        plane.observer = observer
        sessions = ClusterSessions(
            on: loop, plane: plane, store: store, known: observer.known, logger: Logger(label: "cluster"))
        passwords = try PasswordWorker(on: loop)
        let users =
            configuration.ingress.authentication == .password
            ? UserAdmissions(on: loop, store: store, plane: plane, passwords: passwords) : nil
        sticky = StickySessions(id, store: store, plane: plane)
        let metrics = MetricRegistry(on: loop)
        listeners = try NodeListeners(
            configuration, record, loop: loop, files: files, certificates: certificates, plane: plane,
            store: store, known: observer.known, users: users, passwords: passwords, metrics: metrics)
        observer.events = listeners.events
        observer.drains = listeners.drains
        observer.standing = standing
        listeners.drains.told = { [standing] in standing.drainTold($0) }
        listeners.events.nodeStateChanged(plane.nodeState)
        ingress = try Ingress(
            on: loop, configuration: IngressConfiguration(configuration), plane: plane,
            authenticator: users ?? OpenIngressAuthenticator(), logger: Logger(label: "ingress"))
        ingress.sessions = sticky
        sampler = NodeSampler(on: loop, plane: plane, store: store)
        if let kept { restore(kept) }
        let takers = TakerWatch(id, on: loop, plane: plane, store: store)
        self.takers = takers
        observer.takers = takers
        listeners.follow(takers)
        try loop.attach(events) { [weak self] event in self?.received(event) }
        metrics.add(
            try ProcessMetrics(
                on: loop, versions: ["version": Release.version, "ngtcp2": QUICLibrary.version],
                startedAt: record.startedAt))
        metrics.add(dataMetrics)
        metrics.add(store)
        metrics.collect { [weak self] page in self?.writeMetrics(on: &page) }
    }

    /// What an operator ordered in an earlier life goes on.
    private func restore(_ kept: NodeStanding) {
        let past = kept.past(now: SystemClock.wall)
        plane.restore(kept.restoredState, past?.drain)
        if let record = past?.record { listeners.drains.restore(record) }
        logger.notice(
            "this node takes no devices and conns: it was so ordered before its start",
            metadata: ["state": "\(kept.restoredState.rawValue)", "undo": "popctl nodes undrain"])
    }

    private func writeMetrics(on page: inout MetricPage) {
        page.eventLoop("control", loop.statistics)
        plane.writeMetrics(on: &page)
        ingress.writeMetrics(on: &page)
        passwords.writeMetrics(on: &page)
        sessions.writeMetrics(on: &page)
        listeners.writeMetrics(on: &page)
    }

    private var addresses: Logger.Metadata {
        [
            "wss": "\(listeners.deviceAddress)", "quic": "\(dataPlane.address)",
            "ingress": "\(ingress.address.map(\.description) ?? "")", "admin": "\(listeners.adminAddress)",
        ]
    }

    private func received(_ event: DataEvent) {
        switch event {
        case .figures(let loop, let figures): dataMetrics.received(figures, of: loop)
        default: plane.receive(event)
        }
    }

    private func received(_ signal: Int32) {
        if signal == SignalWatch.hangup {
            reloadCertificates()
        } else if stopTimer == nil, plane.takerCount > 0, plane.sessionCount > 0,
            configuration.node.drainOnStop > .zero
        {
            drainAndStop()
        } else {
            stop()
        }
    }

    /// Moves the devices to other nodes first; a second signal does not wait for them.
    private func drainAndStop() {
        let limit = configuration.node.drainOnStop
        logger.notice("draining before the stop", metadata: ["seconds": "\(limit.components.seconds)"])
        standing.end()
        let timer = loop.makeTimer { [weak self] in self?.stop() }
        stopTimer = timer
        // At the drain's deadline what is left is closed; the rest of this is for those closes to be told.
        timer.arm(at: loop.now + limit + .seconds(1))
        observer.drained = { [weak self] in self?.loop.atEndOfBatch { [weak self] in self?.stop() } }
        // All are told in the first half, so that the last ones have the other half to move.
        let pace = Int64(plane.sessionCount) * 2 / max(1, limit.components.seconds) + 1
        listeners.drains.nodeStops(
            DrainRequest(
                deadline: limit, reason: "the node is stopping",
                devicesPerSecond: max(50, Int(clamping: pace))))
    }

    /// Reads the certificate files again; what can't be used leaves the old ones in force.
    private func reloadCertificates() {
        do {
            let certificates = try NodeCertificates(configuration, files)
            listeners.use(certificates)
            dataPlane.sendToAll(
                .useCertificate(
                    certificatePEM: certificates.device.certificateChainPEM,
                    keyPEM: certificates.device.privateKeyPEM))
            var fleet = plane.configuration
            fleet.quicCertificateSHA256 = certificates.deviceSHA256
            plane.reconfigure(fleet)
            logger.notice("certificates read again")
        } catch {
            logger.error("certificates not changed", metadata: ["error": "\(error)"])
        }
    }

    /// Not ready first, then no new clients, then every session with its reason, and the store last.
    private func stop() {
        guard !isStopping else { return }
        isStopping = true
        stopTimer?.cancel()
        standing.end()
        logger.notice("stopping")
        listeners.beginStopping()
        ingress.close()
        plane.stop { [weak self] in
            guard let self else { return }
            dataPlane.sendToAll(.stop)
            dataPlane.join()
            listeners.finish { [weak self] in
                guard let self else { return }
                sampler = nil
                passwords.stop()
                takers = nil
                store.stop()
                signals?.close()
                loop.stop()
            }
        }
    }
}
