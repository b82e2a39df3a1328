import ClusterModel
import DeviceProtocol
import Domain
import Fleet
import Membership
import TestKit

/// A node: the real fleet, lease and claims; a store that keeps its promises in few words.
///
/// What is recorded is durable on disk after a quarter of a second if the database has not taken it by
/// then. A crash costs what is in memory alone; a pause delays everything that comes in.
final class SimulatedNode {
    let id: NodeID
    let url: String
    private unowned let world: World
    private let clockLead: Int64
    private(set) var fleet: Fleet
    private var lease = LeaseKeeper()
    private var claims = SessionClaims()
    private(set) var life: ModelDatabase.Life
    private var writer: DatabaseLink?
    private var wake: DatabaseLink?
    private var hasBegun = false
    private var isBeginning = false
    private var record: [Recorded] = []
    private var inFlight = 0
    private var noted: UInt64 = 0
    private var timerAt = Int64.max

    private(set) var isUp = true
    private(set) var downSince: Int64 = 0
    private var pausedUntil: Int64 = 0
    private var held: [() -> Void] = []
    /// Since when nothing was in its way.
    private(set) var steadySince: Int64 = 0
    var isCutOff = false

    private var controls: [ControlID: SimulatedControl] = [:]
    private var data: [DataConnectionID: SimulatedData] = [:]
    private var lastSerial: UInt64 = 0

    /// An event on its way into the database.
    private struct Recorded {
        enum Event {
            case start(SessionSnapshot)
            case end(SessionID, SessionEndReason, at: Int64)
        }

        let event: Event
        let life: ModelDatabase.Life
        let since: Int64
        var isOnDisk = false
        /// Whether the moment of a session's beginning is still known.
        var isDated = true
        var isWaitedFor = true
    }

    init(_ world: World, _ id: NodeID, url: String, clockLead: Int64) {
        self.world = world
        self.id = id
        self.url = url
        self.clockLead = clockLead
        fleet = Fleet(configuration: world.configuration(of: id))
        life = ModelDatabase.Life(node: id, incarnation: SessionID(using: &world.generator))
        writer = DatabaseLink(world, self, opened: { [unowned self] in connected() }) { [unowned self] in
            lease.closed()
            isBeginning = false
            settle()
        }
        wake = DatabaseLink(world, self, opened: {}) {}
        writer?.connect()
        wake?.connect()
    }

    private var instant: Instant { Instant(nanoseconds: UInt64(world.now + 1_000_000_000_000)) }
    private var wall: Int64 { World.start + world.now / 1_000 + clockLead }
    private var moment: Moment { Moment(now: instant, wall: WallTime(microseconds: wall)) }
    var isPaused: Bool { world.now < pausedUntil }
    var isQuiet: Bool { record.isEmpty && claims.isIdle && lease.isHeld }
    var sessions: [SessionSnapshot] { fleet.sessionSnapshots }
    func isCurrent(_ session: SessionID) -> Bool { fleet.isCurrent(session) }

    // MARK: The process

    /// Does something in the process: at once, after its pause, or never.
    func run(_ body: @escaping () -> Void) {
        guard isUp else { return }
        guard !isPaused else { return held.append(body) }
        body()
    }

    func pause(_ duration: Int64) {
        guard isUp, !isPaused else { return }
        pausedUntil = world.now + duration
        steadySince = pausedUntil
        for connection in data.values {
            connection.fallSilent(after: world.idleTimeout) { [self] in isPaused }
        }
        let paused = life
        world.at(pausedUntil) { [self] in
            guard isUp, life == paused else { return }
            let late = held
            held = []
            for body in late where isUp { body() }
            tick()
        }
    }

    func crash() {
        guard isUp else { return }
        isUp = false
        downSince = world.now
        pausedUntil = 0
        held = []
        for control in controls.values { control.lost(isReset: world.chance(70)) }
        for connection in data.values { connection.fallSilent(after: world.idleTimeout) { true } }
        controls = [:]
        data = [:]
        writer?.close()
        wake?.close()
        lease = LeaseKeeper()
        claims = SessionClaims()
        record = record.filter(\.isOnDisk)
        for index in record.indices { record[index].isDated = false }
        inFlight = 0
        hasBegun = false
        isBeginning = false
    }

    func restart() {
        guard !isUp else { return }
        isUp = true
        steadySince = world.now
        timerAt = .max
        fleet = Fleet(configuration: world.configuration(of: id))
        fleet.learnEpoch(noted + 2_000_000)
        life = ModelDatabase.Life(node: id, incarnation: SessionID(using: &world.generator))
        writer?.connect()
        wake?.connect()
    }

    func cutOff(_ isCut: Bool) {
        isCutOff = isCut
        disturbed()
        guard isCut else { return }
        breakLinks()
    }

    func disturbed() {
        steadySince = max(steadySince, world.now)
    }

    func breakLinks() {
        disturbed()
        writer?.breakDown()
        wake?.breakDown()
    }

