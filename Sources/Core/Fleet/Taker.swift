package import Domain

/// Another node of the cluster, as its row tells: somewhere for devices that can't stay here.
package struct Taker: Sendable, Hashable {
    package var nodeID: NodeID
    /// Where its devices connect, `wss://`.
    package var url: String
    /// How many more devices it has room for.
    package var room: Int
    /// Whether it takes devices: active, and its lease is good.
    package var isOpen: Bool
    /// Whether those that come have to wait longer than they should.
    package var isBusy: Bool

    package init(nodeID: NodeID, url: String, room: Int, isOpen: Bool = true, isBusy: Bool = false) {
        self.nodeID = nodeID
        self.url = url
        self.room = max(0, room)
        self.isOpen = isOpen
        self.isBusy = isBusy
    }

    /// Milliseconds. A registration takes a round trip and a write to the database, a tenth of this at worst
    /// where there is no need to hurry.
    private static let longestRegistration = 1_000.0
    /// Milliseconds. A control loop that is this late answers nobody in time.
    private static let longestLag = 500.0

    /// Whether a node that has measured this should be sent fewer devices.
    package static func isBusy(registrationMilliseconds: Double, lagMilliseconds: Double) -> Bool {
        registrationMilliseconds > longestRegistration || lagMilliseconds > longestLag
    }
}

/// How a drain gets on with one of the nodes that it sends devices to.
package struct DrainTarget: Sendable, Hashable {
    package enum State: String, Sendable, Hashable, CaseIterable {
        /// Takes devices at the full pace.
        case open
        /// Takes devices, fewer a second: its registrations take long.
        case busy
        /// Has no room.
        case full
        /// Cordoned, draining or drained.
        case closed
        /// Its lease has run out, or it is gone.
        case lost
    }

    package var nodeID: NodeID
    package var state: State
    /// Devices that were told to go there first.
    package var assigned: Int
    /// Devices of this drain that are connected there now, also those that were sent elsewhere first.
    package var arrived: Int
    /// Devices that it is sent in a second at most.
    package var devicesPerSecond: Double

    package init(
        nodeID: NodeID, state: State, assigned: Int, arrived: Int, devicesPerSecond: Double
    ) {
        self.nodeID = nodeID
        self.state = state
        self.assigned = assigned
        self.arrived = arrived
        self.devicesPerSecond = devicesPerSecond
    }
}

/// Who takes the next device.
///
/// - Each taker gets its share by its room: a smooth weighted round robin, so that no run of devices goes to
///   one node.
/// - Each has a pace of its own: halved at each look that finds it busy, raised by an eighth of the full pace at
///   each that doesn't. A node that is full, closed or lost gets nobody.
/// - A device that was told to come has a place kept until it has arrived; one that doesn't come gives it back
///   a while after its time, or after it has gone elsewhere.
struct TakerBook {
    private struct Entry {
        var taker: Taker
        var isKnown = true
        var pace: Double
        var nextSlot = Instant(nanoseconds: 0)
        var credit = 0.0
        var referralCredit = 0.0
        var assigned = 0
        var arrived = 0
        /// Places that are kept; those of devices that have arrived may be among them.
        var kept = 0

        /// Less those that are on their way.
        var room: Int { max(0, taker.room - max(0, min(kept, assigned - arrived))) }
        var isOpen: Bool { isKnown && taker.isOpen }
        var takes: Bool { isOpen && room > 0 }

        var state: DrainTarget.State {
            if !isKnown { return .lost }
            if !taker.isOpen { return .closed }
            if room == 0 { return .full }
            return taker.isBusy ? .busy : .open
        }
    }

    enum Choice {
        /// `others` follow the first one as fall-backs.
        case send(to: NodeID, at: Instant, alternatives: [String])
        /// Nobody before then.
        case later(Instant)
        /// Nobody until the takers change.
        case nobody(DrainHindrance)
        /// There is no other node to speak of: devices look after themselves.
        case alone
    }

    /// Most URLs that a device is told: it tries them one after the other, and each is tens of bytes.
    private static let mostAlternatives = 8
    /// What one node is sent at most, whatever the operator asks for: above it the TLS handshakes alone take a
    /// processor.
    private static let mostPerSecond = 1_000.0
    private static let leastPerSecond = 1.0
    /// How long after it has left here a device may not be in the row of the node that it has gone to: two of the
    /// rows' intervals and a look.
    private static let rowDelay = Duration.seconds(6)

