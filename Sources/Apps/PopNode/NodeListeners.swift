internal import AdminAPI
internal import DevicePlane
internal import Domain
internal import EventLoop
internal import HTTPServer
internal import Logging
internal import Observability
internal import Store
internal import TLS

/// The ports of the control loop that speak HTTP: the devices' WSS and the admin API.
final class NodeListeners {
    let deviceAddress: SocketAddress
    let adminAddress: SocketAddress
    private let control: ControlListener
    private let admin: HTTPServer
    private let api: AdminAPI
    private let backend: NodeAdminBackend
    private let watch: RevisionWatch
    private let configuration: NodeConfiguration

    init(
        _ configuration: NodeConfiguration, _ record: NodeRecord, loop: EventLoop, files: NodeFiles,
        certificates: NodeCertificates, plane: DevicePlane, store: StoreClient, known: KnownDevices,
        metrics: MetricRegistry
    ) throws {
        self.configuration = configuration
        let deviceTokens =
            configuration.device.authentication == .token
            ? TokenAuthenticator(store: store, plane: plane) : nil
        control = try ControlListener(
            on: loop, bind: SocketAddress(ip: configuration.device.bind, port: configuration.device.wssPort),
            tls: try Self.deviceContext(configuration, certificates), plane: plane,
            authenticator: deviceTokens ?? Self.deviceAuthenticator(configuration),
            logger: Logger(label: "devices"))
        deviceAddress = control.address
        let admissions = DeviceAdmissions(store: store, plane: plane, tokens: deviceTokens)
        backend = NodeAdminBackend(
            record, on: loop, plane: plane, store: store, known: known, admissions: admissions,
            registry: metrics)
        let api = AdminAPI(
            on: loop,
            configuration: AdminAPIConfiguration(
                authenticator: AdminAuthenticator(
                    bootstrapToken: try configuration.admin.bootstrapToken ?? files.adminToken()),
                isMetricsPublic: configuration.admin.isMetricsPublic),
            backend: backend, logger: Logger(label: "admin"))
        self.api = api
        watch = RevisionWatch(on: loop, store: store) { [weak api] revisions in
            api?.noticed(tokenRevision: revisions.adminTokens)
            admissions.noticed(revisions.admissions)
        }
        admin = HTTPServer(on: loop, tls: try Self.adminContext(configuration, certificates), handler: api)
        adminAddress = try admin.listen(
            SocketAddress(ip: configuration.admin.bind, port: configuration.admin.port))
    }

    var events: AdminEvents { api.events }

    func writeMetrics(on page: inout MetricPage) {
        control.writeMetrics(on: &page)
        admin.writeMetrics(on: &page, as: "admin")
        api.writeMetrics(on: &page)
    }

    /// New connections get these certificates.
    ///
    /// - Throws: when one can't be used; the old ones are in force then.
    func useCertificates(_ certificates: NodeCertificates) throws {
        let device = try Self.deviceContext(configuration, certificates)
        admin.tls = try Self.adminContext(configuration, certificates)
        if let device { control.use(device) }
    }

    /// No new device connections; the admin API goes on and tells what happens.
    func beginStopping() {
        control.close()
    }

    /// Answers what has been asked and ends the admin API.
    func finish(_ finished: @escaping () -> Void) {
        api.events.close()
        admin.stop { [api] in
            api.stop()
            finished()
        }
    }

    private static func deviceContext(
        _ configuration: NodeConfiguration, _ certificates: NodeCertificates
    ) throws -> TLSContext? {
        guard configuration.device.tls.isEnabled else { return nil }
        return try TLSContext.server(
            identity: certificates.device,
            clientAuthoritiesPEM: try configuration.device.tls.clientCAFile.map { try PEMFile.read($0) },
            applicationProtocols: ["http/1.1"])
    }

    private static func adminContext(
        _ configuration: NodeConfiguration, _ certificates: NodeCertificates
    ) throws -> TLSContext? {
        guard let identity = certificates.admin else { return nil }
        return try TLSContext.server(
            identity: identity,
            clientAuthoritiesPEM: try configuration.admin.tls.clientCAFile.map { try PEMFile.read($0) },
            applicationProtocols: ["http/1.1"])
    }

    /// Of devices that don't come with tokens.
    private static func deviceAuthenticator(
        _ configuration: NodeConfiguration
    ) -> any DeviceAuthenticator {
        configuration.device.authentication == .mtls
            ? CertificateDeviceAuthenticator() : OpenDeviceAuthenticator()
    }
}
