internal import Domain
internal import Membership
internal import Postgres

/// Events that are written in one transaction, as one set a table.
///
/// Sets are written in an order in which an event finds what it builds on: starts, updates, states, load,
/// ends, conns, the node, operators' acts. Every statement can be said twice with the effect of once.
struct WriteBatch {
    let events: [StoreEvent]
    /// The life in which they happened.
    let life: NodeLife
    /// Their places in the outbox, one an event; empty while they are in memory alone.
    var places: [Int64] = []

    var isOnDisk: Bool { !places.isEmpty }

    /// What the starts in here are acknowledged with.
    var acknowledgements: [UInt64] { events.compactMap(\.acknowledgement) }

    var withoutAcknowledgements: WriteBatch {
        WriteBatch(events: events.map(\.withoutAcknowledgement), life: life, places: places)
    }

    /// The two halves of a batch in which one event is at fault; nil when there is only that one.
    var halves: (WriteBatch, WriteBatch)? {
        guard events.count > 1 else { return nil }
        let middle = events.count / 2
        return (part(..<middle), part(middle...))
    }

    private func part(_ range: some RangeExpression<Int>) -> WriteBatch {
        WriteBatch(
            events: Array(events[range]), life: life, places: isOnDisk ? Array(places[range]) : [])
    }

    /// - Parameter isOfThisLife: whether what began in here may live.
    func statements(_ clock: DatabaseClock, isOfThisLife: Bool) -> [PostgresStatement] {
        var starts: [SessionRecord] = []
        var updates: [SessionUpdate] = []
        var states: [DeviceState] = []
        var loads: [LoadSample] = []
        var ends: [SessionEnd] = []
        var conns: [ConnRecord] = []
        var samples: [NodeSample] = []
        var audits: [AuditRecord] = []
        var uses: [AdminTokenUse] = []
        var drains: [DrainRecord] = []
        var usages: [UserUsage] = []
        var stickies: [StickyClaim] = []
        for event in events {
            switch event {
            case .sessionStarted(let record, _): starts.append(record)
            case .sessionUpdated(let update): updates.append(update)
            case .deviceState(let state): states.append(state)
            case .loadReport(let sample): loads.append(sample)
            case .sessionEnded(let end): ends.append(end)
            case .connEnded(let conn): conns.append(conn)
            case .nodeSample(let sample): samples.append(sample)
            case .audited(let record): audits.append(record)
            case .adminTokensUsed(let used): uses += used
            case .drainChanged(let drain): drains.append(drain)
            case .usersUsed(let usage): usages.append(usage)
            case .stickyGiven(let claim): stickies.append(claim)
            // Neither waits to be written: the lease carries the state.
            case .nodeState, .nodeVitals: break
            }
        }
        var statements: [PostgresStatement] = []
        if locksDevices {
            statements.append(
                SessionWrites.lockDevices(
                    starts.map(\.deviceID) + states.map(\.deviceID) + loads.map(\.deviceID), ends))
        }
        if !starts.isEmpty {
            statements.append(SessionWrites.enter(starts, life, clock, ofThisLife: isOfThisLife))
        }
        if !updates.isEmpty { statements.append(SessionWrites.update(greatest(updates))) }
        if !states.isEmpty { statements.append(SessionWrites.setStates(latest(states))) }
        if !loads.isEmpty {
            statements.append(LoadWrites.insertLoad(loads, life))
            statements.append(LoadWrites.setLatestLoad(latest(loads)))
        }
        if !ends.isEmpty {
            statements.append(SessionWrites.end(ends))
            statements.append(SessionWrites.releaseDevices(ends))
        }
        if !conns.isEmpty { statements.append(LoadWrites.insertConns(conns, life)) }
        if let last = samples.last {
            statements.append(LoadWrites.insertNodeLoad(samples, life))
            statements.append(LoadWrites.setNode(last, life))
        }
        if !audits.isEmpty { statements.append(AuditStatements.insert(audits, life)) }
        if !uses.isEmpty { statements.append(AdminTokenStatements.noteUses(uses)) }
        if !drains.isEmpty { statements.append(DrainStatements.write(latest(drains), life)) }
        if !usages.isEmpty { statements.append(UserStatements.note(latest(usages), life)) }
        if !stickies.isEmpty { statements.append(UserStatements.note(stickies)) }
        return statements
    }

