package import Domain

// The drain of one node: which device is told to leave when, and to where; until when; what becomes of the rest.
//
//            begin            all are told                   the deadline, cut
//    none ----------> handover -----------> settling ----------------------------> forcing
//                        |  ^                  |  ^  \                                |
//                        |  +-- a device is back  |   \-- the deadline, hold --> held |
//                        v                     v  |                                |  |
//                        +----- nobody left ---+--+--------------------------------+--+--> drained
//                        +----- cancel --------+-----------------------------------+-----> canceled
//
// - Nobody is told twice. A device that lost its control connection and resumes hears the same again.
// - Times are handed out one after the other, `1 / devicesPerSecond` apart, never faster to make up for lost
//   time: in any stretch of time no more than pace + 1 devices begin to move. A device is told at most
//   `lookahead` before its time, in batches, so that a pace of thousands costs ten wake-ups a second.
// - Devices without conns go first. Each of them is gone at once, while those with conns get more time to
//   become idle ones; the fewest devices hold two sessions, and if the takers are not what they seem, devices
//   that carry nothing find out.
// - total = moved + remaining + lost. Moved: left after it was told, or known to be connected elsewhere.
//   Lost: ended in any other way, cut at the deadline included.
package struct DrainMachine {
    package enum Phase: Hashable {
        case none
        case running
        case forcing
        case held
        case drained
        case canceled
    }

    /// A session that lives on the draining node.
    package struct Member {
        let session: SessionID
        let epoch: UInt64
        let conns: Int
        /// Whether it can be told now.
        let isReachable: Bool
        /// Whether its device has another session by now: only its conns are waited for.
        let isSuperseded: Bool

        package init(
            session: SessionID, epoch: UInt64, conns: Int = 0, isReachable: Bool = true,
            isSuperseded: Bool = false
        ) {
            self.session = session
            self.epoch = epoch
            self.conns = conns
            self.isReachable = isReachable
            self.isSuperseded = isSuperseded
        }
    }

    private enum Standing: Hashable {
        /// Waits for its turn.
        case waiting
        /// Can't be told now.
        case away
        /// Has been told; without a taker where there is no other node.
        case told(Notice)
        /// Has another session elsewhere; its conns end here.
        case moved(Notice?)
    }

    /// What a device was told.
    package struct Notice: Hashable {
        package let moveAt: Instant
        package let taker: NodeID?
        package let alternatives: [String]
    }

    package enum Action: Hashable {
        case tell(SessionID, Notice)
        case cut(SessionID)
    }

    /// The order of telling: fewer conns first, of equals the one that is here longest.
    private struct Turn: Comparable {
        let conns: Int
        let epoch: UInt64

        static func < (lhs: Turn, rhs: Turn) -> Bool {
            (lhs.conns, lhs.epoch) < (rhs.conns, rhs.epoch)
        }
    }

    private struct Device {
        let epoch: UInt64
        var conns: Int
        var standing: Standing
    }

    /// How long before its time a device is told at most: far less than an operator's change of mind takes, and
    /// long enough for a busy loop not to lose time.
    package static let lookahead = Duration.milliseconds(200)
    /// How long nobody is told for want of a look at the takers that is newer than the order: what was known
    /// before may leave out a node that came back a moment ago, and all would go to the others. A database that is
    /// slower than this is as good as away.
    package static let lookTimeout = Duration.seconds(1)
    /// What one turn does at most, so that the loop stays free for everybody else.
    package static let mostPerTurn = 1_000
    /// A device that is still here this long after its time has not moved; a POP may take 45 s to become whole.
    package static let moveTimeout = Duration.seconds(60)

    package private(set) var phase = Phase.none
    package private(set) var request = DrainRequest()
    package private(set) var startedAt: WallTime?
    package private(set) var deadlineAt: WallTime?
    /// Not moved by a pause of the wall clock; `deadlineAt` is what people are told.
    private(set) var deadline = Instant.distantFuture
    package private(set) var endedAt: WallTime?

    private var devices: [SessionID: Device] = [:]
    private var waiting = IndexedHeap<SessionID, Turn>()
    private var awayCount = 0
    private var movedHere = 0
    /// Told with nowhere to go, and still here.
    private var stranded: Set<SessionID> = []
    /// What is left to cut.
    private var condemned: [SessionID] = []
    private var lastSlot: Instant?
    private var nextSlot = Instant(nanoseconds: 0)
    private var wakeAt = Instant.distantFuture
    /// Nobody is told before, unless the takers are looked at.
    private var looksUntil = Instant(nanoseconds: 0)
    package private(set) var hindrance: DrainHindrance?
    var takers = TakerBook()
    private var moves = RateMeter()

    package private(set) var devicesTotal = 0
    package private(set) var devicesMoved = 0
    package private(set) var devicesLost = 0
    package private(set) var devicesTold = 0
    package private(set) var connsCut = 0

    package init() {}

    /// Whether devices are being moved, or held.
    package var isRunning: Bool { phase == .running || phase == .forcing || phase == .held }

    // MARK: Orders

    package mutating func begin(_ request: DrainRequest, _ members: [Member], at moment: Moment) {
        let known = takers
        self = DrainMachine()
        takers = known
        takers.begin()
        phase = .running
        startedAt = moment.wall
        // Sorted, so that each finds its place in the heap at once.
        let order = members.sorted { ($0.conns, $0.epoch) < ($1.conns, $1.epoch) }
        for member in order {
            let standing: Standing =
                member.isSuperseded ? .moved(nil) : member.isReachable ? .waiting : .away
            devices[member.session] = Device(epoch: member.epoch, conns: member.conns, standing: standing)
            switch standing {
            case .waiting: waiting.set(member.session, Turn(conns: member.conns, epoch: member.epoch))
            case .away: awayCount += 1
            case .told, .moved: movedHere += 1
            }
        }
        devicesTotal = members.count { !$0.isSuperseded }
        if takers.isOld(at: moment.now) { looksUntil = moment.now + Self.lookTimeout }
        change(request, at: moment)
    }

    /// Another pace, deadline, end or other takers for those who have not been told yet.
    package mutating func change(_ request: DrainRequest, at moment: Moment) {
        guard isRunning else { return }
        self.request = request
        deadline = moment.now + request.deadline
        let wait = request.deadline.nanoseconds / 1_000
        deadlineAt = WallTime(microseconds: moment.wall.microseconds &+ wait)
        takers.change(only: request.redirectTo, devicesPerSecond: request.devicesPerSecond)
        // What was given out already stands.
        nextSlot = lastSlot.map { $0 + interval } ?? moment.now
        phase = .running
        condemned = []
        reviveStranded()
        wakeAt = moment.now
    }

    /// Nobody else is told. Returns those who have been, and have no session elsewhere: they are at home again.
    package mutating func cancel(at moment: Moment) -> [SessionID] {
        guard isRunning else { return [] }
        let told = devices.compactMap { id, device -> (SessionID, UInt64)? in
            if case .told = device.standing { (id, device.epoch) } else { nil }
        }
        finish(.canceled, at: moment)
        return told.sorted { $0.1 < $1.1 }.map(\.0)
    }

    /// No session is left.
    package mutating func complete(at moment: Moment) {
        guard isRunning else { return }
        finish(.drained, at: moment)
    }

    private mutating func finish(_ phase: Phase, at moment: Moment) {
        remainingAtEnd = devicesRemaining
        self.phase = phase
        endedAt = moment.wall
        // Of those that are still here nobody knows where they go.
        waiting = IndexedHeap()
        awayCount = 0
        devices = [:]
        movedHere = 0
        stranded = []
        condemned = []
        deadline = .distantFuture
        wakeAt = .distantFuture
        hindrance = nil
        takers.allowAll()
    }

    /// What an earlier life of this node had begun: its sessions went with it.
    package mutating func restore(_ past: PastDrain) {
        phase = .drained
        request = DrainRequest(reason: past.reason)
        startedAt = past.startedAt
        deadlineAt = past.deadlineAt
        endedAt = past.endedAt
        devicesTotal = past.devicesTotal
        devicesMoved = past.devicesMoved
        devicesLost = max(0, past.devicesTotal - past.devicesMoved)
        connsCut = past.connsCut
    }

    // MARK: What happens to devices

    /// A session's conns or planes have changed.
    package mutating func note(_ session: SessionID, conns: Int, isReachable: Bool) {
        guard isRunning, let device = devices[session] else { return }
        devices[session]?.conns = conns
        switch (device.standing, isReachable) {
        case (.waiting, true) where device.conns != conns:
            waiting.set(session, Turn(conns: conns, epoch: device.epoch))
        case (.waiting, false):
            waiting.remove(session)
            awayCount += 1
            devices[session]?.standing = .away
        case (.away, true):
            awayCount -= 1
            enqueue(session, device.epoch, conns)
            wakeAt = min(wakeAt, nextSlot + Self.lookahead / -2)
        default:
            break
        }
    }

    private mutating func enqueue(_ session: SessionID, _ epoch: UInt64, _ conns: Int) {
        devices[session]?.standing = .waiting
        waiting.set(session, Turn(conns: conns, epoch: epoch))
    }

    /// What the device was told before, for it to hear again; nil if it has not been told.
    package func notice(of session: SessionID) -> Notice? {
        switch devices[session]?.standing {
        case .told(let notice): notice
        case .moved(let notice): notice
        case .waiting, .away, nil: nil
        }
    }

    /// The device has another session: at another node, or here after an undrain.
    package mutating func moved(_ session: SessionID, at now: Instant) {
        guard isRunning, let device = devices[session] else { return }
        switch device.standing {
        case .moved: return
        case .waiting: waiting.remove(session)
        case .away: awayCount -= 1
        case .told: stranded.remove(session)
        }
        let notice = notice(of: session)
        devices[session]?.standing = .moved(notice)
        soonGivesPlaceBack(session, at: now)
        movedHere += 1
        devicesMoved += 1
        moves.note(at: now)
    }

    /// The session is over.
    ///
    /// - Parameter inPeace: whether the device said goodbye.
    package mutating func left(_ session: SessionID, inPeace: Bool, at now: Instant) {
        guard isRunning, let device = devices.removeValue(forKey: session) else { return }
        soonGivesPlaceBack(session, at: now)
        switch device.standing {
        case .waiting:
            waiting.remove(session)
            devicesLost += 1
        case .away:
            awayCount -= 1
            devicesLost += 1
        case .told:
            stranded.remove(session)
            if inPeace {
                devicesMoved += 1
                moves.note(at: now)
            } else {
                devicesLost += 1
            }
        case .moved:
            movedHere -= 1
        }
    }

    private mutating func soonGivesPlaceBack(_ session: SessionID, at now: Instant) {
        takers.gone(session, at: now)
        if hindrance == .takersFull { wakeAt = min(wakeAt, takers.nextReturn) }
    }

    /// A conn was ended because of the drain.
    package mutating func cutConn() {
        if phase != .none, phase != .canceled { connsCut += 1 }
    }

    // MARK: What is known of takers

    package mutating func refresh(_ known: [Taker], at now: Instant) {
        takers.refresh(known, at: now)
        guard isRunning else { return }
        looksUntil = now
        reviveStranded()
        if !waiting.isEmpty { wakeAt = min(wakeAt, now) }
    }

    /// Devices that were told when there was nowhere to go are told again once there is.
    private mutating func reviveStranded() {
        guard !stranded.isEmpty, takers.devicesPerSecond > 0 else { return }
        for id in stranded {
            guard let device = devices[id] else { continue }
            devicesTold -= 1
            enqueue(id, device.epoch, device.conns)
        }
        stranded = []
    }

    // MARK: Time

    package var nextDeadline: Instant {
        switch phase {
        case .running: min(deadline, wakeAt)
        case .forcing: condemned.isEmpty ? .distantFuture : wakeAt
        case .held: wakeAt
        case .none, .drained, .canceled: .distantFuture
        }
    }

    package mutating func expire(at now: Instant) -> [Action] {
        if phase == .running, deadline <= now { reachDeadline(at: now) }
        switch phase {
        case .running, .held: return wakeAt <= now ? handOver(at: now) : []
        case .forcing: return wakeAt <= now ? cutSome(at: now) : []
        case .none, .drained, .canceled: return []
        }
    }

    private mutating func reachDeadline(at now: Instant) {
        guard request.onDeadline == .cut else {
            phase = .held
            return
        }
        phase = .forcing
        // Those without conns have nothing to lose by coming last, but neither do they hold anybody up.
        condemned = devices.sorted { ($0.value.conns, $0.value.epoch) > ($1.value.conns, $1.value.epoch) }
            .map(\.key)
        wakeAt = now
    }

    private mutating func cutSome(at now: Instant) -> [Action] {
        let some = condemned.suffix(Self.mostPerTurn)
        condemned.removeLast(some.count)
        wakeAt = condemned.isEmpty ? .distantFuture : now
        return some.reversed().map { .cut($0) }
    }

    private var interval: Duration {
        .nanoseconds(1_000_000_000 / Int64(max(1, request.devicesPerSecond)))
    }

    private mutating func handOver(at now: Instant) -> [Action] {
        let horizon = now + Self.lookahead
        var actions: [Action] = []
        takers.giveBack(at: now)
        hindrance = nil
        guard looksUntil <= now else {
            wakeAt = looksUntil
            return []
        }
        wakeAt = .distantFuture
        while let next = waiting.first?.id {
            let slot = max(nextSlot, now)
            guard actions.count < Self.mostPerTurn else {
                wakeAt = now
                break
            }
            guard slot <= horizon else {
                wakeAt = slot + Self.lookahead / -2
                break
            }
            switch takers.choose(for: next, slot: slot, horizon: horizon) {
            case .send(let taker, let at, let alternatives):
                actions.append(
                    tell(next, Notice(moveAt: at, taker: taker, alternatives: alternatives)))
            case .alone:
                hindrance = .noTaker
                stranded.insert(next)
                actions.append(tell(next, Notice(moveAt: slot, taker: nil, alternatives: [])))
            case .later(let at):
                wakeAt = at + Self.lookahead / -2
                hindrance = .takersBusy
            case .nobody(let cause):
                wakeAt = takers.nextReturn
                hindrance = cause
            }
            guard waiting.first?.id != next else { break }
        }
        if hindrance == nil, !waiting.isEmpty, takers.isAnyoneBusy { hindrance = .takersBusy }
        if hindrance == nil, !stranded.isEmpty { hindrance = .noTaker }
        return actions
    }

    private mutating func tell(_ session: SessionID, _ notice: Notice) -> Action {
        waiting.remove(session)
        devices[session]?.standing = .told(notice)
        devicesTold += 1
        lastSlot = notice.moveAt
        nextSlot = notice.moveAt + interval
        return .tell(session, notice)
    }

    // MARK: Reading

    private var remainingAtEnd = 0

    /// Devices of this drain that have neither moved nor been lost.
    package var devicesRemaining: Int { isRunning ? devices.count - movedHere : remainingAtEnd }
    /// Those of them that have not been told yet.
    package var devicesWaiting: Int { waiting.count + awayCount }

    package var state: DrainSnapshot.State {
        switch phase {
        case .none: .none
        case .running: devicesWaiting > 0 ? .handover : .settling
        case .forcing: .forcing
        case .held: .held
        case .drained: .drained
        case .canceled: .canceled
        }
    }

    /// Devices begun to move in a second as things are.
    package var devicesPerSecond: Double {
        guard isRunning else { return 0 }
        let set = Double(max(1, request.devicesPerSecond))
        if hindrance == .noTaker { return set }
        return min(set, takers.devicesPerSecond)
    }

    /// Devices that were told, whose time to move was over a while ago, and that are still here.
    package func unmoved(at now: Instant, atMost count: Int) -> (total: Int, sessions: [SessionID]) {
        var late: [(SessionID, Instant)] = []
        for (id, device) in devices {
            guard case .told(let notice) = device.standing, notice.moveAt + Self.moveTimeout <= now else {
                continue
            }
            late.append((id, notice.moveAt))
        }
        let longest = late.sorted { ($0.1, $0.0.description) < ($1.1, $1.0.description) }.prefix(count)
        return (late.count, longest.map(\.0))
    }

    /// How long the drain goes on, as it looks now.
    ///
    /// - Parameter oldestConn: how long the oldest conn has lasted; it is taken to last as long again.
    package func estimate(at now: Instant, oldestConn: Duration?) -> DrainEstimate {
        guard isRunning else { return DrainEstimate(time: .zero, basis: .none) }
        let left = deadline > now ? deadline - now : .zero
        var estimate = DrainEstimate(time: .seconds(1), basis: .setRate)
        if devicesWaiting > 0 {
            let measured = moves.perSecond(at: now)
            let pace = measured > 0 ? measured : devicesPerSecond
            estimate.basis =
                measured > 0
                ? .measuredRate : pace < Double(max(1, request.devicesPerSecond)) ? .takerRate : .setRate
            if pace > 0 {
                estimate.time = .milliseconds(Int64(Double(devicesRemaining) / pace * 1_000))
            } else {
                estimate = DrainEstimate(time: left, basis: .deadline)
            }
        } else if devicesRemaining > 0, unmoved(at: now, atMost: 0).total > 0 {
            estimate = DrainEstimate(time: left, basis: .deadline)
        }
        if let oldestConn, oldestConn > estimate.time {
            estimate = DrainEstimate(time: oldestConn, basis: .oldestConn)
        }
        if request.onDeadline == .cut, estimate.time > left {
            estimate = DrainEstimate(time: left, basis: .deadline)
        }
        return estimate
    }
}
