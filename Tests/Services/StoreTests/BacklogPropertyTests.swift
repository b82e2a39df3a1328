import Domain
import EventLoop
import Logging
import TestKit
import Testing

@testable import Outbox
@testable import Store

/// A backlog between random events, a database that comes, goes, loses answers and refuses, a disk that fills
/// up, and a process that is killed: what must hold holds after every step, for every seed.
@Suite struct BacklogPropertyTests {
    @Test(arguments: 0..<24) func nothingIsLostAndNothingOvertakes(_ round: UInt64) throws {
        var random = SeededRandom.ofEnvironment()
        if round > 0 { random = SeededRandom(seed: random.seed &+ round) }
        let world = try World(random)
        for _ in 0..<400 { try world.step() }
        try world.settle()
        #expect(world.faults == [], "seed \(random.seed)")
    }
}

/// The node's side, the database's side, and what an onlooker who knows both may demand.
private final class World {
    private(set) var faults: [String] = []

    private var random: SeededRandom
    private let directory = TemporaryDirectory()
    private var now = Instant(nanoseconds: 1_000_000_000_000)
    private var records = Records()
    private var life: NodeLife
    private var disk: DiskQueue
    private var backlog: Backlog
    private var isAway = false
    private var isDiskFull = false
    private var isInFlight = false

    private struct Happened {
        let event: StoreEvent
        let at: Instant
        let life: NodeLife
        var isPoison = false
    }

    /// What happened and may not be forgotten, in its order.
    private var happened: [Happened] = []
    private var acknowledged: Set<UInt64> = []
    private var number: UInt64 = 0
    private var open: [SessionRecord] = []
    /// What the database has been told, in its order, with repetitions.
    private var written: [StoreEvent] = []
    private var setAside: Set<StoreEvent> = []

    init(_ random: SeededRandom) throws {
        self.random = random
        let name = try named("n1")
        life = NodeLife(id: name, incarnation: SessionID(using: &self.random))
        disk = DiskQueue(
            path: directory.path + "/outbox.sqlite", life: life, log: Self.silent, now: now)
        backlog = Backlog(life: life, disk: disk, memoryCapacity: 100_000, now: now)
    }

    private static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func flip(_ probability: Double) -> Bool {
        Double.random(in: 0..<1, using: &random) < probability
    }