    private var entries: [NodeID: Entry] = [:]
    /// Sorted, so that the same fleet is drained in the same way.
    private var order: [NodeID] = []
    /// Devices go nowhere else; empty: anywhere.
    private var only: Set<NodeID> = []
    private var fullPace = 0.0
    private var lookedAt: Instant?
    private var places: [SessionID: NodeID] = [:]
    /// Until when each place is kept.
    private var placeEnds = IndexedHeap<SessionID, Instant>()

    // MARK: What is known

    /// Begins to share out devices for a drain.
    mutating func begin() {
        for id in order {
            entries[id]?.assigned = 0
            entries[id]?.arrived = 0
            entries[id]?.kept = 0
            entries[id]?.credit = 0
            entries[id]?.nextSlot = Instant(nanoseconds: 0)
        }
        fullPace = 0
        places = [:]
        placeEnds = IndexedHeap()
    }

    mutating func change(only: [NodeID], devicesPerSecond: Int) {
        self.only = Set(only)
        let pace = min(Double(max(1, devicesPerSecond)), Self.mostPerSecond)
        // One that has been slowed stays as much slower as it was.
        for id in order {
            guard let entry = entries[id] else { continue }
            let share = fullPace > 0 ? entry.pace / fullPace : 1
            entries[id]?.pace = max(min(share, 1) * pace, min(pace, Self.leastPerSecond))
            entries[id]?.nextSlot = Instant(nanoseconds: 0)
        }
        fullPace = pace
    }

    /// No node is kept from being referred to any more.
    mutating func allowAll() {
        only = []
    }

    /// Whether there is somebody who looks, and has not looked since.
    func isOld(at now: Instant) -> Bool { lookedAt.map { $0 < now } ?? false }

    mutating func refresh(_ takers: [Taker], at now: Instant) {
        lookedAt = now
        giveBack(at: now)
        let known = Set(takers.map(\.nodeID))
        for id in order where !known.contains(id) { entries[id]?.isKnown = false }
        for taker in takers {
            guard var entry = entries[taker.nodeID] else {
                entries[taker.nodeID] = Entry(taker: taker, pace: fullPace)
                continue
            }
            entry.taker = taker
            entry.isKnown = true
            entry.pace =
                taker.isBusy
                ? max(entry.pace / 2, min(fullPace, Self.leastPerSecond))
                : min(entry.pace + fullPace / 8, fullPace)
            entries[taker.nodeID] = entry
        }
        // Of nodes that are gone only those that were sent devices are still told of.
        entries = entries.filter { $0.value.isKnown || $0.value.assigned > 0 || $0.value.arrived > 0 }
        order = entries.keys.sorted()
    }

    /// Whether any count is another one now.
    mutating func arrived(_ counts: [NodeID: Int]) -> Bool {
        var isChanged = false
        for id in order where entries[id]?.arrived != counts[id] ?? 0 {
            entries[id]?.arrived = counts[id] ?? 0
            isChanged = true
        }
        return isChanged
    }

    private func isAllowed(_ id: NodeID) -> Bool { only.isEmpty || only.contains(id) }

    private var takerIDs: [NodeID] { order.filter { isAllowed($0) && entries[$0]?.takes == true } }

    /// Nodes that take devices.
    var openCount: Int { takerIDs.count }

    /// What all takers together are sent in a second at most.
    var devicesPerSecond: Double {
        takerIDs.reduce(0) { $0 + (entries[$1]?.pace ?? 0) }
    }

    /// The same for nodes of which no more is known than what they say of themselves: a busy one is sent half at
    /// the first look, and what comes of that is not known before.
    static func devicesPerSecond(of targets: [DrainPlan.Target], set: Double) -> Double {
        let pace = min(set, mostPerSecond)
        return targets.reduce(0) { sum, target in
            guard target.room > 0 else { return sum }
            return sum + (target.isBusy ? max(pace / 2, min(pace, leastPerSecond)) : pace)
        }
    }

