/// The frames inside a WebSocket message of the control plane (contract section 2).
///
///     +----------------+-------------------------+----------------+--- ...
///     | length, 4 B BE | ControlMessage, `length` | length, 4 B BE | ...
///     +----------------+-------------------------+----------------+--- ...
///
/// Frames are whole: none goes over the end of its WebSocket message.
package enum ControlFraming {
    /// A ControlMessage, its prefix not counted.
    package static let maximumMessageBytes = 65_536
    /// A WebSocket message with all its frames; the WebSocket layer holds to it.
    package static let maximumWebSocketMessageBytes = 1_048_576
    package static let prefixBytes = 4

    /// One WebSocket message that carries `messages` in order.
    package static func encode(_ messages: [[UInt8]]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(messages.reduce(0) { $0 + prefixBytes + $1.count })
        for message in messages {
            bytes.append(lengthPrefix: message.count)
            bytes.append(contentsOf: message)
        }
        return bytes
    }

    /// One WebSocket message that carries one control message.
    package static func encode(_ message: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(prefixBytes + message.count)
        bytes.append(lengthPrefix: message.count)
        bytes.append(contentsOf: message)
        return bytes
    }

    /// All frames of a WebSocket message, zero-length ones left out; see ``ControlFrameReader``.
    package static func frames(
        of message: [UInt8]
    ) throws(ControlFramingViolation) -> [ArraySlice<UInt8>] {
        var reader = ControlFrameReader(message)
        var frames: [ArraySlice<UInt8>] = []
        while let frame = try reader.next() { frames.append(frame) }
        return frames
    }
}

/// A WebSocket message that is not made of whole frames; the peer's fault.
package enum ControlFramingViolation: Error, Sendable, Equatable, CustomStringConvertible {
    /// A WebSocket message without a byte.
    case emptyMessage
    /// The message ends inside a prefix or a frame.
    case truncatedFrame
    /// A frame claims more than 64 KiB, whether or not the bytes are there.
    case frameTooBig(claimed: UInt32)

    /// The WebSocket close code that answers it.
    package var closeCode: UInt16 {
        switch self {
        case .emptyMessage, .truncatedFrame: 1002
        case .frameTooBig: 1009
        }
    }

    package var description: String {
        switch self {
        case .emptyMessage: "empty WebSocket message"
        case .truncatedFrame: "WebSocket message ends inside a frame"
        case .frameTooBig(let claimed): "frame of \(claimed) bytes"
        }
    }
}

/// Reads the frames of one WebSocket message one after the other, so that the frames before a bad one count.
package struct ControlFrameReader {
    private let bytes: [UInt8]
    private var position = 0

    package init(_ message: [UInt8]) {
        bytes = message
    }

    /// The next frame that is not of zero length, without its prefix; nil at the end of the message.
    package mutating func next() throws(ControlFramingViolation) -> ArraySlice<UInt8>? {
        guard !bytes.isEmpty else { throw .emptyMessage }
        while position < bytes.count {
            let rest = bytes[position...]
            guard rest.count >= ControlFraming.prefixBytes else { throw .truncatedFrame }
            let claimed = bigEndian(rest.prefix(ControlFraming.prefixBytes))
            guard claimed <= ControlFraming.maximumMessageBytes else {
                throw .frameTooBig(claimed: claimed)
            }
            let frame = rest.dropFirst(ControlFraming.prefixBytes).prefix(Int(claimed))
            guard frame.count == Int(claimed) else { throw .truncatedFrame }
            position = frame.endIndex
            if !frame.isEmpty { return frame }
        }
        return nil
    }
}

extension [UInt8] {
    /// `length` as the 4 big-endian bytes before a frame; frames are far smaller than 4 GiB.
    mutating func append(lengthPrefix length: Int) {
        let value = UInt32(truncatingIfNeeded: length)
        append(UInt8(truncatingIfNeeded: value >> 24))
        append(UInt8(truncatingIfNeeded: value >> 16))
        append(UInt8(truncatingIfNeeded: value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }
}

func bigEndian(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.reduce(0) { $0 << 8 | UInt32($1) }
}
