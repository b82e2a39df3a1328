package import DeviceProtocol
internal import Domain

extension Fleet {
    /// A complete WebSocket message came: a sign of life, also when every frame in it is empty.
    package func heard(from id: ControlID, at moment: Moment) {
        if let control = controls[id] { heard(from: control, at: moment) }
    }

    private func heard(from control: ControlConnection, at moment: Moment) {
        guard let id = control.session, let session = sessions[id] else { return }
        session.lastLife = moment.now
        session.lastSeenAt = moment.wall
    }

    /// A complete message of a device.
    package func receive(
        _ message: ControlMessage, on id: ControlID, at moment: Moment,
        using random: inout some RandomNumberGenerator
    ) {
        guard let control = controls[id] else { return }
        guard Self.withinBudget(message, of: control, moment.now) else {
            controlViolated(id, .outOfOrder, reason: "too many messages", at: moment)
            return
        }
        heard(from: control, at: moment)
        switch message {
        case .unknown:
            // Another version's message, or an empty one: a sign of life and no more.
            return
        case .registerRequest(let request):
            register(request, on: id, at: moment, using: &random)
        case .registerResponse, .heartbeatAck, .command, .drain, .reconnect:
            controlViolated(id, .outOfOrder, reason: "a message that only a POP sends", at: moment)
        case .heartbeat, .loadReport, .commandResponse, .connClosed, .goodbye:
            guard let session = control.session else {
                controlViolated(id, .outOfOrder, reason: "not registered", at: moment)
                return
            }
            receive(message, of: session, on: id, at: moment)
        }
    }

    private static func withinBudget(
        _ message: ControlMessage, of control: ControlConnection, _ now: Instant
    ) -> Bool {
        switch message {
        case .commandResponse, .connClosed: control.connMessages.take(now: now)
        default: control.messages.take(now: now)
        }
    }

    private func receive(
        _ message: ControlMessage, of session: SessionID, on id: ControlID, at moment: Moment
    ) {
        switch message {
        case .heartbeat(let heartbeat):
            sessions[session]?.lastHeartbeatAt = moment.wall
            let ack = HeartbeatAck(
                sequence: heartbeat.sequence, sentAtUnixMilliseconds: heartbeat.sentAtUnixMilliseconds,
                receivedAtUnixMilliseconds: moment.wall.milliseconds)
            actions.append(.send(id, .heartbeatAck(ack)))
        case .loadReport(let report):
            reported(report, of: session, at: moment)
        case .commandResponse(let response):
            answered(response, of: session, at: moment)
        case .connClosed(let closed):
            // The node's own counts and reasons are the ones that stand: a conn's stream tells the same.
            flowClosed(closed, of: session)
        case .goodbye:
            let reason: SessionEndReason =
                sessions[session]?.wasToldToLeave == true ? .drained : .goodbye
            end(session, reason, close: .normal, "goodbye", data: DataPlaneError.normalEnd, at: moment)
        default:
            return
        }
    }

    private func reported(_ report: LoadReport, of id: SessionID, at moment: Moment) {
        var report = report
        // A device may say anything; a share is from 0 to 1.
        let share = report.cpuUtilization
        report.cpuUtilization = share.isFinite ? min(max(share, 0), 1) : 0
        guard let session = sessions[id] else { return }
        session.load = report
        if configuration.strategy == .weighted { rank(session) }
        actions.append(
            .loadReported(
                ReportedLoad(
                    deviceID: session.deviceID, sessionID: id, receivedAt: moment.wall, report: report,
                    roundTripMilliseconds: session.roundTripMilliseconds)))
    }

    /// The round trip to the device over its control connection, as the shell measured it.
    package func measured(roundTrip: Duration, on id: ControlID) {
        guard let session = controls[id]?.session, roundTrip >= .zero else { return }
        sessions[session]?.roundTripMilliseconds = Double(roundTrip.nanoseconds) / 1e6
    }
}
