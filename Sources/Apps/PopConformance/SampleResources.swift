package import Domain
package import HTTP1
package import HTTPServer

/// The resources that HTTP suites ask for: `/`, `/echo` and `/cookie`.
package final class SampleResources: HTTPHandler {
    private static let ok = HTTPResponseHead(.ok, ["Content-Type": "text/plain"])
    private static let okBody = Array("OK".utf8)
    private static let rootMethods = "GET, HEAD, POST, OPTIONS"
    /// Suites announce contents of a gigabyte to see what happens: memory is taken for what arrives only.
    private static let contentBytes = 1 << 30

    package init() {}

    package func plan(forContentOf head: HTTPRequestHead, from peer: SocketAddress) -> HTTPContentPlan {
        .read(atMost: Self.contentBytes)
    }

    package func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        switch request.method {
        case .get, .head, .post, .options: break
        case .put, .patch, .delete, .connect, .trace: return refuseMethod(responder)
        // What nobody here knows is 501 on every path (RFC 9110 section 9.1).
        default: return responder.respond(.notImplemented)
        }
        if request.target.form == .asterisk { return answerOptions(responder) }
        switch request.target.path {
        case "/": answerRoot(request, responder)
        case "/echo": responder.respond(Self.ok, body: headerLines(request))
        case "/cookie": responder.respond(Self.ok, body: cookieLines(request))
        // As the admin API has it: a path that is no text names nothing.
        default: responder.respond(request.target.pathSegments == nil ? .badRequest : .notFound)
        }
    }

    private func answerRoot(_ request: HTTPRequest, _ responder: HTTPResponder) {
        switch request.method {
        case .get, .head: responder.respond(Self.ok, body: Self.okBody)
        case .post:
            let type = request.fields["content-type"] ?? "application/octet-stream"
            responder.respond(.ok, ["Content-Type": type], body: request.body)
        default: answerOptions(responder)
        }
    }

    private func answerOptions(_ responder: HTTPResponder) {
        responder.respond(.noContent, ["Allow": Self.rootMethods])
    }

    private func refuseMethod(_ responder: HTTPResponder) {
        responder.respond(.methodNotAllowed, ["Allow": Self.rootMethods])
    }

    private func headerLines(_ request: HTTPRequest) -> [UInt8] {
        Array(request.fields.map { "\($0.name): \($0.value)\n" }.joined().utf8)
    }

    /// The pairs of Cookie (RFC 6265 section 4.2.1), a line each; what is no pair is left out.
    private func cookieLines(_ request: HTTPRequest) -> [UInt8] {
        let pairs = request.fields.values(of: "cookie").flatMap { $0.split(separator: ";") }
        let lines = pairs.compactMap { pair -> String? in
            let text = pair.drop { $0 == " " }
            guard let mark = text.firstIndex(of: "="), mark != text.startIndex else { return nil }
            return text + "\n"
        }
        return Array(lines.joined().utf8)
    }
}
