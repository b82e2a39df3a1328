package import DeviceProtocol
package import Domain
package import EventLoop
package import QUIC
package import TLS

/// Connections over the network: WebSocket over TLS or plain TCP for control, QUIC for data.
///
/// Many agents of one loop may share one.
package final class NetworkTransports: AgentTransports {
    package struct Configuration {
        /// For `wss` URLs; it decides whom the device believes to be its POP.
        package var tls: TLSContext
        /// The same decision for the data plane.
        package var trust: QUICTrust
        /// Whether the data plane's peer may be anybody (`tls_skip_verify`).
        package var skipsVerification: Bool
        /// The device's token; nil for a POP that asks for none.
        package var token: String?
        package var quic: QUICConfiguration

        package init(
            tls: TLSContext, trust: QUICTrust, skipsVerification: Bool = false, token: String? = nil,
            quic: QUICConfiguration = QUICConfiguration()
        ) {
            self.tls = tls
            self.trust = trust
            self.skipsVerification = skipsVerification
            self.token = token
            self.quic = quic
        }
    }

    private let loop: EventLoop
    private let resolver: NameResolver
    private let configuration: Configuration
    private let endpoints: DataEndpoints

    package init(loop: EventLoop, resolver: NameResolver, _ configuration: Configuration) {
        self.loop = loop
        self.resolver = resolver
        self.configuration = configuration
        endpoints = DataEndpoints(loop: loop, configuration: configuration.quic)
    }

    package func connectControl(
        to pop: PopURL, _ events: @escaping (ControlEvent) -> Void
    ) -> any ControlTransport {
        WebSocketControlTransport(
            pop, token: configuration.token, tls: configuration.tls, loop: loop, resolver: resolver,
            events: events)
    }

    package func connectData(
        _ plan: DataPlan, address: IPAddress?, _ events: @escaping (DataEvent) -> Void
    ) -> any DataTransport {
        // The pin came over the control connection, which is verified, or whose operator wants it not to be.
        let pin = plan.certificateSHA256.count == 32 ? plan.certificateSHA256 : nil
        let hostName: String =
            switch plan.host {
            case .name(let name): name
            case .address(let address): address.description
            }
        return QUICDataTransport(
            plan, address: address, loop: loop, resolver: resolver, endpoints: endpoints,
            verification: QUICPeerVerification(
                trust: configuration.trust, hostName: hostName, pinnedSHA256: pin,
                skip: configuration.skipsVerification),
            events: events)
    }
}
