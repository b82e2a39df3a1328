package import Domain
internal import EventLoop
package import Fleet
internal import JSON
package import Logging
package import Store

/// What an operator has ordered about this node and what holds until another order: a cordon, or a drain.
///
/// A process that ends in whatever way comes back as it was ordered to be, from its first moment and without
/// asking the database. The sessions that a drain was about are gone with the process, so a drain under way
/// comes back as one that is over.
package struct NodeStanding: Equatable {
    package let state: NodeState
    package let drain: DrainRecord?

    /// The state of a node that begins with this.
    package var restoredState: NodeState { state == .draining ? .drained : state }

    /// The drain as this life knows it.
    package func past(now: WallTime) -> (drain: PastDrain, record: DrainRecord)? {
        guard restoredState == .drained, var record = drain else { return nil }
        record.endedAt = record.endedAt ?? now
        return (
            PastDrain(
                startedAt: record.startedAt, deadlineAt: record.deadlineAt,
                endedAt: record.endedAt ?? now, devicesTotal: record.devicesTotal,
                devicesMoved: record.devicesMoved, connsCut: record.connsCut, reason: record.reason), record
        )
    }
}

extension NodeStanding {
    var json: JSONValue {
        .object([
            JSONMember("state", .string(state.rawValue)), JSONMember("drain", drain.map(Self.json) ?? nil),
        ])
    }

    private static func json(_ drain: DrainRecord) -> JSONValue {
        .object([
            JSONMember("drain_id", .string(drain.drainID.description)),
            JSONMember("state", .string(drain.state)), JSONMember("version", .integer(drain.version)),
            JSONMember("started_at", .string(drain.startedAt.rfc3339)),
            JSONMember("deadline_at", .string(drain.deadlineAt.rfc3339)),
            JSONMember("ended_at", drain.endedAt.map { .string($0.rfc3339) } ?? nil),
            JSONMember("deadline_seconds", .integer(Int64(drain.deadlineSeconds))),
            JSONMember("devices_per_second", .integer(Int64(drain.devicesPerSecond))),
            JSONMember("redirect_to", .array(drain.redirectTo.map { .string($0) })),
            JSONMember("on_deadline", .string(drain.onDeadline)),
            JSONMember("reason", .string(drain.reason)), JSONMember("actor", .string(drain.actor)),
            JSONMember("devices_total", .integer(Int64(drain.devicesTotal))),
            JSONMember("devices_moved", .integer(Int64(drain.devicesMoved))),
            JSONMember("conns_cut", .integer(Int64(drain.connsCut))),
        ])
    }

    /// Nil for what is no standing.
    init?(_ json: JSONValue) {
        guard let state = json["state"]?.string.flatMap(NodeState.init(rawValue:)) else { return nil }
        self.state = state
        guard let drain = json["drain"], !drain.isNull else {
            self.drain = nil
            return
        }
        guard let record = Self.record(drain) else { return nil }
        self.drain = record
    }

    private static func record(_ json: JSONValue) -> DrainRecord? {
        func time(_ name: String) -> WallTime? { json[name]?.string.flatMap { WallTime(rfc3339: $0) } }
        func count(_ name: String) -> Int { Int(clamping: json[name]?.integer ?? 0) }
        guard let id = json["drain_id"]?.string.flatMap({ DrainID($0) }), let started = time("started_at"),
            let deadline = time("deadline_at")
        else { return nil }
        return DrainRecord(
            drainID: id, state: json["state"]?.string ?? "", version: json["version"]?.integer ?? 1,
            startedAt: started, deadlineAt: deadline, endedAt: time("ended_at"),
            deadlineSeconds: count("deadline_seconds"), devicesPerSecond: max(1, count("devices_per_second")),
            redirectTo: json["redirect_to"]?.array?.compactMap(\.string) ?? [],
            onDeadline: json["on_deadline"]?.string ?? "cut", reason: json["reason"]?.string ?? "",
            actor: json["actor"]?.string ?? "", etaSeconds: 0, devicesTotal: count("devices_total"),
            devicesMoved: count("devices_moved"), devicesRemaining: 0, connsRemaining: 0,
            connsCut: count("conns_cut"), updatedAt: started)
    }
}

/// A standing that can't be read.
package struct StandingError: Error, CustomStringConvertible {
    package let path: String

    package var description: String {
        "\(path) does not hold what this node was ordered to be; repair or remove it"
    }
}

/// Keeps the node's standing in its data directory.
package final class StandingKeeper {
    private let path: String
    private let logger: Logger
    private var state = NodeState.active
    private var drain: DrainRecord?
    private var isEnded = false

    package init(path: String, logger: Logger) {
        self.path = path
        self.logger = logger
    }

    /// - Throws: when there is a standing that can't be read: a node that may have to stay out does.
    package func read() throws -> NodeStanding? {
        guard Files.exists(path) else { return nil }
        guard let json = try? JSONValue(parsing: try Files.read(path)), let standing = NodeStanding(json)
        else {
            throw StandingError(path: path)
        }
        state = standing.restoredState
        drain = standing.drain
        return standing
    }

    package func nodeStateChanged(_ new: NodeState) {
        guard new != state else { return }
        state = new
        write(isDurable: true)
    }

    package func drainTold(_ record: DrainRecord) {
        let isNews = record.version != drain?.version || record.state != drain?.state
        drain = record
        // Its numbers may be some seconds old after a loss of power.
        write(isDurable: isNews)
    }

    /// The node ends by itself from now on: that is no order to come back so.
    package func end() { isEnded = true }

    private func write(isDurable: Bool) {
        guard !isEnded else { return }
        guard state == .cordoned || state == .draining || state == .drained else {
            if state == .active { Files.remove(path) }
            return
        }
        let standing = NodeStanding(state: state, drain: state == .cordoned ? nil : drain)
        do {
            try Files.write(standing.json.serialised(isPretty: true), to: path, isDurable: isDurable)
        } catch {
            logger.error(
                "what this node was ordered to be could not be kept", metadata: ["error": "\(error)"])
        }
    }
}
