internal import DeviceProtocol
package import Domain

extension Fleet {
    /// Cordons the node, or lifts the cordon; a drain in progress is not touched.
    package func setEligible(_ isEligible: Bool) {
        switch (nodeState, isEligible) {
        case (.active, false): setNodeState(.cordoned)
        case (.cordoned, true): setNodeState(.active)
        default: break
        }
    }

    /// What an operator had ordered in an earlier life of this node stays in force: called before any device.
    package func restore(_ state: NodeState, _ past: PastDrain?) {
        if let past { drain.restore(past) }
        setNodeState(state)
    }

    // MARK: Orders

    /// Takes no new devices and conns, and moves the devices away; a repeated call changes the drain under way.
    package func startDrain(_ request: DrainRequest, at moment: Moment) {
        if drain.isRunning {
            drain.change(request, at: moment)
        } else {
            let members = sessions.values.filter { $0.ending == nil }.map { session in
                DrainMachine.Member(
                    session: session.id, epoch: session.epoch, conns: session.conns.count,
                    isReachable: session.isReachable,
                    isSuperseded: current[session.deviceID] != session.id)
            }
            drain.begin(request, members, at: moment)
            setNodeState(.draining)
        }
        expireDrain(at: moment)
        checkDrained(at: moment)
    }

    /// Ends the drain: nobody else is told to leave, and the devices that are still here stay usable.
    package func cancelDrain(staysCordoned: Bool, at moment: Moment) {
        guard nodeState == .draining || nodeState == .drained else {
            if !staysCordoned { setEligible(true) }
            return
        }
        let latest =
            drain.request.onDeadline == .cut ? drain.deadline : moment.now + FleetLimits.supersededDrain
        for id in drain.cancel(at: moment) {
            guard let session = sessions[id] else { continue }
            session.isDraining = false
            rank(session)
            tellUpdated(session)
        }
        // Those that have moved keep their word, and so does the node: until their conns end or the deadline.
        for session in sessions.values where session.isDraining && session.ending == nil {
            session.drainDeadline = latest
            schedule(session)
        }
        setNodeState(staysCordoned ? .cordoned : .active)
    }

    // MARK: What is known of other nodes

    /// The other nodes of the cluster that are alive, as their rows tell.
    package func takersChanged(_ takers: [Taker], at moment: Moment) {
        drain.refresh(takers, at: moment.now)
    }

    /// Where devices of this drain have been seen since.
    ///
    /// - Parameters:
    ///   - counts: how many of them are connected to which other node.
    ///   - moved: sessions here whose device has a newer one at another node.
    package func devicesArrived(
        _ counts: [NodeID: Int], moved: [SessionID], at moment: Moment
    ) {
        if drain.takers.arrived(counts) { actions.append(.drainProgressed) }
        for id in moved {
            guard let session = sessions[id], session.ending == nil, session.wasToldToLeave else { continue }
            guard current[session.deviceID] == id else {
                drain.moved(id, at: moment.now)
                continue
            }
            supersede(id, at: moment)
            tellUpdated(session)
        }
    }

    // MARK: Doing it

    /// Does what the drain has to do by now.
    func expireDrain(at moment: Moment) {
        let stateBefore = drain.state
        let actions = drain.expire(at: moment.now)
        for action in actions {
            switch action {
            case .tell(let id, let notice): tell(id, notice, at: moment)
            case .cut(let id):
                end(
                    id, .drained, close: .drained, "drained", data: DataPlaneError.drained,
                    conns: .nodeDrained, at: moment)
            }
        }
        if !actions.isEmpty || drain.state != stateBefore { self.actions.append(.drainProgressed) }
    }

