internal import Domain
internal import HTTP1
internal import HTTPServer
internal import JSON

/// One request on its way to its answer.
package final class AdminCall {
    let request: HTTPRequest
    let requestID: String
    let pathParameters: [String: String]
    let query: AdminQuery
    /// An empty object where there was none.
    let body: AdminBody
    let principal: AdminPrincipal
    /// Why the caller says it asks: of the body, or else of the query; empty for no reason.
    let reason: String
    /// What is wrong with query and body, as far as they have been read.
    let faults: AdminFaults
    private let responder: HTTPResponder
    private let answered: (HTTPStatus) -> Void

    init(
        request: HTTPRequest, requestID: String, pathParameters: [String: String], query: AdminQuery,
        body: AdminBody, principal: AdminPrincipal, faults: AdminFaults, responder: HTTPResponder,
        answered: @escaping (HTTPStatus) -> Void
    ) {
        self.request = request
        self.requestID = requestID
        self.pathParameters = pathParameters
        self.query = query
        self.body = body
        self.principal = principal
        self.faults = faults
        reason = Self.reason(query, body)
        self.responder = responder
        self.answered = answered
    }

    /// Longer ones are no reason but a document.
    private static let longestReason = 1_024

    private static func reason(_ query: AdminQuery, _ body: AdminBody) -> String {
        let told = query.string("reason", maximumBytes: longestReason)
        return body.string("reason", maximumBytes: longestReason) ?? told ?? ""
    }

    // MARK: Reading

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

    /// Refuses a call that is about another version than the current one (RFC 9110 section 13.1.1).
    func requireMatch(_ tag: String) throws(AdminProblem) {
        let wanted = request.fields.list("if-match")
        guard wanted.isEmpty || wanted.contains("*") || wanted.contains(tag) else { throw .stale }
    }

    // MARK: Answering

    func answer(_ status: HTTPStatus = .ok, _ fields: HTTPFields = [:], _ write: (inout JSONWriter) -> Void) {
        var writer = JSONWriter()
        writer.reserveCapacity(1_024)
        write(&writer)
        respond(status, fields, media: "application/json", body: writer.bytes)
    }

    func answer(text: [UInt8], media: String) {
        respond(.ok, [:], media: media, body: text)
    }

    /// Answers with content that says itself how long it may be kept.
    func answer(_ status: HTTPStatus, _ fields: HTTPFields, media: String?, content: [UInt8]) {
        respond(status, fields, media: media, body: content)
    }

    /// Begins an answer in pieces.
    func stream(media: String) -> HTTPResponder {
        answered(.ok)
        responder.start(
            HTTPResponseHead(
                .ok,
                [
                    "Content-Type": media, "Cache-Control": "no-store", "X-Accel-Buffering": "no",
                    "X-Request-Id": requestID,
                ]))
        return responder
    }

    func answerNothing() {
        respond(.noContent, [:], media: nil, body: [])
    }

    func fail(_ problem: AdminProblem) {
        var fields = HTTPFields()
        for field in problem.fields { fields.append(field.name, field.value) }
        respond(
            problem.status, fields, media: "application/problem+json",
            body: problem.document(requestID: requestID))
    }

    private func respond(_ status: HTTPStatus, _ fields: HTTPFields, media: String?, body: [UInt8]) {
        var fields = fields
        if let media { fields.append("Content-Type", media) }
        if !fields.contains("cache-control") { fields.append("Cache-Control", "no-store") }
        fields.append("X-Request-Id", requestID)
        answered(status)
        responder.respond(status, fields, body: body)
    }
}
