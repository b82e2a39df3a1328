internal import Domain

/// The fields of what users do; see ``EventCodec``.
extension EventCodec {
    static func put(_ usage: UserUsage, _ writer: inout EventWriter) {
        writer.put(usage.name.description)
        writer.put(usage.month.description)
        writer.put(usage.bytesSent)
        writer.put(usage.bytesReceived)
    }

    static func usage(_ reader: inout EventReader) throws(UnreadableEvent) -> UserUsage {
        UserUsage(
            name: try reader.value(UserName.init), month: try reader.value { CalendarMonth($0) },
            bytesSent: try reader.unsigned(), bytesReceived: try reader.unsigned())
    }

    static func put(_ claim: StickyClaim, _ writer: inout EventWriter) {
        writer.put(claim.user)
        writer.put(claim.session)
        writer.put(claim.device)
        writer.put(claim.expiresAt)
    }

    static func sticky(_ reader: inout EventReader) throws(UnreadableEvent) -> StickyClaim {
        StickyClaim(
            user: try reader.text(), session: try reader.text(), device: try reader.value(DeviceID.init),
            expiresAt: try reader.time())
    }

    /// A user as its node keeps it on disk for times without a database.
    static func encode(_ key: UserKey) -> [UInt8] {
        var writer = EventWriter()
        writer.put(key.name.description)
        writer.put(key.passwordHash)
        writer.put(optional: key.limits.maxConns) { $0.put($1) }
        writer.put(optional: key.limits.bytesQuota) { $0.put($1) }
        writer.put(optional: key.limits.rateBytesPerSecond) { $0.put($1) }
        writer.put(key.limits.allowedLocations)
        writer.put(key.bytesElsewhere)
        return writer.bytes
    }

    static func decodeKey(_ bytes: [UInt8]) throws(UnreadableEvent) -> UserKey {
        var reader = EventReader(bytes)
        let name = try reader.value(UserName.init)
        let hash = try reader.text()
        func number() throws(UnreadableEvent) -> UInt64? {
            try reader.optional { reader throws(UnreadableEvent) in try reader.unsigned() }
        }
        let limits = UserLimits(
            maxConns: try number(), bytesQuota: try number(), rateBytesPerSecond: try number(),
            allowedLocations: try reader.texts())
        return UserKey(
            name: name, passwordHash: hash, limits: limits, bytesElsewhere: try reader.unsigned())
    }
}
