internal import Domain
internal import Outbox

/// What becomes of an event that has to wait.
extension StoreEvent {
    /// What may be given up for lack of room: samples thin out first, then ended conns go, then lines of the
    /// audit trail, those of strangers first, as anybody can make such by calls that are refused. What says
    /// that a session or a drain began, changed or ended always stays.
    var rank: OutboxEntry.Rank {
        switch self {
        case .loadReport, .nodeSample, .nodeVitals, .adminTokensUsed, .stickyGiven: .sample
        case .connEnded: .record
        case .audited(let record): record.actor.isEmpty ? .strayLine : .line
        case .sessionStarted, .sessionUpdated, .sessionEnded, .deviceState, .nodeState, .drainChanged,
            .usersUsed:
            .kept
        }
    }

    /// Of events with the same subject only the newest matters; nil: all do.
    var subject: EventSubject? {
        switch self {
        case .deviceState(let state): .state(state.sessionID)
        case .sessionUpdated(let update): .counters(update.sessionID)
        case .drainChanged(let drain): .drain(drain.drainID)
        case .usersUsed(let usage): .usage(usage.name, usage.month)
        case .sessionStarted, .sessionEnded, .loadReport, .connEnded, .nodeState, .nodeSample, .nodeVitals,
            .audited, .adminTokensUsed, .stickyGiven:
            nil
        }
    }

    /// What the one who waits for it is told when it is durable; nil when nobody waits.
    var acknowledgement: UInt64? {
        if case .sessionStarted(_, let acknowledgement) = self { acknowledgement } else { nil }
    }

    var withoutAcknowledgement: StoreEvent {
        if case .sessionStarted(let record, _) = self {
            .sessionStarted(record, acknowledgement: nil)
        } else {
            self
        }
    }

    /// What it is, without what a client or device put into it.
    var name: String {
        switch self {
        case .sessionStarted(let record, _): "session_started \(record.sessionID)"
        case .sessionUpdated(let update): "session_updated \(update.sessionID)"
        case .sessionEnded(let end): "session_ended \(end.sessionID)"
        case .deviceState(let state): "device_state \(state.sessionID)"
        case .loadReport(let sample): "load_report \(sample.sessionID)"
        case .connEnded(let conn): "conn_ended \(conn.connID)"
        case .nodeState: "node_state"
        case .nodeSample: "node_sample"
        case .nodeVitals: "node_vitals"
        case .audited(let record): "audited \(record.auditID)"
        case .adminTokensUsed: "admin_tokens_used"
        case .drainChanged(let drain): "drain_changed \(drain.drainID)"
        case .usersUsed: "users_used"
        case .stickyGiven: "sticky_given"
        }
    }
}

enum EventSubject: Hashable {
    case state(SessionID)
    case counters(SessionID)
    case drain(DrainID)
    case usage(UserName, CalendarMonth)

    /// As the outbox has it.
    var bytes: [UInt8] {
        switch self {
        case .state(let session): [1] + session.bytes
        case .counters(let session): [2] + session.bytes
        case .drain(let drain): [3] + drain.bytes
        case .usage(let name, let month): [4] + Array("\(month) \(name)".utf8)
        }
    }
}
