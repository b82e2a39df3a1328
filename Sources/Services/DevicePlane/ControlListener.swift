package import Domain
package import EventLoop
internal import HTTP1
internal import HTTPServer
package import Logging
package import Observability
package import TLS
internal import WebSocket

/// The devices' port: HTTP/1.1 with one resource, `GET /v1/control`, that becomes a WebSocket.
package final class ControlListener {
    private let loop: EventLoop
    private let plane: DevicePlane
    private let authenticator: any DeviceAuthenticator
    private let logger: Logger
    private let server: HTTPServer
    private let handler = ControlHandler()
    /// Requests that became control connections, and those that didn't, by status.
    private var upgrades: UInt64 = 0
    private var refusals: [HTTPStatus: UInt64] = [:]

    /// Where it listens, with the port the system chose for 0.
    package let address: SocketAddress

    /// - Parameter tls: nil for plain `ws://`.
    /// - Throws: `SystemError` when the address can't be bound.
    package init(
        on loop: EventLoop, bind: SocketAddress, tls: TLSContext?, plane: DevicePlane,
        authenticator: any DeviceAuthenticator, logger: Logger
    ) throws(SystemError) {
        self.loop = loop
        self.plane = plane
        self.authenticator = authenticator
        self.logger = logger
        var configuration = HTTPServer.Configuration()
        configuration.connectionLimit = DevicePlaneLimits.waitingConnections
        configuration.limits.bodyBytes = 0
        server = HTTPServer(on: loop, configuration: configuration, tls: tls, handler: handler)
        address = try server.listen(bind)
        handler.owner = self
    }

    /// The context of new connections, after a renewed certificate.
    package func use(_ tls: TLSContext) {
        server.tls = tls
    }

    /// Takes no more connections and drops those that are not upgraded; control connections are the plane's.
    package func close() {
        server.abort()
    }

    package func writeMetrics(on page: inout MetricPage) {
        server.writeMetrics(on: &page, as: "devices")
        page.counter("pop_control_upgrades_total", "Control connections upgraded", upgrades)
        page.counters(
            "pop_control_upgrades_refused_total", "Requests refused on the devices' port, by status",
            by: "status",
            Self.refusalStatuses.map { (String($0.code), refusals[$0] ?? 0) })
    }

    /// Every status that this port answers with, but 101.
    private static let refusalStatuses: [HTTPStatus] = [
        .badRequest, .unauthorized, .notFound, .methodNotAllowed, .upgradeRequired, .serviceUnavailable,
    ]

    // MARK: Requests

    fileprivate func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        guard request.target.path == "/v1/control" else {
            return refuse(responder, .notFound, "not_found", "Only /v1/control is served here.")
        }
        let accepted: WebSocketHandshake.Accepted
        do {
            accepted = try WebSocketHandshake.accept(WebSocketHandshake.Request(request))
        } catch {
            note(HTTPStatus(UInt16(clamping: error.status)), "\(error)")
            return responder.refuse(error)
        }
        guard !request.isContentLeft else {
            return refuse(
                responder, .badRequest, "unexpected_content", "An opening handshake has no content.")
        }
        guard accepted.offeredProtocols.contains(Self.subprotocol) else {
            return refuse(
                responder, .badRequest, "subprotocol_required",
                "The subprotocol \(Self.subprotocol) must be offered.")
        }
        guard !plane.isStopping, plane.hasRoom else {
            return unavailable(responder, retryAfter: .seconds(5))
        }
        authenticate(request, accepted, responder)
    }

    private static let subprotocol = "pop.control.v1"

    private func authenticate(
        _ request: HTTPRequest, _ accepted: WebSocketHandshake.Accepted, _ responder: HTTPResponder
    ) {
        let credential = DeviceCredential(
            bearerToken: bearerToken(request),
            certificateName: (responder.stream as? TLSStream)?.peerCertificate?.commonName,
            remoteAddress: request.peerAddress)
        let wait = AuthenticationWait(on: loop) { [weak self] admission in
            guard let self, !responder.isCancelled else { return }
            switch admission {
            case .admitted(let identity): upgrade(accepted, responder, identity, request.peerAddress)
            case .refused:
                refuse(
                    responder, .unauthorized, "unauthorized", "A device token is required.",
                    ["WWW-Authenticate": "Bearer realm=\"pop\""])
            case .unavailable(let retryAfter): unavailable(responder, retryAfter: retryAfter)
            }
        }
        authenticator.authenticate(credential) { wait.answer($0) }
    }

    /// The token of the only Authorization field; nil for another scheme or none.
    private func bearerToken(_ request: HTTPRequest) -> String? {
        let values = request.fields.values(of: "authorization")
        guard values.count == 1, let value = values.first else { return nil }
        let parts = value.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        let token = parts[1].drop { $0 == " " }
        return token.isEmpty ? nil : String(token)
    }

    private func upgrade(
        _ accepted: WebSocketHandshake.Accepted, _ responder: HTTPResponder, _ identity: DeviceID?,
        _ peer: SocketAddress
    ) {
        let head = HTTPResponseHead(
            .switchingProtocols,
            [
                "Upgrade": "websocket", "Sec-WebSocket-Accept": accepted.acceptValue,
                "Sec-WebSocket-Protocol": Self.subprotocol,
            ])
        guard let upgraded = responder.upgrade(head) else { return }
        upgrades += 1
        ControlSocket.start(upgraded, on: loop, plane: plane, peer: peer, identity: identity)
    }

    // MARK: Refusals

    private func unavailable(_ responder: HTTPResponder, retryAfter: Duration) {
        let seconds = max(1, retryAfter.components.seconds)
        refuse(
            responder, .serviceUnavailable, "unavailable", "Try again later.", ["Retry-After": "\(seconds)"])
    }

    private func refuse(
        _ responder: HTTPResponder, _ status: HTTPStatus, _ code: String, _ detail: String,
        _ fields: HTTPFields = [:]
    ) {
        note(status, code)
        responder.refuse(status, code: code, detail: detail, fields)
    }

    private func note(_ status: HTTPStatus, _ cause: String) {
        refusals[status, default: 0] += 1
        logger.debug(
            "refused a control connection", metadata: ["status": "\(status.code)", "cause": "\(cause)"])
    }
}

/// Stands between the server and the listener, which would hold each other.
private final class ControlHandler: HTTPHandler {
    weak var owner: ControlListener?

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        owner?.handle(request, responder)
    }

    /// No request that is answered here with anything but a refusal has content.
    func plan(forContentOf head: HTTPRequestHead, from peer: SocketAddress) -> HTTPContentPlan { .leave }
}

/// One question to an authenticator: the first answer counts, or the time limit.
private final class AuthenticationWait {
    private var timer: LoopTimer?
    private var answered: ((DeviceAdmission) -> Void)?

    init(on loop: EventLoop, _ answered: @escaping (DeviceAdmission) -> Void) {
        self.answered = answered
        timer = loop.makeTimer { [weak self] in self?.answer(.unavailable(retryAfter: .seconds(5))) }
        timer?.arm(at: loop.now + DevicePlaneLimits.authenticationTimeout)
    }

    func answer(_ admission: DeviceAdmission) {
        guard let answered else { return }
        self.answered = nil
        timer?.cancel()
        timer = nil
        answered(admission)
    }
}
