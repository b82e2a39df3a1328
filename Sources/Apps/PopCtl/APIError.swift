internal import HTTP1
internal import JSON

/// A refusal by the server: its problem document (RFC 9457), as far as it sent one.
struct APIProblem: Sendable {
    let status: UInt16
    /// For programs; nil where something else than our API has answered.
    let code: String?
    private let detail: String?
    private let faults: [(field: String, message: String)]
    private let requestID: String?
    /// What the call has made.
    private let location: String?
    /// Conns that were closed at the nodes that did answer.
    private let closedElsewhere: Int64?
    /// When to come again, in seconds.
    let retryAfter: Int64?

    init(_ head: HTTPResponseHead, _ document: JSONValue) {
        status = head.status.code
        code = document["code"]?.string
        detail = document["detail"]?.string ?? document["title"]?.string
        faults = (document["errors"]?.array ?? []).map {
            ($0["field"]?.string ?? "", $0["message"]?.string ?? "")
        }
        requestID = document["request_id"]?.string ?? head.fields["x-request-id"]
        location = head.fields["location"]
        closedElsewhere = document["closed"]?.integer
        retryAfter = head.fields["retry-after"].flatMap { Int64($0) }
    }

    /// Whether the same call may succeed a moment later.
    var isTransient: Bool { [429, 502, 503, 504].contains(status) }

    var text: String {
        var lines = ["\(code ?? "error"): \(detail ?? "the server answered \(status)") (\(status))"]
        for fault in faults {
            lines.append(fault.field.isEmpty ? fault.message : "\(fault.field): \(fault.message)")
        }
        if let hint { lines.append(hint) }
        if let requestID { lines.append("request id: \(requestID)") }
        return lines.joined(separator: "\n  ")
    }

    private var hint: String? {
        let again = retryAfter.map { "try again in \($0) s" }
        return switch status {
        case 401: "give an admin token that is valid: POP_TOKEN, --token-file or --token"
        case 403: "the token is valid, but its scope does not allow this"
        case 429: "too many calls" + (again.map { ": \($0)" } ?? "")
        case 504 where code == "node_timeout":
            "look what has become of it"
                + (closedElsewhere.map { "; the other nodes closed \($0)" } ?? "")
        case 409 where code == "secret_shown_once":
            "the answer with the secret was lost on its way"
                + (location.map { "; what it is of: \($0)" } ?? "; make another")
        default: again
        }
    }
}

/// Why a call brought no result.
enum APIError: Error, CustomStringConvertible {
    /// The server could not be reached, or broke off.
    case unreachable(server: String, cause: String)
    case refused(APIProblem)
    /// The server's answer is not what the API promises.
    case unexpected(String)
    /// Certificates that we were told to use or to trust can't be used.
    case certificates(String)
    /// What was waited for did not come about.
    case gaveUp(String)
    /// The operator has ended the call.
    case interrupted

    var description: String {
        switch self {
        case .unreachable(let server, let cause): "can't reach \(server): \(cause)"
        case .refused(let problem): problem.text
        case .unexpected(let what): "unexpected answer: \(what)"
        case .certificates(let cause): cause
        case .gaveUp(let why): why
        case .interrupted: "interrupted"
        }
    }

    /// Whether the same call may succeed a moment later.
    var isTransient: Bool {
        switch self {
        case .unreachable: true
        case .refused(let problem): problem.isTransient
        default: false
        }
    }
}
