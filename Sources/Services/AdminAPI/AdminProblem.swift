internal import Domain
package import HTTP1
package import JSON
internal import Store

/// An answer other than success, as a problem document (RFC 9457).
package struct AdminProblem: Error, Sendable, Equatable {
    /// One thing that is wrong with a request's query or body.
    package struct Fault: Sendable, Hashable {
        /// The parameter, or the member's path in the body; empty for the whole body.
        package let field: String
        package let message: String

        package init(_ field: String, _ message: String) {
            self.field = field
            self.message = message
        }
    }

    package let status: HTTPStatus
    /// Stable, for programs.
    package let code: String
    /// A sentence for people.
    package let detail: String
    package var errors: [Fault] = []
    package var fields: [(name: String, value: String)] = []
    package var members: [JSONMember] = []
    /// Nothing was done: the same call may well have another answer later.
    package var isPassing = false
    /// Nobody can tell whether what was asked has been done, or is being done.
    package var isUncertain = false

    package init(_ status: HTTPStatus, _ code: String, _ detail: String) {
        self.status = status
        self.code = code
        self.detail = detail
    }

    package static func == (lhs: AdminProblem, rhs: AdminProblem) -> Bool {
        lhs.status == rhs.status && lhs.code == rhs.code && lhs.detail == rhs.detail
            && lhs.errors == rhs.errors
    }

    /// The same, of a call that may be sent again with its Idempotency-Key.
    var passing: AdminProblem {
        var problem = self
        problem.isPassing = true
        return problem
    }

    func adding(_ name: String, _ value: String) -> AdminProblem {
        var problem = self
        problem.fields.append((name, value))
        return problem
    }

    func answer(requestID: String) -> AdminAnswer {
        var fields = HTTPFields()
        for field in self.fields { fields.append(field.name, field.value) }
        return AdminAnswer(
            status: status, fields: fields, media: "application/problem+json",
            body: document(requestID: requestID), isPassing: isPassing, isUncertain: isUncertain)
    }

    private func document(requestID: String) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.field("type", "about:blank")
        writer.field("title", status.reasonPhrase)
        writer.field("status", status.code)
        writer.field("code", code)
        writer.field("detail", detail)
        writer.field("request_id", requestID)
        if !errors.isEmpty {
            writer.name("errors")
            writer.beginArray()
            for error in errors {
                writer.beginObject()
                writer.field("field", error.field)
                writer.field("message", error.message)
                writer.endObject()
            }
            writer.endArray()
        }
        for member in members {
            writer.name(anything: member.name)
            writer.value(member.value)
        }
        writer.endObject()
        return writer.bytes
    }
}

// MARK: The problems there are

extension AdminProblem {
    /// How long a client should wait for the database: it is tried again about every second.
    private static let retryAfterSeconds = "2"

    static func invalid(_ errors: [Fault]) -> AdminProblem {
        var problem = AdminProblem(
            .unprocessableContent, "validation_failed",
            "The request has \(errors.count) invalid value\(errors.count == 1 ? "" : "s").")
        problem.errors = errors
        problem.isPassing = true
        return problem
    }

    static func invalid(_ field: String, _ message: String) -> AdminProblem {
        invalid([Fault(field, message)])
    }

