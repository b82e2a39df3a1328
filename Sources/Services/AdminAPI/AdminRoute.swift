package import HTTP1

/// Where a request goes: one line of the table that `openapi.yaml` describes.
package final class AdminRoute {
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
        case html = "text/html"
        /// What the file is: the route looks at Accept itself.
        case file = "*/*"
        case events = "text/event-stream"
    }

    /// What nodes ask each other and no client can: it is no part of the API.
    static let innerEvents = "/internal/events"
    private static let innerSegment = "internal"

    static func isInner(_ segments: [String]) -> Bool { segments.first == innerSegment }

    package let method: HTTPMethod
    /// Segments between slashes; `{name}` stands for any one.
    package let path: String
    /// Nil: needs no token.
    package let scope: AdminScope?
    /// The query parameters there are, besides `reason` of unsafe calls.
    package let parameters: Set<String>
    let body: Body
    let media: Media
    let handle: (AdminCall) throws(AdminProblem) -> Void
    /// Its number in the table.
    fileprivate(set) var place = 0
    /// Which segments are what `{name}` stands for.
    fileprivate let names: [(name: String, segment: Int)]

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
        names = Self.segments(of: path).enumerated().compactMap { index, segment in
            segment.hasPrefix("{") ? (String(segment.dropFirst().dropLast()), index) : nil
        }
    }

    fileprivate static func segments(of path: String) -> [Substring] {
        path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    }

    var isSafe: Bool { method == .get }
}

/// What stands in a path where its route has `{name}`.
struct PathParameters {
    let route: AdminRoute?
    let segments: [String]

    subscript(name: String) -> String? {
        guard let found = route?.names.first(where: { $0.name == name }) else { return nil }
        return segments[found.segment]
    }
}

/// All routes, as a tree of their paths' segments: a search takes as many steps as the path has segments,
/// however many routes there are.
struct AdminRouteTable {
    enum Found {
        case route(AdminRoute)
        /// The path exists with other methods, in the form of an `Allow` field.
        case otherMethods(String)
        case nothing
    }

    private struct Node {
        var literals: [(text: String, node: Int)] = []
        /// What any segment but an empty one leads to.
        var parameter: Int?
        /// Places in `routes`.
        var routes: [Int] = []
    }

    let routes: [AdminRoute]
    private var nodes = [Node()]

    init(routes: [AdminRoute]) {
        self.routes = routes
        for (place, route) in routes.enumerated() {
            var node = 0
            route.place = place
            for segment in AdminRoute.segments(of: route.path) {
                node = child(of: node, String(segment))
            }
            nodes[node].routes.append(place)
        }
    }

    private mutating func child(of node: Int, _ segment: String) -> Int {
        if segment.hasPrefix("{") {
            if let parameter = nodes[node].parameter { return parameter }
            nodes[node].parameter = nodes.count
        } else {
            if let literal = nodes[node].literals.first(where: { $0.text == segment }) { return literal.node }
            nodes[node].literals.append((segment, nodes.count))
        }
        nodes.append(Node())
        return nodes.count - 1
    }

    /// A literal segment hides the parameter beside it: `/v1/conns/close` is no conn.
    func find(_ method: HTTPMethod, _ path: [String]) -> Found {
        guard let node = node(of: path), !nodes[node].routes.isEmpty else { return .nothing }
        // HEAD is GET without the content, which the server leaves out.
        let wanted = method == .head ? .get : method
        for place in nodes[node].routes where routes[place].method == wanted { return .route(routes[place]) }
        let allowed = nodes[node].routes.flatMap { place in
            routes[place].isSafe ? ["GET", "HEAD"] : [routes[place].method.name]
        }
        return .otherMethods(allowed.joined(separator: ", "))
    }

    private func node(of path: [String]) -> Int? {
        var node = 0
        for segment in path {
            if let literal = nodes[node].literals.first(where: { $0.text == segment }) {
                node = literal.node
            } else if let parameter = nodes[node].parameter, !segment.isEmpty {
                node = parameter
            } else {
                return nil
            }
        }
        return node
    }
}
