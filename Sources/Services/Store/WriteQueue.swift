internal import DequeModule
internal import Domain
internal import Outbox

/// Events that wait in memory, in the order they happened, within a bound.
///
/// The newest event of a subject takes the place of one that still waits: only the last one matters. When
/// there is no more room, events are given up by their rank (``StoreEvent/rank``), the oldest first.
struct WriteQueue {
    private struct Entry {
        var event: StoreEvent
        let since: Instant
    }

    private var entries = Deque<Entry>()
    /// The place of the first entry, counted since the queue was made.
    private var firstPlace = 0
    private var places: [EventSubject: Int] = [:]
    /// When those session starts in the queue came that somebody waits for.
    private var starts = Deque<Instant>()
    /// Events given up for lack of room.
    private(set) var droppedCount: UInt64 = 0
    private(set) var dropped = Tally<StoreEventKind>()
    private let capacity: Int

    /// About 100 MB of events; only without an outbox, or with one that fails, does the queue ever hold more
    /// than those of half a second.
    static let defaultCapacity = 200_000

    init(capacity: Int = WriteQueue.defaultCapacity) {
        self.capacity = capacity
    }

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }
    /// Since when the oldest event waits.
    var oldest: Instant? { entries.first?.since }
    /// Since when somebody waits for a session's start.
    var oldestStart: Instant? { starts.first }

    mutating func append(_ event: StoreEvent, now: Instant) {
        if let subject = event.subject {
            if let place = places[subject] {
                entries[place - firstPlace].event = event
                return
            }
            places[subject] = firstPlace + entries.count
        }
        if event.acknowledgement != nil { starts.append(now) }
        entries.append(Entry(event: event, since: now))
        if entries.count > capacity { makeRoom() }
    }

    /// The oldest events, at most `limit`.
    func first(_ limit: Int) -> [StoreEvent] {
        entries.prefix(limit).map(\.event)
    }

    /// Takes the oldest events, at most `limit`.
    mutating func take(_ limit: Int) -> [StoreEvent] {
        let taken = first(limit)
        entries.removeFirst(taken.count)
        firstPlace += taken.count
        for event in taken {
            if let subject = event.subject { places[subject] = nil }
            if event.acknowledgement != nil { starts.removeFirst() }
        }
        return taken
    }

    /// Takes the numbers with which session starts in the queue are acknowledged; the starts stay.
    mutating func takeAcknowledgements() -> [UInt64] {
        guard !starts.isEmpty else { return [] }
        starts = []
        var numbers: [UInt64] = []
        for index in entries.indices {
            guard let number = entries[index].event.acknowledgement else { continue }
            numbers.append(number)
            entries[index].event = entries[index].event.withoutAcknowledgement
        }
        return numbers
    }

    // MARK: Room

    /// Goes on until a tenth of the room is free, so that the work is not done again for the next event.
    private mutating func makeRoom() {
        var excess = entries.count - (capacity - capacity / 10)
        // Every second sample first: a series with a coarser step is better than one with a hole.
        var keepsSample = false
        drop(&excess) { event in
            guard event.rank == .sample else { return false }
            keepsSample.toggle()
            return keepsSample
        }
        for rank in OutboxEntry.Rank.allCases where rank != .kept {
            drop(&excess) { $0.rank == rank }
        }
        places.removeAll(keepingCapacity: true)
        for (offset, entry) in entries.enumerated() {
            if let subject = entry.event.subject { places[subject] = firstPlace + offset }
        }
    }

    private mutating func drop(_ excess: inout Int, _ isExpendable: (StoreEvent) -> Bool) {
        guard excess > 0 else { return }
        var kept = Deque<Entry>()
        kept.reserveCapacity(entries.count)
        for entry in entries {
            if excess > 0, isExpendable(entry.event) {
                excess -= 1
                droppedCount += 1
                dropped.note(entry.event.kind)
            } else {
                kept.append(entry)
            }
        }
        entries = kept
    }
}
