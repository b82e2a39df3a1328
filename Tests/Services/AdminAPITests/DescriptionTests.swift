import AdminAPI
import HTTP1
import Testing

/// `openapi.yaml`, as the node serves it, against the table of routes. Answers are held against its schemas by
/// `scripts/conformance-api`.
struct DescriptionTests {
    /// What the test reads of an operation; the file is written so that its lines tell.
    private struct Operation {
        var scope = ""
        var queryParameters: Set<String> = []
        var headerParameters: Set<String> = []
        var statuses: Set<String> = []
    }

    private let bench: AdminBench
    private let lines: [(indent: Int, text: String)]

    init() throws {
        bench = try AdminBench()
        let answer = try bench.get("/v1/openapi.yaml")
        #expect(answer.fields["content-type"] == "application/yaml")
        lines = String(decoding: answer.body, as: UTF8.self).split(separator: "\n").map { line in
            let text = line.drop { $0 == " " }
            return (line.count - text.count, String(text))
        }
    }

    /// Name and place of the parameters that operations refer to.
    private var parameters: [String: (name: String, place: String)] {
        var result: [String: (name: String, place: String)] = [:]
        var isInside = false
        var key = ""
        for (indent, text) in lines {
            if indent == 2 { isInside = text == "parameters:" }
            guard isInside else { continue }
            if indent == 4 {
                key = String(text.dropLast())
                result[key] = ("", "")
            }
            if indent == 6, text.hasPrefix("name: ") { result[key]?.name = String(text.dropFirst(6)) }
            if indent == 6, text.hasPrefix("in: ") { result[key]?.place = String(text.dropFirst(4)) }
        }
        return result
    }

    private var operations: [String: Operation] {
        let parameters = parameters
        var result: [String: Operation] = [:]
        var (path, key, inlineName) = ("", "", "")
        for (indent, text) in lines {
            switch indent {
            case 0: path = ""
            case 2 where text.hasPrefix("/"): path = String(text.dropLast())
            case 4 where !path.isEmpty:
                key = text.dropLast().uppercased() + " " + path
                result[key] = Operation()
            case 6 where text == "security: []": result[key]?.scope = "none"
            case 8 where text.hasPrefix("- bearer: ["):
                result[key]?.scope = String(text.dropFirst("- bearer: [".count).dropLast())
            case 8 where text.hasPrefix("- name: "): inlineName = String(text.dropFirst(8))
            case 10 where text == "in: query": result[key]?.queryParameters.insert(inlineName)
            case 8 where text.hasPrefix("- $ref: \"#/components/parameters/"):
                let name = text.split(separator: "/").last.map { String($0.dropLast()) } ?? ""
                let parameter = parameters[name]
                #expect(parameter != nil, "\(key) refers to \(name)")
                if parameter?.place == "query" { result[key]?.queryParameters.insert(parameter?.name ?? "") }
                if parameter?.place == "header" {
                    result[key]?.headerParameters.insert(parameter?.name ?? "")
                }
            case 8 where !path.isEmpty && text.hasPrefix("\""):
                result[key]?.statuses.insert(String(text.dropFirst().prefix(3)))
            default: break
            }
        }
        return result
    }

    @Test func itHasEveryRouteWithItsScopeAndParameters() throws {
        let operations = operations
        #expect(operations.count == bench.api.routes.count)
        for route in bench.api.routes {
            let key = "\(route.method) \(route.path)"
            let operation = try #require(operations[key], "\(key) is not described")
            #expect(operation.scope == route.scope?.rawValue ?? "none", "\(key)")
            let reason: Set<String> = route.method.isUnsafe ? ["reason"] : []
            #expect(operation.queryParameters == route.parameters.union(reason), "\(key)")
        }
    }

    @Test func itTellsWhatAllOperationsHaveInCommon() throws {
        let operations = operations
        for route in bench.api.routes {
            let key = "\(route.method) \(route.path)"
            let operation = try #require(operations[key])
            var statuses: Set<String> = ["400", "406", "422"]
            var headers: Set<String> = ["X-Request-Id"]
            if route.scope != nil { statuses.formUnion(["401", "403", "429", "500"]) }
            if route.path.contains("{") { statuses.insert("404") }
            if route.method.isUnsafe {
                statuses.formUnion(["409", "413", "415", "503"])
                headers.insert("Idempotency-Key")
            }
            if operation.headerParameters.contains("If-Match") { statuses.insert("412") }
            #expect(statuses.subtracting(operation.statuses) == [], "\(key)")
            #expect(headers.subtracting(operation.headerParameters) == [], "\(key)")
            // Operations on what has versions.
            let isVersioned =
                route.method.isUnsafe
                && (route.path.hasPrefix("/v1/devices/") || route.path.hasSuffix("/drain"))
            #expect(operation.headerParameters.contains("If-Match") == isVersioned, "\(key)")
        }
    }
}
