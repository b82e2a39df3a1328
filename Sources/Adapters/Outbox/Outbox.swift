internal import Glibc

/// What waits on disk for a database that is away: a queue in one SQLite file that survives `kill -9`.
///
/// Entries come out in the order they were put in and stay until they are removed, so that whoever reads
/// them may die at any moment and reads them again. The outbox knows nothing of what they mean, except what
/// may go when there is no more room (``OutboxEntry/Rank``).
///
/// Every call blocks until the file system has done it: an outbox belongs on a thread that may wait.
package final class Outbox {
    /// Entries that wait.
    package private(set) var entryCount = 0
    /// The content of the entries with what each costs beside it. The file is larger: at worst three times
    /// this, as SQLite joins pages only when they are less than a third full.
    package private(set) var usedBytes: Int64 = 0
    /// Entries set aside, kept with their reasons.
    package private(set) var refusedCount = 0

    let database: SQLiteDatabase
    private let maximumBytes: Int64
    private var origins: [[UInt8]: Int64] = [:]

    /// Two million ended conns: an hour of 600 a second.
    package static let defaultMaximumBytes: Int64 = 512 << 20
    /// What a row and its places in the indexes take beside its content.
    private static let rowBytes: Int64 = 40
    /// Entries refused for good are few, or all of them are: then the last ones tell as much as all would.
    private static let maximumRefused = 10_000
    /// Entries deleted by one step of making room: some tens of milliseconds.
    private static let roomStep = 10_000

    /// Opens the file, or makes it.
    package init(path: String, maximumBytes: Int64 = Outbox.defaultMaximumBytes) throws(OutboxError) {
        self.maximumBytes = maximumBytes
        database = try SQLiteDatabase(path: path)
        try database.run(script: Self.settings)
        guard try database.integer("PRAGMA user_version") <= Self.formatVersion else {
            throw .madeByLaterVersion
        }
        // Also takes the file's lock, before anything of it is believed.
        try database.transaction(isSynced: true) { () throws(OutboxError) in
            try database.run(script: Self.schema)
        }
        try count()
    }

    /// Puts a file aside that can't be used, under a name with `suffix`; a new one can be opened then.
    ///
    /// - Returns: its new path.
    package static func quarantine(path: String, suffix: String) throws(OutboxError) -> String {
        let target = "\(path).\(suffix)"
        for part in ["", "-wal", "-shm"] where access(path + part, F_OK) == 0 {
            guard rename(path + part, target + part) == 0 else {
                throw .inaccessible(String(cString: strerror(errno)))
            }
        }
        return target
    }

    // MARK: The queue

    /// Puts entries at the end, all or none, and on the disk itself; one whose subject is in the queue
    /// already takes that one's place in the end. Entries of lower rank go when there is no more room.
    ///
    /// - Parameter origin: what the entries have in common, given back with them.
    package func append(
        _ entries: [OutboxEntry], origin: [UInt8]
    ) throws(OutboxError) -> OutboxAppended {
        var appended = OutboxAppended()
        try changing { () throws(OutboxError) in
            let origin = try originID(origin)
            appended.sequences.reserveCapacity(entries.count)
            for entry in entries {
                appended.sequences.append(
                    try insert(origin, entry.rank, subject: entry.subject, entry.payload))
            }
            appended.droppedCount = try makeRoom()
        }
        return appended
    }

    /// The oldest entries behind `sequence`, at most `limit` and all of one origin.
    package func read(after sequence: Int64, limit: Int) throws(OutboxError) -> OutboxChunk? {
        var chunk: OutboxChunk?
        var first: Int64?
        try database.run(
            """
            SELECT sequence, origin_id, payload FROM entry WHERE sequence > ?1 ORDER BY sequence LIMIT ?2
            """, [.integer(sequence), .integer(Int64(limit))]
        ) { row in
            let origin = row.integer(1)
            guard first == nil || first == origin else { return }
            first = origin
            if chunk == nil { chunk = OutboxChunk(origin: []) }
            chunk?.entries.append(OutboxChunk.Entry(sequence: row.integer(0), payload: row.bytes(2)))
        }
        guard let first else { return nil }
        try database.run("SELECT value FROM origin WHERE origin_id = ?1", [.integer(first)]) { row in
            chunk?.origin = row.bytes(0)
        }
        return chunk
    }

    /// Removes what has arrived where it belongs. Not on the disk itself when this returns: what comes back
    /// after a loss of power is said twice.
    package func remove(_ ranges: [ClosedRange<Int64>]) throws(OutboxError) {
        try changing(isSynced: false) { () throws(OutboxError) in
            for range in ranges {
                try delete(
                    "sequence BETWEEN ?1 AND ?2", [.integer(range.lowerBound), .integer(range.upperBound)])
            }
            if entryCount == 0 {
                try database.run("DELETE FROM origin WHERE NOT EXISTS (SELECT 1 FROM tally)")
                origins = [:]
                // In steps, so that a file that was huge doesn't hold up the caller.
                try database.run("PRAGMA incremental_vacuum(1000)")
            }
        }
    }

    /// The place of the newest entry; 0 when there is none.
    package func lastSequence() throws(OutboxError) -> Int64 {
        try database.integer("SELECT coalesce(max(sequence), 0) FROM entry")
    }

    /// Takes an entry that nobody will ever want out of the queue, and keeps it with its reason.
    ///
    /// - Parameter sequence: nil for one that never was in the queue.
    package func setAside(
        _ payload: [UInt8], sequence: Int64?, origin: [UInt8], kind: String, reason: String,
        atMicroseconds time: Int64
    ) throws(OutboxError) {
        try changing { () throws(OutboxError) in
            if let sequence { try delete("sequence = ?1", [.integer(sequence)]) }
            try database.run(
                "INSERT INTO refused (at, kind, reason, origin_value, payload) VALUES (?1, ?2, ?3, ?4, ?5)",
                [.integer(time), .text(kind), .text(reason), .blob(origin), .blob(payload)])
            refusedCount += 1
            if refusedCount > Self.maximumRefused {
                try database.run(
                    "DELETE FROM refused WHERE refused_id = (SELECT min(refused_id) FROM refused)")
                refusedCount -= 1
            }
        }
    }

    // MARK: Changing

    /// One transaction; the counts are what they were if it is undone.
    func changing(
        isSynced: Bool = true, _ body: () throws(OutboxError) -> Void
    ) throws(OutboxError) {
        let before = (entryCount, usedBytes, refusedCount, origins)
        do throws(OutboxError) {
            try database.transaction(isSynced: isSynced, body)
        } catch {
            (entryCount, usedBytes, refusedCount, origins) = before
            throw error
        }
    }

    func insert(
        _ origin: Int64, _ rank: OutboxEntry.Rank, subject: [UInt8]?, _ payload: [UInt8]
    ) throws(OutboxError) -> Int64 {
        if let subject { try delete("subject = ?1", [.blob(subject)]) }
        try database.run(
            "INSERT INTO entry (origin_id, rank, subject, payload) VALUES (?1, ?2, ?3, ?4)",
            [.integer(origin), .integer(rank.rawValue), .blob(subject), .blob(payload)])
        entryCount += 1
        usedBytes += Int64(payload.count + (subject?.count ?? 0)) + Self.rowBytes
        return database.lastInsertedRow
    }

    func originID(_ value: [UInt8]) throws(OutboxError) -> Int64 {
        if let id = origins[value] { return id }
        try database.run("INSERT OR IGNORE INTO origin (value) VALUES (?1)", [.blob(value)])
        let id = try database.integer("SELECT origin_id FROM origin WHERE value = ?1", [.blob(value)])
        origins[value] = id
        return id
    }

    private func delete(_ condition: String, _ values: [SQLiteValue]) throws(OutboxError) {
        try database.run("DELETE FROM entry WHERE \(condition) RETURNING \(Self.rowSize)", values) { row in
            entryCount -= 1
            usedBytes -= row.integer(0)
        }
    }

    /// Every second sample goes first, the oldest first: a series with a coarser step is better than one with
    /// a hole, and the more so the older it is. Then the next rank goes, oldest first. What is kept is kept.
    private func makeRoom() throws(OutboxError) -> Int {
        guard usedBytes > maximumBytes else { return 0 }
        let before = entryCount
        let target = maximumBytes - maximumBytes / 128
        for rank in OutboxEntry.Rank.allCases where rank != .kept {
            var isAnyLeft = true
            while usedBytes > target, isAnyLeft {
                let count = entryCount
                let condition = rank == .sample ? Self.everySecond : Self.oldest
                try delete(condition, [.integer(rank.rawValue), .integer(Int64(Self.roomStep))])
                isAnyLeft = entryCount < count
            }
        }
        return before - entryCount
    }

    /// Of a rank, from the oldest on; the last one of all goes, too.
    private static let everySecond = """
        sequence IN (SELECT sequence FROM (
            SELECT sequence, row_number() OVER (ORDER BY sequence) AS place FROM entry
            WHERE rank = ?1 ORDER BY sequence LIMIT 2 * ?2) WHERE place % 2 = 1)
        """

    private static let oldest = """
        sequence IN (SELECT sequence FROM entry WHERE rank = ?1 ORDER BY sequence LIMIT ?2)
        """

    private func count() throws(OutboxError) {
        try database.run("SELECT count(*), coalesce(sum(\(Self.rowSize)), 0) FROM entry") { row in
            entryCount = Int(row.integer(0))
            usedBytes = row.integer(1)
        }
        refusedCount = Int(try database.integer("SELECT count(*) FROM refused"))
    }

    // MARK: The file

    private static let rowSize = "length(payload) + coalesce(length(subject), 0) + \(rowBytes)"

    /// What is in the file: raised with each change that an older program can't work with.
    private static let formatVersion: Int64 = 1

    /// The order matters: the lock before the first access, and `auto_vacuum` before the first table.
    private static let settings = """
        PRAGMA locking_mode = EXCLUSIVE;
        PRAGMA auto_vacuum = INCREMENTAL;
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        PRAGMA journal_size_limit = 16777216;
        PRAGMA cell_size_check = ON;
        PRAGMA temp_store = MEMORY;
        """

    private static let schema = """
        CREATE TABLE IF NOT EXISTS origin (origin_id INTEGER PRIMARY KEY, value BLOB NOT NULL UNIQUE);
        CREATE TABLE IF NOT EXISTS entry (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT, origin_id INTEGER NOT NULL, rank INTEGER NOT NULL,
            subject BLOB, payload BLOB NOT NULL);
        CREATE UNIQUE INDEX IF NOT EXISTS entry_by_subject ON entry (subject) WHERE subject IS NOT NULL;
        CREATE INDEX IF NOT EXISTS entry_by_rank ON entry (rank, sequence) WHERE rank > 0;
        CREATE TABLE IF NOT EXISTS refused (
            refused_id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
            origin_value BLOB NOT NULL, payload BLOB NOT NULL);
        CREATE TABLE IF NOT EXISTS tally (
            subject BLOB PRIMARY KEY, origin_id INTEGER NOT NULL, payload BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS secret (
            kind INTEGER NOT NULL, hash BLOB NOT NULL, owner TEXT NOT NULL, value INTEGER NOT NULL,
            seen_at INTEGER NOT NULL, PRIMARY KEY (kind, hash)) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS secret_by_owner ON secret (kind, owner);
        CREATE INDEX IF NOT EXISTS secret_by_age ON secret (kind, seen_at);
        PRAGMA user_version = \(formatVersion);
        """
}

