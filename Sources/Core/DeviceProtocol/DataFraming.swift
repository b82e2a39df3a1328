/// The first frame of a stream of the data plane: `[4-byte big-endian length][message]` (contract section 3).
package enum DataFraming {
    /// What is over 4 KiB there is answered with 0x104.
    package static let maximumMessageBytes = 4_096
    package static let prefixBytes = 4

    /// `message` with its prefix.
    package static func encode(_ message: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(prefixBytes + message.count)
        bytes.append(lengthPrefix: message.count)
        bytes.append(contentsOf: message)
        return bytes
    }
}

/// A first frame that claims more than 4 KiB; the peer's fault, answered with 0x104.
package struct DataFrameTooBig: Error, Sendable, Equatable, CustomStringConvertible {
    package let claimed: UInt32

    package init(claimed: UInt32) {
        self.claimed = claimed
    }

    package var description: String { "frame of \(claimed) bytes, at most 4096 are allowed" }
}

/// Collects the first frame of a stream from pieces of any size; holds at most 4 KiB and the prefix.
package struct DataFrameReader: Sendable {
    private var collected: [UInt8] = []

    package init() {}

    /// Takes bytes of the stream in order.
    ///
    /// The reader is used up when it has given the frame; what `consumed` leaves belongs to who comes next.
    ///
    /// - Returns: how many of `bytes` were used, and the frame without its prefix when it is whole.
    package mutating func receive(
        _ bytes: Span<UInt8>
    ) throws(DataFrameTooBig) -> (consumed: Int, frame: [UInt8]?) {
        var consumed = 0
        while true {
            let wanted = try missingBytes()
            if wanted == 0 {
                let frame = Array(collected.dropFirst(DataFraming.prefixBytes))
                collected = []
                return (consumed, frame)
            }
            let taken = min(wanted, bytes.count - consumed)
            if taken == 0 { return (consumed, nil) }
            collected.reserveCapacity(collected.count + taken)
            for index in consumed..<consumed + taken { collected.append(bytes[index]) }
            consumed += taken
        }
    }

    /// Bytes until the prefix is there or, after it, until the frame is whole.
    private func missingBytes() throws(DataFrameTooBig) -> Int {
        guard collected.count >= DataFraming.prefixBytes else {
            return DataFraming.prefixBytes - collected.count
        }
        let claimed = bigEndian(collected[..<DataFraming.prefixBytes])
        guard claimed <= DataFraming.maximumMessageBytes else { throw DataFrameTooBig(claimed: claimed) }
        return DataFraming.prefixBytes + Int(claimed) - collected.count
    }
}
