internal import Domain

// The sessions of a node by what clients choose devices by.
//
//   all            every session that takes conns, best first
//   view(filter)   the same for the sessions that fit one filter
//   byTrait        every session, by each thing that a filter can ask for
//
// With no filter, or one that has a view, a pick is the first of a heap: O(1), however many devices there are. A
// change of a session's rank, which each conn brings twice, costs O(log n) in `all` and in each view that holds the
// session.
//
// Any other filter is answered by a look at the sessions that have the rarest of what it asks for, O(m), and
// leaves nothing behind but a count. It gets a view when m is big and it has been asked for again: a view costs
// what all conns of its sessions cost from then on, so one client that asks for something else each time gets none,
// and takes none from others. There are at most `maximumViews`; one gives way to a filter only that has been asked
// for more often.
struct SelectionIndex {
    struct Limits {
        /// Fewer sessions than this are looked at in less time than their view would take to be kept.
        var smallestView = 64
        /// Users have a handful of filters each; a device that fits all of these costs about 50 µs a conn.
        var maximumViews = 256
        /// A filter without a view is remembered among so many.
        var rememberedFilters = 1_024
        /// After so many picks what was asked for before counts half.
        var picksUntilHalved = 16_384
    }

    private enum Trait: Hashable {
        /// As clients write it.
        case location(String)
        /// As operators write it.
        case exactLocation(String)
        case tag(String)
        case datagrams
    }

    /// The index alone holds it; it is shared so that a change costs no more than finding it.
    private final class Entry {
        let traits: DeviceTraits
        /// The views that it fits, by their numbers.
        var views: [Int] = []
        /// Nil while it takes no conns.
        var rank: SelectionRank?

        init(_ traits: DeviceTraits) {
            self.traits = traits
        }
    }

    private struct View {
        let filter: DeviceFilter
        var heap = IndexedHeap<SessionID, SelectionRank>()
        var members: Set<SessionID> = []
        var useCount: Int
    }

    private(set) var all = IndexedHeap<SessionID, SelectionRank>()
    private var entries: [SessionID: Entry] = [:]
    private var byTrait: [Trait: Set<SessionID>] = [:]
    /// Sessions of devices whose ids have a "-", by the id with "_" in its place.
    private var byFoldedID: [String: Set<SessionID>] = [:]
    private var views: [Int: View] = [:]
    private var viewNumbers: [DeviceFilter: Int] = [:]
    private var askedFor: [DeviceFilter: Int] = [:]
    private var picksSinceHalved = 0
    private var lastNumber = 0
    private let limits: Limits

    init(limits: Limits = Limits()) {
        self.limits = limits
    }

    var viewCount: Int { views.count }
    func hasView(_ filter: DeviceFilter) -> Bool { viewNumbers[filter] != nil }

    // MARK: Keeping up

    /// A session has come, or its registration, its rank, or whether it takes conns (nil: not) have changed.
    mutating func update(_ id: SessionID, _ registration: Registration, rank: SelectionRank?) {
        let entry: Entry
        if let known = entries[id], known.traits.describe(registration) {
            entry = known
        } else {
            remove(id)
            entry = insert(id, DeviceTraits(registration))
        }
        guard entry.rank != rank else { return }
        entry.rank = rank
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
        for trait in Self.traits(entry.traits) {
            byTrait[trait]?.remove(id)
            if byTrait[trait]?.isEmpty == true { byTrait[trait] = nil }
        }
        guard let folded = Self.foldedID(entry.traits) else { return }
        byFoldedID[folded]?.remove(id)
        if byFoldedID[folded]?.isEmpty == true { byFoldedID[folded] = nil }
    }

    private mutating func insert(_ id: SessionID, _ traits: DeviceTraits) -> Entry {
        let entry = Entry(traits)
        for (number, view) in views where view.filter.fits(traits) {
            entry.views.append(number)
            views[number]?.members.insert(id)
        }
        entries[id] = entry
        for trait in Self.traits(traits) { byTrait[trait, default: []].insert(id) }
        if let folded = Self.foldedID(traits) { byFoldedID[folded, default: []].insert(id) }
        return entry
    }

    private static func traits(_ traits: DeviceTraits) -> [Trait] {
        [.location(traits.foldedLocation), .exactLocation(traits.location)]
            + traits.foldedTags.map { .tag($0) } + (traits.carriesDatagrams ? [.datagrams] : [])
    }

    private static func foldedID(_ traits: DeviceTraits) -> String? {
        let id = traits.device.description
        return id.utf8.contains(UInt8(ascii: "-")) ? folded(id) : nil
    }

    // MARK: Asking