/// Something to keep until it has arrived where it belongs.
package struct OutboxEntry: Sendable, Hashable {
    /// What may go when there is no more room, in the order in which it goes; raw values are in the file.
    package enum Rank: Int64, Sendable, Hashable, CaseIterable {
        /// Never goes.
        case kept = 0
        /// Goes first, every second one at a time.
        case sample = 1
        /// Goes when there are no more samples.
        case record = 2
        /// Goes after the records.
        case strayLine = 3
        /// Goes last.
        case line = 4
    }

    package var rank: Rank
    /// Of entries with the same subject only the newest matters; nil: all do.
    package var subject: [UInt8]?
    package var payload: [UInt8]

    package init(rank: Rank, subject: [UInt8]? = nil, payload: [UInt8]) {
        self.rank = rank
        self.subject = subject
        self.payload = payload
    }
}

/// What became of entries put into the queue.
package struct OutboxAppended: Sendable, Hashable {
    /// Their places, in their order; they ascend.
    package var sequences: [Int64] = []
    /// Entries of lower rank that had to go.
    package var droppedCount = 0
}

/// Entries of one origin, in the order they were put in.
package struct OutboxChunk: Sendable, Hashable {
    package struct Entry: Sendable, Hashable {
        package let sequence: Int64
        package let payload: [UInt8]
    }

    package fileprivate(set) var origin: [UInt8]
    package fileprivate(set) var entries: [Entry] = []
}
