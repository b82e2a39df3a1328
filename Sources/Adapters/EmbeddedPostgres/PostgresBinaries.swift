internal import EventLoop
internal import Glibc

/// Where `postgres` and `initdb` are.
struct PostgresBinaries: Hashable {
    let directory: String

    var server: String { directory + "/postgres" }
    var initializer: String { directory + "/initdb" }

    /// Where Debian and Ubuntu keep one directory a major version.
    private static let versionsDirectory = "/usr/lib/postgresql"

    /// The binaries of `version` for data that exists, the newest for data that doesn't.
    static func find(version: String?) throws(EmbeddedPostgresError) -> PostgresBinaries {
        var candidates = directories(in: versionsDirectory).compactMap { name in
            Int(name).map { (number: $0, path: "\(versionsDirectory)/\(name)/bin") }
        }
        candidates.sort { $0.number > $1.number }
        for candidate in candidates where version == nil || version == String(candidate.number) {
            let binaries = PostgresBinaries(directory: candidate.path)
            if binaries.areExecutable { return binaries }
        }
        let path = ProcessEnvironment.variables["PATH"] ?? ""
        for directory in path.split(separator: ":") {
            let binaries = PostgresBinaries(directory: String(directory))
            if binaries.areExecutable { return binaries }
        }
        throw .binariesMissing(version: version)
    }

    private var areExecutable: Bool { access(server, X_OK) == 0 && access(initializer, X_OK) == 0 }

    private static func directories(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }
}
