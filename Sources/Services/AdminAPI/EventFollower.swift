internal import Domain
internal import EventLoop
internal import HTTP1
internal import JSON
internal import Store

/// Follows what happens at the other nodes, while somebody here reads events (`docs/adr/0022`).
///
///     nobody reads -- first reader --> following -- last reader gone, a while later --> nobody reads
///
/// While following, each live node is asked about every five seconds to go on telling, and what it tells is read
/// whenever it is told of, in the order of the batches' numbers. Whatever may be missing is told as a gap of that
/// node: a number that is left out, a node that does not answer, that was started again, or that is lost. Readers
/// wait for the nodes, for a moment at most: what happens after their stream has begun is told.
final class EventFollower {
    /// What is known of a node that tells.
    private struct Teller {
        /// Nil until it has answered.
        var place: EventPosition?
        /// The last batch there was when it was asked last.
        var promised: UInt64 = 0
        var isAsking = false
        var askedAt: Instant?
        /// The kinds that it has agreed to tell.
        var kinds: AdminEventKinds = []
        /// It was told to be silent.
        var isSilent = false
    }

    /// What a reader begins with.
    struct Start {
        /// Where in the log events of other nodes begin, of the kinds that the reader wants; nil: there are no
        /// others.
        let othersFrom: UInt64?
        /// Nodes that don't tell at the moment.
        let gaps: [(node: NodeID, cause: Cause)]
    }

    /// Why events of a node may be missing.
    enum Cause: String, CaseIterable {
        case eventsLost = "events_lost"
        case nodeSilent = "node_silent"
        case nodeRestarted = "node_restarted"
        case nodeLost = "node_lost"
        case databaseUnavailable = "database_unavailable"
    }

    /// A reader's stream begins without the nodes that have not answered by then.
    private static let patience = Duration.seconds(1)
    private static let lookInterval = Duration.seconds(2)
    private static let askInterval = Duration.seconds(5)
    /// So long after the last reader one may come back for what it has missed.
    private static let lingerTime = Duration.seconds(30)

    private let loop: EventLoop
    private unowned let backend: any AdminBackend
    private unowned let events: AdminEvents
    private var kinds: AdminEventKinds = []
    private var isFollowing = false
    private var isLooking = false
    private var isReading = false
    private var isReadDue = false
    private var lastReaderAt: Instant?
    /// Where in the log events of all nodes begin, of each kind. A kind of `kinds` that is not there is waited for.
    private var completeFrom: [AdminEventKind: UInt64] = [:]
    private var tellers: [NodeID: Teller] = [:]
    private var states: [NodeID: NodeState]?
    private var waiting: [(kinds: AdminEventKinds, use: (Start) -> Void)] = []
    /// Nobody could be asked who else is there.
    private var isBlind = false
    private var lookTimer: LoopTimer?
    private var patienceTimer: LoopTimer?
    private(set) var heard: [AdminEventKind: UInt64] = [:]
    private(set) var gaps: [Cause: UInt64] = [:]

    /// - Parameter backend: outlives this, as do the events.
    init(on loop: EventLoop, backend: any AdminBackend, events: AdminEvents) {
        self.loop = loop
        self.backend = backend
        self.events = events
        lookTimer = loop.makeTimer { [weak self] in self?.look() }
        patienceTimer = loop.makeTimer { [weak self] in self?.begin() }
    }

    deinit {
        lookTimer?.cancel()
        patienceTimer?.cancel()
    }

    // MARK: Readers

    /// Goes on when all live nodes tell events of these kinds, or do not answer.
    func follow(_ wanted: AdminEventKinds, _ use: @escaping (Start) -> Void) {
        lastReaderAt = loop.now
        waiting.append((wanted, use))
        let wantsMore = !kinds.isSuperset(of: wanted)
        // A node that has just been seen for the first time has its moment, too.
        if !wantsMore, isComplete, !tellers.values.contains(where: isAboutToTell) { return begin() }
        isFollowing = true
        kinds.formUnion(wanted)
        // Whoever is asked for more kinds gets the same time for it.
        if wantsMore || patienceTimer?.isArmed != true { patienceTimer?.arm(at: loop.now + Self.patience) }
        look()
    }

