internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTP1
internal import HTTPConnect
internal import JSON

/// What a client of HTTP CONNECT is told: a problem document (RFC 9457) with Proxy-Status (RFC 9209).
struct ConnectAnswer {
    private let status: HTTPStatus
    private let code: String
    private let detail: String
    private let proxyError: String
    private var fields = HTTPFields()

    private init(_ status: HTTPStatus, _ code: String, _ detail: String, _ proxyError: String) {
        self.status = status
        self.code = code
        self.detail = detail
        self.proxyError = proxyError
    }

    init(_ refusal: IngressRefusal) {
        self.init(refusal.status, refusal.code, refusal.detail, refusal.proxyError)
        if let seconds = refusal.retryAfterSeconds { fields.append("Retry-After", "\(seconds)") }
    }

    init(_ fault: ConnectFault) {
        switch fault {
        case .malformed(let fault):
            self.init(fault.status, fault.code, fault.explanation, "http_request_error")
        case .otherMethod:
            self.init(
                .methodNotAllowed, "method_not_allowed",
                "This proxy carries CONNECT alone; plain requests are not forwarded.", "http_request_error")
            fields.append("Allow", "CONNECT")
        case .badTarget:
            self.init(
                .badRequest, "bad_target", "The target of CONNECT must be host:port.", "http_request_error")
        }
    }

    static let credentialsNeeded = challenge("credentials_required", "A user name and password are needed.")
    static let credentialsRefused = challenge(
        "invalid_credentials", "The user name, its parameters or the password are not valid.")

    private static func challenge(_ code: String, _ detail: String) -> ConnectAnswer {
        var answer = ConnectAnswer(.proxyAuthenticationRequired, code, detail, "http_request_denied")
        answer.fields.append("Proxy-Authenticate", #"Basic realm="pop", charset="UTF-8""#)
        return answer
    }

    /// The head of the answer to a client whose target is reached; bytes of the target follow it.
    static func established(_ placement: Placement) -> [UInt8] {
        var output: [UInt8] = []
        let fields: HTTPFields = [
            "Pop-Device": placement.deviceID.description, "Pop-Conn-Id": placement.connID.description,
        ]
        ResponseEncoder.encodeSwitch(HTTPResponseHead(.ok, fields), date: date, into: &output)
        return output
    }

    func encoded(_ form: ConnectAnswerForm) -> [UInt8] {
        var fields = fields
        fields.append("Content-Type", "application/problem+json")
        fields.append("Proxy-Status", #"pop-node; error=\#(proxyError); details="\#(code)""#)
        fields.append("Cache-Control", "no-store")
        let body = document
        var persists = form.persists
        var output: [UInt8] = []
        let content = ResponseEncoder.encode(
            HTTPResponseHead(status, fields), to: form.request, length: body.count, keepsAlive: &persists,
            date: Self.date, into: &output)
        if content == .plain { output += body }
        return output
    }

    private static var date: [UInt8] { Array(SystemClock.wall.imfFixdate.utf8) }

    private var document: [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.name("type")
        writer.string("about:blank")
        writer.name("title")
        writer.string(status.reasonPhrase)
        writer.name("status")
        writer.integer(status.code)
        writer.name("code")
        writer.string(code)
        writer.name("detail")
        writer.string(detail)
        writer.endObject()
        return writer.bytes
    }
}
