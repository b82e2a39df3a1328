import Domain
import EventLoop
import Logging
import TestKit
import Testing

@testable import Outbox
@testable import Store

@Suite struct BacklogTests {
    private let directory = TemporaryDirectory()
    private var records = Records()
    private let start = Instant(nanoseconds: 1_000_000_000)

    private func life() throws -> NodeLife {
        var random = SystemRandom()
        return NodeLife(id: try named("n1"), incarnation: SessionID(using: &random))
    }

    private func open(_ life: NodeLife, memoryCapacity: Int = 1_000) -> (Backlog, DiskQueue) {
        let disk = DiskQueue(
            path: directory.path + "/outbox.sqlite", life: life,
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, now: start)
        return (Backlog(life: life, disk: disk, memoryCapacity: memoryCapacity, now: start), disk)
    }

    private mutating func starts(_ range: Range<Int>) throws -> [StoreEvent] {
        try range.map { .sessionStarted(try records.session("d\($0)"), acknowledgement: UInt64($0)) }
    }

    private func names(_ batch: WriteBatch?) -> [String] { batch?.events.map(\.name) ?? [] }

    @Test mutating func aDatabaseThatConfirmsInTimeLeavesTheDiskAlone() throws {
        let (backlog, disk) = open(try life())
        for event in try starts(0..<10) { backlog.append(event, now: start) }
        #expect(backlog.spillAt(isAway: false) == start + Backlog.startPatience)
        let batch = backlog.take(100, now: start)
        #expect(batch?.events.count == 10)
        #expect(backlog.spillAt(isAway: false) == start + Backlog.startPatience)
        #expect(backlog.confirm(now: start)?.acknowledgements == Array(0..<10))
        #expect(backlog.spillAt(isAway: false) == nil)
        #expect(backlog.isEmpty && backlog.count == 0 && disk.entryCount == 0)
    }

    @Test mutating func whoWaitsIsAnsweredByTheDiskAtOnceWhenTheDatabaseIsAway() throws {
        let (backlog, disk) = open(try life())
        for event in try starts(1..<4) { backlog.append(event, now: start) }
        backlog.append(.connEnded(records.conn(of: try records.session("d1"))), now: start)
        #expect(backlog.spillAt(isAway: true) == start)
        #expect(backlog.spill(now: start) == [1, 2, 3])
        #expect(backlog.memoryCount == 0)
        #expect(disk.entryCount == 4)
        #expect(backlog.spillAt(isAway: true) == nil)
        #expect(backlog.spill(now: start) == [])
    }

    @Test mutating func whatIsInFlightGoesToDiskFirstAndIsTakenFromMemory() throws {
        let life = try life()
        let (backlog, disk) = open(life)
        let events = try starts(1..<7)
        for event in events[..<3] { backlog.append(event, now: start) }
        _ = backlog.take(100, now: start)
        for event in events[3...] { backlog.append(event, now: start) }
        #expect(backlog.spill(now: start + .seconds(1)) == [1, 2, 3, 4, 5, 6])
        #expect(disk.entryCount == 6)
        // The answer comes after all: its part leaves the disk.
        #expect(names(backlog.confirm(now: start)) == events[..<3].map(\.name))
        #expect(disk.entryCount == 3)
        let rest = backlog.take(100, now: start)
        #expect(names(rest) == events[3...].map(\.name))
        // It is not known whether that arrived: it is said again, before all that follows.
        backlog.giveBack(inHalves: false)
        backlog.append(try starts(7..<8)[0], now: start)
        #expect(names(backlog.take(100, now: start)) == events[3...].map(\.name))
        _ = backlog.confirm(now: start)
        #expect(backlog.take(100, now: start)?.events.count == 1)
        _ = backlog.confirm(now: start)
        #expect(backlog.isEmpty && disk.entryCount == 0)
    }

