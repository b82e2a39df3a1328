internal import Domain

/// Events as the outbox keeps them: a byte that says which, then its fields in their order.
///
/// An outbox may be read by a later version of this program, or, after a step back, by an earlier one. So a
/// kind's fields never change: what needs others is a new kind.
enum EventCodec {
    private enum Kind: UInt8 {
        case sessionStarted = 1
        case sessionUpdated = 2
        case sessionEnded = 3
        case deviceState = 4
        case loadReport = 5
        case connEnded = 6
        case nodeSample = 7
        case audited = 8
        case adminTokensUsed = 9
        /// Of earlier versions.
        case drainChanged = 10
        case drainTold = 11
        case usersUsed = 12
        case stickyGiven = 13
    }

    /// Nil for what is not kept: the node's state, which its lease carries, and how it does at the moment.
    static func encode(_ event: StoreEvent) -> [UInt8]? {
        var writer = EventWriter()
        func kind(_ kind: Kind) { writer.put(UInt64(kind.rawValue)) }
        switch event {
        case .sessionStarted(let record, _):
            kind(.sessionStarted)
            put(record, &writer)
        case .sessionUpdated(let update):
            kind(.sessionUpdated)
            writer.put(update.sessionID)
            writer.put(update.at)
            put(update.counters, &writer)
        case .sessionEnded(let end):
            kind(.sessionEnded)
            writer.put(end.sessionID)
            writer.put(end.endedAt)
            writer.put(end.reason.rawValue)
            put(end.counters, &writer)
        case .deviceState(let state):
            kind(.deviceState)
            put(state, &writer)
        case .loadReport(let sample):
            kind(.loadReport)
            put(sample, &writer)
        case .connEnded(let conn):
            kind(.connEnded)
            put(conn, &writer)
        case .nodeSample(let sample):
            kind(.nodeSample)
            put(sample, &writer)
        case .audited(let record):
            kind(.audited)
            put(record, &writer)
        case .adminTokensUsed(let uses):
            kind(.adminTokensUsed)
            writer.put(UInt64(uses.count))
            for use in uses {
                writer.put(use.tokenID)
                writer.put(use.at)
            }
        case .drainChanged(let drain):
            kind(.drainTold)
            put(drain, &writer)
        case .usersUsed(let usage):
            kind(.usersUsed)
            put(usage, &writer)
        case .stickyGiven(let claim):
            kind(.stickyGiven)
            put(claim, &writer)
        case .nodeState, .nodeVitals:
            return nil
        }
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) throws(UnreadableEvent) -> StoreEvent {
        var reader = EventReader(bytes)
        let number = try reader.byte()
        guard let kind = Kind(rawValue: number) else { throw .unknownKind(number) }
        let event: StoreEvent =
            switch kind {
            case .sessionStarted: .sessionStarted(try session(&reader), acknowledgement: nil)
            case .sessionUpdated:
                .sessionUpdated(
                    SessionUpdate(
                        sessionID: try reader.identifier(), at: try reader.time(),
                        counters: try counters(&reader)))
            case .sessionEnded:
                .sessionEnded(
                    SessionEnd(
                        sessionID: try reader.identifier(), endedAt: try reader.time(),
                        reason: try reader.value(SessionEndReason.init(rawValue:)),
                        counters: try counters(&reader)))
            case .deviceState: .deviceState(try state(&reader))
            case .loadReport: .loadReport(try load(&reader))
            case .connEnded: .connEnded(try conn(&reader))
            case .nodeSample: .nodeSample(try nodeSample(&reader))
            case .audited: .audited(try audit(&reader))
            case .adminTokensUsed: .adminTokensUsed(try uses(&reader))
            case .drainChanged: .drainChanged(try drain(&reader))
            case .drainTold: .drainChanged(try detailedDrain(&reader))
            case .usersUsed: .usersUsed(try usage(&reader))
            case .stickyGiven: .stickyGiven(try sticky(&reader))
            }
        guard reader.isAtEnd else { throw .outOfRange }
        return event
    }

    // MARK: Fields

    private static func put(_ record: SessionRecord, _ writer: inout EventWriter) {
        writer.put(record.sessionID)
        writer.put(record.deviceID)
        writer.put(record.sessionEpoch)
        writer.put(record.startedAt)
        writer.put(record.remoteAddress)
        writer.put(record.location)
        writer.put(record.tags)
        writer.put(UInt64(record.capacity))
        writer.put(record.agentVersion)
    }

    private static func session(_ reader: inout EventReader) throws(UnreadableEvent) -> SessionRecord {
        SessionRecord(
            sessionID: try reader.identifier(), deviceID: try reader.value(DeviceID.init),
            sessionEpoch: try reader.unsigned(), startedAt: try reader.time(),
            remoteAddress: try reader.value(SocketAddress.init), location: try reader.text(),
            tags: try reader.texts(), capacity: UInt32(clamping: try reader.unsigned()),
            agentVersion: try reader.text())
    }

    private static func put(_ counters: SessionCounters, _ writer: inout EventWriter) {
        writer.put(counters.bytesSent)
        writer.put(counters.bytesReceived)
        writer.put(counters.connsTotal)
        writer.put(counters.resumes)
        writer.put(counters.migrations)
    }

    private static func counters(_ reader: inout EventReader) throws(UnreadableEvent) -> SessionCounters {
        SessionCounters(
            bytesSent: try reader.unsigned(), bytesReceived: try reader.unsigned(),
            connsTotal: try reader.unsigned(), resumes: try reader.unsigned(),
            migrations: try reader.unsigned())
    }