    /// Sends a device away, the first time or, after it has resumed, once more.
    func tell(_ id: SessionID, _ notice: DrainMachine.Notice, at moment: Moment) {
        guard let session = sessions[id], session.ending == nil, let control = session.controlID else {
            return
        }
        session.wasToldToLeave = true
        session.isDraining = true
        rank(session)
        let alternatives = notice.taker == nil ? configuration.alternatives : notice.alternatives
        let message = Drain(
            deadlineMilliseconds: Self.milliseconds(from: moment.now, to: drain.deadline),
            alternatives: alternatives, reason: drain.request.reason,
            notBeforeMilliseconds: Self.milliseconds(from: moment.now, to: notice.moveAt))
        actions.append(.send(control, .drain(message)))
        tellUpdated(session)
    }

    /// Rounded up: nobody moves before its time.
    private static func milliseconds(from now: Instant, to then: Instant) -> UInt32 {
        guard then > now else { return 0 }
        return UInt32(clamping: ((then - now).nanoseconds + 999_999) / 1_000_000)
    }

    func checkDrained(at moment: Moment) {
        guard nodeState == .draining, sessions.isEmpty else { return }
        drain.complete(at: moment)
        setNodeState(.drained)
    }

    private func setNodeState(_ new: NodeState) {
        guard nodeState != new else { return }
        nodeState = new
        actions.append(.nodeStateChanged(new))
    }

    /// Where a device that is turned away may go: nodes that take devices, another first one each time.
    func referral() -> [String] {
        let referred = drain.takers.referral()
        return referred.isEmpty ? configuration.alternatives : referred
    }

    // MARK: Reading

    /// Other nodes that are known to take devices.
    package var takerCount: Int { drain.takers.openCount }

    /// Whether there is, or was, a drain to speak of.
    package var knowsDrain: Bool { drain.phase != .none }

    package var drainSnapshot: DrainSnapshot {
        DrainSnapshot(
            state: drain.state, startedAt: drain.startedAt, deadlineAt: drain.deadlineAt,
            endedAt: drain.endedAt, devicesTotal: drain.devicesTotal, devicesMoved: drain.devicesMoved,
            devicesRemaining: drain.devicesRemaining, devicesWaiting: drain.devicesWaiting,
            devicesLost: drain.devicesLost, connsRemaining: drain.isRunning ? connCount : 0,
            connsCut: drain.connsCut, devicesPerSecond: drain.devicesPerSecond, hindrance: drain.hindrance,
            reason: drain.request.reason)
    }

    /// Looks at every conn and device that is left; lists are bounded by `count`.
    package func drainDetails(atMost count: Int, at moment: Moment) -> DrainDetails {
        guard drain.isRunning else {
            return DrainDetails(
                estimate: DrainEstimate(time: .zero, basis: .none), targets: drain.takers.targets)
        }
        let blockers = longestConns(atMost: count)
        let oldest = blockers.first.map { conn in
            Duration.microseconds(max(0, moment.wall.microseconds &- conn.openedAt.microseconds))
        }
        let unmoved = drain.unmoved(at: moment.now, atMost: count)
        return DrainDetails(
            estimate: drain.estimate(at: moment.now, oldestConn: oldest), blockers: blockers,
            targets: drain.takers.targets, unmovedTotal: unmoved.total,
            unmoved: unmoved.sessions.compactMap { sessions[$0]?.deviceID })
    }

    /// The conns that have lasted longest, in that order.
    private func longestConns(atMost count: Int) -> [ConnSnapshot] {
        var oldest: [Conn] = []
        for conn in conns.values {
            if oldest.count == count, let last = oldest.last, !conn.isOlder(than: last) { continue }
            let index = oldest.firstIndex { conn.isOlder(than: $0) } ?? oldest.count
            oldest.insert(conn, at: index)
            if oldest.count > count { oldest.removeLast() }
        }
        return oldest.map(\.snapshot)
    }
}

extension Conn {
    /// Of equals the one with the smaller id, so that lists don't flicker.
    fileprivate func isOlder(than other: Conn) -> Bool {
        openedAt == other.openedAt
            ? id.bytes.lexicographicallyPrecedes(other.id.bytes) : openedAt < other.openedAt
    }
}

extension DeviceSession {
    /// Whether the device can be told something about where to be.
    var isReachable: Bool { controlID != nil && answerBy == nil && ending == nil }
}
