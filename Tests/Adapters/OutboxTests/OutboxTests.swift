import EventLoop
import Glibc
import TestKit
import Testing

@testable import Outbox

@Suite struct OutboxTests {
    private let file = TemporaryFile()

    private func open(maximumBytes: Int64 = Outbox.defaultMaximumBytes) throws(OutboxError) -> Outbox {
        try Outbox(path: file.path, maximumBytes: maximumBytes)
    }

    private func entries(
        _ range: Range<Int>, rank: OutboxEntry.Rank = .kept, padding: Int = 0
    ) -> [OutboxEntry] {
        range.map {
            OutboxEntry(
                rank: rank, payload: bytes("\(rank) \($0)" + String(repeating: ".", count: padding)))
        }
    }

    private func contents(_ outbox: Outbox) throws -> [String] {
        var found: [String] = []
        var last: Int64 = 0
        while let chunk = try outbox.read(after: last, limit: 7) {
            found += chunk.entries.map { text($0.payload) }
            last = chunk.entries.last?.sequence ?? .max
        }
        return found
    }

    @Test func entriesComeOutInOrderAndOfOneOriginAtATime() throws {
        let outbox = try open()
        let first = try outbox.append(entries(0..<5), origin: bytes("first"))
        let second = try outbox.append(entries(5..<8), origin: bytes("second"))
        #expect((first.sequences + second.sequences).elementsEqual(1...8))
        #expect(outbox.entryCount == 8)
        var chunk = try #require(try outbox.read(after: 0, limit: 100))
        #expect(text(chunk.origin) == "first")
        #expect(chunk.entries.map { text($0.payload) } == (0..<5).map { "kept \($0)" })
        chunk = try #require(try outbox.read(after: 5, limit: 2))
        #expect(text(chunk.origin) == "second")
        #expect(chunk.entries.map(\.sequence) == [6, 7])
        #expect(try outbox.read(after: 8, limit: 100) == nil)
    }

    @Test func entriesStayUntilTheyAreRemovedAndPlacesAreNeverGivenTwice() throws {
        var outbox: Outbox? = try open()
        _ = try outbox?.append(entries(0..<5), origin: [])
        try outbox?.remove([1...3])
        outbox = nil
        outbox = try open()
        #expect(outbox?.entryCount == 2)
        #expect(try contents(#require(outbox)) == ["kept 3", "kept 4"])
        try outbox?.remove([4...4, 5...9])
        #expect(outbox?.entryCount == 0)
        #expect(outbox?.usedBytes == 0)
        outbox = nil
        outbox = try open()
        #expect(try outbox?.append(entries(5..<6), origin: []).sequences == [6])
    }

    @Test func theNewestOfASubjectGoesToTheEnd() throws {
        let outbox = try open()
        func state(_ text: String, _ subject: String) -> OutboxEntry {
            OutboxEntry(rank: .kept, subject: bytes(subject), payload: bytes(text))
        }
        _ = try outbox.append([state("a1", "a"), state("b1", "b")] + entries(0..<1), origin: [])
        _ = try outbox.append([state("a2", "a"), state("a3", "a")], origin: [])
        #expect(try contents(outbox) == ["b1", "kept 0", "a3"])
        #expect(outbox.entryCount == 3)
        try outbox.remove([1...100])
        #expect(outbox.usedBytes == 0)
    }

    @Test func oneProcessHasTheFile() throws {
        let outbox = try open()
        #expect(throws: OutboxError.inUse) { try open() }
        withExtendedLifetime(outbox) {}
    }

    @Test func nobodyElseMayReadTheFile() throws {
        let outbox = try open()
        _ = try outbox.append(entries(0..<1), origin: [])
        for name in file.names {
            var status = stat()
            #expect(stat(file.directory + "/" + name, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600, "\(name)")
        }
        #expect(file.names.sorted() == ["outbox.sqlite", "outbox.sqlite-wal"])
    }