    func step() throws {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<45: try happen()
        case 45..<60: now = now + .milliseconds(Int.random(in: 1...300, using: &random))
        case 60..<75: take()
        case 75..<90: resolve()
        case 90..<93: isAway.toggle()
        case 93..<95: setDisk(full: flip(0.4))
        case 95..<97: kill()
        default: spill()
        }
        // The shell's timer.
        for _ in 0..<10 {
            guard let due = backlog.spillAt(isAway: isAway), due <= now else { break }
            spill()
        }
        checkAcknowledgements()
    }

    // MARK: What happens

    private func happen() throws {
        let session = open.randomElement(using: &random)
        switch (Int.random(in: 0..<6, using: &random), session) {
        case (0, _), (_, nil):
            number += 1
            let record = try records.session("d\(number)", began: nil)
            open.append(record)
            append(.sessionStarted(record, acknowledgement: number))
        case (1, let session?):
            open.removeAll { $0 == session }
            append(
                .sessionEnded(
                    SessionEnd(
                        sessionID: session.sessionID, endedAt: session.startedAt, reason: .goodbye,
                        counters: .init())))
        case (2, let session?):
            number += 1
            append(
                .deviceState(
                    DeviceState(
                        deviceID: session.deviceID, sessionID: session.sessionID, at: session.startedAt,
                        health: .whole, activeConns: number)))
        case (3, let session?): append(.loadReport(records.load(of: session)))
        case (_, let session?): append(.connEnded(records.conn(of: session)))
        }
    }

    private func append(_ event: StoreEvent) {
        if let subject = event.subject { happened.removeAll { $0.event.subject == subject } }
        happened.append(Happened(event: event, at: now, life: life, isPoison: flip(0.01)))
        backlog.append(event, now: now)
    }

    private func setDisk(full: Bool) {
        isDiskFull = full
        // The pragma needs no room; what fails is what follows.
        disk.attempt(now, isReading: true) { outbox throws(OutboxError) in
            let pages = try outbox.database.integer("PRAGMA page_count")
            try outbox.database.run(script: "PRAGMA max_page_count = \(full ? pages : 1_000_000_000)")
        }
    }

    private func spill() {
        acknowledged.formUnion(backlog.spill(now: now))
    }

    private func take() {
        guard !isAway, !isInFlight else { return }
        isInFlight = backlog.take(Int.random(in: 1...40, using: &random), now: now) != nil
        if isInFlight, backlog.onlyEvent == nil, flip(0.1) {
            backlog.giveBack(inHalves: true)
            isInFlight = false
        }
    }

    private var batch: [StoreEvent] { backlog.inFlight?.events ?? [] }

    private func resolve() {
        guard isInFlight else { return }
        isInFlight = false
        let poison = Set(happened.filter(\.isPoison).map(\.event.withoutAcknowledgement))
        if batch.contains(where: { poison.contains($0.withoutAcknowledgement) }) {
            guard let event = backlog.onlyEvent else { return backlog.giveBack(inHalves: true) }
            backlog.setAside(reason: "poison", now: now)
            if let number = event.acknowledgement { acknowledged.insert(number) }
            setAside.insert(event.withoutAcknowledgement)
        } else if flip(0.7) {
            written += batch
            if let confirmed = backlog.confirm(now: now) {
                acknowledged.formUnion(confirmed.acknowledgements)
            }
        } else {
            // The answer was lost, after the commit or before.
            if flip(0.5) { written += batch }
            backlog.giveBack(inHalves: false)
        }
    }

    /// The process ends here; what may be lost is what the disk refused and the last second's rest.
    private func kill() {
        let present = known
        happened.removeAll { item in
            guard !present.contains(item.event.withoutAcknowledgement) else { return false }
            let isFresh = now - item.at < .seconds(1)
            let isTold = item.event.acknowledgement.map { acknowledged.contains($0) } ?? !isFresh
            if isTold, !isDiskFull, disk.failure == nil {
                faults.append("lost at a kill: \(item.event.name)")
            }
            return true
        }
        open.removeAll { session in !happened.contains { $0.event.isStart(of: session) } }
        isInFlight = false
        isDiskFull = false
        life = NodeLife(id: life.id, incarnation: SessionID(using: &random))
        // Closed first, as the end of a process does.
        backlog = Backlog(life: life, disk: nil, memoryCapacity: 1, now: now)
        disk = DiskQueue(path: "/nowhere/outbox.sqlite", life: life, log: Self.silent, now: now)
        disk = DiskQueue(path: directory.path + "/outbox.sqlite", life: life, log: Self.silent, now: now)
        backlog = Backlog(life: life, disk: disk, memoryCapacity: 100_000, now: now)
        if let failure = disk.failure { faults.append(failure) }
    }

    // MARK: What must hold

    /// What the database or the disk has.
    private var known: Set<StoreEvent> {
        var known = Set(written.map(\.withoutAcknowledgement)).union(setAside)
        disk.attempt(now, isReading: true) { outbox throws(OutboxError) in
            var last: Int64 = 0
            while let chunk = try outbox.read(after: last, limit: 1_000) {
                known.formUnion(chunk.entries.compactMap { try? EventCodec.decode($0.payload) })
                last = chunk.entries.last?.sequence ?? .max
            }
        }
        return known
    }

    private func checkAcknowledgements() {
        guard !isDiskFull, disk.failure == nil else { return }
        let waiting = happened.filter { item in
            guard let number = item.event.acknowledgement else { return false }
            return !acknowledged.contains(number) && item.life == life && now - item.at > .milliseconds(700)
        }
        if !waiting.isEmpty { faults.append("\(waiting.count) wait for their starts") }
    }

    /// All is well again: everything must arrive.
    func settle() throws {
        isAway = false
        setDisk(full: false)
        // What a full disk kept from being removed is removed when it is tried again.
        for _ in 0..<10_000 where !backlog.isEmpty || isInFlight || backlog.spillAt(isAway: false) != nil {
            now = now + .milliseconds(50)
            spill()
            take()
            resolve()
        }
        if !backlog.isEmpty { faults.append("something stays behind") }
        if disk.entryCount > 0 { faults.append("\(disk.entryCount) events stay on disk") }
        let present = Set(written.map(\.withoutAcknowledgement)).union(setAside)
        for item in happened where !present.contains(item.event.withoutAcknowledgement) {
            faults.append("never arrived: \(item.event.name)")
        }
        checkOrder()
    }

    /// Of each session, what came first was said first, and what was said last is what came last.
    private func checkOrder() {
        var place: [StoreEvent: Int] = [:]
        for (index, event) in written.enumerated() where place[event.withoutAcknowledgement] == nil {
            place[event.withoutAcknowledgement] = index
        }
        var last: [SessionID: Int] = [:]
        for item in happened where item.event.subject == nil {
            guard let session = item.event.session, let index = place[item.event.withoutAcknowledgement]
            else { continue }
            if let before = last[session], before > index {
                faults.append("overtaken: \(item.event.name)")
            }
            last[session] = index
        }
        for item in happened {
            guard let subject = item.event.subject else { continue }
            let final = written.last { $0.subject == subject }
            if let final, final != item.event, !setAside.contains(item.event) {
                faults.append("an older state was said last: \(item.event.name)")
            }
        }
    }
}

extension StoreEvent {
    fileprivate var session: SessionID? {
        switch self {
        case .sessionStarted(let record, _): record.sessionID
        case .sessionUpdated(let update): update.sessionID
        case .sessionEnded(let end): end.sessionID
        case .deviceState(let state): state.sessionID
        case .loadReport(let sample): sample.sessionID
        case .connEnded(let conn): conn.sessionID
        case .nodeState, .nodeSample, .nodeVitals, .audited, .adminTokensUsed, .drainChanged, .usersUsed,
            .stickyGiven:
            nil
        }
    }

    fileprivate func isStart(of session: SessionRecord) -> Bool {
        if case .sessionStarted(session, _) = self { true } else { false }
    }
}
