internal import AdminAPI
internal import Admissions
internal import ClusterMember
internal import DevicePlane
internal import Domain
internal import EventLoop
internal import HTTPServer
internal import Ingress
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

    init(
        _ configuration: NodeConfiguration, _ record: NodeRecord, loop: EventLoop, files: NodeFiles,
        certificates: NodeCertificates, plane: DevicePlane, store: StoreClient, known: KnownDevices,
        users: UserAdmissions?, passwords: PasswordWorker, metrics: MetricRegistry
    ) throws {
        let deviceTokens =
            configuration.device.authentication == .token
            ? TokenAuthenticator(store: store, plane: plane) : nil
        control = try ControlListener(
            on: loop, bind: SocketAddress(ip: configuration.device.bind, port: configuration.device.wssPort),
            tls: certificates.deviceContext, plane: plane,
            authenticator: deviceTokens ?? Self.deviceAuthenticator(configuration),
            logger: Logger(label: "devices"))
        deviceAddress = control.address
        let admissions = DeviceAdmissions(store: store, plane: plane, tokens: deviceTokens)
        backend = NodeAdminBackend(
            record, on: loop, plane: plane, store: store, known: known, admissions: admissions,
            users: users, passwords: passwords, registry: metrics)
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
            users?.noticed(revisions.users)
        }
        store.asked = { [weak api] question, answer in api?.perform(question, answer: answer) }
        store.eventsTold = { [weak api] in api?.eventsTold() }
        admin = HTTPServer(on: loop, tls: certificates.adminContext, handler: api)
        adminAddress = try admin.listen(
            SocketAddress(ip: configuration.admin.bind, port: configuration.admin.port))
    }

    var events: AdminEvents { api.events }
    var drains: DrainJournal { api.drains }

    /// Who else is there, for calls about all nodes.
    func follow(_ takers: TakerWatch) {
        backend.takers = takers
    }

    func writeMetrics(on page: inout MetricPage) {
        control.writeMetrics(on: &page)
        admin.writeMetrics(on: &page, as: "admin")
        api.writeMetrics(on: &page)
    }

    /// New connections get these certificates.
    func use(_ certificates: NodeCertificates) {
        admin.tls = certificates.adminContext
        if let context = certificates.deviceContext { control.use(context) }
    }

    /// No new device connections; the admin API goes on and tells what happens.
    func beginStopping() {
        control.close()
    }

    /// Answers what has been asked and ends the admin API.
    func finish(_ finished: @escaping () -> Void) {
        api.closeEvents()
        admin.stop { [api] in
            api.stop()
            finished()
        }
    }

    /// Of devices that don't come with tokens.
    private static func deviceAuthenticator(
        _ configuration: NodeConfiguration
    ) -> any DeviceAuthenticator {
        configuration.device.authentication == .mtls
            ? CertificateDeviceAuthenticator() : OpenDeviceAuthenticator()
    }
}