    @Test func whatCanNotBeOpenedIsToldByItsKind() throws {
        #expect(throws: OutboxError.self) { try Outbox(path: "/nowhere/outbox.sqlite") }
        try Files.write(bytes(String(repeating: "this is no database ", count: 1_000)), to: file.path)
        do throws(OutboxError) {
            _ = try open()
            Issue.record("opened")
        } catch {
            guard case .damaged = error else {
                Issue.record("\(error)")
                return
            }
        }
        let moved = try Outbox.quarantine(path: file.path, suffix: "damaged-1")
        #expect(access(moved, F_OK) == 0)
        #expect(try open().entryCount == 0)
    }

    @Test func aLaterVersionsFileIsLeftAlone() throws {
        var outbox: Outbox? = try open()
        try outbox?.database.run(script: "PRAGMA user_version = 99")
        outbox = nil
        #expect(throws: OutboxError.madeByLaterVersion) { try open() }
    }

    @Test func whatIsSetAsideIsKeptWithItsReason() throws {
        let outbox = try open()
        _ = try outbox.append(entries(0..<3), origin: bytes("life"))
        try outbox.setAside(
            bytes("kept 1"), sequence: 2, origin: bytes("life"), kind: "conn_ended", reason: "no such day",
            atMicroseconds: 7)
        #expect(try contents(outbox) == ["kept 0", "kept 2"])
        #expect(outbox.refusedCount == 1)
        var rows: [String] = []
        try outbox.database.run("SELECT kind, reason, origin_value, payload FROM refused") { row in
            rows.append((0..<4).map { row.text($0) }.joined(separator: "|"))
        }
        #expect(rows == ["conn_ended|no such day|life|kept 1"])
    }

    // MARK: Room

    @Test func samplesThinOutFirstThenRecordsGoAndTheRestStays() throws {
        let outbox = try open(maximumBytes: 120_000)
        _ = try outbox.append(entries(0..<500, rank: .sample, padding: 100), origin: [])
        _ = try outbox.append(entries(0..<500, rank: .record, padding: 100), origin: [])
        // 150 KB of 120: the samples go in halves, and the records are not touched while there are any.
        var left = try contents(outbox)
        #expect(left.filter { $0.hasPrefix("record") }.count == 500)
        let samples = left.filter { $0.hasPrefix("sample") }
        #expect((1..<500).contains(samples.count))
        #expect(samples.last?.hasPrefix("sample 499.") == true)
        _ = try outbox.append(entries(0..<3_000, padding: 100), origin: [])
        left = try contents(outbox)
        #expect(left.count == 3_000)
        #expect(left.allSatisfy { $0.hasPrefix("kept") })
        #expect(outbox.usedBytes > 120_000)
    }

    @Test func roomIsMadeWithinTheBoundAndOnlyByRank() throws {
        var random = SeededRandom.ofEnvironment()
        let limit: Int64 = 60_000
        let outbox = try open(maximumBytes: limit)
        var appended: [OutboxEntry.Rank: [String]] = [:]
        var dropped = 0
        for round in 0..<60 {
            let rank = OutboxEntry.Rank.allCases.randomElement(using: &random) ?? .kept
            let count = Int.random(in: 1...60, using: &random)
            let new = (0..<count).map { number in
                let padding = Int.random(in: 0...80, using: &random)
                return OutboxEntry(
                    rank: rank,
                    payload: bytes("\(rank) \(round)/\(number)" + String(repeating: ".", count: padding)))
            }
            appended[rank, default: []] += new.map { text($0.payload) }
            dropped += try outbox.append(new, origin: []).droppedCount
            let rest = try contents(outbox)
            func left(_ rank: OutboxEntry.Rank) -> [String] { rest.filter { $0.hasPrefix("\(rank) ") } }
            #expect(left(.kept) == appended[.kept] ?? [], "seed \(random.seed)")
            #expect(rest.count == outbox.entryCount, "seed \(random.seed)")
            let total = appended.values.reduce(0) { $0 + $1.count }
            #expect(rest.count + dropped == total, "seed \(random.seed)")
            if !left(.sample).isEmpty {
                #expect(left(.record) == appended[.record] ?? [], "seed \(random.seed)")
            }
            let onlyKept = left(.kept).count == rest.count
            #expect(outbox.usedBytes <= limit || onlyKept, "seed \(random.seed)")
            // What has gone stays gone.
            appended = Dictionary(
                uniqueKeysWithValues: OutboxEntry.Rank.allCases.map { ($0, left($0)) })
            dropped = 0
        }
    }

