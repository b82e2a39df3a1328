/// What went wrong with a statement or a connection, and whether trying again can help.
package struct PostgresError: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Kind: Sendable, Hashable {
        /// The connection could not be made or was lost; what was in flight may or may not be committed.
        case connection
        /// No connection, or no answer, within the bound of time.
        case timeout
        /// The server refused a statement; `sqlState` says why.
        case server
        /// The connection string can't be read: the operator's mistake.
        case configuration
        /// An answer that can't be what was asked for: the schema's mistake or ours.
        case unexpectedAnswer
        /// Closed by us.
        case closed
    }

    package let kind: Kind
    package let message: String
    /// Five characters (PostgreSQL manual, appendix A); only for errors of the server.
    package let sqlState: String?
    package let constraint: String?

    package init(_ kind: Kind, _ message: String, sqlState: String? = nil, constraint: String? = nil) {
        self.kind = kind
        self.message = message
        self.sqlState = sqlState
        self.constraint = constraint
    }

    /// The class: the first two characters of the SQLSTATE.
    private var sqlStateClass: Substring? { sqlState?.prefix(2) }

    /// Whether the same statement can succeed later without a change of ours: the connection was lost, the
    /// server is stopping, starting, full, read-only, or the transaction met another one.
    package var isRetryable: Bool {
        switch kind {
        case .connection, .timeout: return true
        case .configuration, .unexpectedAnswer, .closed: return false
        case .server:
            switch sqlStateClass {
            case "08", "40", "53", "57", "58": return true
            default: return isReadOnly || isCatalogueRace || sqlState == "55P03" || sqlState == "55006"
            }
        }
    }

    /// Whether another session changed the same row of a catalogue, such as a role's, at the same moment. The
    /// server has no SQLSTATE of its own for it; its text is not translated.
    package var isCatalogueRace: Bool { sqlState == "XX000" && message.hasPrefix("tuple concurrently ") }

    /// Whether what was in flight may have been committed: nothing has answered it.
    package var leavesOpen: Bool {
        switch kind {
        case .connection, .timeout, .closed: true
        case .server, .configuration, .unexpectedAnswer: false
        }
    }

    /// Whether a value in the statement is at fault: trying again can't help, leaving the row out can.
    package var isDataError: Bool {
        guard kind == .server else { return false }
        switch sqlStateClass {
        case "21", "22", "23", "54": return true
        default: return false
        }
    }

    /// Whether the statement took longer than it may (`statement_timeout`), or nobody answered in time.
    package var isOutOfTime: Bool { kind == .timeout || sqlState == "57014" }

    /// Whether the server takes no writes: it is a standby, or an operator has decided so.
    package var isReadOnly: Bool { sqlState == "25006" }

    /// Whether a schema, table or column that a statement names is not there: another database than we thought.
    package var isSchemaMissing: Bool { sqlState == "42P01" || sqlState == "3F000" || sqlState == "42703" }

    package var description: String {
        if let sqlState { return "\(message) (SQLSTATE \(sqlState))" }
        return message
    }
}
