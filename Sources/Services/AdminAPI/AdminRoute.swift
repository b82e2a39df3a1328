package import HTTP1

/// Where a request goes: one line of the table that `openapi.yaml` describes.
package struct AdminRoute {
    /// What of a body a request may have.
    enum Body {
        /// Nothing but `reason`; may be left out.
        case reasonOnly
        /// An object; may be left out.
        case optional
        case required
    }

    /// What an answer is made of.
    enum Media: String {
        case json = "application/json"
        case yaml = "application/yaml"
        case metrics = "text/plain"
    }

    package let method: HTTPMethod
    /// Segments between slashes; `{name}` stands for any one.
    package let path: String
    /// Nil: needs no token.
    package let scope: AdminScope?
    /// The query parameters there are, besides `reason` of unsafe calls.
    let parameters: Set<String>
    let body: Body
    let media: Media
    let handle: (AdminCall) throws(AdminProblem) -> Void

    let segments: [Substring]

    init(
        _ method: HTTPMethod, _ path: String, _ scope: AdminScope?, parameters: Set<String> = [],
        body: Body = .reasonOnly, media: Media = .json,
        handle: @escaping (AdminCall) throws(AdminProblem) -> Void
    ) {
        self.method = method
        self.path = path
        self.scope = scope
        self.parameters = parameters
        self.body = body
        self.media = media
        self.handle = handle
        segments = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    }

    var isSafe: Bool { method == .get }

    /// The values of the `{name}` segments when the path fits; nil otherwise.
    func match(_ path: [String]) -> [String: String]? {
        guard path.count == segments.count else { return nil }
        var values: [String: String] = [:]
        for (segment, part) in zip(segments, path) {
            if segment.hasPrefix("{") {
                guard !part.isEmpty else { return nil }
                values[String(segment.dropFirst().dropLast())] = part
            } else if segment != part {
                return nil
            }
        }
        return values
    }
}

/// All routes, and the search among them.
struct AdminRouteTable {
    enum Found {
        case route(AdminRoute, parameters: [String: String])
        /// The path exists with other methods, in the form of an `Allow` field.
        case otherMethods(String)
        case nothing
    }

    let routes: [AdminRoute]

    func find(_ method: HTTPMethod, _ path: [String]) -> Found {
        // HEAD is GET without the content, which the server leaves out.
        let wanted = method == .head ? .get : method
        var allowed: [String] = []
        for route in routes {
            guard let parameters = route.match(path) else { continue }
            if route.method == wanted { return .route(route, parameters: parameters) }
            if route.isSafe { allowed += ["GET", "HEAD"] } else { allowed.append(route.method.name) }
        }
        return allowed.isEmpty ? .nothing : .otherMethods(allowed.joined(separator: ", "))
    }
}