    private var isComplete: Bool {
        !AdminEventKind.allCases.contains { kinds.contains($0) && completeFrom[$0] == nil }
    }

    private func isAboutToTell(_ teller: Teller) -> Bool {
        teller.isAsking && !teller.isSilent && !tells(teller)
    }

    /// The streams that wait begin.
    private func begin() {
        patienceTimer?.cancel()
        for kind in AdminEventKind.allCases where kinds.contains(kind) && completeFrom[kind] == nil {
            completeFrom[kind] = events.end
        }
        // Who has not answered by now is found to be silent, and whoever reads already has been told so.
        for (node, teller) in tellers where !tells(teller) && !teller.isSilent {
            tellers[node]?.isSilent = true
            tellGap(of: node, .nodeSilent)
        }
        var gaps = tellers.filter { $0.value.isSilent }.map { (node: $0.key, cause: Cause.nodeSilent) }
        if isBlind { gaps.append((backend.nodeID, .databaseUnavailable)) }
        let hasOthers = !(states?.isEmpty ?? true)
        let streams = waiting
        waiting = []
        for (wanted, use) in streams {
            let from = completeFrom.filter { wanted.contains($0.key) }.values.max()
            use(Start(othersFrom: hasOthers ? from : nil, gaps: gaps))
        }
    }

    private func beginIfAllTell() {
        guard !waiting.isEmpty, !isLooking else { return }
        if tellers.values.allSatisfy({ tells($0) || $0.isSilent && !$0.isAsking }) { begin() }
    }

    private func tells(_ teller: Teller) -> Bool {
        teller.place != nil && !teller.isSilent && teller.kinds.isSuperset(of: kinds)
    }

    private func stopIfNobodyReads() -> Bool {
        if let wanted = events.wantedKinds {
            lastReaderAt = loop.now
            kinds.formUnion(wanted)
        }
        guard waiting.isEmpty, let last = lastReaderAt, loop.now - last > Self.lingerTime else {
            return false
        }
        isFollowing = false
        kinds = []
        completeFrom = [:]
        tellers = [:]
        states = nil
        isBlind = false
        return true
    }

    // MARK: Nodes

    private func look() {
        guard isFollowing, !stopIfNobodyReads() else { return }
        lookTimer?.arm(at: loop.now + Self.lookInterval)
        if isReadDue { read() }
        guard !isLooking else { return }
        isLooking = true
        backend.ask(.nodes) { [weak self] result in
            guard let self else { return }
            isLooking = false
            guard isFollowing else { return }
            if case .success(.nodes(let rows)) = result {
                isBlind = false
                see(rows.filter { $0.nodeID != self.backend.nodeID })
            } else if !isBlind {
                isBlind = true
                tellGap(of: backend.nodeID, .databaseUnavailable)
            }
            beginIfAllTell()
        }
    }

    private func see(_ others: [NodeRow]) {
        let known = states
        var seen: [NodeID: NodeState] = [:]
        for row in others {
            let before = known?[row.nodeID]
            seen[row.nodeID] = row.state
            if row.state == .down {
                guard let teller = tellers.removeValue(forKey: row.nodeID) else { continue }
                guard before != .down else { continue }
                if teller.place != nil { tellGap(of: row.nodeID, .nodeLost) }
                events.tellState(.down, of: row.nodeID)
            } else {
                // Its own word comes first: the row may be older.
                if before == .down { events.tellState(row.state, of: row.nodeID) }
                askAgain(row.nodeID)
            }
        }
        for gone in tellers.keys where seen[gone] == nil { tellers[gone] = nil }
        states = seen
    }

