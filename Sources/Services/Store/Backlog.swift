internal import DequeModule
internal import Domain

/// What is not in the database yet, in the order it happened:
///
///     in flight  <  given back  <  on disk  <  in memory
///
/// An event begins in memory. If the database has not confirmed it in time, it goes to disk together with all
/// that was before it, so that the disk holds the older part and memory the newer one, always. A batch is
/// taken from the front, written, and confirmed or given back; one is in flight at a time. What is on disk
/// stays there until it is confirmed, so it is said again by the next life if this one ends before.
///
/// - Invariant: an event is acknowledged when the database has confirmed it or the disk has it, and, only if
///   the disk fails, when it has been kept in memory for as long as the disk would have been given.
final class Backlog {
    private var queue: WriteQueue
    private let disk: DiskQueue?
    private let life: NodeLife
    private(set) var inFlight: WriteBatch?
    /// Batches that were tried and go before all that waits.
    private var returned = Deque<WriteBatch>()
    /// Since when the oldest event waits that was taken from memory and is nowhere else.
    private var takenSince: Instant?
    /// Whether somebody waits for one of those.
    private var takenHasStarts = false
    /// Since when the oldest event on disk that can be taken waits.
    private var diskSince: Instant?

    /// How long somebody who waits for a session's start waits for the database alone.
    static let startPatience = Duration.milliseconds(250)
    /// How long other events are in memory alone: with the time that it takes to write them, below the second
    /// that a `kill -9` may cost.
    static let patience = Duration.milliseconds(400)
    /// Events put on disk by one transaction: some tens of milliseconds.
    private static let spillEvents = 10_000

    init(life: NodeLife, disk: DiskQueue?, memoryCapacity: Int, now: Instant) {
        self.life = life
        self.disk = disk
        queue = WriteQueue(capacity: memoryCapacity)
        if disk?.hasMore == true { diskSince = now }
        disk?.lost = { [weak self] now in self?.diskWasLost(now: now) }
    }

    /// Events that are in memory alone.
    var memoryCount: Int {
        queue.count + returned.reduce(inFlight.map(Self.memoryCount) ?? 0) { $0 + Self.memoryCount($1) }
    }

    var count: Int { memoryCount + (disk?.entryCount ?? 0) }
    /// Since when the oldest event waits, as far as this life knows.
    var oldest: Instant? { [takenSince, diskSince, queue.oldest].compactMap { $0 }.min() }
    var droppedFromMemory: Tally<StoreEventKind> { queue.dropped }
    var droppedFromDisk: UInt64 { disk?.droppedCount ?? 0 }
    var droppedCount: UInt64 { queue.droppedCount &+ (disk?.droppedCount ?? 0) }
    /// Whether there is more on disk than what is in flight.
    var hasMoreOnDisk: Bool { disk?.hasMore == true }
    var isEmpty: Bool { inFlight == nil && returned.isEmpty && queue.isEmpty && !hasMoreOnDisk }

    private static func memoryCount(_ batch: WriteBatch) -> Int { batch.isOnDisk ? 0 : batch.events.count }

    func append(_ event: StoreEvent, now: Instant) {
        queue.append(event, now: now)
    }

    // MARK: To the database

    /// When the next batch should be taken; nil when there is none.
    func dueAt(flushInterval: Duration, batchEvents: Int, now: Instant) -> Instant? {
        if !returned.isEmpty { return now }
        guard let oldest = (hasMoreOnDisk ? diskSince : nil) ?? queue.oldest else { return nil }
        // Somebody waits for a session's start; all that waits beside it goes with it.
        let isUrgent = queue.oldestStart != nil || queue.count >= batchEvents
        return isUrgent ? now : oldest + flushInterval
    }

    /// Takes the oldest batch; nil when there is none, or when the disk can't give it now.
    func take(_ limit: Int, now: Instant) -> WriteBatch? {
        guard inFlight == nil else { return nil }
        if let batch = returned.popFirst() {
            inFlight = batch
        } else if hasMoreOnDisk {
            inFlight = disk?.take(limit, now: now)
            if !hasMoreOnDisk { diskSince = nil }
        } else if !queue.isEmpty {
            takenSince = queue.oldest
            takenHasStarts = queue.oldestStart != nil
            inFlight = WriteBatch(events: queue.take(limit), life: life)
        }
        return inFlight
    }

    /// The batch in flight is in the database.
    ///
    /// - Returns: it.
    func confirm(now: Instant) -> WriteBatch? {
        guard let batch = inFlight else { return nil }
        inFlight = nil
        disk?.remove(batch.places, now: now)
        forgetTaken()
        return batch
    }