    @Test func aFullDiskChangesNothingAndIsToldAsSuch() throws {
        let outbox = try open()
        _ = try outbox.append(entries(0..<10), origin: bytes("life"))
        let pages = try outbox.database.integer("PRAGMA page_count")
        try outbox.database.run(script: "PRAGMA max_page_count = \(pages + 2)")
        #expect(throws: OutboxError.full) {
            try outbox.append(entries(10..<20, padding: 4_000), origin: bytes("other life"))
        }
        #expect(outbox.entryCount == 10)
        let used = outbox.usedBytes
        #expect(try contents(outbox).count == 10)
        try outbox.database.run(script: "PRAGMA max_page_count = 1000000")
        _ = try outbox.append(entries(10..<20), origin: bytes("other life"))
        #expect(try contents(outbox) == (0..<20).map { "kept \($0)" })
        #expect(outbox.usedBytes > used)
    }

    // MARK: Facts

    @Test func marksTalliesAndSecretsOutliveTheProcess() throws {
        var outbox: Outbox? = try open()
        #expect(try outbox?.mark("epoch") == nil)
        try outbox?.setMark("epoch", 5)
        try outbox?.setMark("epoch", 6)
        try outbox?.tally(
            [(bytes("s1"), bytes("old")), (bytes("s2"), bytes("count of s2"))], closed: [],
            origin: bytes("life 1"))
        try outbox?.tally([(bytes("s1"), bytes("new"))], closed: [bytes("s2")], origin: bytes("life 1"))
        let secret = OutboxSecret(
            kind: 1, hash: bytes("hash"), owner: "dev-1", value: 42, seenAtMicroseconds: 9)
        try outbox?.remember([secret])
        outbox = nil
        outbox = try open()
        #expect(try outbox?.mark("epoch") == 6)
        #expect(try outbox?.secret(kind: 1, hash: bytes("hash")) == secret)
        #expect(try outbox?.secret(kind: 2, hash: bytes("hash")) == nil)
        try outbox?.tally([(bytes("s3"), bytes("of this life"))], closed: [], origin: bytes("life 2"))
        try outbox?.queueTallies(exceptOf: bytes("life 2"))
        let chunk = try #require(try outbox?.read(after: 0, limit: 10))
        #expect(text(chunk.origin) == "life 1")
        #expect(chunk.entries.map { text($0.payload) } == ["new"])
        // A second time there is nothing of another life left.
        try outbox?.queueTallies(exceptOf: bytes("life 2"))
        #expect(outbox?.entryCount == 1)
    }

    @Test func secretsAreForgottenOneByOneAndByTheirOwner() throws {
        let outbox = try open()
        func secret(_ hash: String, _ owner: String) -> OutboxSecret {
            OutboxSecret(kind: 1, hash: bytes(hash), owner: owner, value: 0, seenAtMicroseconds: 0)
        }
        try outbox.remember([secret("a", "dev-1"), secret("b", "dev-1"), secret("c", "dev-2")])
        try outbox.forget(kind: 1, hash: bytes("c"))
        #expect(try outbox.secret(kind: 1, hash: bytes("c")) == nil)
        #expect(try outbox.secret(kind: 1, hash: bytes("a")) != nil)
        try outbox.forget(kind: 1, owner: "dev-1")
        #expect(try outbox.secret(kind: 1, hash: bytes("a")) == nil)
        #expect(try outbox.secret(kind: 1, hash: bytes("b")) == nil)
    }
}
