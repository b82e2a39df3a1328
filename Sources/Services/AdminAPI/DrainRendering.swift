internal import Domain
internal import EventLoop
internal import Fleet
internal import JSON
internal import Store

/// Drains as answers and events have them.
extension DrainRow {
    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.field("drain_id", record.drainID)
        writer.field("node_id", nodeID.description)
        writer.field("state", record.state)
        writer.field("started_at", record.startedAt)
        writer.field("deadline_at", record.deadlineAt)
        writer.field("ended_at", record.endedAt)
        writer.field("eta_seconds", record.etaSeconds)
        writer.field("devices_total", record.devicesTotal)
        writer.field("devices_moved", record.devicesMoved)
        writer.field("devices_remaining", record.devicesRemaining)
        writer.field("devices_lost", record.devicesLost)
        writer.field("conns_remaining", record.connsRemaining)
        writer.field("conns_cut", record.connsCut)
        writer.details(record.details)
        writer.field("reason", record.reason)
        writer.field("actor", record.actor)
        writer.field("deadline_seconds", record.deadlineSeconds)
        writer.field("devices_per_second", record.devicesPerSecond)
        writer.field("redirect_to", record.redirectTo)
        writer.field("on_deadline", record.onDeadline)
        writer.endObject()
    }
}

extension JSONWriter {
    /// The drain of a node that was never drained.
    mutating func noDrain(of node: NodeID) {
        beginObject()
        name("drain_id")
        null()
        field("node_id", node.description)
        DrainSnapshot(state: .none).writeMembers(to: &self)
        field("ended_at", WallTime?.none)
        field("eta_seconds", 0)
        for (name, value) in DrainDetails.empty where name != "devices_waiting" && name != "hindrance" {
            self.name(anything: name)
            self.value(value)
        }
        name("actor")
        null()
        endObject()
    }

    /// What the database keeps as it was told; rows of earlier versions have less of it.
    fileprivate mutating func details(_ details: JSONValue) {
        for (name, value) in DrainDetails.empty {
            self.name(anything: name)
            self.value(details[name] ?? value)
        }
    }
}

extension DrainDetails {
    /// The members that the database keeps as they were told, with what they are where nothing is known.
    fileprivate static let empty: [(String, JSONValue)] = [
        ("eta_basis", "none"), ("current_devices_per_second", 0), ("hindrance", nil), ("devices_waiting", 0),
        ("devices_unmoved", 0), ("blockers", []), ("targets", []), ("unmoved", []),
    ]

    /// The members in the order of ``empty``.
    func json(_ drain: DrainSnapshot, now: Instant, wall: WallTime) -> JSONValue {
        .object([
            JSONMember("eta_basis", .string(estimate.basis.rawValue)),
            JSONMember("current_devices_per_second", .double(rounded(drain.devicesPerSecond))),
            JSONMember("hindrance", drain.hindrance.map { .string($0.rawValue) } ?? nil),
            JSONMember("devices_waiting", .integer(Int64(drain.devicesWaiting))),
            JSONMember("devices_unmoved", .integer(Int64(unmovedTotal))),
            JSONMember("blockers", .array(blockers.map { $0.blocker(now: now, wall: wall) })),
            JSONMember("targets", .array(targets.map(\.json))),
            JSONMember("unmoved", .array(unmoved.map { .string($0.description) })),
        ])
    }
}

/// Hundredths, so that a figure is no novel.
private func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }

extension DrainTarget {
    fileprivate var json: JSONValue {
        .object([
            JSONMember("node_id", .string(nodeID.description)), JSONMember("state", .string(state.rawValue)),
            JSONMember("assigned", .integer(Int64(assigned))),
            JSONMember("arrived", .integer(Int64(arrived))),
            JSONMember("devices_per_second", .double(rounded(devicesPerSecond))),
        ])
    }
}

extension ConnSnapshot {
    /// A conn that holds a drain up.
    fileprivate func blocker(now: Instant, wall: WallTime) -> JSONValue {
        let age = max(0, wall.microseconds &- openedAt.microseconds) / 1_000_000
        return .object([
            JSONMember("conn_id", .string(connID.description)),
            JSONMember("device_id", .string(deviceID.description)),
            JSONMember("user", user.map { .string($0) } ?? nil),
            JSONMember("target", .string(target.description)), JSONMember("age_seconds", .integer(age)),
            JSONMember("bytes_sent", .integer(Int64(clamping: bytesSent))),
            JSONMember("bytes_received", .integer(Int64(clamping: bytesReceived))),
            JSONMember("idle_seconds", .integer(idleSeconds(at: now))),
        ])
    }
}
