internal import Domain
internal import EventLoop
internal import Logging
internal import Outbox

/// The part of the backlog that is on disk: an ``Outbox`` with what to do when it fails.
///
/// A disk that is full or broken is no reason to stop: the caller then keeps its events in memory, and the
/// disk is tried again after a pause. A file that is damaged is put aside under another name, whole, and a
/// new one is begun. All of it is told (`failure`).
final class DiskQueue {
    /// Called when the file was given up with what was in it.
    var lost: ((Instant) -> Void)?
    /// Why it can't be written to right now; nil when it can.
    private(set) var failure: String?
    /// Events given up for lack of room.
    private(set) var droppedCount: UInt64 = 0

    private let path: String
    private let maximumBytes: Int64
    private let life: NodeLife
    private let log: Logger
    private var outbox: Outbox?
    private var pause = DiskQueue.shortestPause
    /// Before that the disk is not tried again.
    private(set) var retryAt = Instant(nanoseconds: 0)
    /// Everything up to here has been read or was written by this life from memory.
    private var readThrough: Int64 = 0
    private var lastPlace: Int64 = 0
    /// What is to be removed.
    private var removals: [ClosedRange<Int64>] = []
    /// What is to be set aside.
    private var asides: [Aside] = []

    private struct Aside {
        let payload: [UInt8]
        /// Nil for an event that never was on disk.
        let place: Int64?
        let origin: [UInt8]
        let name: String
        let reason: String

        var withoutPlace: Aside {
            Aside(payload: payload, place: nil, origin: origin, name: name, reason: reason)
        }
    }

    /// Events that are at fault are few, and the disk is back before there are more.
    private static let maximumAsides = 1_000

    private static let shortestPause = Duration.milliseconds(500)
    private static let longestPause = Duration.seconds(5)

    init(
        path: String, life: NodeLife, maximumBytes: Int64 = Outbox.defaultMaximumBytes, log: Logger,
        now: Instant
    ) {
        self.path = path
        self.life = life
        self.maximumBytes = maximumBytes
        self.log = log
        attempt(now) { _ in }
    }

    var entryCount: Int { outbox?.entryCount ?? 0 }
    var usedBytes: Int64 { outbox?.usedBytes ?? 0 }
    var setAsideCount: Int { outbox?.refusedCount ?? 0 }
    var health: OutboxHealth {
        OutboxHealth(
            failure: failure, events: entryCount, usedBytes: UInt64(max(0, usedBytes)),
            setAsideEvents: setAsideCount)
    }

    /// Whether there is something to take.
    var hasMore: Bool { lastPlace > readThrough }

    // MARK: The queue

    /// Puts events of this life at the end; they are on the disk when this returns.
    ///
    /// - Parameter held: so many of the first ones are in the caller's hands and are not to be taken again.
    /// - Returns: their places; nil when they could not be written.
    func append(_ events: [StoreEvent], held: Int, now: Instant) -> [Int64]? {
        let entries = events.map { event in
            OutboxEntry(
                rank: event.rank, subject: event.subject?.bytes, payload: EventCodec.encode(event) ?? [])
        }
        let appended = attempt(now) { outbox throws(OutboxError) in
            try outbox.append(entries, origin: life.bytes)
        }
        guard let appended else { return nil }
        if appended.droppedCount > 0 {
            droppedCount &+= UInt64(appended.droppedCount)
            log.warning(
                "no room on disk for events while the database is away: the less important ones are dropped",
                metadata: ["dropped_total": "\(droppedCount)"])
        }
        // Events of an earlier life come to light late if the file could not be opened at first. Then what is
        // held is taken again after them, to no effect.
        if held > 0, !hasMore { readThrough = appended.sequences[held - 1] }
        lastPlace = appended.sequences.last ?? lastPlace
        return appended.sequences
    }

    /// Takes the oldest events, at most `limit` and of one life; they stay on the disk until they are removed.
    func take(_ limit: Int, now: Instant) -> WriteBatch? {
        while hasMore {
            let read = attempt(now, isReading: true) { outbox throws(OutboxError) in
                try outbox.read(after: readThrough, limit: limit)
            }
            guard let chunk = read else { return nil }
            guard let chunk, let last = chunk.entries.last else {
                readThrough = lastPlace
                return nil
            }
            readThrough = last.sequence
            if let batch = decode(chunk, now: now) { return batch }
        }
        return nil
    }

