package import Domain

/// How many live sessions are in which state, kept up with every change: nobody waits while 100,000 are
/// counted.
package struct FleetCensus: Sendable, Hashable {
    /// What one session counts as.
    struct Entry: Sendable, Hashable {
        let health: SessionHealth
        let capacity: UInt32
    }

    private var health: [SessionHealth: Int] = [:]
    /// The most conns that the devices which tell a limit take at once.
    package private(set) var capacity: UInt64 = 0
    /// Devices that tell no limit.
    package private(set) var unlimited = 0

    package subscript(health: SessionHealth) -> Int { self.health[health] ?? 0 }

    mutating func replace(_ old: Entry?, with new: Entry?) {
        if let old {
            health[old.health, default: 0] -= 1
            if old.capacity == 0 { unlimited -= 1 } else { capacity -= UInt64(old.capacity) }
        }
        if let new {
            health[new.health, default: 0] += 1
            if new.capacity == 0 { unlimited += 1 } else { capacity += UInt64(new.capacity) }
        }
    }
}

/// Why there was no device for a conn.
package enum SelectionFailure: String, Countable {
    /// The node is cordoned, draining, drained or stopping.
    case nodeClosed = "node_closed"
    case noDevices = "no_devices"
    /// Of no device are both planes up.
    case noneWhole = "none_whole"
    /// The devices that are whole have all the conns that they take, or have been told to leave.
    case allBusy = "all_busy"
    /// Devices take conns, but none of those that the client may have and wants.
    case noneFits = "none_fits"
}

extension Fleet {
    /// Devices that take another conn now.
    package var availableDevices: Int { selection.all.count }
    /// Conns whose target is not reached yet.
    package var openingConnCount: Int { conns.count - openConnCount }

    /// Counts the session as what it is now.
    func recount(_ session: DeviceSession) {
        var entry: FleetCensus.Entry?
        if session.ending == nil {
            entry = FleetCensus.Entry(health: session.health, capacity: session.registration.capacity)
        }
        guard entry != session.counted else { return }
        census.replace(session.counted, with: entry)
        session.counted = entry
    }

    var selectionFailure: SelectionFailure {
        if nodeState != .active || isStopping { return .nodeClosed }
        if sessionCount == 0 { return .noDevices }
        if census[.whole] == 0 { return .noneWhole }
        return selection.all.count == 0 ? .allBusy : .noneFits
    }
}