    func drain(to others: [SimulatedNode]) {
        run { [self] in
            let takers = others.map { Taker(nodeID: $0.id, url: $0.url, room: 100) }
            fleet.takersChanged(takers, at: moment)
            fleet.startDrain(DrainRequest(deadline: .seconds(20)), at: moment)
            settle()
        }
    }

    func undrain() {
        run { [self] in
            fleet.cancelDrain(staysCordoned: false, at: moment)
            settle()
        }
    }

    // MARK: Devices

    func controlOpened(_ control: SimulatedControl) {
        lastSerial += 1
        let id = ControlID(serial: lastSerial)
        control.id = id
        controls[id] = control
        fleet.controlOpened(id, peer: World.peer, identity: nil, at: moment)
        settle()
    }

    func received(_ message: ControlMessage, on control: SimulatedControl) {
        guard let id = control.id, controls[id] === control else { return }
        fleet.heard(from: id, at: moment)
        fleet.receive(message, on: id, at: moment, using: &world.generator)
        settle()
    }

    func controlClosed(_ control: SimulatedControl) {
        guard let id = control.id, controls.removeValue(forKey: id) != nil else { return }
        fleet.controlClosed(id, at: moment)
        settle()
    }

    func hello(_ hello: DataHello, on connection: SimulatedData) {
        lastSerial += 1
        let id = DataConnectionID(loop: 0, serial: lastSerial)
        connection.id = id
        data[id] = connection
        fleet.helloReceived(
            id, peer: World.peer, sessionID: hello.sessionID, dataToken: hello.dataToken, at: moment)
        settle()
    }

    func dataClosed(_ connection: SimulatedData) {
        guard let id = connection.id, data.removeValue(forKey: id) != nil else { return }
        fleet.dataClosed(id, at: moment)
        settle()
    }

    // MARK: What the fleet says

    private func settle() {
        guard isUp, !isPaused else { return }
        while true {
            let actions = fleet.takeActions()
            if actions.isEmpty { break }
            for action in actions { perform(action) }
        }
        proceed()
        pump()
        arm()
    }

    private func perform(_ action: FleetAction) {
        switch action {
        case .send(let id, let message): controls[id]?.toDevice(message)
        case .close(let id, let code, _): controls.removeValue(forKey: id)?.closed(code: code.rawValue)
        case .acceptHello(let id, _): data[id]?.accepted()
        case .rejectHello(let id): data.removeValue(forKey: id)?.closed(code: DataPlaneError.badToken)
        case .closeData(let id, let code, _): data.removeValue(forKey: id)?.closed(code: code)
        case .sessionStarted(let session):
            if session.epoch < UInt64(wall) + 3_600_000_000 { noted = max(noted, session.epoch) }
            record.append(Recorded(event: .start(session), life: life, since: world.now))
        case .sessionEnded(let session, let reason, let at):
            world.log?("\(world.now / millisecond) ms: \(id) ends \(session.sessionID): \(reason)")
            record.append(
                Recorded(
                    event: .end(session.sessionID, reason, at: at.microseconds), life: life, since: world.now)
            )
        default: break
        }
    }

    private func arm() {
        var next = min(fleet.nextDeadline, lease.nextDeadline, claims.nextDeadline)
        if let oldest = record.first(where: { !$0.isOnDisk }) {
            next = min(next, Instant(nanoseconds: UInt64(oldest.since + World.patience + 1_000_000_000_000)))
        }
        guard next != .distantFuture else { return }
        let due = max(world.now + 1_000, Int64(next.nanoseconds) - 1_000_000_000_000)
        guard due < timerAt else { return }
        timerAt = due
        let armed = life
        world.at(due) { [self] in
            guard isUp, life == armed, timerAt == due else { return }
            timerAt = .max
            run { [self] in tick() }
        }
    }

    private func tick() {
        fleet.expire(at: moment)
        spill()
        for order in hasBegun ? lease.expire(at: instant) : [] {
            switch order {
            case .renew: renew()
            case .look:
                wake?.ask({ $0.reap(at: $1) }) { [self] _ in
                    lease.looked(hasMore: false, at: instant)
                    settle()
                }
            }
        }
        settle()
    }

    // MARK: The store

    private func connected() {
        guard !hasBegun else {
            lease.opened(at: instant)
            return tick()
        }
        guard !isBeginning else { return }
        isBeginning = true
        let (begun, state, asked) = (life, fleet.nodeState, instant)
        writer?.ask({ $0.begin(begun, state, at: $1) }) { [self] answer in
            isBeginning = false
            guard let answer else { return }
            hasBegun = true
            lease.opened(at: instant)
            heard(answer, asked)
            tick()
        }
    }

    private func renew() {
        let (own, state, asked) = (life, fleet.nodeState, instant)
        writer?.ask({ $0.renew(own, state, at: $1) }) { [self] answer in
            if let answer, let answer { heard(answer, asked) }
            settle()
        }
    }

    private func heard(_ answer: LeaseAnswer, _ asked: Instant) {
        guard let news = lease.renewed(answer, sentAt: asked, at: instant) else { return }
        claims.begin(news, live: fleet.sessionSnapshots.map(\.sessionID))
    }

