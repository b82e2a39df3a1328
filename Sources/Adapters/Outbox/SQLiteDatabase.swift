internal import CSQLite
internal import Glibc

/// One connection to one SQLite file, which nobody else may open meanwhile.
///
/// Statements are prepared once and kept. The file is in WAL mode: a transaction is a record at the end of
/// the log, whole or not there at all, whatever moment the process is killed at.
final class SQLiteDatabase {
    private let handle: OpaquePointer
    private var statements: [String: OpaquePointer] = [:]
    private var isSynced = true

    init(path: String) throws(OutboxError) {
        // Made before SQLite does, which would let others read it; the log beside it gets the same mode.
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            if errno == ENOSPC || errno == EDQUOT { throw .full }
            throw .inaccessible(String(cString: strerror(errno)))
        }
        close(descriptor)
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
        let code = sqlite3_open_v2(path, &opened, flags, nil)
        guard code == SQLITE_OK, let opened else {
            let error = OutboxError(code, opened)
            sqlite3_close(opened)
            throw error
        }
        handle = opened
    }

    deinit {
        for statement in statements.values { sqlite3_finalize(statement) }
        sqlite3_close(handle)
    }

    // MARK: Statements

    /// Runs SQL text of any number of statements without parameters.
    func run(script: String) throws(OutboxError) {
        let code = sqlite3_exec(handle, script, nil, nil, nil)
        guard code == SQLITE_OK else { throw OutboxError(code, handle) }
    }

    /// Runs one statement; `row` is called for each row of its answer.
    func run(
        _ sql: String, _ values: [SQLiteValue] = [], row: (SQLiteRow) -> Void = { _ in }
    ) throws(OutboxError) {
        let statement = try prepared(sql)
        defer {
            sqlite3_reset(statement)
            sqlite3_clear_bindings(statement)
        }
        for (index, value) in values.enumerated() { try value.bind(to: statement, Int32(index + 1), handle) }
        while true {
            switch sqlite3_step(statement) {
            case SQLITE_ROW: row(SQLiteRow(statement: statement))
            case SQLITE_DONE: return
            case let code: throw OutboxError(code, handle)
            }
        }
    }

    /// The first column of the only row; 0 when there is none.
    func integer(_ sql: String, _ values: [SQLiteValue] = []) throws(OutboxError) -> Int64 {
        var result: Int64 = 0
        try run(sql, values) { result = $0.integer(0) }
        return result
    }

    var lastInsertedRow: Int64 { sqlite3_last_insert_rowid(handle) }
    /// Rows that the last statement changed.
    var changedRows: Int { Int(sqlite3_changes64(handle)) }

    private func prepared(_ sql: String) throws(OutboxError) -> OpaquePointer {
        if let statement = statements[sql] { return statement }
        var statement: OpaquePointer?
        let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
        guard code == SQLITE_OK, let statement else { throw OutboxError(code, handle) }
        statements[sql] = statement
        return statement
    }

    // MARK: Transactions

    /// Runs `body` as one transaction; an error undoes all of it.
    ///
    /// - Parameter isSynced: whether it is on the disk itself when this returns, and not only with the
    ///   system: what the system has survives the end of this process in any way, but not a loss of power.
    func transaction(isSynced: Bool, _ body: () throws(OutboxError) -> Void) throws(OutboxError) {
        if isSynced != self.isSynced {
            try run(script: "PRAGMA synchronous = \(isSynced ? "FULL" : "NORMAL")")
            self.isSynced = isSynced
        }
        try run("BEGIN IMMEDIATE")
        do throws(OutboxError) {
            try body()
            try run("COMMIT")
        } catch {
            // Some errors have undone the transaction already.
            if sqlite3_get_autocommit(handle) == 0 { sqlite3_exec(handle, "ROLLBACK", nil, nil, nil) }
            throw error
        }
    }
}

/// A value for `?1`, `?2` ...
enum SQLiteValue {
    case integer(Int64)
    case text(String)
    case blob([UInt8])
    case null

    static func blob(_ bytes: [UInt8]?) -> SQLiteValue {
        if let bytes { .blob(bytes) } else { .null }
    }

    fileprivate func bind(
        to statement: OpaquePointer, _ index: Int32, _ handle: OpaquePointer
    ) throws(OutboxError) {
        let code =
            switch self {
            case .integer(let value): sqlite3_bind_int64(statement, index, value)
            case .text(let value): csq_bind_text(statement, index, value, Int32(clamping: value.utf8.count))
            case .blob(let bytes):
                bytes.withUnsafeBytes {
                    csq_bind_blob(statement, index, $0.baseAddress, Int32(clamping: $0.count))
                }
            case .null: sqlite3_bind_null(statement, index)
            }
        guard code == SQLITE_OK else { throw OutboxError(code, handle) }
    }
}

/// The present row of a statement's answer; valid until the next one.
struct SQLiteRow {
    fileprivate let statement: OpaquePointer

    func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(statement, column) }

    func bytes(_ column: Int32) -> [UInt8] {
        guard let start = sqlite3_column_blob(statement, column) else { return [] }
        return Array(
            UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, column))))
    }

    func text(_ column: Int32) -> String { String(decoding: bytes(column), as: UTF8.self) }
}

extension OutboxError {
    fileprivate init(_ code: Int32, _ handle: OpaquePointer?) {
        let text = sqlite3_errmsg(handle).map { String(cString: $0) } ?? String(cString: sqlite3_errstr(code))
        switch code & 0xff {
        case SQLITE_FULL: self = .full
        case SQLITE_BUSY, SQLITE_LOCKED: self = .inUse
        case SQLITE_CORRUPT, SQLITE_NOTADB: self = .damaged(text)
        case SQLITE_READONLY, SQLITE_PERM, SQLITE_CANTOPEN: self = .inaccessible(text)
        case SQLITE_IOERR:
            let number = sqlite3_system_errno(handle)
            if number == ENOSPC || number == EDQUOT {
                self = .full
            } else {
                self = .failed("\(text) (\(code)): \(String(cString: strerror(number)))")
            }
        default: self = .failed("\(text) (\(code))")
        }
    }
}