    var targets: [DrainTarget] {
        order.compactMap { id in
            guard let entry = entries[id], isAllowed(id) || entry.assigned > 0 else { return nil }
            return DrainTarget(
                nodeID: id, state: entry.state, assigned: entry.assigned, arrived: entry.arrived,
                devicesPerSecond: entry.takes ? entry.pace : 0)
        }
    }

    var isAnyoneBusy: Bool { takerIDs.contains { entries[$0]?.taker.isBusy == true } }

    // MARK: Places

    /// When the next place is given back, should its device not have come.
    var nextReturn: Instant { placeEnds.first?.key ?? .distantFuture }

    /// The device is not here any more, or not for long: soon it is in the row of the node that has it.
    mutating func gone(_ device: SessionID, at now: Instant) {
        guard let end = placeEnds.key(of: device) else { return }
        placeEnds.set(device, min(end, now + Self.rowDelay))
    }

    /// Takes back the places that have been kept for long enough.
    mutating func giveBack(at now: Instant) {
        while let (device, end) = placeEnds.first, end <= now {
            placeEnds.remove(device)
            if let taker = places.removeValue(forKey: device) { entries[taker]?.kept -= 1 }
        }
    }

    private mutating func keep(_ taker: NodeID, for device: SessionID, until end: Instant) {
        if let other = places.updateValue(taker, forKey: device) { entries[other]?.kept -= 1 }
        entries[taker]?.kept += 1
        placeEnds.set(device, end)
    }

    // MARK: Choosing

    /// - Parameters:
    ///   - slot: the earliest time for the device.
    ///   - horizon: how far ahead times are given.
    mutating func choose(for device: SessionID, slot: Instant, horizon: Instant) -> Choice {
        let takers = takerIDs
        guard !takers.isEmpty else { return nobody }
        let ready = takers.filter { entries[$0].map { $0.nextSlot <= slot } ?? false }
        // Where all are at their pace's limit the first to be free again is next.
        let earliest = takers.compactMap { entries[$0]?.nextSlot }.min() ?? slot
        guard !ready.isEmpty || earliest <= horizon else { return .later(earliest) }
        let among = ready.isEmpty ? takers.filter { entries[$0]?.nextSlot == earliest } : ready
        guard let chosen = favourite(of: among, \.credit), let entry = entries[chosen] else { return nobody }
        let at = max(slot, entry.nextSlot)
        entries[chosen]?.nextSlot = at + .nanoseconds(Int64(1e9 / max(entry.pace, 1e-3)))
        entries[chosen]?.assigned += 1
        keep(chosen, for: device, until: at + DrainMachine.moveTimeout)
        return .send(to: chosen, at: at, alternatives: urls(first: chosen))
    }

    private var nobody: Choice {
        let open = order.filter { isAllowed($0) && entries[$0]?.isOpen == true }
        if !open.isEmpty { return .nobody(.takersFull) }
        if !only.isEmpty || order.contains(where: { entries[$0]?.isKnown == true }) {
            return .nobody(.takersClosed)
        }
        return .alone
    }

    /// Where a device that is turned away may go, another first one each time.
    mutating func referral() -> [String] {
        let takers = takerIDs
        guard let chosen = favourite(of: takers, \.referralCredit) else { return [] }
        return urls(first: chosen)
    }

    /// The one whose turn it is by weight.
    private mutating func favourite(
        of takers: [NodeID], _ credit: WritableKeyPath<Entry, Double>
    ) -> NodeID? {
        let total = takers.reduce(0.0) { $0 + Double(entries[$1]?.room ?? 0) }
        guard total > 0 else { return nil }
        var best: NodeID?
        var most = -Double.infinity
        for id in takers {
            guard var entry = entries[id] else { continue }
            entry[keyPath: credit] += Double(entry.room) / total
            entries[id] = entry
            if entry[keyPath: credit] > most { (best, most) = (id, entry[keyPath: credit]) }
        }
        if let best { entries[best]?[keyPath: credit] -= 1 }
        return best
    }

    /// The others follow by their room, the emptiest first.
    private func urls(first: NodeID) -> [String] {
        let others = takerIDs.filter { $0 != first }.sorted {
            (entries[$1]?.room ?? 0, $0) < (entries[$0]?.room ?? 0, $1)
        }
        return ([first] + others).prefix(Self.mostAlternatives).compactMap { entries[$0]?.taker.url }
    }
}