    private func askAgain(_ node: NodeID) {
        var teller = tellers[node] ?? Teller()
        defer { tellers[node] = teller }
        let isDue = teller.askedAt.map { loop.now - $0 >= Self.askInterval } ?? true
        let isBehind = !teller.isSilent && !teller.kinds.isSuperset(of: kinds)
        guard !teller.isAsking, isDue || isBehind else { return }
        teller.isAsking = true
        teller.askedAt = loop.now
        let asked = kinds
        let names = AdminEventKind.allCases.filter(asked.contains).map(\.rawValue).joined(separator: ",")
        let question = NodeQuestion(
            node: node, method: HTTPMethod.get.name, target: "\(AdminRoute.innerEvents)?types=\(names)",
            actor: "", scope: AdminScope.read.rawValue, remoteAddress: "", requestID: "")
        backend.ask(.askNode(question)) { [weak self] result in
            guard let self else { return }
            answered(node, result, asked)
            // Another reader may want more meanwhile.
            if isFollowing, tellers[node] != nil { askAgain(node) }
            beginIfAllTell()
        }
    }

    private func answered(
        _ node: NodeID, _ result: Result<StoreAnswer, StoreFailure>, _ asked: AdminEventKinds
    ) {
        guard isFollowing, var teller = tellers[node] else { return }
        defer { tellers[node] = teller }
        teller.isAsking = false
        guard case .success(.nodeAsked(.answered(let answer))) = result,
            let place = EventTeller.Place(answer.body)
        else {
            if !teller.isSilent { tellGap(of: node, .nodeSilent) }
            teller.isSilent = true
            return
        }
        teller.isSilent = false
        teller.kinds = asked
        guard let known = teller.place, known.life == place.life else {
            if teller.place != nil { tellGap(of: node, .nodeRestarted) }
            teller.place = EventPosition(node: node, life: place.life, number: place.number)
            teller.promised = place.number
            return
        }
        // What was there five seconds ago has been read, unless it was lost.
        let missed = max(teller.promised, place.since)
        if known.number < missed {
            tellGap(of: node, .eventsLost)
            teller.place?.number = missed
        }
        teller.promised = place.number
    }

    // MARK: What they tell

    /// There may be something to read.
    func read() {
        guard isFollowing else { return }
        let places = tellers.values.compactMap(\.place)
        guard !places.isEmpty else { return }
        guard !isReading else {
            isReadDue = true
            return
        }
        isReading = true
        isReadDue = false
        backend.ask(.events(behind: places)) { [weak self] result in
            guard let self else { return }
            isReading = false
            guard case .success(.events(let batches)) = result else {
                // Told once: it is looked for again.
                isReadDue = true
                return
            }
            for batch in batches { take(batch) }
            if isReadDue || !batches.isEmpty { read() }
        }
    }

    private func take(_ batch: EventBatch) {
        guard isFollowing, let place = tellers[batch.node]?.place, place.life == batch.life,
            place.number < batch.number
        else { return }
        if place.number + 1 < batch.number { tellGap(of: batch.node, .eventsLost) }
        tellers[batch.node]?.place?.number = batch.number
        for (kind, data) in EventTeller.events(in: batch.body) {
            heard[kind, default: 0] += 1
            events.heard(kind, data: data)
            guard kind == .nodeState, let told = try? JSONValue(parsing: data),
                let state = told["state"]?.string.flatMap(NodeState.init(rawValue:))
            else { continue }
            states?[batch.node] = state
        }
    }

    private func tellGap(of node: NodeID, _ cause: Cause) {
        gaps[cause, default: 0] += 1
        events.tellGap(of: node, cause: cause.rawValue)
    }
}

extension EventTeller.Place {
    /// As it is answered.
    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        var bytes: [UInt8] = []
        bytes.append(hexadecimalDigits: 16, of: life)
        writer.field("life", String(decoding: bytes, as: UTF8.self))
        writer.field("number", number)
        writer.field("since", since)
        writer.endObject()
    }

    fileprivate init?(_ answer: String) {
        guard let value = try? JSONValue(parsing: Array(answer.utf8)),
            let life = value["life"]?.string.flatMap({ UInt64($0, radix: 16) }),
            let number = value["number"]?.integer.flatMap({ UInt64(exactly: $0) }),
            let since = value["since"]?.integer.flatMap({ UInt64(exactly: $0) })
        else { return nil }
        self.init(life: life, number: number, since: since)
    }
}