    private static func put(_ state: DeviceState, _ writer: inout EventWriter) {
        writer.put(state.deviceID)
        writer.put(state.sessionID)
        writer.put(state.at)
        writer.put(state.health.rawValue)
        writer.put(optional: state.lastHeartbeatAt) { $0.put($1) }
        writer.put(optional: state.roundTripMilliseconds) { $0.put($1) }
        writer.put(optional: state.quicRemoteAddress) { $0.put($1) }
        writer.put(state.activeConns)
        writer.put(state.bytesSent)
        writer.put(state.bytesReceived)
    }

    private static func state(_ reader: inout EventReader) throws(UnreadableEvent) -> DeviceState {
        DeviceState(
            deviceID: try reader.value(DeviceID.init), sessionID: try reader.identifier(),
            at: try reader.time(), health: try reader.value(SessionHealth.init(rawValue:)),
            lastHeartbeatAt: try reader.optional { reader throws(UnreadableEvent) in try reader.time() },
            roundTripMilliseconds: try reader.optional { reader throws(UnreadableEvent) in
                try reader.double()
            },
            quicRemoteAddress: try reader.optional { reader throws(UnreadableEvent) in
                try reader.value(SocketAddress.init)
            },
            activeConns: try reader.unsigned(), bytesSent: try reader.unsigned(),
            bytesReceived: try reader.unsigned())
    }

    private static func put(_ sample: LoadSample, _ writer: inout EventWriter) {
        writer.put(sample.deviceID)
        writer.put(sample.sessionID)
        writer.put(sample.sampledAt)
        writer.put(sample.receivedAt)
        writer.put(sample.activeConns)
        writer.put(sample.bytesSent)
        writer.put(sample.bytesReceived)
        writer.put(sample.cpuUtilization)
        writer.put(sample.memoryUsedBytes)
        writer.put(sample.memoryTotalBytes)
        writer.put(optional: sample.roundTripMilliseconds) { $0.put($1) }
    }

    private static func load(_ reader: inout EventReader) throws(UnreadableEvent) -> LoadSample {
        LoadSample(
            deviceID: try reader.value(DeviceID.init), sessionID: try reader.identifier(),
            sampledAt: try reader.time(), receivedAt: try reader.time(),
            activeConns: try reader.unsigned(), bytesSent: try reader.unsigned(),
            bytesReceived: try reader.unsigned(), cpuUtilization: try reader.double(),
            memoryUsedBytes: try reader.unsigned(), memoryTotalBytes: try reader.unsigned(),
            roundTripMilliseconds: try reader.optional { reader throws(UnreadableEvent) in
                try reader.double()
            })
    }

    private static func put(_ conn: ConnRecord, _ writer: inout EventWriter) {
        writer.put(conn.connID)
        writer.put(conn.deviceID)
        writer.put(conn.sessionID)
        writer.put(conn.userName)
        writer.put(conn.clientProtocol.rawValue)
        writer.put(conn.clientAddress)
        writer.put(conn.target)
        writer.put(optional: conn.resolvedAddress) { $0.put($1) }
        writer.put(conn.openedAt)
        writer.put(conn.endedAt)
        writer.put(conn.bytesSent)
        writer.put(conn.bytesReceived)
        writer.put(Int64(conn.endReason.rawValue))
    }

    private static func conn(_ reader: inout EventReader) throws(UnreadableEvent) -> ConnRecord {
        let connID: ConnID = try reader.identifier()
        let deviceID = try reader.value(DeviceID.init)
        let sessionID: SessionID = try reader.identifier()
        let userName = try reader.text()
        let clientProtocol = try reader.value(ConnRecord.ClientProtocol.init(rawValue:))
        let clientAddress = try reader.value(SocketAddress.init)
        let target = try reader.text()
        let resolved = try reader.optional { reader throws(UnreadableEvent) in try reader.text() }
        let (openedAt, endedAt) = (try reader.time(), try reader.time())
        let (bytesSent, bytesReceived) = (try reader.unsigned(), try reader.unsigned())
        guard let reason = CloseReason(rawValue: Int32(clamping: try reader.signed())) else {
            throw .outOfRange
        }
        return ConnRecord(
            connID: connID, deviceID: deviceID, sessionID: sessionID, userName: userName,
            clientProtocol: clientProtocol, clientAddress: clientAddress, target: target,
            resolvedAddress: resolved, openedAt: openedAt, endedAt: endedAt, bytesSent: bytesSent,
            bytesReceived: bytesReceived, endReason: reason)
    }

    private static func put(_ sample: NodeSample, _ writer: inout EventWriter) {
        writer.put(sample.sampledAt)
        writer.put(sample.devicesOnline)
        writer.put(sample.connsActive)
        writer.put(sample.bytesSent)
        writer.put(sample.bytesReceived)
        writer.put(sample.cpuUtilization)
        writer.put(sample.memoryUsedBytes)
    }

    private static func nodeSample(_ reader: inout EventReader) throws(UnreadableEvent) -> NodeSample {
        NodeSample(
            sampledAt: try reader.time(), devicesOnline: try reader.unsigned(),
            connsActive: try reader.unsigned(), bytesSent: try reader.unsigned(),
            bytesReceived: try reader.unsigned(), cpuUtilization: try reader.double(),
            memoryUsedBytes: try reader.unsigned())
    }
}