    /// What the database has not taken in time goes to disk, and who waits for it is answered.
    private func spill() {
        guard let oldest = record.first(where: { !$0.isOnDisk }), oldest.since + World.patience <= world.now
        else { return }
        for index in record.indices where !record[index].isOnDisk {
            record[index].isOnDisk = true
            // What was taken for a batch is remembered; the rest is read from the disk.
            if index >= inFlight { record[index].isDated = false }
            acknowledge(index)
        }
    }

    private func acknowledge(_ index: Int) {
        guard record[index].isWaitedFor, record[index].life == life else { return }
        record[index].isWaitedFor = false
        if case .start(let session) = record[index].event {
            fleet.sessionRecorded(session.sessionID, at: moment)
        }
    }

    private func pump() {
        guard hasBegun, writer?.isOpen == true, lease.isHeld, inFlight == 0, let first = record.first else {
            return
        }
        let batch = record.prefix { $0.life == first.life }.prefix(20)
        inFlight = batch.count
        let isOwn = first.life == life
        var entries: [ModelDatabase.Entry] = []
        var ends: [(SessionID, SessionEndReason, Int64)] = []
        var undated: [SessionID] = []
        for recorded in batch {
            switch recorded.event {
            case .start(let session):
                let isDated = isOwn && recorded.isDated
                if isOwn, !isDated { undated.append(session.sessionID) }
                entries.append(entry(session, isDated: isDated, takesDevice: true))
            case .end(let session, let reason, let at): ends.append((session, reason, at))
            }
        }
        for index in entries.indices {
            let newer = entries.contains {
                $0.device == entries[index].device && $0.epoch > entries[index].epoch
            }
            if newer { entries[index].takesDevice = false }
        }
        let count = batch.count
        let (starts, writing) = (entries, first.life)
        writer?.ask({ database, now in
            let outcomes = database.enter(writing, starts, at: now)
            for (session, reason, at) in ends { database.end(session, reason, at: at) }
            if !isOwn { database.close(writing) }
            return outcomes
        }) { [self] outcomes in
            inFlight = 0
            if let outcomes {
                if isOwn { note(outcomes, but: undated) }
                for index in 0..<count { acknowledge(index) }
                record.removeFirst(count)
                if isOwn { claims.add(undated.filter { fleet.session($0) != nil }) }
            }
            settle()
        }
    }

    private func entry(
        _ session: SessionSnapshot, isDated: Bool, takesDevice: Bool
    ) -> ModelDatabase.Entry {
        ModelDatabase.Entry(
            session: session.sessionID, device: session.deviceID, epoch: session.epoch,
            beganAt: isDated ? lease.clock.time(at: session.began)?.microseconds : nil,
            startedAt: session.connectedAt.microseconds, takesDevice: takesDevice)
    }

    // MARK: The cluster

    private func note(_ outcomes: [ModelDatabase.Outcome], but undated: [SessionID] = []) {
        for outcome in outcomes where fleet.session(outcome.session) != nil {
            if outcome.isOwner {
                fleet.epochSettled(outcome.epoch, of: outcome.session)
            } else if !undated.contains(outcome.session) {
                world.log?(
                    "\(world.now / millisecond) ms: \(id) has lost \(outcome.session) of \(outcome.device)")
                fleet.learnEpoch(outcome.epoch, of: outcome.device)
                fleet.sessionTakenOver(outcome.session, at: moment)
            }
        }
    }

    private func proceed() {
        while let order = claims.next(at: instant) {
            switch order {
            case .claim(let sessions): claim(sessions)
            case .regain(let term):
                let (own, state) = (life, fleet.nodeState)
                guard lease.isHeld else {
                    claims.failed(at: instant)
                    continue
                }
                writer?.ask({ $0.regain(own, state, term: term, at: $1) }) { [self] answer in
                    if answer == nil { claims.failed(at: instant) } else { claims.succeeded() }
                    settle()
                }
            }
        }
    }

    private func claim(_ sessions: [SessionID]) {
        let live = sessions.compactMap { fleet.session($0) }
        guard !live.isEmpty else { return claims.succeeded() }
        guard lease.isHeld else { return claims.failed(at: instant) }
        let own = life
        let entries = live.map { entry($0, isDated: true, takesDevice: fleet.isCurrent($0.sessionID)) }
        writer?.ask({ $0.claim(own, entries, at: $1) }) { [self] outcomes in
            if let outcomes {
                note(outcomes)
                let draining = outcomes.filter { !$0.isOwner }.map(\.session)
                claims.add(draining.filter { fleet.session($0) != nil && !fleet.isCurrent($0) })
                claims.succeeded()
            } else {
                claims.failed(at: instant)
            }
            settle()
        }
    }

    /// A notification, or the look that finds what it did not tell.
    func lookAtTakeovers() {
        run { [self] in
            let own = id
            wake?.ask({ database, _ in database.takeovers(of: own) }) { [self] sessions in
                guard let sessions, !sessions.isEmpty else { return }
                for session in sessions { fleet.sessionTakenOver(session, at: moment) }
                wake?.ask({ database, _ in database.settle(sessions, of: own) }) { _ in }
                settle()
            }
        }
    }
}
