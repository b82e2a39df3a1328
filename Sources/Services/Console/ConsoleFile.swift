/// A file of the web console: plain text that the binary carries, so that a node shows it from any directory.
///
/// The console is a client of the admin API like any other. The files hold nothing but the program, so they
/// need no token; what it shows does.
package struct ConsoleFile: Sendable {
    package let name: String
    package let content: [UInt8]
    /// A strong entity tag: the digest of the content, which is a new one with each change.
    package let entityTag: String

    init(name: String, digest: String, text: String) {
        self.name = name
        content = Array(text.utf8)
        entityTag = "\"\(digest)\""
    }

    /// What the content is, by the ending of the name.
    package var mediaType: String {
        switch name.drop(while: { $0 != "." }) {
        case ".html": "text/html"
        case ".css": "text/css"
        case ".js": "text/javascript"
        case ".svg": "image/svg+xml"
        default: "text/plain"
        }
    }

    // MARK: The files there are

    package static let all = embeddedConsole
    /// What `/` shows.
    package static let startPage = "index.html"

    /// Nil for a name that is none of the console's: nothing is looked for on disk.
    package static func named(_ name: String) -> ConsoleFile? { byName[name] }

    private static let byName = Dictionary(all.map { ($0.name, $0) }) { first, _ in first }
}
