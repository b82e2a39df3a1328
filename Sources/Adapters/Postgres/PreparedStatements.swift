/// Which statements the server keeps for one connection, by their text; those that were used last.
///
/// A statement goes by its name only once the server has said that it stands: one that is sent while the first is
/// still on its way would share the fate of that one's transaction.
struct PreparedStatements {
    enum Use: Equatable {
        /// Is sent with its text.
        case never
        /// Is prepared under this name, and used at once.
        case first(name: String)
        case again(name: String)
    }

    private struct Kept {
        let name: String
        var stands = false
        var lastUse: UInt64
    }

    private let limit: Int
    private var kept: [String: Kept] = [:]
    private var dropped: [String] = []
    /// Of uses; names are made of it, so none is ever given twice.
    private var count: UInt64 = 0

    /// - Parameter limit: how many there are at most.
    init(limit: Int) {
        self.limit = limit
    }

    /// How a statement that is about to be sent goes.
    mutating func use(_ sql: String) -> Use {
        guard limit > 0 else { return .never }
        count += 1
        if let known = kept[sql] {
            guard known.stands else { return .never }
            kept[sql]?.lastUse = count
            return .again(name: known.name)
        }
        guard makeRoom() else { return .never }
        let name = "s\(count)"
        kept[sql] = Kept(name: name, lastUse: count)
        return .first(name: name)
    }

    /// The server has prepared it.
    mutating func stands(_ sql: String) {
        kept[sql]?.stands = true
    }

    /// The server has not prepared it.
    mutating func failed(_ sql: String) {
        kept[sql] = nil
    }

    /// It is not to be used any more.
    mutating func drop(_ sql: String) {
        guard let known = kept[sql], known.stands else { return }
        kept[sql] = nil
        dropped.append(known.name)
    }

    /// Names of those that the server need not keep any longer.
    mutating func takeDropped() -> [String] {
        defer { dropped = [] }
        return dropped
    }

    private mutating func makeRoom() -> Bool {
        guard kept.count >= limit else { return true }
        guard let oldest = kept.filter(\.value.stands).min(by: { $0.value.lastUse < $1.value.lastUse }) else {
            return false
        }
        drop(oldest.key)
        return true
    }
}