    /// Sessions that take conns and fit `filter`.
    mutating func candidates(fitting filter: DeviceFilter) -> SelectionCandidates {
        if filter.isEmpty { return SelectionCandidates(all) }
        age()
        if let number = viewNumbers[filter] {
            views[number]?.useCount += 1
            return SelectionCandidates(views[number]?.heap ?? IndexedHeap())
        }
        guard let demand = Demand(filter, byTrait) else { return SelectionCandidates([]) }
        if demand.rarestCount >= limits.smallestView, deservesView(filter) {
            return SelectionCandidates(makeView(filter, demand))
        }
        return SelectionCandidates(
            demand.sessions.compactMap { id in all.key(of: id).map { (id: id, key: $0) } })
    }

    /// Sessions of devices that are not called `id` but are what a client means by it.
    func sessions(meantBy id: DeviceID) -> Set<SessionID> {
        byFoldedID[id.description] ?? []
    }

    func traits(of id: SessionID) -> DeviceTraits? { entries[id]?.traits }

    /// What a filter asks for, as the sessions that have it: those that fit are in each of `every`, and in one of
    /// `places` if there are any.
    private struct Demand {
        /// The rarest first.
        private var every: [Set<SessionID>] = []
        private var places: [Set<SessionID>] = []

        /// Nil when something is asked for that no session has.
        init?(_ filter: DeviceFilter, _ byTrait: [Trait: Set<SessionID>]) {
            var traits: [Trait] = filter.tags.map { .tag($0) }
            if let location = filter.location { traits.append(.location(location)) }
            if filter.needsDatagrams { traits.append(.datagrams) }
            for trait in traits {
                guard let sessions = byTrait[trait] else { return nil }
                every.append(sessions)
            }
            every.sort { $0.count < $1.count }
            guard !filter.allowedLocations.isEmpty else { return }
            places = filter.allowedLocations.compactMap { byTrait[.exactLocation($0)] }
            if places.isEmpty { return nil }
        }

        private var placeCount: Int { places.reduce(0) { $0 + $1.count } }

        /// How many sessions are looked at for those that fit.
        var rarestCount: Int {
            guard let rarest = every.first else { return placeCount }
            return places.isEmpty ? rarest.count : min(rarest.count, placeCount)
        }

        var sessions: [SessionID] {
            guard let rarest = every.first, places.isEmpty || rarest.count <= placeCount else {
                return places.flatMap { place in
                    place.filter { id in every.allSatisfy { $0.contains(id) } }
                }
            }
            return rarest.filter { id in
                every.dropFirst().allSatisfy { $0.contains(id) }
                    && (places.isEmpty || places.contains { $0.contains(id) })
            }
        }
    }

    // MARK: Views

    private mutating func age() {
        picksSinceHalved += 1
        guard picksSinceHalved >= limits.picksUntilHalved else { return }
        picksSinceHalved = 0
        askedFor = [:]
        for number in views.keys { views[number]?.useCount /= 2 }
    }

    /// Whether the filter has been asked for again, and more often than one that has a view if there is no room.
    private mutating func deservesView(_ filter: DeviceFilter) -> Bool {
        let count = (askedFor[filter] ?? 0) + 1
        if askedFor.count >= limits.rememberedFilters { askedFor = [:] }
        askedFor[filter] = count
        guard count > 1 else { return false }
        guard views.count >= limits.maximumViews else { return true }
        guard let least = views.min(by: { $0.value.useCount < $1.value.useCount }),
            least.value.useCount < count
        else { return false }
        drop(least.key, least.value)
        return true
    }

    private mutating func makeView(
        _ filter: DeviceFilter, _ demand: Demand
    ) -> IndexedHeap<SessionID, SelectionRank> {
        lastNumber += 1
        var view = View(filter: filter, useCount: askedFor.removeValue(forKey: filter) ?? 0)
        for id in demand.sessions {
            view.members.insert(id)
            entries[id]?.views.append(lastNumber)
            if let rank = all.key(of: id) { view.heap.set(id, rank) }
        }
        views[lastNumber] = view
        viewNumbers[filter] = lastNumber
        return view.heap
    }

    private mutating func drop(_ number: Int, _ view: View) {
        views[number] = nil
        viewNumbers[view.filter] = nil
        for id in view.members { entries[id]?.views.removeAll { $0 == number } }
    }
}

/// The sessions among which one is picked: a heap where it is kept, a list where they were looked up.
struct SelectionCandidates {
    typealias Item = (id: SessionID, key: SelectionRank)

    private let heap: IndexedHeap<SessionID, SelectionRank>?
    private let list: [Item]

    init(_ heap: IndexedHeap<SessionID, SelectionRank>) {
        self.heap = heap
        list = []
    }

    init(_ list: [Item]) {
        heap = nil
        self.list = list
    }

    var count: Int { heap?.count ?? list.count }

    /// For draws by lot.
    func id(at place: Int) -> SessionID { heap?.id(at: place) ?? list[place].id }

    /// The best that is none of `excluded`, which are few.
    func first(except excluded: [SessionID] = []) -> SessionID? {
        if let heap { return heap.first(except: excluded) }
        return list.lazy.filter { !excluded.contains($0.id) }.min { $0.key < $1.key }?.id
    }
}
