import ClusterModel
import Domain
import Fleet

/// What holds in the cluster, whatever happens to it. The first fault found is kept.
///
/// At any moment:
///  1. The epoch of a device's row only grows.
///  2. A device that is online has an open session, which is its own.
///  3. No open row is of a node that has been dead for three leases, if any other node was well all that time.
///  4. A device with one process is never ended by a 4009: it is where it has come to last.
///  5. No session ends before it began.
///
/// Once everything works again and has come to rest:
///  6. Every device that runs has exactly one session that counts, whole, at one node, and nobody else has
///     one of it.
///  7. Exactly the sessions that live on nodes have open rows, each of its node's present life.
///  8. A device is online as exactly the session that counts.
///  9. Every session that a device was told of is on record (once: an id is one row).
/// 10. Nobody is lost, and nothing is left to be told of take-overs.
/// 11. Of processes that share a device's id one is left, but for those that were told to leave and drain.
struct ClusterInvariants {
    /// Sessions that devices were told of.
    var told: Set<SessionID> = []
    private(set) var fault: String?
    private var epochs: [DeviceID: UInt64] = [:]

    private static let threeLeases = 30 * second

    mutating func fail(_ text: String) {
        if fault == nil { fault = text }
    }

    // MARK: At any moment

    mutating func check(_ database: ModelDatabase) {
        for (id, device) in database.devices {
            if device.epoch < epochs[id] ?? 0 { fail("1: the epoch of \(id) went back") }
            epochs[id] = device.epoch
            guard device.isOnline else { continue }
            let session = device.session.flatMap { database.sessions[$0] }
            if session?.isOpen != true || session?.device != id || session?.life.node != device.node {
                fail("2: \(id) is online without an open session of its own")
            }
        }
        for (id, session) in database.sessions where (session.endedAt ?? .max) < session.startedAt {
            fail("5: session \(id) ends before it began")
        }
    }

    mutating func checkDead(_ world: World) {
        for node in world.nodes where !node.isUp && world.now - node.downSince > Self.threeLeases {
            let someoneIsWell = world.nodes.contains {
                $0.isUp && !$0.isPaused && !$0.isCutOff && world.now - $0.steadySince > Self.threeLeases
            }
            guard someoneIsWell, !world.isDatabaseDown else { continue }
            for (id, session) in world.database.sessions where session.isOpen && session.life.node == node.id
            {
                fail("3: session \(id) of \(node.id) is open long after its node's death")
            }
        }
    }

    mutating func replaced(_ device: SimulatedDevice, _ world: World) {
        if !world.wasShared.contains(device.name) { fail("4: \(device.name) was told 4009, and is alone") }
    }

    // MARK: At rest

    mutating func checkRest(_ world: World) {
        var live: [SessionID: SimulatedNode] = [:]
        var current: [DeviceID: [SessionID]] = [:]
        for node in world.nodes {
            for session in node.sessions {
                live[session.sessionID] = node
                if node.isCurrent(session.sessionID) {
                    current[session.deviceID, default: []].append(session.sessionID)
                }
            }
        }
        checkDevices(world, current)
        for (id, session) in world.database.sessions where session.isOpen && live[id]?.life != session.life {
            fail("7: session \(id) of \(session.device) at \(session.life.node) is open and does not live")
        }
        for (id, node) in live where world.database.sessions[id]?.isOpen != true {
            fail("7: session \(id) lives at \(node.id) and is \(describe(world.database.sessions[id]))")
        }
        for (id, device) in world.database.devices {
            let counts = current[id] ?? []
            let shown = device.isOnline ? device.session.map { [$0] } ?? [] : []
            if shown != counts { fail("8: \(id) is shown with \(shown), and has \(counts)") }
        }
        for id in told where world.database.sessions[id] == nil {
            fail("9: session \(id) was told and is lost")
        }
        for (id, node) in world.database.nodes where node.lostAt != nil || node.state == .down {
            fail("10: \(id) is lost")
        }
        if !world.database.takeovers.isEmpty { fail("10: a take-over is left") }
    }

    private mutating func checkDevices(_ world: World, _ current: [DeviceID: [SessionID]]) {
        for name in world.deviceNames {
            guard let id = DeviceID(name) else { continue }
            let running = world.devices.filter { $0.name == name && $0.isRunning }
            let counts = current[id] ?? []
            if running.isEmpty {
                if world.wasShared.contains(name), !world.wasKilled.contains(name) {
                    fail("11: no process of \(name) is left")
                }
                continue
            }
            if counts.count != 1 { fail("6: \(name) has \(counts.count) sessions that count") }
            let staying = running.filter { device in
                guard let (session, node) = device.currentSession else { return true }
                return node.sessions.first { $0.sessionID == session }?.isDraining != true
            }
            if staying.count > 1 { fail("11: two processes of \(name) are left") }
            for device in staying
            where !device.isWhole || device.currentSession.map({ [$0.session] }) != counts {
                fail("6: \(name) is not whole in the session that counts")
            }
        }
    }

    private func describe(_ session: ModelDatabase.Session?) -> String {
        session.map { $0.endReason?.rawValue ?? "open" } ?? "not on record"
    }
}
