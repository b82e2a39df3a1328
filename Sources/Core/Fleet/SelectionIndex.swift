internal import Domain

// The sessions of a node by what clients choose devices by.
//
//   all            every session that takes conns, best first
//   view(filter)   the same for the sessions that fit one filter, made when it is first asked for
//   byLocation,
//   byTag          every session, to make views without a look at all of them
//
// A pick is the first of one heap, whatever the filter and however many devices there are: O(1). A change of a
// session's rank, which each conn brings twice, costs O(log n) in `all` and in each view that holds the session.
// A view is O(m log m) to make, m being the sessions of the filter's rarest trait. Views that were asked for
// longest ago go first; there are at most `maximumViews`.
struct SelectionIndex {
    private struct Entry {
        let traits: DeviceTraits
        /// The views that it fits, by their numbers.
        var views: [Int] = []
        /// Nil while it takes no conns.
        var rank: SelectionRank?
    }

    private struct View {
        let filter: DeviceFilter
        var heap = IndexedHeap<SessionID, SelectionRank>()
        var members: Set<SessionID> = []
        var lastUse: UInt64 = 0
    }

    private(set) var all = IndexedHeap<SessionID, SelectionRank>()
    private var entries: [SessionID: Entry] = [:]
    private var byLocation: [String: Set<SessionID>] = [:]
    private var byTag: [String: Set<SessionID>] = [:]
    /// Sessions of devices whose ids have a "-", by the id with "_" in its place.
    private var byFoldedID: [String: Set<SessionID>] = [:]
    private var views: [Int: View] = [:]
    private var viewNumbers: [DeviceFilter: Int] = [:]
    private var uses: UInt64 = 0
    private var lastNumber = 0

    /// Users have a handful of filters each; a device that fits all of these costs about 50 µs a conn.
    private static let maximumViews = 256

    // MARK: Keeping up

    /// A session has come, or its registration, its rank, or whether it takes conns (nil: not) have changed.
    mutating func update(_ id: SessionID, _ registration: Registration, rank: SelectionRank?) {
        if entries[id]?.traits.describe(registration) != true {
            remove(id)
            insert(id, DeviceTraits(registration))
        }
        guard let entry = entries[id], entry.rank != rank else { return }
        entries[id]?.rank = rank
        if let rank {
            all.set(id, rank)
            for number in entry.views { views[number]?.heap.set(id, rank) }
        } else {
            all.remove(id)
            for number in entry.views { views[number]?.heap.remove(id) }
        }
    }

    mutating func remove(_ id: SessionID) {
        guard let entry = entries.removeValue(forKey: id) else { return }
        all.remove(id)
        for number in entry.views {
            views[number]?.heap.remove(id)
            views[number]?.members.remove(id)
        }
        let traits = entry.traits
        Self.remove(id, from: &byLocation, traits.foldedLocation)
        for tag in traits.foldedTags { Self.remove(id, from: &byTag, tag) }
        if traits.device.description.utf8.contains(UInt8(ascii: "-")) {
            Self.remove(id, from: &byFoldedID, folded(traits.device.description))
        }
    }

    private mutating func insert(_ id: SessionID, _ traits: DeviceTraits) {
        var entry = Entry(traits: traits)
        for (number, view) in views where view.filter.mismatch(traits) == nil {
            entry.views.append(number)
            views[number]?.members.insert(id)
        }
        entries[id] = entry
        byLocation[traits.foldedLocation, default: []].insert(id)
        for tag in traits.foldedTags { byTag[tag, default: []].insert(id) }
        if traits.device.description.utf8.contains(UInt8(ascii: "-")) {
            byFoldedID[folded(traits.device.description), default: []].insert(id)
        }
    }

    private static func remove(
        _ id: SessionID, from sets: inout [String: Set<SessionID>], _ key: String
    ) {
        sets[key]?.remove(id)
        if sets[key]?.isEmpty == true { sets[key] = nil }
    }

    // MARK: Asking

    /// Sessions that take conns and fit `filter`, best first; nil when none ever did.
    mutating func heap(fitting filter: DeviceFilter) -> IndexedHeap<SessionID, SelectionRank>? {
        if filter.isEmpty { return all }
        uses += 1
        if let number = viewNumbers[filter] {
            views[number]?.lastUse = uses
            return views[number]?.heap
        }
        guard let smallest = smallestSet(filter), !smallest.isEmpty else { return nil }
        return makeView(filter, of: smallest)
    }

    /// Sessions of devices that are not called `id` but are what a client means by it.
    func sessions(meantBy id: DeviceID) -> Set<SessionID> {
        byFoldedID[id.description] ?? []
    }

    func traits(of id: SessionID) -> DeviceTraits? { entries[id]?.traits }

    /// The sessions that have the rarest of what the filter asks for; every session that fits is one of them.
    private func smallestSet(_ filter: DeviceFilter) -> Set<SessionID>? {
        var sets = filter.tags.map { byTag[$0] ?? [] }
        if let location = filter.location { sets.append(byLocation[location] ?? []) }
        if let smallest = sets.min(by: { $0.count < $1.count }) { return smallest }
        return filter.allowedLocations.reduce(into: []) { $0.formUnion(byLocation[folded($1)] ?? []) }
    }

    private mutating func makeView(
        _ filter: DeviceFilter, of sessions: Set<SessionID>
    ) -> IndexedHeap<SessionID, SelectionRank> {
        if views.count >= Self.maximumViews { dropOldestView() }
        lastNumber += 1
        var view = View(filter: filter, lastUse: uses)
        for id in sessions {
            guard let entry = entries[id], filter.mismatch(entry.traits) == nil else { continue }
            view.members.insert(id)
            entries[id]?.views.append(lastNumber)
            if let rank = entry.rank { view.heap.set(id, rank) }
        }
        views[lastNumber] = view
        viewNumbers[filter] = lastNumber
        return view.heap
    }

    private mutating func dropOldestView() {
        guard let oldest = views.min(by: { $0.value.lastUse < $1.value.lastUse }) else { return }
        views[oldest.key] = nil
        viewNumbers[oldest.value.filter] = nil
        for id in oldest.value.members { entries[id]?.views.removeAll { $0 == oldest.key } }
    }
}
