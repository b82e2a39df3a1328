package import EventLoop

/// Why a private PostgreSQL could not be started; each message says what an operator can do.
package enum EmbeddedPostgresError: Error, Sendable, Hashable, CustomStringConvertible {
    /// No `postgres` and `initdb` on this machine; the version is one that existing data asks for.
    case binariesMissing(version: String?)
    /// Another process uses the same data directory.
    case directoryInUse(String)
    /// The account that PostgreSQL runs as can't pass through this directory.
    case notTraversable(directory: String, account: String)
    case system(SystemError)
    case initializationFailed(exitCode: Int32, log: String)
    /// The server has ended, or did not answer in time.
    case startFailed(String, log: String)

    package var description: String {
        switch self {
        case .binariesMissing(let version?):
            "the data directory needs PostgreSQL \(version), which is not installed "
                + "(Debian package postgresql-\(version))"
        case .binariesMissing(nil):
            "PostgreSQL's server is not installed (Debian package postgresql)"
        case .directoryInUse(let directory):
            "another process uses the database in \(directory)"
        case .notTraversable(let directory, let account):
            "the account \(account), as which PostgreSQL runs, can't pass through \(directory): "
                + "choose another data directory, or allow it with chmod o+x"
        case .system(let error):
            error.description
        case .initializationFailed(let code, let log):
            "initdb failed with exit code \(code); see \(log)"
        case .startFailed(let cause, let log):
            "the private PostgreSQL did not start: \(cause); see \(log)"
        }
    }
}
