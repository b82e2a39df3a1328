import Foundation

/// The repository's own text, as the rules see it.
struct SourceTree {
    struct File {
        /// Relative to the repository, e.g. `Sources/Core/Domain/Target.swift`.
        let path: String
        let lines: [Substring]

        /// The folders and the name, e.g. `["Sources", "Core", "Domain", "Target.swift"]`.
        var parts: [Substring] { path.split(separator: "/") }
        var layer: String { parts.count > 1 ? String(parts[1]) : "" }
        var room: String { parts.count > 2 ? String(parts[2]) : "" }

        /// The modules imported, whatever the access level before `import`.
        var imports: [String] {
            lines.compactMap { line in
                let words = line.split(separator: " ")
                guard let position = words.firstIndex(of: "import"), position <= 2,
                    words[..<position].allSatisfy({ Self.importPrefixes.contains(String($0)) }),
                    position + 1 < words.count
                else { return nil }
                return String(words[position + 1].prefix { $0 != "." })
            }
        }

        private static let importPrefixes: Set<String> = [
            "package", "internal", "private", "fileprivate", "public", "@testable", "@preconcurrency",
        ]

        /// Lines that are code: comments and blank lines left out, with their numbers.
        var code: [(number: Int, text: Substring)] {
            lines.enumerated().compactMap { index, line in
                let text = line.drop { $0 == " " }
                guard !text.isEmpty, !text.hasPrefix("//") else { return nil }
                return (index + 1, line)
            }
        }
    }

    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// All files below `folder` whose names end in `suffix`, in a stable order.
    static func files(in folder: String, suffix: String) throws -> [File] {
        let base = root.appending(path: folder)
        let paths = FileManager.default.enumerator(atPath: base.path)?.compactMap { $0 as? String } ?? []
        return try paths.filter { $0.hasSuffix(suffix) }.sorted().map { path in
            let text = try String(contentsOf: base.appending(path: path), encoding: .utf8)
            return File(
                path: folder + "/" + path,
                lines: text.split(separator: "\n", omittingEmptySubsequences: false))
        }
    }

    static func swiftSources() throws -> [File] { try files(in: "Sources", suffix: ".swift") }
    static func swiftTests() throws -> [File] { try files(in: "Tests", suffix: ".swift") }
}