    /// The database has what stands in these places. What can't be removed now is removed later, and said
    /// again, to no effect, if this process ends before.
    func remove(_ places: [Int64], now: Instant) {
        guard let first = places.first, let last = places.last else { return }
        if let range = removals.last, range.upperBound + 1 == first {
            removals[removals.count - 1] = range.lowerBound...last
        } else {
            removals.append(first...last)
        }
        tidy(now: now)
    }

    /// Keeps an event that nobody will ever take, with the reason. If that fails now, it is tried again.
    func setAside(_ event: StoreEvent, place: Int64?, of life: NodeLife, reason: String, now: Instant) {
        setAside(
            Aside(
                payload: EventCodec.encode(event) ?? [], place: place, origin: life.bytes, name: event.name,
                reason: reason), now: now)
    }

    private func setAside(_ aside: Aside, now: Instant) {
        // Those that find no room stay in their places, for the next life to find them out again.
        if asides.count < Self.maximumAsides { asides.append(aside) }
        tidy(now: now)
    }

    /// Whether there is something to try again at `retryAt`.
    var needsAttention: Bool { failure != nil || !removals.isEmpty || !asides.isEmpty }

    /// Tries again what has failed.
    func tidy(now: Instant) {
        attempt(now) { outbox throws(OutboxError) in
            if !removals.isEmpty { try outbox.remove(removals) }
            removals = []
            while let aside = asides.first {
                try outbox.setAside(
                    aside.payload, sequence: aside.place, origin: aside.origin, kind: aside.name,
                    reason: aside.reason, atMicroseconds: SystemClock.wall.microseconds)
                asides.removeFirst()
            }
        }
    }

    private func decode(_ chunk: OutboxChunk, now: Instant) -> WriteBatch? {
        let life = NodeLife(bytes: chunk.origin)
        var events: [StoreEvent] = []
        var places: [Int64] = []
        for entry in chunk.entries {
            do throws(UnreadableEvent) {
                guard life != nil else { throw .outOfRange }
                events.append(try EventCodec.decode(entry.payload))
                places.append(entry.sequence)
            } catch {
                log.error("an event on disk can't be read", metadata: ["error": "\(error)"])
                setAside(
                    Aside(
                        payload: entry.payload, place: entry.sequence, origin: chunk.origin,
                        name: "unreadable", reason: error.description), now: now)
            }
        }
        guard let life, !events.isEmpty else { return nil }
        return WriteBatch(events: events, life: life, places: places)
    }

    // MARK: The file

    /// Does something with the outbox, opened if need be; nil when it can't be done now. A disk that takes
    /// nothing more can still be read.
    @discardableResult
    func attempt<Value>(
        _ now: Instant, isReading: Bool = false, _ body: (Outbox) throws(OutboxError) -> Value
    ) -> Value? {
        guard now >= retryAt || isReading && outbox != nil else { return nil }
        do throws(OutboxError) {
            let value = try body(try opened())
            if !isReading { succeeded() }
            return value
        } catch {
            failed(error, now)
            return nil
        }
    }

    private func opened() throws(OutboxError) -> Outbox {
        if let outbox { return outbox }
        let opened = try Outbox(path: path, maximumBytes: maximumBytes)
        try opened.queueTallies(exceptOf: life.bytes)
        outbox = opened
        lastPlace = try opened.lastSequence()
        readThrough = 0
        if opened.entryCount > 0 {
            log.notice(
                "events of an earlier life wait on disk", metadata: ["count": "\(opened.entryCount)"])
        }
        return opened
    }

    private func succeeded() {
        if failure != nil { log.notice("the outbox works again") }
        failure = nil
        pause = Self.shortestPause
    }

    private func failed(_ error: OutboxError, _ now: Instant) {
        if failure != error.description {
            log.error("the outbox fails", metadata: ["path": "\(path)", "error": "\(error)"])
        }
        failure = error.description
        retryAt = now + pause
        pause = min(pause * 2, Self.longestPause)
        guard case .damaged = error else { return }
        // Closed before it is moved.
        outbox = nil
        (readThrough, lastPlace, removals) = (0, 0, [])
        asides = asides.map { $0.withoutPlace }
        retryAt = now
        lost?(now)
        do throws(OutboxError) {
            let suffix = "damaged-\(SystemClock.wall.milliseconds)"
            let target = try Outbox.quarantine(path: path, suffix: suffix)
            log.critical("the outbox was damaged and is begun anew", metadata: ["kept_as": "\(target)"])
        } catch {
            retryAt = now + Self.longestPause
        }
    }
}
