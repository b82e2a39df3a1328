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
        case html = "text/html"
        /// What the file is: the route looks at Accept itself.
        case file = "*/*"
        case events = "text/event-stream"
    }

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
    }

    var isSafe: Bool { method == .get }
}

/// All routes, as a tree of their paths' segments: a search takes as many steps as the path has segments,
/// however many routes there are.
struct AdminRouteTable {
    enum Found {
        case route(AdminRoute, parameters: [String: String])
        /// The path exists with other methods, in the form of an `Allow` field.
        case otherMethods(String)
        case nothing
    }

    private struct Node {
        var literals: [(text: String, node: Int)] = []
        /// What any segment but an empty one leads to, and what it is the value of.
        var parameter: (name: String, node: Int)?
        /// Places in `routes`.
        var routes: [Int] = []
    }

    let routes: [AdminRoute]
    private var nodes = [Node()]

    init(routes: [AdminRoute]) {
        self.routes = routes
        for (place, route) in routes.enumerated() {
            var node = 0
            for segment in route.path.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
                node = child(of: node, String(segment))
            }
            nodes[node].routes.append(place)
        }
    }

    private mutating func child(of node: Int, _ segment: String) -> Int {
        if segment.hasPrefix("{") {
            if let parameter = nodes[node].parameter { return parameter.node }
            nodes[node].parameter = (String(segment.dropFirst().dropLast()), nodes.count)
        } else {
            if let literal = nodes[node].literals.first(where: { $0.text == segment }) { return literal.node }
            nodes[node].literals.append((segment, nodes.count))
        }
        nodes.append(Node())
        return nodes.count - 1
    }

    /// A literal segment hides the parameter beside it: `/v1/conns/close` is no conn.
    func find(_ method: HTTPMethod, _ path: [String]) -> Found {
        // HEAD is GET without the content, which the server leaves out.
        let wanted = method == .head ? .get : method
        var others: [Int] = []
        var parameters: [String: String] = [:]
        if let place = search(wanted, path, 0, from: 0, &parameters, &others) {
            return .route(routes[place], parameters: parameters)
        }
        guard !others.isEmpty else { return .nothing }
        let allowed = others.sorted().flatMap { place in
            routes[place].isSafe ? ["GET", "HEAD"] : [routes[place].method.name]
        }
        return .otherMethods(allowed.joined(separator: ", "))
    }

    private func search(
        _ method: HTTPMethod, _ path: [String], _ depth: Int, from node: Int,
        _ parameters: inout [String: String], _ others: inout [Int]
    ) -> Int? {
        guard depth < path.count else {
            for place in nodes[node].routes where routes[place].method == method { return place }
            others += nodes[node].routes
            return nil
        }
        let segment = path[depth]
        for literal in nodes[node].literals where literal.text == segment {
            return search(method, path, depth + 1, from: literal.node, &parameters, &others)
        }
        guard let (name, next) = nodes[node].parameter, !segment.isEmpty,
            let place = search(method, path, depth + 1, from: next, &parameters, &others)
        else { return nil }
        parameters[name] = segment
        return place
    }
}