    /// Who has the devices of the sessions that start in here.
    ///
    /// - Parameter results: of ``statements(_:isOfThisLife:)``; starts come first.
    func entries(in results: [PostgresResult]) throws(PostgresError) -> [SessionEntry] {
        guard let first = results.dropFirst(locksDevices ? 1 : 0).first, !starts.isEmpty else { return [] }
        return try SessionWrites.entries(first)
    }

    /// Whether devices would be locked by more than one statement, or in no order: while they move, two nodes
    /// have the same ones in their batches, and each would wait for one that the other has locked.
    private var locksDevices: Bool {
        var kinds: Set<StoreEventKind> = []
        for event in events {
            switch event {
            case .sessionStarted, .deviceState, .loadReport: kinds.insert(event.kind)
            case .sessionEnded: return true
            default: break
            }
        }
        return kinds.count > 1
    }

    /// Sessions that start in here, and of which nobody can tell any more when they did.
    var undatedStarts: [SessionID] { starts.filter { $0.began == nil }.map(\.sessionID) }

    private var starts: [SessionRecord] {
        events.compactMap { if case .sessionStarted(let record, _) = $0 { record } else { nil } }
    }

    private func latest(_ usages: [UserUsage]) -> [UserUsage] {
        var bySubject: [EventSubject: UserUsage] = [:]
        for usage in usages { bySubject[.usage(usage.name, usage.month)] = usage }
        return Array(bySubject.values)
    }

    private func latest(_ drains: [DrainRecord]) -> [DrainRecord] {
        var byID: [DrainID: DrainRecord] = [:]
        for drain in drains { byID[drain.drainID] = drain }
        return Array(byID.values)
    }

    private func latest(_ loads: [LoadSample]) -> [LoadSample] {
        var bySession: [SessionID: LoadSample] = [:]
        for load in loads { bySession[load.sessionID] = load }
        return bySession.values.sorted { $0.deviceID < $1.deviceID }
    }

    private func latest(_ states: [DeviceState]) -> [DeviceState] {
        var bySession: [SessionID: DeviceState] = [:]
        for state in states { bySession[state.sessionID] = state }
        return bySession.values.sorted { $0.deviceID < $1.deviceID }
    }

    private func greatest(_ updates: [SessionUpdate]) -> [SessionUpdate] {
        var bySession: [SessionID: SessionUpdate] = [:]
        for update in updates {
            bySession[update.sessionID] =
                bySession[update.sessionID].map { $0.merged(with: update) } ?? update
        }
        return Array(bySession.values)
    }
}

extension SessionUpdate {
    /// Counts only grow.
    fileprivate func merged(with other: SessionUpdate) -> SessionUpdate {
        SessionUpdate(
            sessionID: sessionID, at: max(at, other.at),
            counters: SessionCounters(
                bytesSent: max(counters.bytesSent, other.counters.bytesSent),
                bytesReceived: max(counters.bytesReceived, other.counters.bytesReceived),
                connsTotal: max(counters.connsTotal, other.counters.connsTotal),
                resumes: max(counters.resumes, other.counters.resumes),
                migrations: max(counters.migrations, other.counters.migrations)))
    }
}

/// One life of a node: its id alone does not tell a restarted node from its predecessor.
struct NodeLife: Sendable, Hashable {
    let id: NodeID
    let incarnation: SessionID

    var nodeID: PostgresParameter { .text(id.description) }

    /// As the outbox has it.
    var bytes: [UInt8] { incarnation.bytes + Array(id.description.utf8) }

    init(id: NodeID, incarnation: SessionID) {
        self.id = id
        self.incarnation = incarnation
    }

    init?(bytes: [UInt8]) {
        guard let incarnation = SessionID(bytes: Array(bytes.prefix(16))),
            let id = NodeID(String(decoding: bytes.dropFirst(16), as: UTF8.self))
        else { return nil }
        self.init(id: id, incarnation: incarnation)
    }
}