    static let badTarget = AdminProblem(.badRequest, "bad_request", "The path or query can't be decoded.")
    static let pathNotFound = AdminProblem(.notFound, "not_found", "There is nothing at this path.")
    static let deviceNotFound = AdminProblem(.notFound, "device_not_found", "There is no such device.")
    static let nodeNotFound = AdminProblem(.notFound, "node_not_found", "There is no such node.")
    static let connNotFound = AdminProblem(.notFound, "conn_not_found", "There is no such live conn.")
    static let tokenNotFound = AdminProblem(.notFound, "token_not_found", "There is no such token.")
    static let deviceTokenNotFound = AdminProblem(
        .notFound, "token_not_found", "The device has no token.")
    static let tooManyTokens = AdminProblem(
        .conflict, "too_many_tokens", "There are as many tokens as there may be: delete those not needed.")
    static let keyInFlight = AdminProblem(
        .conflict, "idempotency_key_in_flight", "A call with this Idempotency-Key is being done."
    ).adding("Retry-After", "1")
    static let keyReused = AdminProblem(
        .unprocessableContent, "idempotency_key_reused",
        "This Idempotency-Key was used for another call: each call needs its own.")
    static let secretWasShown = AdminProblem(
        .conflict, "secret_shown_once",
        "The call was done; its answer held a secret, which is shown once and can't be repeated.")
    static let deviceOffline = AdminProblem(.conflict, "device_offline", "The device is not connected.")
    static let stale = AdminProblem(
        .preconditionFailed, "precondition_failed", "The resource is not as If-Match says.")
    static let notAcceptable = AdminProblem(
        .notAcceptable, "not_acceptable", "No form that Accept asks for is there.")
    static let unsupportedMediaType = AdminProblem(
        .unsupportedMediaType, "unsupported_media_type", "The body must be application/json in UTF-8.")
    static let unauthorized = AdminProblem(
        .unauthorized, "unauthorized", "A bearer token is needed."
    ).adding("WWW-Authenticate", #"Bearer realm="pop""#)
    static let badToken = AdminProblem(
        .unauthorized, "invalid_token", "The bearer token is not valid."
    ).adding("WWW-Authenticate", #"Bearer realm="pop", error="invalid_token""#)
    static let tooManyReaders = AdminProblem(
        .serviceUnavailable, "too_many_readers", "As many read events as this node serves at once."
    ).adding("Retry-After", "30")
    static let nodeUnreachable = AdminProblem(
        .serviceUnavailable, "node_unreachable",
        "The node that holds what was asked for can't be reached: nothing was done."
    ).adding("Retry-After", "5")
    static let tooManyNodeRequests = AdminProblem(
        .serviceUnavailable, "too_many_node_requests",
        "As many calls wait for other nodes as may: nothing was done."
    ).adding("Retry-After", "2")
    static let deviceMoved = AdminProblem(
        .conflict, "device_moved", "The device has moved to another node meanwhile: try again."
    ).passing.adding("Retry-After", "1")
    static let answerTooLarge = AdminProblem(
        .internalServerError, "internal_error", "The node's answer is too large to be passed on.")

    /// Nodes that are live have not answered in time.
    ///
    /// - Parameter done: members that tell what the others have done.
    static func nodeTimeout(_ nodes: [NodeID], done: [JSONMember] = []) -> AdminProblem {
        let names = nodes.map(\.description)
        var problem = AdminProblem(
            .gatewayTimeout, "node_timeout",
            "No answer in time from \(names.joined(separator: ", ")): what was asked may have been done there."
        )
        problem.members = done + [JSONMember("nodes", .array(names.map { .string($0) }))]
        problem.isUncertain = true
        return problem
    }

    /// The same of a question to all nodes, of which only these were not asked.
    func notAsked(_ nodes: [NodeID], done: [JSONMember]) -> AdminProblem {
        let names = nodes.map(\.description)
        var problem = AdminProblem(
            status, code, "\(names.joined(separator: ", ")) could not be asked: nothing was done there.")
        problem.fields = fields
        problem.members = done + [JSONMember("nodes", .array(names.map { .string($0) }))]
        return problem
    }

    static func tooManyFailures(_ wait: Duration) -> AdminProblem {
        let seconds = max(1, (wait.milliseconds + 999) / 1_000)
        return AdminProblem(
            .tooManyRequests, "too_many_failures",
            "Too many invalid tokens came from this address: try again in \(seconds) s."
        ).adding("Retry-After", "\(seconds)")
    }

    static func methodNotAllowed(_ allowed: String) -> AdminProblem {
        AdminProblem(
            .methodNotAllowed, "method_not_allowed", "This path has \(allowed) only."
        ).adding("Allow", allowed)
    }

    static func forbidden(_ scope: AdminScope) -> AdminProblem {
        AdminProblem(.forbidden, "forbidden", "The token needs the scope \(scope.rawValue).").adding(
            "WWW-Authenticate",
            #"Bearer realm="pop", error="insufficient_scope", scope="\#(scope.rawValue)""#)
    }

    init(_ failure: StoreFailure) {
        switch failure {
        case .unavailable:
            self = AdminProblem(
                .serviceUnavailable, "database_unavailable", "The database can't be reached at the moment."
            ).adding("Retry-After", Self.retryAfterSeconds)
        case .inDoubt:
            self = AdminProblem(
                .serviceUnavailable, "outcome_unknown",
                "The database has not answered in time: the change may have been made, or may yet be."
            ).adding("Retry-After", Self.retryAfterSeconds)
            isUncertain = true
        case .invalidCursor:
            self = .invalid("cursor", "does not belong to this list")
        case .failed:
            // The cause may quote SQL: it is for the log.
            self = AdminProblem(.internalServerError, "internal_error", "The database refused the query.")
        }
    }
}
