internal import CQUIC

// How large packets may be. The library probes for jumbo frames, and once one has arrived it goes on with that
// size; it does not notice when the path takes them no longer. That is watched for here (RFC 8899 section 4.3).
extension QUICEndpoint {
    /// Whether the library in use looks for jumbo frames; ngtcp2 before 1.4 stops at 1,444 bytes.
    package static var findsJumboFrames: Bool { cq_finds_jumbo_frames() }
}

extension QUICConnection {
    /// How long a packet may be that is written now: probes of the path MTU are longer than what was found.
    ///
    /// Probes for jumbo frames wait until much is in flight: whoever has received one keeps a buffer of 16 KiB for
    /// the next, and most connections are idle.
    var packetSpace: Int { movesMuch ? largestPayload : min(largestPayload, QUICLimits.commonPayload) }

    /// Whether a datagram of `count` bytes needs a larger packet than a common path takes.
    func isLarge(_ count: UInt64) -> Bool {
        library.map { count > cq_datagram_limit($0, QUICLimits.commonPayload) } ?? false
    }

    /// How long packets are on this path, as far as is known.
    func payloadLimit(_ library: OpaquePointer, _ roundTrip: UInt64, _ now: UInt64) -> Int {
        let found = min(cq_payload_limit(library), largestPayload)
        guard found > QUICLimits.commonPayload, endpoint.configuration.fixedPayloadBytes == nil,
            now >= nextPathCheckAt || largeDatagramsLost >= QUICLimits.blackHoleDatagrams
        else { return found }
        let patience = max(QUICLimits.blackHoleNanoseconds, 8 * roundTrip)
        nextPathCheckAt = now + patience / 4
        guard
            largeDatagramsLost >= QUICLimits.blackHoleDatagrams
                || streams.values.contains(where: { $0.isUnacknowledged(since: now - min(now, patience)) })
        else { return found }
        // Whatever the cause is, packets of a common size do not make it worse, and the path may become better only
        // by becoming another one.
        largestPayload = QUICLimits.commonPayload
        largeDatagramsLost = 0
        endpoint.metrics.payloadsReduced &+= 1
        return largestPayload
    }
}