    /// The batch in flight may not be in the database: it is said again before anything else, in halves if
    /// one event in it is at fault.
    func giveBack(inHalves: Bool) {
        guard let batch = inFlight else { return }
        inFlight = nil
        if inHalves, let (first, second) = batch.halves {
            returned.prepend(second)
            returned.prepend(first)
        } else {
            returned.prepend(batch)
        }
    }

    /// The only event in flight will never be in the database: it is kept, with the reason, for people to see.
    func setAside(reason: String, now: Instant) {
        guard let batch = inFlight, let event = batch.events.first else { return }
        inFlight = nil
        forgetTaken()
        disk?.setAside(event, place: batch.places.first, of: batch.life, reason: reason, now: now)
    }

    /// The event in flight, if it is alone.
    var onlyEvent: StoreEvent? {
        guard let batch = inFlight, batch.events.count == 1 else { return nil }
        return batch.events.first
    }

    private func forgetTaken() {
        guard taken.isEmpty else { return }
        takenSince = nil
    }

    // MARK: To disk

    /// When ``spill(now:)`` has something to do; nil when nothing is in memory alone, or there is no disk.
    ///
    /// - Parameter isAway: the database is known to be away: then nobody waits for it.
    func spillAt(isAway: Bool) -> Instant? {
        guard let disk else { return nil }
        // Behind what is on disk, a start would wait for all of that.
        let startPatience = isAway || hasMoreOnDisk ? Duration.zero : Self.startPatience
        var due = Instant.distantFuture
        // Who waits is answered when it is time, also by a disk that fails; the rest waits for the disk.
        if let since = takenSince {
            due = min(due, max(since + Self.patience, disk.retryAt))
            if takenHasStarts { due = min(due, since + startPatience) }
        }
        if let since = queue.oldestStart { due = min(due, since + startPatience) }
        if let since = queue.oldest { due = min(due, max(since + Self.patience, disk.retryAt)) }
        if disk.needsAttention { due = min(due, disk.retryAt) }
        return due == .distantFuture ? nil : due
    }

    /// Puts what is in memory alone on disk, as much as one transaction should hold.
    ///
    /// - Returns: what can be acknowledged now.
    func spill(now: Instant) -> [UInt64] {
        guard let disk else { return [] }
        if disk.needsAttention { disk.tidy(now: now) }
        guard !taken.isEmpty || !queue.isEmpty else { return [] }
        let held = taken.flatMap(\.events)
        let waiting = queue.first(Self.spillEvents)
        guard let places = disk.append(held + waiting, held: held.count, now: now) else {
            return acknowledgeInMemory()
        }
        var rest = places[...]
        changeTaken { batch in
            defer { rest = rest.dropFirst(batch.events.count) }
            return WriteBatch(
                events: batch.events.map(\.withoutAcknowledgement), life: batch.life,
                places: Array(rest.prefix(batch.events.count)))
        }
        takenSince = nil
        if diskSince == nil, hasMoreOnDisk { diskSince = queue.oldest ?? now }
        return (held + queue.take(Self.spillEvents)).compactMap(\.acknowledgement)
    }

    /// The disk fails: memory is all there is, and the device plane goes on.
    private func acknowledgeInMemory() -> [UInt64] {
        takenHasStarts = false
        let numbers = taken.flatMap(\.acknowledgements) + queue.takeAcknowledgements()
        changeTaken { $0.withoutAcknowledgements }
        return numbers
    }

    /// What was taken from memory and is nowhere else, in its order.
    private var taken: [WriteBatch] {
        ([inFlight].compactMap { $0 } + returned).filter(isTaken)
    }

    private func changeTaken(_ change: (WriteBatch) -> WriteBatch) {
        inFlight = inFlight.map { isTaken($0) ? change($0) : $0 }
        for index in returned.indices where isTaken(returned[index]) {
            returned[index] = change(returned[index])
        }
    }

    /// An earlier life's events were on disk; if that was damaged, they stay in memory until they are written.
    private func isTaken(_ batch: WriteBatch) -> Bool { !batch.isOnDisk && batch.life == life }

    /// What is in flight or was given back is in memory, too; it is on no disk any more.
    private func diskWasLost(now: Instant) {
        diskSince = nil
        func displace(_ batch: WriteBatch) -> WriteBatch {
            WriteBatch(events: batch.events, life: batch.life)
        }
        inFlight = inFlight.map(displace)
        returned = Deque(returned.map(displace))
        if !taken.isEmpty { takenSince = now }
    }
}
