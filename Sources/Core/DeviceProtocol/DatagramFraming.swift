/// What stands before the payload of a QUIC DATAGRAM (contract section 3): the flow's id as a variable-length
/// integer (RFC 9000 section 16), whose first two bits tell its length of 1, 2, 4 or 8 bytes.
package enum DatagramFraming {
    /// The largest flow id that can be written.
    package static let largestFlowID: UInt64 = 1 << 62 - 1

    /// - Parameter flowID: at most ``largestFlowID``.
    package static func encode(_ flowID: UInt64) -> [UInt8] {
        let (count, mark): (Int, UInt64) =
            switch flowID {
            case 0..<1 << 6: (1, 0)
            case 1 << 6..<1 << 14: (2, 1)
            case 1 << 14..<1 << 30: (4, 2)
            default: (8, 3)
            }
        let word = flowID | mark << UInt64(8 * count - 2)
        return (0..<count).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * (count - 1 - $0))) }
    }

    /// The flow that `datagram` belongs to and where its payload begins; nil when it ends before that.
    package static func decode(_ datagram: Span<UInt8>) -> (flowID: UInt64, byteCount: Int)? {
        guard !datagram.isEmpty else { return nil }
        let count = 1 << Int(datagram[0] >> 6)
        guard datagram.count >= count else { return nil }
        var flowID = UInt64(datagram[0] & 0x3f)
        for index in 1..<count { flowID = flowID << 8 | UInt64(datagram[index]) }
        return (flowID, count)
    }
}
