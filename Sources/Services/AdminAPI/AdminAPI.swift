internal import Domain
package import EventLoop
internal import HTTP1
package import HTTPServer
internal import JSON
package import Logging
internal import Store

/// How the admin API behaves.
package struct AdminAPIConfiguration: Sendable {
    package var authenticator: AdminAuthenticator
    /// Whether `/metrics` is answered without a token.
    package var isMetricsPublic: Bool

    package init(authenticator: AdminAuthenticator, isMetricsPublic: Bool = false) {
        self.authenticator = authenticator
        self.isMetricsPublic = isMetricsPublic
    }
}

/// The admin REST API (contract section 5) as the handler of an ``HTTPServer`` on the control loop.
package final class AdminAPI: HTTPHandler {
    let loop: EventLoop
    /// The node behind the API; it outlives the API.
    unowned let backend: any AdminBackend
    /// Whom the drain in force was asked by, and its version for `ETag`.
    var drainActor: String?
    var drainVersion = 0
    var drainPace = 1

    var figures = AdminFigures()
    /// What `/v1/events` tells; whoever learns that something has happened says it here.
    package let events: AdminEvents

    private let configuration: AdminAPIConfiguration
    private let logger: Logger
    private var table = AdminRouteTable(routes: [])

    /// A longer id says nothing more and would fill the logs (contract section 5).
    private static let longestRequestID = 128

    package init(
        on loop: EventLoop, configuration: AdminAPIConfiguration, backend: any AdminBackend, logger: Logger
    ) {
        self.loop = loop
        self.configuration = configuration
        self.backend = backend
        self.logger = logger
        events = AdminEvents(on: loop, nodeID: backend.nodeID, logger: logger)
        table = AdminRouteTable(
            routes: serviceRoutes(isMetricsPublic: configuration.isMetricsPublic) + nodeRoutes + deviceRoutes
                + connRoutes + eventRoutes + consoleRoutes)
    }

    /// Method, path and scope of every route, for the check of `openapi.yaml`.
    package var routes: [AdminRoute] { table.routes }

    // MARK: One request

    package func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        let requestID = Self.requestID(request.fields["x-request-id"])
        let started = SystemClock.now
        let call: AdminCall
        let route: AdminRoute
        let faults = AdminFaults()
        var path: String?
        do throws(AdminProblem) {
            let parameters: [String: String]
            (route, parameters) = try find(request)
            path = route.path
            let principal = try authenticate(request, route)
            try checkAccept(request, route)
            guard let pairs = request.target.queryPairs else { throw .badTarget }
            let known = route.isSafe ? route.parameters : route.parameters.union(["reason"])
            let query = AdminQuery(pairs, known: known, faults: faults)
            let body = try readBody(request, route, faults)
            call = AdminCall(
                request: request, requestID: requestID, pathParameters: parameters, query: query, body: body,
                principal: principal, faults: faults, responder: responder
            ) { [weak self] status in
                self?.figures.answered(
                    request.method, route: route.path, status, after: SystemClock.now - started)
                self?.finished(request, requestID, principal, status, reason: query.string("reason"))
            }
            // What takes no more than a reason has nothing left to read.
            if route.parameters.isEmpty, case .reasonOnly = route.body { try call.validate() }
        } catch {
            let empty = AdminCall(
                request: request, requestID: requestID, pathParameters: [:],
                query: AdminQuery([], known: [], faults: faults), body: AdminBody(faults: faults),
                principal: Self.nobody, faults: faults, responder: responder
            ) { [weak self, path] status in
                self?.figures.answered(request.method, route: path, status, after: SystemClock.now - started)
                self?.finished(request, requestID, Self.nobody, status, reason: nil)
            }
            return empty.fail(error)
        }
        do throws(AdminProblem) { try route.handle(call) } catch { call.fail(error) }
    }

    private static let nobody = AdminPrincipal(name: "", scope: .read)

    private func find(_ request: HTTPRequest) throws(AdminProblem) -> (AdminRoute, [String: String]) {
        guard let segments = request.target.pathSegments else { throw .badTarget }
        switch table.find(request.method, segments) {
        case .route(let route, let parameters): return (route, parameters)
        case .otherMethods(let allowed): throw .methodNotAllowed(allowed)
        case .nothing: throw .pathNotFound
        }
    }

    private func authenticate(
        _ request: HTTPRequest, _ route: AdminRoute
    ) throws(AdminProblem) -> AdminPrincipal {
        guard let scope = route.scope else { return Self.nobody }
        guard let token = AdminAuthenticator.bearerToken(request.fields["authorization"]) else {
            throw .unauthorized
        }
        guard let principal = configuration.authenticator.principal(presenting: token) else {
            throw .badToken
        }
        guard principal.scope >= scope else { throw .forbidden(scope) }
        return principal
    }

    private func checkAccept(_ request: HTTPRequest, _ route: AdminRoute) throws(AdminProblem) {
        if case .file = route.media { return }
        guard Self.accepts(route.media.rawValue, request.fields) else { throw .notAcceptable }
    }

    /// Whether one of the ranges of Accept covers a media type (RFC 9110 section 12.5.1).
    static func accepts(_ media: String, _ fields: HTTPFields) -> Bool {
        guard fields.contains("accept") else { return true }
        let kind = media.prefix { $0 != "/" } + "/*"
        return fields.list("accept").contains { range in
            let parts = range.split(separator: ";").map { $0.filter { !$0.isWhitespace }.lowercased() }
            guard let name = parts.first, name == "*/*" || name == kind || name == media else { return false }
            let quality = parts.dropFirst().first { $0.hasPrefix("q=") }
            guard let quality else { return true }
            return Double(quality.dropFirst(2)) != 0
        }
    }

    private func readBody(
        _ request: HTTPRequest, _ route: AdminRoute, _ faults: AdminFaults
    ) throws(AdminProblem) -> AdminBody {
        if route.isSafe { return AdminBody(faults: faults) }
        if request.body.isEmpty {
            guard case .required = route.body else { return AdminBody(faults: faults) }
            throw AdminProblem(.badRequest, "invalid_json", "A JSON body is needed.")
        }
        if let type = request.fields["content-type"] {
            let name = type.prefix { $0 != ";" }.filter { !$0.isWhitespace }.lowercased()
            guard name == "application/json" else { throw .unsupportedMediaType }
        }
        let body = try AdminBody(parsing: request.body, faults: faults)
        if case .reasonOnly = route.body { body.requireOnly(["reason"]) }
        return body
    }

    // MARK: After it

    private func finished(
        _ request: HTTPRequest, _ requestID: String, _ principal: AdminPrincipal, _ status: HTTPStatus,
        reason: String?
    ) {
        let isUnsafe = request.method != .get && request.method != .head
        // Probes and readers that find the node unready or its database away would fill the log.
        guard isUnsafe || status == .internalServerError else { return }
        var fields: Logger.Metadata = [
            "method": "\(request.method)", "path": "\(request.target.path)", "status": "\(status)",
            "request_id": "\(requestID)", "remote_address": "\(request.peerAddress)",
        ]
        if !principal.name.isEmpty { fields["actor"] = "\(principal.name)" }
        if let reason { fields["reason"] = "\(reason)" }
        logger.info("admin request", metadata: fields)
    }

    private static func requestID(_ given: String?) -> String {
        if let given, (1...longestRequestID).contains(given.utf8.count),
            given.utf8.allSatisfy({ (0x20...0x7e).contains($0) })
        {
            return given
        }
        return Hexadecimal.encode(SystemRandom.bytes(16))
    }

    // MARK: The database

    /// Asks the database for `call` and goes on with its answer, or fails the call as it does.
    func ask(
        _ query: StoreQuery, _ call: AdminCall, _ use: @escaping (StoreAnswer) throws(AdminProblem) -> Void
    ) {
        backend.ask(query) { [weak self] result in
            guard let self else { return }
            do throws(AdminProblem) {
                switch result {
                case .success(let answer): try use(answer)
                case .failure(let failure): throw problem(failure)
                }
            } catch {
                call.fail(error)
            }
        }
    }

    /// The client learns what to do about a failure, the log what caused it.
    private func problem(_ failure: StoreFailure) -> AdminProblem {
        if case .failed = failure { logger.error("a query was refused", error: failure) }
        return AdminProblem(failure)
    }
}