    @Test mutating func theNextLifeFindsWhatThisOneHadOnDiskWithItsOwnName() throws {
        let (first, second) = (try life(), try life())
        let events = try starts(1..<9)
        do {
            let (backlog, _) = open(first)
            for event in events[..<5] { backlog.append(event, now: start) }
            _ = backlog.spill(now: start)
            for event in events[5...] { backlog.append(event, now: start) }
            _ = backlog.take(2, now: start)
            _ = backlog.confirm(now: start)
            _ = backlog.take(2, now: start)
        }
        let (backlog, _) = open(second)
        let own = try starts(20..<21)
        backlog.append(own[0], now: start)
        let found = try #require(backlog.take(100, now: start))
        #expect(found.life == first)
        #expect(names(found) == events[2..<5].map(\.name))
        _ = backlog.confirm(now: start)
        let next = try #require(backlog.take(100, now: start))
        #expect(next.life == second)
        #expect(names(next) == own.map(\.name))
    }

    @Test mutating func aDiskThatFailsLeavesEventsInMemoryAndNobodyWaiting() throws {
        let (backlog, disk) = open(try life())
        disk.attempt(start) { outbox throws(OutboxError) in
            let pages = try outbox.database.integer("PRAGMA page_count")
            try outbox.database.run(script: "PRAGMA max_page_count = \(pages)")
        }
        var now = start
        for event in try starts(1..<600) { backlog.append(event, now: now) }
        #expect(backlog.spill(now: now) == Array(1..<600))
        #expect(disk.failure?.contains("no room") == true)
        #expect(backlog.memoryCount == 599)
        // The next one is answered as quickly, without another try of the disk.
        backlog.append(try starts(600..<601)[0], now: now)
        #expect(backlog.spillAt(isAway: true) == now)
        #expect(backlog.spill(now: now) == [600])
        #expect(backlog.spillAt(isAway: true) == disk.retryAt)
        now = disk.retryAt
        disk.attempt(now) { outbox throws(OutboxError) in
            try outbox.database.run(script: "PRAGMA max_page_count = 1000000")
        }
        #expect(backlog.spill(now: now) == [])
        #expect(disk.failure == nil)
        #expect(backlog.memoryCount == 0)
        #expect(disk.entryCount == 600)
    }

    @Test mutating func oneEventAtFaultIsFoundAndSetAsideAndTheOthersGoOn() throws {
        let (backlog, disk) = open(try life())
        let events = try starts(1..<20)
        for event in events { backlog.append(event, now: start) }
        _ = backlog.spill(now: start)
        var written: [String] = []
        while let batch = backlog.take(100, now: start) {
            guard names(batch).contains(events[12].name) else {
                written += names(backlog.confirm(now: start))
                continue
            }
            if backlog.onlyEvent != nil {
                backlog.setAside(reason: "it is at fault", now: start)
            } else {
                backlog.giveBack(inHalves: true)
            }
        }
        #expect(written == (events[..<12] + events[13...]).map(\.name))
        #expect(disk.setAsideCount == 1)
        #expect(disk.entryCount == 0)
    }

    @Test mutating func aDamagedFileIsPutAsideAndANewOneBegun() throws {
        let (backlog, disk) = open(try life())
        for event in try starts(1..<200) { backlog.append(event, now: start) }
        _ = backlog.spill(now: start)
        _ = backlog.take(20, now: start)
        backlog.giveBack(inHalves: false)
        for event in try starts(200..<210) { backlog.append(event, now: start) }
        disk.attempt(start) { _ throws(OutboxError) in throw .damaged("a page is gone") }
        #expect(directory.names.contains { $0.contains("damaged") })
        // What was in hand is not lost, and goes to the new file with what came after.
        #expect(backlog.spill(now: start) == Array(200..<210))
        #expect(disk.failure == nil)
        #expect(disk.entryCount == 30)
        #expect(backlog.take(100, now: start)?.events.count == 20)
        _ = backlog.confirm(now: start)
        #expect(backlog.take(100, now: start)?.events.count == 10)
    }
}
