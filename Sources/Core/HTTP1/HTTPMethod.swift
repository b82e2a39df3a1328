/// A request method (RFC 9110 section 9); case-sensitive, any token.
package struct HTTPMethod: Sendable, Hashable, CustomStringConvertible, ExpressibleByStringLiteral {
    package let name: String

    package init(_ name: String) {
        self.name = name
    }

    package init(stringLiteral name: String) {
        self.name = name
    }

    package var description: String { name }

    package static let get = HTTPMethod("GET")
    package static let head = HTTPMethod("HEAD")
    package static let post = HTTPMethod("POST")
    package static let put = HTTPMethod("PUT")
    package static let patch = HTTPMethod("PATCH")
    package static let delete = HTTPMethod("DELETE")
    package static let options = HTTPMethod("OPTIONS")
    package static let connect = HTTPMethod("CONNECT")
    package static let trace = HTTPMethod("TRACE")

    /// Whether it may change something (RFC 9110 section 9.2.1); true for methods that are not known here.
    package var isUnsafe: Bool {
        switch self {
        case .get, .head, .options, .trace: false
        default: true
        }
    }
}

/// The versions spoken here (RFC 9112 section 2.3); a higher minor version counts as 1.1.
package enum HTTPVersion: Sendable, Hashable {
    case http10
    case http11
}
