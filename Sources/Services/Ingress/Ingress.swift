package import DevicePlane
package import Domain
package import EventLoop
package import Logging

/// How clients are served.
package struct IngressConfiguration: Sendable, Hashable {
    package var bind: SocketAddress
    /// A handshake is a few small messages of a program; a slower client is cut off.
    package var handshakeTimeout = Duration.seconds(10)
    /// How long a device may take to reach a target.
    package var connectTimeout: Duration
    /// A conn without a byte in either direction for this long ends; nil for never.
    package var idleTimeout: Duration?
    /// A flow of a UDP association without a datagram in either direction for this long ends.
    package var datagramIdleTimeout: Duration
    /// Whether address literals of private networks are let through to the devices.
    package var allowsPrivateTargets: Bool

    package init(
        bind: SocketAddress, connectTimeout: Duration = .seconds(10),
        idleTimeout: Duration? = .seconds(300), datagramIdleTimeout: Duration = .seconds(60),
        allowsPrivateTargets: Bool = false
    ) {
        self.bind = bind
        self.connectTimeout = connectTimeout
        self.idleTimeout = idleTimeout
        self.datagramIdleTimeout = datagramIdleTimeout
        self.allowsPrivateTargets = allowsPrivateTargets
    }

    /// Whether the node lets a device be asked for `target`; of a name only the device learns the address.
    package func permits(_ target: Target) -> Bool {
        guard case .address(let address) = target.host else { return true }
        return allowsPrivateTargets || !address.isPrivate
    }
}

package enum IngressLimits {
    /// Clients that are still in their handshake; each holds a descriptor and about 1 KiB.
    package static let waitingClients = 10_000
}

/// The clients' port: speaks SOCKS5 or HTTP with them until a device has their conn.
package final class Ingress {
    let loop: EventLoop
    let plane: DevicePlane
    let authenticator: any IngressAuthenticator
    let logger: Logger
    package let configuration: IngressConfiguration
    /// Nil where sessions have no device of their own.
    package weak var sessions: (any SessionKeeper)?
    var figures = IngressFigures()

    private var listener: Listener?
    private var waiting: [ObjectIdentifier: IngressClient] = [:]

    /// - Throws: `SystemError` when the address can't be bound.
    package init(
        on loop: EventLoop, configuration: IngressConfiguration, plane: DevicePlane,
        authenticator: any IngressAuthenticator, logger: Logger
    ) throws(SystemError) {
        self.loop = loop
        self.configuration = configuration
        self.plane = plane
        self.authenticator = authenticator
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
        figures.accepted += 1
        guard waiting.count < IngressLimits.waitingClients else {
            figures.turnedAway += 1
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
