internal import DequeModule
internal import Domain

/// Events that wait to be written, in the order they happened, within a bound.
///
/// The newest state of a session takes the place of one that still waits: only the last one matters.
/// When there is no more room, load samples are thinned out first, then ended conns go, oldest first, then
/// lines of the audit trail, those of strangers before the others; what says that a session or a drain began,
/// changed or ended always stays.
struct WriteQueue {
    private var entries = Deque<StoreEvent>()
    /// The place of the first entry, counted since the queue was made.
    private var firstPlace = 0
    private var statePlaces: [SessionID: Int] = [:]
    private var updatePlaces: [SessionID: Int] = [:]
    /// Session starts in the queue: somebody waits for each of them.
    private(set) var waitingStarts = 0
    /// Events given up for lack of room.
    private(set) var droppedCount: UInt64 = 0
    private let capacity: Int

    /// About 100 MB of events: an hour of a busy node's conns, or a night of its load samples.
    static let defaultCapacity = 200_000

    init(capacity: Int = WriteQueue.defaultCapacity) {
        self.capacity = capacity
    }

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    mutating func append(_ event: StoreEvent) {
        switch event {
        case .deviceState(let state):
            if let place = statePlaces[state.sessionID] {
                entries[place - firstPlace] = event
                return
            }
            statePlaces[state.sessionID] = firstPlace + entries.count
        case .sessionUpdated(let update):
            if let place = updatePlaces[update.sessionID] {
                entries[place - firstPlace] = event
                return
            }
            updatePlaces[update.sessionID] = firstPlace + entries.count
        case .sessionStarted:
            waitingStarts += 1
        case .sessionEnded, .loadReport, .connEnded, .nodeSample, .nodeState, .audited, .adminTokensUsed,
            .drainChanged:
            break
        }
        entries.append(event)
        if entries.count > capacity { makeRoom() }
    }

    /// Takes the oldest events, at most `limit`.
    mutating func take(_ limit: Int) -> [StoreEvent] {
        let count = min(limit, entries.count)
        let taken = Array(entries.prefix(count))
        entries.removeFirst(count)
        firstPlace += count
        for event in taken {
            switch event {
            case .deviceState(let state): statePlaces[state.sessionID] = nil
            case .sessionUpdated(let update): updatePlaces[update.sessionID] = nil
            case .sessionStarted: waitingStarts -= 1
            default: break
            }
        }
        return taken
    }

    /// Goes on until a tenth of the room is free, so that the work is not done again for the next event.
    private mutating func makeRoom() {
        let target = capacity - capacity / 10
        var keepsLoad = false
        var excess = entries.count - target
        // Every second sample first: a series with a coarser step is better than one with a hole.
        drop(&excess) { event in
            guard case .loadReport = event else { return false }
            keepsLoad.toggle()
            return keepsLoad
        }
        drop(&excess) { event in
            switch event {
            case .loadReport, .nodeSample: true
            default: false
            }
        }
        drop(&excess) { event in
            if case .connEnded = event { true } else { false }
        }
        // Anybody can make lines of the audit trail, by calls that are refused.
        drop(&excess) { event in
            if case .audited(let record) = event { record.actor.isEmpty } else { false }
        }
        drop(&excess) { event in
            if case .audited = event { true } else { false }
        }
        indexPlaces()
    }

    private mutating func drop(_ excess: inout Int, _ isExpendable: (StoreEvent) -> Bool) {
        guard excess > 0 else { return }
        var kept = Deque<StoreEvent>()
        kept.reserveCapacity(entries.count)
        for event in entries {
            if excess > 0, isExpendable(event) {
                excess -= 1
                droppedCount += 1
            } else {
                kept.append(event)
            }
        }
        entries = kept
    }

    private mutating func indexPlaces() {
        statePlaces.removeAll(keepingCapacity: true)
        updatePlaces.removeAll(keepingCapacity: true)
        for (offset, event) in entries.enumerated() {
            switch event {
            case .deviceState(let state): statePlaces[state.sessionID] = firstPlace + offset
            case .sessionUpdated(let update): updatePlaces[update.sessionID] = firstPlace + offset
            default: break
            }
        }
    }
}
