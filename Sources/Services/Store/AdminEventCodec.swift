internal import Domain
internal import JSON

/// The fields of operators' acts; see ``EventCodec``.
extension EventCodec {
    static func put(_ record: AuditRecord, _ writer: inout EventWriter) {
        writer.put(record.auditID)
        writer.put(record.at)
        writer.put(record.actor)
        writer.put(optional: record.tokenID) { $0.put($1) }
        writer.put(record.remoteAddress)
        writer.put(record.requestID)
        writer.put(record.method)
        writer.put(record.path)
        writer.put(record.status)
        writer.put(record.reason)
    }

    static func audit(_ reader: inout EventReader) throws(UnreadableEvent) -> AuditRecord {
        AuditRecord(
            auditID: try reader.identifier(), at: try reader.time(), actor: try reader.text(),
            tokenID: try reader.optional { reader throws(UnreadableEvent) in try reader.identifier() },
            remoteAddress: try reader.text(), requestID: try reader.text(), method: try reader.text(),
            path: try reader.text(), status: try reader.count(), reason: try reader.text())
    }

    static func uses(_ reader: inout EventReader) throws(UnreadableEvent) -> [AdminTokenUse] {
        var uses: [AdminTokenUse] = []
        // Each takes bytes, so a count that can't be ends at the end of them.
        for _ in 0..<(try reader.unsigned()) {
            uses.append(AdminTokenUse(tokenID: try reader.identifier(), at: try reader.time()))
        }
        return uses
    }

    static func put(_ drain: DrainRecord, _ writer: inout EventWriter) {
        writer.put(drain.drainID)
        writer.put(drain.state)
        writer.put(drain.version)
        writer.put(drain.startedAt)
        writer.put(drain.deadlineAt)
        writer.put(optional: drain.endedAt) { $0.put($1) }
        writer.put(drain.deadlineSeconds)
        writer.put(drain.devicesPerSecond)
        writer.put(drain.redirectTo)
        writer.put(drain.onDeadline)
        writer.put(drain.reason)
        writer.put(drain.actor)
        writer.put(drain.etaSeconds)
        writer.put(drain.devicesTotal)
        writer.put(drain.devicesMoved)
        writer.put(drain.devicesRemaining)
        writer.put(drain.connsRemaining)
        writer.put(drain.connsCut)
        writer.put(drain.blockers)
        writer.put(drain.targets)
        writer.put(drain.updatedAt)
        writer.put(drain.devicesLost)
        writer.put(drain.details.text)
    }

    static func drain(_ reader: inout EventReader) throws(UnreadableEvent) -> DrainRecord {
        DrainRecord(
            drainID: try reader.identifier(), state: try reader.text(), version: try reader.signed(),
            startedAt: try reader.time(), deadlineAt: try reader.time(),
            endedAt: try reader.optional { reader throws(UnreadableEvent) in try reader.time() },
            deadlineSeconds: try reader.count(), devicesPerSecond: try reader.count(),
            redirectTo: try reader.texts(), onDeadline: try reader.text(), reason: try reader.text(),
            actor: try reader.text(), etaSeconds: try reader.count(), devicesTotal: try reader.count(),
            devicesMoved: try reader.count(), devicesRemaining: try reader.count(),
            connsRemaining: try reader.count(), connsCut: try reader.count(), blockers: try reader.texts(),
            targets: try reader.texts(), updatedAt: try reader.time())
    }

    static func detailedDrain(_ reader: inout EventReader) throws(UnreadableEvent) -> DrainRecord {
        var record = try drain(&reader)
        record.devicesLost = try reader.count()
        record.details = DrainRecord.details(try reader.text())
        return record
    }
}

extension DrainRecord {
    /// What can't be read says nothing.
    static func details(_ text: String) -> JSONValue {
        guard let value = try? JSONValue(parsing: Array(text.utf8)), value.object != nil else {
            return .object([])
        }
        return value
    }
}
