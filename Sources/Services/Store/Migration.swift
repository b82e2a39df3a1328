/// One file of `Migrations/`, as the binary carries it.
struct Migration: Sendable, Hashable {
    /// The file's name without its suffix, `NNNN_words`.
    let name: String
    let sql: String

    /// The number that orders it; 0 for a malformed name, which no file has.
    var version: Int { Int(name.prefix(4)) ?? 0 }

    /// Whether a binary that does not know it can't work with a database that has it (`-- Breaking: yes`).
    var isBreaking: Bool { sql.contains("\n-- Breaking: yes") }
}
