internal import Domain
internal import EventLoop
internal import HTTP1
internal import HTTPServer
internal import JSON

/// What a call is answered with.
struct AdminAnswer {
    let status: HTTPStatus
    var fields: HTTPFields
    /// Nil without content.
    let media: String?
    let body: [UInt8]
    /// The body is shown once and kept nowhere.
    var holdsSecret = false
    /// Nothing was done: the same call may well have another answer later.
    var isPassing = false
    /// Nobody can tell whether what was asked has been done, or is being done.
    var isUncertain = false

    func head(requestID: String) -> HTTPResponseHead {
        let isUsual = media == Self.json && !fields.contains("cache-control")
        var head = isUsual ? Self.usualFields : [:]
        head.append(contentsOf: fields)
        if !isUsual {
            if let media { head.append("Content-Type", media) }
            if !fields.contains("cache-control") { head.append("Cache-Control", "no-store") }
        }
        head.append("X-Request-Id", requestID)
        return HTTPResponseHead(status, head)
    }

    static let json = "application/json"
    /// What most answers have.
    private static let usualFields: HTTPFields = ["Content-Type": json, "Cache-Control": "no-store"]
}

/// One request on its way to its answer.
package final class AdminCall {
    /// Where it comes from, and its answer goes.
    enum Origin {
        case client(HTTPResponder)
        /// Another node has let it in, and audits it. It must not be begun after the deadline.
        case node(NodeID, until: Instant, answer: (AdminAnswer) -> Void)
    }

    let request: HTTPRequest
    let requestID: String
    /// What is wrong with query and body, as far as they have been read.
    let faults = AdminFaults()
    let startedAt = SystemClock.now
    // Set on the way, as far as the call gets.
    var route: AdminRoute?
    var pathParameters = PathParameters(route: nil, segments: [])
    /// Nil for a stranger.
    var principal: AdminPrincipal?
    private(set) var query: AdminQuery
    /// An empty object where there was none.
    private(set) var body: AdminBody
    /// Why the caller says it asks: of the body, or else of the query; empty for no reason.
    private(set) var reason = ""
    /// Nil without one.
    private(set) var idempotencyKey: String?
    /// Has something to do with the answer before it is sent.
    var beforeAnswer: ((AdminAnswer, _ send: @escaping () -> Void) -> Void)?

    private let origin: Origin
    private let answered: (AdminCall, HTTPStatus) -> Void

    init(
        _ request: HTTPRequest, requestID: String, origin: Origin,
        answered: @escaping (AdminCall, HTTPStatus) -> Void
    ) {
        self.request = request
        self.requestID = requestID
        self.origin = origin
        self.answered = answered
        query = AdminQuery([], known: [], faults: faults)
        body = AdminBody(faults: faults)
    }

    var actor: String { principal?.name ?? "" }

    /// The node that asks; nil for a client.
    var otherNode: NodeID? {
        if case .node(let node, _, _) = origin { node } else { nil }
    }

    /// Another node asks: what is not here is not looked for elsewhere.
    var isOfOtherNode: Bool { otherNode != nil }

    /// Whoever asked has been told by now that nothing was done, or soon will be.
    var isTooLate: Bool {
        if case .node(_, let deadline, _) = origin { SystemClock.now >= deadline } else { false }
    }

    // MARK: Reading

    /// Longer ones are no reason but a document.
    static let longestReason = 1_024

    func read(_ query: AdminQuery, _ body: AdminBody) {
        self.query = query
        self.body = body
        guard request.method.isUnsafe else { return }
        let told = query.string("reason", maximumLength: Self.longestReason)
        reason = body.string("reason", maximumLength: Self.longestReason) ?? told ?? ""
        idempotencyKey = readKey()
    }

    /// Why the caller of a call says it asks, which is refused before it is read: for the record.
    func readReasonAlone() {
        guard request.method.isUnsafe, reason.isEmpty, !request.body.isEmpty,
            let body = try? AdminBody(parsing: request.body, faults: AdminFaults())
        else { return }
        reason = body.string("reason", maximumLength: Self.longestReason) ?? ""
    }

    /// A key is a name that a program makes up, not a document.
    private static let longestKey = 255

    /// Nil without a key; a malformed one is a fault.
    private func readKey() -> String? {
        let keys = request.fields.values(of: "idempotency-key")
        guard let key = keys.first else { return nil }
        let isVisible = key.utf8.allSatisfy { (0x21...0x7e).contains($0) }
        guard keys.count == 1, (1...Self.longestKey).contains(key.utf8.count), isVisible else {
            faults.add("Idempotency-Key", "must be one field of 1 to \(Self.longestKey) visible characters")
            return nil
        }
        return key
    }

    /// Refuses the call when anything in its query or body is wrong; to be called once all of it is read, and
    /// before anything is done.
    func validate() throws(AdminProblem) {
        guard faults.list.isEmpty else { throw .invalid(faults.list) }
    }

    func deviceID() throws(AdminProblem) -> DeviceID {
        guard let id = DeviceID(pathParameters["device_id"] ?? "") else { throw .deviceNotFound }
        return id
    }

    func connID() throws(AdminProblem) -> ConnID {
        guard let id = ConnID(pathParameters["conn_id"] ?? "") else { throw .connNotFound }
        return id
    }

    func tokenID() throws(AdminProblem) -> TokenID {
        guard let id = TokenID(pathParameters["token_id"] ?? "") else { throw .tokenNotFound }
        return id
    }

    /// The entity tags of If-Match (RFC 9110 section 13.1.1); nil where any version will do.
    var wantedTags: [String]? {
        guard request.fields.contains("if-match") else { return nil }
        let wanted = request.fields.list("if-match")
        return wanted.contains("*") ? nil : wanted
    }

    /// Refuses a call that is about another version than the current one.
    func requireMatch(_ tag: String) throws(AdminProblem) {
        guard wantedTags?.contains(tag) ?? true else { throw .stale }
    }

    // MARK: Answering

    func answer(_ status: HTTPStatus = .ok, _ fields: HTTPFields = [:], _ write: (inout JSONWriter) -> Void) {
        answer(Self.json(status, fields, write))
    }

    /// Answers with what is shown this once.
    func answerSecret(_ status: HTTPStatus, _ fields: HTTPFields, _ write: (inout JSONWriter) -> Void) {
        var answer = Self.json(status, fields, write)
        answer.holdsSecret = true
        self.answer(answer)
    }

    private static func json(
        _ status: HTTPStatus, _ fields: HTTPFields, _ write: (inout JSONWriter) -> Void
    ) -> AdminAnswer {
        var writer = JSONWriter()
        writer.reserveCapacity(1_024)
        write(&writer)
        return AdminAnswer(status: status, fields: fields, media: AdminAnswer.json, body: writer.bytes)
    }

    func answer(text: [UInt8], media: String) {
        answer(AdminAnswer(status: .ok, fields: [:], media: media, body: text))
    }

    /// Answers with content that says itself how long it may be kept.
    func answer(_ status: HTTPStatus, _ fields: HTTPFields, media: String?, content: [UInt8]) {
        answer(AdminAnswer(status: status, fields: fields, media: media, body: content))
    }

    /// Begins an answer in pieces; nil for another node, which is answered in whole.
    func stream(media: String) -> HTTPResponder? {
        guard case .client(let responder) = origin else {
            fail(.pathNotFound)
            return nil
        }
        answered(self, .ok)
        responder.start(
            HTTPResponseHead(
                .ok,
                [
                    "Content-Type": media, "Cache-Control": "no-store", "X-Accel-Buffering": "no",
                    "X-Request-Id": requestID,
                ]))
        return responder
    }

    func answerNothing(_ fields: HTTPFields = [:]) {
        answer(AdminAnswer(status: .noContent, fields: fields, media: nil, body: []))
    }

    func fail(_ problem: AdminProblem) {
        answer(problem.answer(requestID: requestID))
    }

    func answer(_ answer: AdminAnswer) {
        guard let beforeAnswer else { return send(answer) }
        self.beforeAnswer = nil
        beforeAnswer(answer) { self.send(answer) }
    }

    private func send(_ answer: AdminAnswer) {
        answered(self, answer.status)
        switch origin {
        case .client(let responder): responder.respond(answer.head(requestID: requestID), body: answer.body)
        case .node(_, _, let deliver): deliver(answer)
        }
    }
}
