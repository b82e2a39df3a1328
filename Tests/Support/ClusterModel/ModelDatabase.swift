package import Domain
package import Membership

/// What PostgreSQL has of nodes, sessions and devices, by the same rules as the SQL of the store and of
/// migration 0013: a test does random things to both and compares. Each call is a transaction.
///
/// Times are microseconds of the database's clock, but for those that nodes send along.
package struct ModelDatabase {
    package struct Life: Hashable, Sendable {
        package let node: NodeID
        package let incarnation: SessionID

        package init(node: NodeID, incarnation: SessionID) {
            self.node = node
            self.incarnation = incarnation
        }
    }

    package struct Node: Equatable, Sendable {
        package var incarnation: SessionID
        package var state: NodeState
        package var lastSeenAt: Int64
        package var term: Int64
        package var lostAt: Int64?
    }

    package struct Session: Equatable, Sendable {
        package var device: DeviceID
        package var life: Life
        package var epoch: UInt64
        package var startedAt: Int64
        package var lastSeenAt: Int64
        package var endedAt: Int64?
        package var endReason: SessionEndReason?

        package var isOpen: Bool { endedAt == nil }
    }

    package struct Device: Equatable, Sendable {
        package var isOnline = false
        package var node: NodeID?
        package var session: SessionID?
        package var epoch: UInt64 = 0
        /// `Int64.min` for a session that can't tell.
        package var beganAt = Int64.min
    }

    package struct Entry: Hashable, Sendable {
        package var session: SessionID
        package var device: DeviceID
        package var epoch: UInt64
        package var beganAt: Int64?
        package var startedAt: Int64
        package var takesDevice: Bool

        package init(
            session: SessionID, device: DeviceID, epoch: UInt64, beganAt: Int64?, startedAt: Int64,
            takesDevice: Bool
        ) {
            self.session = session
            self.device = device
            self.epoch = epoch
            self.beganAt = beganAt
            self.startedAt = startedAt
            self.takesDevice = takesDevice
        }
    }

    package struct Outcome: Hashable, Sendable {
        package var session: SessionID
        package var device: DeviceID
        package var epoch: UInt64
        package var isOwner: Bool

        package init(session: SessionID, device: DeviceID, epoch: UInt64, isOwner: Bool) {
            self.session = session
            self.device = device
            self.epoch = epoch
            self.isOwner = isOwner
        }
    }

    package struct Takeover: Hashable, Sendable {
        package let node: NodeID
        package let session: SessionID
    }

    package private(set) var nodes: [NodeID: Node] = [:]
    package private(set) var sessions: [SessionID: Session] = [:]
    package private(set) var devices: [DeviceID: Device] = [:]
    package private(set) var takeovers: Set<Takeover> = []

    private static let lease: Int64 = 10_000_000
    private static let moment: Int64 = 1_000_000

    package init() {}

    // MARK: Nodes

    package mutating func begin(_ life: Life, _ state: NodeState, at now: Int64) -> LeaseAnswer {
        let open = sessions.filter {
            $0.value.life.node == life.node && $0.value.life.incarnation != life.incarnation
                && $0.value.isOpen
        }
        close(open.map(\.key))
        takeovers = takeovers.filter { $0.node != life.node }
        let term = (nodes[life.node]?.term ?? -1) + 1
        nodes[life.node] = Node(
            incarnation: life.incarnation, state: state, lastSeenAt: now, term: term, lostAt: nil)
        return LeaseAnswer(time: WallTime(microseconds: now), term: term, isLost: false)
    }

    /// - Returns: nil when the row is another life's.
    package mutating func renew(_ life: Life, _ state: NodeState, at now: Int64) -> LeaseAnswer? {
        guard var node = nodes[life.node], node.incarnation == life.incarnation else { return nil }
        node.lastSeenAt = now
        node.state = node.lostAt == nil ? state : .down
        nodes[life.node] = node
        return LeaseAnswer(time: WallTime(microseconds: now), term: node.term, isLost: node.lostAt != nil)
    }

    /// As if the node had not renewed its lease for longer than that lasts.
    package mutating func lapse(_ node: NodeID, at now: Int64) {
        nodes[node]?.lastSeenAt = now - Self.lease - 1
    }

    package mutating func regain(_ life: Life, _ state: NodeState, term: Int64, at now: Int64) -> Bool {
        guard var node = nodes[life.node], node.incarnation == life.incarnation, node.term == term else {
            return false
        }
        node.lastSeenAt = now
        node.state = state
        node.lostAt = nil
        nodes[life.node] = node
        return true
    }

    /// - Returns: nodes that were found lost by this.
    @discardableResult
    package mutating func reap(at now: Int64) -> [NodeID] {
        let silent = nodes.filter { id, node in
            node.lastSeenAt < now - Self.lease
                && (node.state != .down || sessions.values.contains { $0.life.node == id && $0.isOpen })
        }
        for id in silent.keys {
            nodes[id]?.state = .down
            nodes[id]?.term += 1
            if nodes[id]?.lostAt == nil { nodes[id]?.lostAt = now }
        }
        takeovers = takeovers.filter { silent[$0.node] == nil }
        close(sessions.filter { silent[$0.value.life.node] != nil && $0.value.isOpen }.map(\.key))
        return silent.filter { $0.value.state != .down }.keys.sorted()
    }

    private mutating func close(_ closed: [SessionID]) {
        for id in closed {
            guard var session = sessions[id] else { continue }
            var end = max(session.startedAt, session.lastSeenAt)
            if let node = nodes[session.life.node], node.incarnation == session.life.incarnation {
                end = max(end, node.lastSeenAt)
            }
            session.endedAt = end
            session.endReason = .nodeLost
            sessions[id] = session
            if devices[session.device]?.session == id { devices[session.device]?.isOnline = false }
        }
    }

    /// What a life that is over left open.
    package mutating func close(_ life: Life) {
        for (id, session) in sessions where session.life == life && session.isOpen {
            sessions[id]?.endedAt = max(session.startedAt, session.lastSeenAt)
            sessions[id]?.endReason = .nodeLost
            if devices[session.device]?.session == id { devices[session.device]?.isOnline = false }
        }
    }

    // MARK: Sessions

    package mutating func enter(_ life: Life, _ entries: [Entry], at now: Int64) -> [Outcome] {
        let added = add(life, entries)
        let taking = entries.filter {
            $0.takesDevice && (added.contains($0.session) || sessions[$0.session]?.isOpen == true)
        }
        let fresh = taking.filter { entry in
            added.contains(entry.session) && entry.beganAt.map { $0 > now - Self.moment } ?? false
        }
        return take(life.node, taking, fresh: Set(fresh.map(\.session)))
    }

    package mutating func claim(_ life: Life, _ entries: [Entry], at now: Int64) -> [Outcome] {
        let amiss = entries.filter { entry in
            let session = sessions[entry.session]
            let device = devices[entry.device]
            let isAmiss =
                session?.isOpen != true
                || entry.takesDevice && (device?.session != entry.session || device?.isOnline != true)
            return isAmiss && (session?.endReason ?? .nodeLost) == .nodeLost
        }
        _ = add(life, amiss)
        let taking = amiss.filter(\.takesDevice)
        let outcomes = take(life.node, taking, fresh: [])
        for entry in taking where devices[entry.device]?.session == entry.session {
            guard devices[entry.device]?.isOnline == false else { continue }
            devices[entry.device]?.isOnline = true
            devices[entry.device]?.node = life.node
            if devices[entry.device]?.beganAt == .min {
                devices[entry.device]?.beganAt = entry.beganAt ?? .min
            }
        }
        for entry in amiss where !entry.takesDevice || devices[entry.device]?.session == entry.session {
            guard sessions[entry.session]?.endReason == .nodeLost else { continue }
            sessions[entry.session]?.endedAt = nil
            sessions[entry.session]?.endReason = nil
        }
        for entry in taking where devices[entry.device]?.session == entry.session {
            takeovers.remove(Takeover(node: life.node, session: entry.session))
        }
        return outcomes
    }

    private mutating func add(_ life: Life, _ entries: [Entry]) -> Set<SessionID> {
        var added: Set<SessionID> = []
        for entry in entries where sessions[entry.session] == nil {
            added.insert(entry.session)
            sessions[entry.session] = Session(
                device: entry.device, life: life, epoch: entry.epoch, startedAt: entry.startedAt,
                lastSeenAt: entry.startedAt)
        }
        return added
    }

    private mutating func take(
        _ node: NodeID, _ entries: [Entry], fresh: Set<SessionID>
    ) -> [Outcome] {
        for entry in entries {
            var device = devices[entry.device] ?? Device()
            if device.session != entry.session, mayTake(entry, device, isFresh: fresh.contains(entry.session))
            {
                if device.isOnline, let old = device.session, let owner = device.node, owner != node,
                    nodes[owner] != nil
                {
                    takeovers.insert(Takeover(node: owner, session: old))
                }
                device.isOnline = entry.beganAt != nil
                device.node = node
                device.session = entry.session
                device.epoch = max(entry.epoch, device.epoch + 1)
                let began = entry.beganAt ?? .min
                let next = device.beganAt == .min ? .min : device.beganAt + 1
                device.beganAt = fresh.contains(entry.session) ? max(began, next) : began
            }
            devices[entry.device] = device
            if device.session == entry.session { sessions[entry.session]?.epoch = device.epoch }
        }
        return entries.map { entry in
            let device = devices[entry.device] ?? Device()
            return Outcome(
                session: entry.session, device: entry.device, epoch: device.epoch,
                isOwner: device.session == entry.session)
        }
    }

    private func mayTake(_ entry: Entry, _ device: Device, isFresh: Bool) -> Bool {
        if isFresh { return true }
        if let began = entry.beganAt, began > device.beganAt { return true }
        return !device.isOnline && (entry.beganAt != nil || entry.epoch > device.epoch)
    }

    package mutating func end(_ id: SessionID, _ reason: SessionEndReason, at ended: Int64) {
        guard var session = sessions[id] else { return }
        if session.isOpen || session.endReason == .nodeLost {
            session.endedAt = max(session.startedAt, ended)
            session.endReason = reason
            session.lastSeenAt = max(session.lastSeenAt, ended)
            sessions[id] = session
        }
        if devices[session.device]?.session == id { devices[session.device]?.isOnline = false }
    }

    // MARK: Take-overs

    package func takeovers(of node: NodeID) -> [SessionID] {
        takeovers.filter { $0.node == node }.map(\.session).sorted { $0.description < $1.description }
    }

    package mutating func settle(_ settled: [SessionID], of node: NodeID) {
        for session in settled { takeovers.remove(Takeover(node: node, session: session)) }
    }
}
