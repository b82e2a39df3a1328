/// Which end of a connection we are: clients mask what they send, servers don't (RFC 6455 section 5.1).
package enum WebSocketRole: Sendable, Hashable {
    case client, server
}

/// The opcodes of RFC 6455 section 5.2.
package enum WebSocketOpcode: UInt8, Sendable, Hashable, CaseIterable {
    case continuation = 0
    case text = 1
    case binary = 2
    case close = 8
    case ping = 9
    case pong = 10

    package var isControl: Bool { rawValue >= 8 }
}

/// Frames on the wire (RFC 6455 section 5.2):
///
/// ```
///   0               1               2               3
///   7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0
///  +-+-----+-------+-+-------------+-------------------------------+
///  |F|  R  |opcode |M| length      | 16 bits when length is 126,   |
///  |I|     |       |A| (7 bits)    | 64 bits when it is 127        |
///  |N|     |       |S|             |                               |
///  +-+-----+-------+-+-------------+-------------------------------+
///  | masking key (32 bits), when MASK is set                       |
///  +---------------------------------------------------------------+
/// ```
package enum WebSocketFrame {
    /// Most bytes in the payload of a control frame (section 5.5).
    package static let controlPayloadLimit = 125

    /// A whole frame. `mask` is given by clients, drawn anew for each frame (section 10.3).
    package static func encode(
        _ opcode: WebSocketOpcode, isFinal: Bool = true, _ payload: some Collection<UInt8>, mask: UInt32?
    ) -> [UInt8] {
        var frame: [UInt8] = []
        let count = payload.count
        frame.reserveCapacity(count + 14)
        frame.append((isFinal ? 0x80 : 0) | opcode.rawValue)
        let maskBit: UInt8 = mask == nil ? 0 : 0x80
        switch count {
        case ..<126:
            frame.append(maskBit | UInt8(count))
        case ..<65_536:
            frame.append(maskBit | 126)
            append(UInt64(count), bytes: 2, to: &frame)
        default:
            frame.append(maskBit | 127)
            append(UInt64(count), bytes: 8, to: &frame)
        }
        guard let mask else {
            frame += payload
            return frame
        }
        append(UInt64(mask), bytes: 4, to: &frame)
        let start = frame.count
        frame += payload
        WebSocketMask.apply(mask, to: &frame, from: start, offset: 0)
        return frame
    }

    private static func append(_ number: UInt64, bytes: Int, to frame: inout [UInt8]) {
        for index in (0..<bytes).reversed() {
            frame.append(UInt8(truncatingIfNeeded: number >> UInt64(8 * index)))
        }
    }
}

/// Masking (RFC 6455 section 5.3); doing it twice undoes it.
package enum WebSocketMask {
    /// Masks `bytes[start...]` in place. `offset` is how many bytes of the payload went before.
    package static func apply(_ mask: UInt32, to bytes: inout [UInt8], from start: Int, offset: UInt64) {
        // The key turned so that its first byte meets the first byte of this piece.
        let turn = UInt32(truncatingIfNeeded: offset & 3) * 8
        let key = turn == 0 ? mask : mask << turn | mask >> (32 - turn)
        let first = UInt8(truncatingIfNeeded: key >> 24)
        let second = UInt8(truncatingIfNeeded: key >> 16)
        let third = UInt8(truncatingIfNeeded: key >> 8)
        let fourth = UInt8(truncatingIfNeeded: key)
        var span = bytes.mutableSpan
        let count = span.count
        var index = start
        // Four at a time without a shift each: the compiler checks bounds once a round.
        while count - index >= 4 {
            span[index] ^= first
            span[index &+ 1] ^= second
            span[index &+ 2] ^= third
            span[index &+ 3] ^= fourth
            index &+= 4
        }
        for (rest, byte) in zip(index..<count, [first, second, third]) { span[rest] ^= byte }
    }
}
