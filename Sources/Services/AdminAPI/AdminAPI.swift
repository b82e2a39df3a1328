package import Domain
package import EventLoop
package import HTTP1
package import HTTPServer
internal import JSON
package import Logging
internal import Store

/// How the admin API behaves.
package struct AdminAPIConfiguration {
    package var authenticator: AdminAuthenticator
    /// Whether `/metrics` is answered without a token.
    package var isMetricsPublic: Bool

    package init(authenticator: AdminAuthenticator, isMetricsPublic: Bool = false) {
        self.authenticator = authenticator
        self.isMetricsPublic = isMetricsPublic
    }
}

/// The admin REST API (contract section 5) as the handler of an ``HTTPServer`` on the control loop.
///
/// A request is found its route, let in, read, and then given to the route's handler, which answers at once or
/// when the store has; whatever becomes of an unsafe one is a line of the audit trail.
package final class AdminAPI: HTTPHandler {
    let loop: EventLoop
    /// The node behind the API; it outlives the API.
    unowned let backend: any AdminBackend
    let authenticator: AdminAuthenticator
    /// To be told when the numbers of the drain may have changed.
    package let drains: DrainJournal
    var random = SystemRandom()
    /// What is known of the copy of the tokens.
    var tokenCopy = TokenCopy()
    var useTimer: LoopTimer?
    var figures = AdminFigures(routes: [])
    /// What `/v1/events` tells; whoever learns that something has happened says it here.
    package let events: AdminEvents
    let follower: EventFollower
    let teller: EventTeller

    private let logger: Logger
    private var table = AdminRouteTable(routes: [])
    private var requestIDs = RequestIDs()

    package init(
        on loop: EventLoop, configuration: AdminAPIConfiguration, backend: any AdminBackend, logger: Logger
    ) {
        self.loop = loop
        authenticator = configuration.authenticator
        self.backend = backend
        self.logger = logger
        drains = DrainJournal(on: loop, backend: backend)
        let life: UInt64 = SystemRandom().next()
        let events = AdminEvents(on: loop, nodeID: backend.nodeID, life: life, logger: logger)
        let teller = EventTeller(on: loop, life: life, backend: backend)
        events.toldHere = { teller.happened($0, $1) }
        self.events = events
        self.teller = teller
        follower = EventFollower(on: loop, backend: backend, events: events)
        table = AdminRouteTable(
            routes: serviceRoutes(isMetricsPublic: configuration.isMetricsPublic) + nodeRoutes + drainRoutes
                + deviceRoutes + deviceAdmissionRoutes + userRoutes + connRoutes + tokenRoutes + auditRoutes
                + eventRoutes
                + consoleRoutes)
        figures = AdminFigures(routes: table.routes)
        useTimer = loop.makeTimer { [weak self] in self?.tellUses() }
        useTimer?.arm(at: loop.now + Self.useInterval)
    }

    deinit {
        useTimer?.cancel()
    }

    /// Method, path and scope of every route, for the check of `openapi.yaml`.
    package var routes: [AdminRoute] {
        table.routes.filter { $0.path != AdminRoute.innerEvents }
    }

    /// Tells all readers, here and elsewhere, that the node is down, and ends their streams.
    package func closeEvents() {
        events.close()
        teller.write()
    }

    /// Puts on record what is only in memory; the store must still be there.
    package func stop() {
        useTimer?.cancel()
        tellUses()
    }

    // MARK: One request

    package func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        let call = AdminCall(
            request, requestID: requestID(request.fields["x-request-id"]), origin: .client(responder)
        ) { [weak self] call, status in
            self?.finished(call, status)
        }
        do throws(AdminProblem) {
            guard let route = try find(call) else { return }
            try admit(call, route)
            guard accepts(request.fields, route) else { throw .notAcceptable }
            try read(call, route)
            // What takes no more than a reason has nothing left to read.
            if route.parameters.isEmpty, case .reasonOnly = route.body { try call.validate() }
            try perform(call, route)
        } catch {
            // Whose call it is stands on record, also where there is nothing.
            if call.route == nil, call.request.method.isUnsafe {
                call.principal = principal(of: call.request.head, call.request.peerAddress)
            }
            call.readReasonAlone()
            call.fail(error)
        }
    }

    /// More than the longest reason takes, however it is written, and the rest of what a call usually says.
    private static let refusedContentBytes = 65_536

    /// The content of strangers is not read. That of a call that is going to be refused, but comes from somebody
    /// who is known, is read for its reason, unless there can be none in it or the client holds it back.
    package func plan(forContentOf head: HTTPRequestHead, from peer: SocketAddress) -> HTTPContentPlan {
        let token = AdminAuthenticator.bearerToken(head.fields.octets(of: "authorization"))
        let principal = token.flatMap {
            authenticator.foresee($0, from: peer.ip, now: loop.now, wall: SystemClock.wall)
        }
        guard let principal, Self.hasJSON(head.fields) || !head.method.isUnsafe else { return .leave }
        if let route = route(head), route.scope.map({ principal.scope >= $0 }) ?? true,
            accepts(head.fields, route)
        {
            return .read(atMost: nil)
        }
        if head.expectsContinue { return .leave }
        if case .length(let length) = head.framing, length > Self.refusedContentBytes { return .leave }
        return .read(atMost: Self.refusedContentBytes)
    }

    private func route(_ head: HTTPRequestHead) -> AdminRoute? {
        guard let segments = head.target.pathSegments, !AdminRoute.isInner(segments),
            case .route(let route) = table.find(head.method, segments)
        else { return nil }
        return route
    }

    /// The route of a call; nil when the call is answered already, as OPTIONS is.
    func find(_ call: AdminCall) throws(AdminProblem) -> AdminRoute? {
        let method = call.request.method
        if call.request.target.form == .asterisk {
            call.answerNothing(["Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"])
            return nil
        }
        guard let segments = call.request.target.pathSegments else { throw .badTarget }
        guard call.isOfOtherNode || !AdminRoute.isInner(segments) else { throw .pathNotFound }
        switch table.find(method, segments) {
        case .route(let route):
            call.route = route
            call.pathParameters = PathParameters(route: route, segments: segments)
            return route
        case .otherMethods(let others):
            let allowed = others + ", OPTIONS"
            guard method == .options else { throw .methodNotAllowed(allowed) }
            call.answerNothing(["Allow": allowed])
            return nil
        case .nothing:
            throw .pathNotFound
        }
    }

    private func admit(_ call: AdminCall, _ route: AdminRoute) throws(AdminProblem) {
        guard let scope = route.scope else { return }
        guard let token = AdminAuthenticator.bearerToken(call.request.fields.octets(of: "authorization"))
        else {
            throw .unauthorized
        }
        let verdict = authenticator.authenticate(
            token, from: call.request.peerAddress.ip, now: loop.now, wall: SystemClock.wall)
        switch verdict {
        case .principal(let principal):
            call.principal = principal
            guard principal.scope >= scope else { throw .forbidden(scope) }
        case .unknown:
            figures.unknownTokens += 1
            throw .badToken
        case .heldUp(let wait):
            figures.heldUpTokens += 1
            throw .tooManyFailures(wait)
        }
    }

    private func accepts(_ fields: HTTPFields, _ route: AdminRoute) -> Bool {
        if case .file = route.media { return true }
        return Self.accepts(route.media.rawValue, fields)
    }

    /// Whether Accept covers a media type (RFC 9110 section 12.5.1): of the ranges that fit, the closest counts.
    static func accepts(_ media: String, _ fields: HTTPFields) -> Bool {
        guard fields.contains("accept") else { return true }
        let names = ["*/*", media.prefix { $0 != "/" } + "/*", media]
        var closest = -1
        var isWanted = false
        for range in fields.list("accept") {
            let parts = range.split(separator: ";").map { $0.filter { !$0.isWhitespace }.lowercased() }
            guard let name = parts.first, let closeness = names.firstIndex(of: name), closeness > closest
            else { continue }
            closest = closeness
            let quality = parts.dropFirst().first { $0.hasPrefix("q=") }
            isWanted = quality.map { Double($0.dropFirst(2)) != 0 } ?? true
        }
        return isWanted
    }

    func read(_ call: AdminCall, _ route: AdminRoute) throws(AdminProblem) {
        guard let pairs = call.request.target.queryPairs else { throw .badTarget }
        let known = route.isSafe ? route.parameters : route.parameters.union(["reason"])
        let query = AdminQuery(pairs, known: known, faults: call.faults)
        call.read(query, try readBody(call, route))
    }

    private func readBody(_ call: AdminCall, _ route: AdminRoute) throws(AdminProblem) -> AdminBody {
        let request = call.request
        if route.isSafe { return AdminBody(faults: call.faults) }
        if request.body.isEmpty, !request.isContentLeft {
            guard case .required = route.body else { return AdminBody(faults: call.faults) }
            throw AdminProblem(.badRequest, "invalid_json", "A JSON body is needed.")
        }
        guard Self.hasJSON(request.fields) else { throw .unsupportedMediaType }
        let body = try AdminBody(parsing: request.body, faults: call.faults)
        if case .reasonOnly = route.body { body.requireOnly(["reason"]) }
        return body
    }

    /// JSON is UTF-8 (RFC 8259 section 8.1); a body that doesn't say what it is counts as JSON.
    private static func hasJSON(_ fields: HTTPFields) -> Bool {
        guard !fields.contains("content-encoding") else { return false }
        guard let contentType = fields["content-type"] else { return true }
        let parts = contentType.lowercased().split(separator: ";", omittingEmptySubsequences: false).map {
            $0.filter { !$0.isWhitespace && $0 != "\"" }
        }
        let charset = parts.dropFirst().first { $0.hasPrefix("charset=") }
        return parts.first == "application/json" && (charset == nil || charset == "charset=utf-8")
    }

    // MARK: After it

    /// What the server refuses by itself looks like any other refusal, and is a line of the audit trail.
    package func refusal(
        for fault: HTTPFault, of head: HTTPRequestHead?, from peer: SocketAddress
    ) -> (head: HTTPResponseHead, body: [UInt8])? {
        let requestID = requestID(head?.fields["x-request-id"])
        let answer = AdminProblem(fault.status, fault.code, fault.explanation).answer(requestID: requestID)
        figures.answered(head?.method ?? "", nil, answer.status, after: .zero)
        if let head, head.method.isUnsafe {
            audit(
                head, from: peer, requestID: requestID, principal: principal(of: head, peer), reason: "",
                answer.status)
        }
        return (answer.head(requestID: requestID), answer.body)
    }

    private func principal(of head: HTTPRequestHead, _ peer: SocketAddress) -> AdminPrincipal? {
        guard let token = AdminAuthenticator.bearerToken(head.fields.octets(of: "authorization")) else {
            return nil
        }
        let verdict = authenticator.authenticate(
            token, from: peer.ip, now: loop.now, wall: SystemClock.wall)
        guard case .principal(let principal) = verdict else { return nil }
        return principal
    }

    func finished(_ call: AdminCall, _ status: HTTPStatus) {
        figures.answered(
            call.request.method, call.route, status, after: SystemClock.now - call.startedAt)
        let isUnsafe = call.request.method.isUnsafe
        // What another node has let in, it has on its record.
        if isUnsafe, !call.isOfOtherNode { audit(call, status) }
        // Probes and readers that find the node unready or its database away would fill the log.
        guard isUnsafe || status == .internalServerError else { return }
        let request = call.request
        var fields: Logger.Metadata = [
            "method": "\(request.method)", "path": "\(request.target.path)", "status": "\(status)",
            "request_id": "\(call.requestID)", "remote_address": "\(request.peerAddress)",
        ]
        if call.isOfOtherNode { fields["for"] = "another node" }
        if !call.actor.isEmpty { fields["actor"] = "\(call.actor)" }
        if !call.reason.isEmpty { fields["reason"] = "\(call.reason)" }
        logger.info("admin request", metadata: fields)
    }

    /// A longer id says nothing more and would fill the logs (contract section 5).
    private static let longestRequestID = 128

    private func requestID(_ given: String?) -> String {
        if let given, (1...Self.longestRequestID).contains(given.utf8.count),
            given.utf8.allSatisfy({ (0x20...0x7e).contains($0) })
        {
            return given
        }
        return requestIDs.next()
    }

    // MARK: The database

    /// Asks the database for `call` and goes on with its answer, or fails the call as it does.
    ///
    /// - Parameter answerWhenAway: stands for the answer of a database that is away; nil where none can.
    func ask(
        _ query: StoreQuery, _ call: AdminCall, whenAway answerWhenAway: StoreAnswer? = nil,
        _ use: @escaping (StoreAnswer) throws(AdminProblem) -> Void
    ) {
        backend.ask(query) { [weak self] result in
            guard let self else { return }
            do throws(AdminProblem) {
                guard !call.isTooLate else { throw .nodeUnreachable }
                switch result {
                case .success(let answer): try use(answer)
                case .failure(let failure):
                    guard case .unavailable = failure, let answerWhenAway else { throw problem(failure) }
                    try use(answerWhenAway)
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

/// Ids for requests that come without one: unlike those of any other node or life, and no secret.
private struct RequestIDs {
    private let life = SystemRandom().next()
    private var count: UInt64 = 0

    mutating func next() -> String {
        count += 1
        var bytes: [UInt8] = []
        bytes.append(hexadecimalDigits: 16, of: life)
        bytes.append(hexadecimalDigits: 16, of: count)
        return String(decoding: bytes, as: UTF8.self)
    }
}
