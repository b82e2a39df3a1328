internal import Domain

/// How a message's content is delimited (RFC 9112 section 6.3).
package enum BodyFraming: Sendable, Hashable {
    case none
    case length(Int)
    case chunked
    /// Responses only: until the server closes.
    case untilClose
}

/// A request's line and fields, whose framing is checked.
package struct HTTPRequestHead: Sendable, Equatable {
    package var method: HTTPMethod
    package var target: RequestTarget
    package var version: HTTPVersion
    package var fields: HTTPFields
    package var framing: BodyFraming
    /// The client wants the connection to be kept (RFC 9112 section 9.3).
    package var keepsAlive: Bool
    /// The client waits for 100 (Continue) before it sends the content (RFC 9110 section 10.1.1).
    package var expectsContinue: Bool
    /// The client offers another protocol in Upgrade, and says so in Connection (RFC 9110 section 7.8).
    package var offersUpgrade: Bool

    package init(
        method: HTTPMethod, target: RequestTarget, version: HTTPVersion = .http11, fields: HTTPFields,
        framing: BodyFraming = .none, keepsAlive: Bool = true, expectsContinue: Bool = false,
        offersUpgrade: Bool = false
    ) {
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.framing = framing
        self.keepsAlive = keepsAlive
        self.expectsContinue = expectsContinue
        self.offersUpgrade = offersUpgrade
    }

    /// The host and port that the client asked: of the target when it has one, of Host otherwise.
    package var authority: String? { target.authority ?? fields["host"] }
}

/// A response's status and fields.
package struct HTTPResponseHead: Sendable, Equatable {
    package var status: HTTPStatus
    package var fields: HTTPFields

    package init(_ status: HTTPStatus, _ fields: HTTPFields = [:]) {
        self.status = status
        self.fields = fields
    }
}

/// What a peer's message did wrong. The peer is at fault in every case.
package enum HTTPFault: String, Error, Countable {
    case malformedRequestLine = "malformed_request_line"
    case malformedStatusLine = "malformed_status_line"
    case malformedMethod = "malformed_method"
    case malformedTarget = "malformed_target"
    case targetTooLong = "target_too_long"
    case unsupportedVersion = "unsupported_version"
    /// A bare CR or LF, a line that starts with white space, no colon, or a name that is no token.
    case malformedField = "malformed_field"
    case fieldSectionTooLarge = "field_section_too_large"
    case tooManyFields = "too_many_fields"
    /// A field that has one meaning came twice.
    case repeatedField = "repeated_field"
    /// None, more than one, or one that is no host (RFC 9112 section 3.2).
    case malformedHost = "malformed_host"
    case malformedContentLength = "malformed_content_length"
    case malformedTransferEncoding = "malformed_transfer_encoding"
    case unsupportedTransferEncoding = "unsupported_transfer_encoding"
    /// Content-Length together with Transfer-Encoding.
    case ambiguousLength = "ambiguous_length"
    /// Content in a request that can't have any (CONNECT).
    case unexpectedContent = "unexpected_content"
    case unknownExpectation = "unknown_expectation"
    case contentTooLarge = "content_too_large"
    case malformedChunk = "malformed_chunk"
    case forbiddenTrailer = "forbidden_trailer"
    /// The time for a whole request was over.
    case requestTooSlow = "request_too_slow"
    /// Our client: more 1xx responses than any server sends, or 101 without having asked for it.
    case unexpectedInterimResponse = "unexpected_interim_response"
    /// Our client: the server closed in the middle of a response.
    case truncated

    /// What a server answers, closing after it.
    package var status: HTTPStatus {
        switch self {
        case .targetTooLong: .uriTooLong
        case .unsupportedVersion: .versionNotSupported
        case .fieldSectionTooLarge, .tooManyFields: .requestHeaderFieldsTooLarge
        case .unsupportedTransferEncoding: .notImplemented
        case .unknownExpectation: .expectationFailed
        case .contentTooLarge: .contentTooLarge
        case .requestTooSlow: .requestTimeout
        default: .badRequest
        }
    }

    /// The stable, machine-readable word for the answer's problem document.
    package var code: String {
        switch status.code {
        case 408: "request_timeout"
        case 413: "content_too_large"
        case 414: "uri_too_long"
        case 417: "expectation_failed"
        case 431: "request_header_fields_too_large"
        case 501: "not_implemented"
        case 505: "http_version_not_supported"
        default: "bad_request"
        }
    }

    /// A sentence for people.
    package var explanation: String {
        switch self {
        case .malformedRequestLine: "The request line is malformed."
        case .malformedStatusLine: "The status line is malformed."
        case .malformedMethod: "The method is malformed."
        case .malformedTarget: "The request target is malformed."
        case .targetTooLong: "The request line is too long."
        case .unsupportedVersion: "The HTTP version is not supported."
        case .malformedField: "A field line is malformed."
        case .fieldSectionTooLarge: "The fields are too large."
        case .tooManyFields: "There are too many fields."
        case .repeatedField: "A field that may occur once is repeated."
        case .malformedHost: "Host is missing, repeated or malformed."
        case .malformedContentLength: "Content-Length is malformed."
        case .malformedTransferEncoding: "Transfer-Encoding is malformed."
        case .unsupportedTransferEncoding: "The transfer coding is not supported."
        case .ambiguousLength: "Content-Length and Transfer-Encoding exclude each other."
        case .unexpectedContent: "The request must not have content."
        case .unknownExpectation: "The expectation is unknown."
        case .contentTooLarge: "The content is too large."
        case .malformedChunk: "The chunked content is malformed."
        case .forbiddenTrailer: "A field is not allowed in the trailer section."
        case .requestTooSlow: "The request took too long."
        case .unexpectedInterimResponse: "The interim response was not expected."
        case .truncated: "The message ended too early."
        }
    }
}
