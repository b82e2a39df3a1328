internal import Console
internal import HTTP1
internal import HTTPServer

/// The web console: the files of the ``Console`` room, for which no token is needed.
extension AdminAPI {
    var consoleRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/", nil, media: .html) { call throws(AdminProblem) in
                try Self.answer(ConsoleFile.startPage, call)
            },
            AdminRoute(.get, "/console/{file}", nil, media: .file) { call throws(AdminProblem) in
                try Self.answer(call.pathParameters["file"] ?? "", call)
            },
        ]
    }

    /// What the browser may do with the files. Scripts and styles come from this node only, none stands
    /// inline, and no text is ever made markup (`trusted-types 'none'`): what a device calls itself can't
    /// run, whatever mistake the console makes. Nobody may frame it, so that no click is stolen.
    private static let protection: [(name: String, value: String)] = [
        (
            "Content-Security-Policy",
            """
            default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
            base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
            require-trusted-types-for 'script'; trusted-types 'none'
            """
        ),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]

    private static func answer(_ name: String, _ call: AdminCall) throws(AdminProblem) {
        guard let file = ConsoleFile.named(name) else { throw .pathNotFound }
        guard accepts(file.mediaType, call.request.fields) else { throw .notAcceptable }
        var fields = HTTPFields()
        for field in protection { fields.append(field.name, field.value) }
        fields.append("ETag", file.entityTag)
        // Kept, but asked for again each time: after an upgrade all files are of the same version.
        fields.append("Cache-Control", "no-cache")
        guard !isCurrent(file, call.request.fields.list("if-none-match")) else {
            return call.answer(.notModified, fields, media: nil, content: [])
        }
        call.answer(.ok, fields, media: "\(file.mediaType); charset=utf-8", content: file.content)
    }

    /// If-None-Match compares weakly (RFC 9110 section 13.1.2).
    private static func isCurrent(_ file: ConsoleFile, _ known: [String]) -> Bool {
        known.contains { $0 == "*" || $0 == file.entityTag || $0 == "W/" + file.entityTag }
    }
}
