internal import AdminAPI
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
    private let listeners: NodeListeners
    private var signals: SignalWatch?
    private var sampler: NodeSampler?
    private var takers: TakerWatch?
    private var isStopping = false

    /// Runs a node until SIGTERM or SIGINT.
    static func serve(_ configuration: NodeConfiguration) throws {
        LogSystem.bootstrap(level: configuration.log.level, format: configuration.log.format)
        let logger = Logger(label: "node")
        for warning in configuration.warnings { logger.warning("\(warning)") }
        ProcessSettings.prepareDaemon()
        let loop = try EventLoop()
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
                idleTimeout: configuration.device.heartbeatTimeout, loops: ProcessSettings.processorCount),
            events: events)
        dataMetrics = DataPlaneMetrics(dataPlane.commands)
        plane = DevicePlane(
            on: loop,
            configuration: FleetConfiguration(
                configuration, id, quicPort: dataPlane.address.port, certificates),
            dataLoops: dataPlane.commands, logger: Logger(label: "devices"))
        let record = NodeRecord(configuration, id, quicPort: dataPlane.address.port)
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
        let metrics = MetricRegistry(on: loop)
        listeners = try NodeListeners(
            configuration, record, loop: loop, files: files, certificates: certificates, plane: plane,
            store: store, known: observer.known, metrics: metrics)
        observer.events = listeners.events
        observer.drains = listeners.drains
        listeners.events.nodeStateChanged(plane.nodeState)
        ingress = try Ingress(
            on: loop, configuration: IngressConfiguration(configuration), plane: plane,
            authenticator: configuration.ingress.authentication == .none
                ? OpenIngressAuthenticator() : ClosedIngressAuthenticator(),
            logger: Logger(label: "ingress"))
        sampler = NodeSampler(on: loop, plane: plane, store: store)
        takers = TakerWatch(id, on: loop, plane: plane, store: store)
        observer.takers = takers
        try loop.attach(events) { [weak self] event in self?.received(event) }
        metrics.add(
            try ProcessMetrics(
                on: loop, versions: ["version": Release.version, "ngtcp2": QUICLibrary.version],
                startedAt: record.startedAt))
        metrics.add(dataMetrics)
        metrics.add(store)
        metrics.collect { [weak self] page in self?.writeMetrics(on: &page) }
    }

    private func writeMetrics(on page: inout MetricPage) {
        page.eventLoop("control", loop.statistics)
        plane.writeMetrics(on: &page)
        ingress.writeMetrics(on: &page)
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
        } else {
            stop()
        }
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
                takers = nil
                store.stop()
                signals?.close()
                loop.stop()
            }
        }
    }
}
