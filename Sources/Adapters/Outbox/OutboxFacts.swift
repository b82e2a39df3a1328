/// What a node remembers beside the queue. All of it is on record elsewhere as well, or can be lost to a loss
/// of power: written so that it survives the end of the process, without a wait for the disk.
extension Outbox {
    // MARK: Marks

    /// A number that was noted under this name; nil for none.
    package func mark(_ name: String) throws(OutboxError) -> Int64? {
        var value: Int64?
        try database.run("SELECT value FROM mark WHERE name = ?1", [.text(name)]) { value = $0.integer(0) }
        return value
    }

    package func setMark(_ name: String, _ value: Int64) throws(OutboxError) {
        try changing(isSynced: false) { () throws(OutboxError) in
            try database.run("INSERT OR REPLACE INTO mark VALUES (?1, ?2)", [.text(name), .integer(value)])
        }
    }

    // MARK: Tallies

    /// Notes the newest count of each subject, and forgets those that are closed. If the process ends before
    /// a subject is closed, the next one finds the tally in the queue.
    package func tally(
        _ counts: [(subject: [UInt8], payload: [UInt8])], closed: [[UInt8]], origin: [UInt8]
    ) throws(OutboxError) {
        try changing(isSynced: false) { () throws(OutboxError) in
            let origin = try originID(origin)
            for count in counts {
                try database.run(
                    "INSERT OR REPLACE INTO tally VALUES (?1, ?2, ?3)",
                    [.blob(count.subject), .integer(origin), .blob(count.payload)])
            }
            for subject in closed {
                try database.run("DELETE FROM tally WHERE subject = ?1", [.blob(subject)])
            }
        }
    }

    /// Puts the tallies of other origins than `origin` into the queue, behind all that is in it.
    package func queueTallies(exceptOf origin: [UInt8]) throws(OutboxError) {
        try changing { () throws(OutboxError) in
            let own = try originID(origin)
            var found: [(origin: Int64, payload: [UInt8])] = []
            try database.run(
                "SELECT origin_id, payload FROM tally WHERE origin_id <> ?1 ORDER BY origin_id",
                [.integer(own)]
            ) { found.append(($0.integer(0), $0.bytes(1))) }
            for tally in found { _ = try insert(tally.origin, .kept, subject: nil, tally.payload) }
            try database.run("DELETE FROM tally WHERE origin_id <> ?1", [.integer(own)])
        }
    }

    // MARK: Secrets

    /// Remembers secrets that were found good.
    package func remember(_ secrets: [OutboxSecret]) throws(OutboxError) {
        try changing(isSynced: false) { () throws(OutboxError) in
            for secret in secrets {
                try database.run(
                    "INSERT OR REPLACE INTO secret VALUES (?1, ?2, ?3, ?4, ?5)",
                    [
                        .integer(secret.kind), .blob(secret.hash), .text(secret.owner),
                        .integer(secret.value), .integer(secret.seenAtMicroseconds),
                    ])
            }
            for kind in Set(secrets.map(\.kind)) {
                let count = try database.integer(
                    "SELECT count(*) FROM secret WHERE kind = ?1", [.integer(kind)])
                guard count > Self.maximumSecrets else { continue }
                try database.run(
                    """
                    DELETE FROM secret WHERE (kind, hash) IN (
                        SELECT kind, hash FROM secret WHERE kind = ?1 ORDER BY seen_at LIMIT ?2)
                    """, [.integer(kind), .integer(count - Self.maximumSecrets)])
            }
        }
    }

    package func secret(kind: Int64, hash: [UInt8]) throws(OutboxError) -> OutboxSecret? {
        var found: OutboxSecret?
        try database.run(
            "SELECT owner, value, seen_at FROM secret WHERE kind = ?1 AND hash = ?2",
            [.integer(kind), .blob(hash)]
        ) { row in
            found = OutboxSecret(
                kind: kind, hash: hash, owner: row.text(0), value: row.integer(1),
                seenAtMicroseconds: row.integer(2))
        }
        return found
    }

    /// What is kept of an owner that has one secret of a kind.
    package func secret(kind: Int64, owner: String) throws(OutboxError) -> OutboxSecret? {
        var found: OutboxSecret?
        try database.run(
            "SELECT hash, value, seen_at FROM secret WHERE kind = ?1 AND owner = ?2 LIMIT 1",
            [.integer(kind), .text(owner)]
        ) { row in
            found = OutboxSecret(
                kind: kind, hash: row.bytes(0), owner: owner, value: row.integer(1),
                seenAtMicroseconds: row.integer(2))
        }
        return found
    }

    /// A secret is no longer good.
    package func forget(kind: Int64, hash: [UInt8]) throws(OutboxError) {
        try changing { () throws(OutboxError) in
            try database.run(
                "DELETE FROM secret WHERE kind = ?1 AND hash = ?2", [.integer(kind), .blob(hash)])
        }
    }

    /// None of an owner's secrets is good any longer.
    package func forget(kind: Int64, owner: String) throws(OutboxError) {
        try changing { () throws(OutboxError) in
            try database.run(
                "DELETE FROM secret WHERE kind = ?1 AND owner = ?2", [.integer(kind), .text(owner)])
        }
    }

    /// No secret of a kind is good any longer.
    package func forget(kind: Int64) throws(OutboxError) {
        try changing { () throws(OutboxError) in
            try database.run("DELETE FROM secret WHERE kind = ?1", [.integer(kind)])
        }
    }

    /// More than a node holds devices by default (`device.max_devices`).
    private static let maximumSecrets: Int64 = 200_000
}

/// A secret that was checked, by its hash.
package struct OutboxSecret: Sendable, Hashable {
    /// What sort of secret; the numbers are the caller's.
    package var kind: Int64
    package var hash: [UInt8]
    /// Whose it is.
    package var owner: String
    /// Something to know about the owner.
    package var value: Int64
    package var seenAtMicroseconds: Int64

    package init(kind: Int64, hash: [UInt8], owner: String, value: Int64, seenAtMicroseconds: Int64) {
        self.kind = kind
        self.hash = hash
        self.owner = owner
        self.value = value
        self.seenAtMicroseconds = seenAtMicroseconds
    }
}
