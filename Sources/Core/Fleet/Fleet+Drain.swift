internal import DeviceProtocol
internal import Domain

/// What a drain has done so far.
struct DrainProgress {
    var request = DrainRequest()
    var state = DrainSnapshot.State.none
    var startedAt: WallTime?
    var deadline: Instant?
    var deadlineAt: WallTime?
    var devicesTotal = 0
    var connsCut = 0

    /// Whether sessions that were told to leave may live beside their device's current one.
    var sessionsMayLinger: Bool { state != .none }
}

extension Fleet {
    /// Cordons the node, or lifts the cordon; a drain in progress is not touched.
    package mutating func setEligible(_ isEligible: Bool) {
        switch (nodeState, isEligible) {
        case (.active, false): setNodeState(.cordoned)
        case (.cordoned, true): setNodeState(.active)
        default: break
        }
    }

    /// Tells every device to leave and takes no new ones; a repeated call sets a new deadline.
    package mutating func startDrain(_ request: DrainRequest, at moment: Moment) {
        drain.request = request
        drain.deadline = moment.now + request.deadline
        let wait = request.deadline.nanoseconds / 1_000
        drain.deadlineAt = WallTime(microseconds: moment.wall.microseconds &+ wait)
        if nodeState != .draining {
            drain.startedAt = moment.wall
            drain.devicesTotal = sessionCount
            drain.connsCut = 0
            drain.state = .handover
            setNodeState(.draining)
        }
        // Sorted, so that the same fleet is drained in the same order.
        let order = sessions.values.filter { $0.ending == nil }.sorted { $0.epoch < $1.epoch }.map(\.id)
        let pace = Int64(max(1, request.devicesPerSecond))
        for (index, id) in order.enumerated() {
            let wasTold = sessions[id]?.isDraining == true
            sessions[id]?.isDraining = true
            sessions[id]?.drainDeadline = drain.deadline
            rank(id)
            schedule(id)
            let turn = Duration.milliseconds(wasTold ? 0 : Int64(index) * 1_000 / pace)
            if sessions[id]?.answerBy == nil {
                sendDrain(id, at: moment, notBefore: min(turn, request.deadline))
            }
            tellUpdated(id)
        }
        checkDrained()
    }

    /// Ends the drain: nobody else is told to leave, and the devices that are still here stay usable.
    package mutating func cancelDrain(staysCordoned: Bool) {
        guard nodeState == .draining || nodeState == .drained else {
            if !staysCordoned { setEligible(true) }
            return
        }
        if drain.state != .drained { drain.state = .canceled }
        drain.deadline = nil
        for session in sessions.values where session.isDraining && session.ending == nil {
            guard current[session.deviceID] == session.id else { continue }
            sessions[session.id]?.isDraining = false
            sessions[session.id]?.drainDeadline = nil
            rank(session.id)
            tellUpdated(session.id)
        }
        setNodeState(staysCordoned ? .cordoned : .active)
    }

    package var drainSnapshot: DrainSnapshot {
        let isRunning = nodeState == .draining
        let remaining = isRunning ? sessionCount : 0
        var state = drain.state
        if isRunning, remaining > 0, connCount == 0 { state = .settling }
        return DrainSnapshot(
            state: state, startedAt: drain.startedAt, deadlineAt: drain.deadlineAt,
            devicesTotal: drain.devicesTotal, devicesMoved: max(0, drain.devicesTotal - remaining),
            devicesRemaining: remaining, connsRemaining: isRunning ? connCount : 0,
            connsCut: drain.connsCut, reason: drain.request.reason)
    }

    mutating func sendDrain(_ id: SessionID, at moment: Moment, notBefore: Duration) {
        guard let session = sessions[id], session.ending == nil else { return }
        guard let control = session.controlID else { return }
        sessions[id]?.wasToldToLeave = true
        let left = max(.zero, (session.drainDeadline ?? moment.now) - moment.now)
        actions.append(
            .send(
                control,
                .drain(
                    Drain(
                        deadlineMilliseconds: UInt32(clamping: left.milliseconds),
                        alternatives: alternatives, reason: drain.request.reason,
                        notBeforeMilliseconds: UInt32(clamping: notBefore.milliseconds)))))
    }

    mutating func checkDrained() {
        guard nodeState == .draining, sessions.isEmpty else { return }
        drain.state = .drained
        setNodeState(.drained)
    }

    private mutating func setNodeState(_ new: NodeState) {
        guard nodeState != new else { return }
        nodeState = new
        actions.append(.nodeStateChanged(new))
    }
}
