package import DevicePlane
package import Domain
package import EventLoop
package import Logging
package import Observability

/// How clients are served.
package struct IngressConfiguration: Sendable, Hashable {
    package var bind: SocketAddress
    /// How long a device may take to reach a target.
    package var connectTimeout: Duration
    /// A conn without a byte in either direction for this long ends; nil for never.
    package var idleTimeout: Duration?
    /// Whether address literals of private networks are let through to the devices.
    package var allowsPrivateTargets: Bool

    package init(
        bind: SocketAddress, connectTimeout: Duration = .seconds(10),
        idleTimeout: Duration? = .seconds(300), allowsPrivateTargets: Bool = false
    ) {
        self.bind = bind
        self.connectTimeout = connectTimeout
        self.idleTimeout = idleTimeout
        self.allowsPrivateTargets = allowsPrivateTargets
    }
}

package enum IngressLimits {
    /// A handshake is a few small messages of a program; a slower client is cut off.
    package static let handshakeTimeout = Duration.seconds(10)
    /// Clients that are still in their handshake; each holds a descriptor and about 1 KiB.
    package static let waitingClients = 10_000
}

/// What the ingress counts.
package struct IngressMetrics: Sendable {
    package let accepted: Counter
    package let turnedAway: Counter
    package let failedHandshakes: Counter
    package let failedLogins: Counter
    package let withoutDevice: Counter
    package let placed: Counter

    package init(_ registry: MetricRegistry) {
        accepted = registry.counter("pop_ingress_accepted_total", "Client connections accepted")
        turnedAway = registry.counter(
            "pop_ingress_turned_away_total", "Client connections closed because too many were waiting")
        failedHandshakes = registry.counter(
            "pop_ingress_failed_handshakes_total", "Handshakes that ended without a request")
        failedLogins = registry.counter("pop_ingress_failed_logins_total", "Logins refused")
        withoutDevice = registry.counter(
            "pop_ingress_no_device_total", "Requests for which no device was found")
        placed = registry.counter("pop_ingress_placed_total", "Requests given to a device")
    }
}

/// The clients' port: speaks SOCKS5 with them until a device has their conn.
package final class Ingress {
    let loop: EventLoop
    let plane: DevicePlane
    let authenticator: any IngressAuthenticator
    let metrics: IngressMetrics
    let logger: Logger
    package let configuration: IngressConfiguration

    private var listener: Listener?
    private var waiting: [ObjectIdentifier: IngressClient] = [:]

    /// - Throws: `SystemError` when the address can't be bound.
    package init(
        on loop: EventLoop, configuration: IngressConfiguration, plane: DevicePlane,
        authenticator: any IngressAuthenticator, metrics: IngressMetrics, logger: Logger
    ) throws(SystemError) {
        self.loop = loop
        self.configuration = configuration
        self.plane = plane
        self.authenticator = authenticator
        self.metrics = metrics
        self.logger = logger
        listener = try Listener(on: loop, configuration.bind) { [weak self] descriptor, peer in
            guard let self else {
                Sockets.close(descriptor)
                return
            }
            accepted(descriptor, peer)
        }
    }

    /// Where it listens, with the port the system chose for 0; nil after `close`.
    package var address: SocketAddress? { listener?.address }
    package var waitingClients: Int { waiting.count }

    /// Takes no more clients and drops those that have not asked for a target yet.
    package func close() {
        listener?.close()
        listener = nil
        for client in Array(waiting.values) { client.drop() }
    }

    private func accepted(_ descriptor: Int32, _ peer: SocketAddress) {
        metrics.accepted.add()
        guard waiting.count < IngressLimits.waitingClients else {
            metrics.turnedAway.add()
            Sockets.closeWithReset(descriptor)
            return
        }
        let client = IngressClient(self, peer: peer)
        waiting[ObjectIdentifier(client)] = client
        do {
            try client.start(descriptor)
        } catch {
            logger.warning("a client could not be served", metadata: ["error": "\(error)"])
            finished(client)
        }
    }

    func finished(_ client: IngressClient) {
        waiting[ObjectIdentifier(client)] = nil
    }
}
