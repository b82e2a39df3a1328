/// What a connection accepts of its peer.
package struct WebSocketLimits: Sendable, Hashable {
    /// Most bytes in a message, over all its frames.
    package var messageBytes: Int
    /// Most bytes in one data frame.
    package var frameBytes: Int
    /// Whether text messages are accepted; otherwise they end the connection with 1003.
    package var acceptsText: Bool

    /// 1 MiB is the bound of a control message's WebSocket message (contract section 2).
    package init(messageBytes: Int = 1_048_576, frameBytes: Int = 1_048_576, acceptsText: Bool = false) {
        self.messageBytes = messageBytes
        self.frameBytes = frameBytes
        self.acceptsText = acceptsText
    }
}

/// A WebSocket connection after its opening handshake, as a value: bytes in, events out (RFC 6455).
///
/// ```
///             receive: close          close()
///      open -----------------> peer closed ------> closed
///       |                                            ^
///       +----------> we closed ----------------------+
///         close()               receive: close
/// ```
/// A fault of the peer ends receiving for good; the owner closes with the fault's code. After the peer's
/// close nothing more is received; after ours no message, ping or pong can be sent any more. Between
/// messages it holds no buffer, and never more than has really arrived of one message.
package struct WebSocketConnection: Sendable {
    package enum Event: Sendable, Hashable {
        case binary([UInt8])
        case text(String)
        /// To be answered by a pong with the same payload.
        case ping([UInt8])
        case pong([UInt8])
        /// The peer's close frame, nil when it gives no code: to be answered by ours.
        case close(WebSocketCloseStatus?)
        /// The peer broke the rules: to be answered by a close with the fault's code. Nothing follows.
        case failed(WebSocketFault)
    }

    package let role: WebSocketRole
    package let limits: WebSocketLimits

    /// Whether the peer can be heard no more: it has closed, or broken the rules.
    package private(set) var hasReceivedEnd = false
    /// Whether a close frame was made; nothing can be sent after it.
    package private(set) var hasSentClose = false

    /// The bytes of a header that has not arrived whole, first one highest.
    private var header = FrameHeaderBytes()
    private var frame: Frame?
    /// The opcode of the message begun, and what has arrived of it.
    private var messageOpcode: WebSocketOpcode?
    private var message: [UInt8] = []
    private var control: [UInt8] = []
    private var utf8 = UTF8Validator()

    /// A frame whose header has arrived.
    private struct Frame: Sendable {
        let opcode: WebSocketOpcode
        let isFinal: Bool
        let mask: UInt32?
        var remaining: UInt64
        var consumed: UInt64 = 0
    }

    package init(role: WebSocketRole, limits: WebSocketLimits = WebSocketLimits()) {
        self.role = role
        self.limits = limits
    }

    // MARK: Receiving

    /// What `bytes`, the next ones of the stream, bring about, in order.
    package mutating func receive(_ bytes: ArraySlice<UInt8>) -> [Event] {
        var events: [Event] = []
        var rest = bytes
        do throws(WebSocketFault) {
            while !hasReceivedEnd {
                if frame == nil {
                    guard try takeHeader(&rest) else { break }
                }
                try takePayload(&rest)
                guard let frame, frame.remaining == 0 else { break }
                self.frame = nil
                if let event = try finish(frame) { events.append(event) }
            }
        } catch {
            events.append(.failed(error))
            endReceiving()
        }
        return events
    }

    private mutating func endReceiving() {
        hasReceivedEnd = true
        frame = nil
        message = []
        control = []
    }

    /// Whether a whole header was there; it is `frame` then.
    private mutating func takeHeader(_ rest: inout ArraySlice<UInt8>) throws(WebSocketFault) -> Bool {
        while let byte = rest.first {
            rest.removeFirst()
            header.append(byte)
            // Each of the first two bytes is judged when it comes: a wrong one is not waited upon.
            if header.count == 1 { try checkFirst(byte) }
            if header.count == 2 { try checkSecond(byte) }
            guard header.isComplete else { continue }
            let length = header.length
            guard length.isMinimal else { throw .lengthNotMinimal }
            guard length.value <= UInt64(Int64.max) else { throw .lengthTooLarge }
            guard let opcode = WebSocketOpcode(rawValue: header.first & 15) else {
                throw .reservedOpcode(header.first & 15)
            }
            frame = Frame(
                opcode: opcode, isFinal: header.first & 0x80 != 0, mask: header.mask, remaining: length.value)
            header = FrameHeaderBytes()
            try begin(opcode, length.value)
            return true
        }
        return false
    }

    private func checkFirst(_ byte: UInt8) throws(WebSocketFault) {
        guard byte & 0x70 == 0 else { throw .reservedBits }
        guard let opcode = WebSocketOpcode(rawValue: byte & 15) else { throw .reservedOpcode(byte & 15) }
        if opcode.isControl {
            guard byte & 0x80 != 0 else { throw .fragmentedControlFrame }
        } else if opcode == .continuation {
            guard messageOpcode != nil else { throw .unexpectedContinuation }
        } else {
            guard messageOpcode == nil else { throw .interleavedMessage }
            guard opcode != .text || limits.acceptsText else { throw .textNotAccepted }
        }
    }

    private func checkSecond(_ byte: UInt8) throws(WebSocketFault) {
        guard (byte & 0x80 != 0) == (role == .server) else { throw .wrongMasking }
        // Of control opcodes only the first byte tells; lengths of 126 and 127 announce longer ones.
        if header.first & 8 != 0, byte & 0x7f > UInt8(WebSocketFrame.controlPayloadLimit) {
            throw .oversizedControlFrame
        }
    }

    /// Takes a data frame into its message, as far as its header goes.
    private mutating func begin(_ opcode: WebSocketOpcode, _ length: UInt64) throws(WebSocketFault) {
        guard !opcode.isControl else { return }
        guard length <= UInt64(max(0, limits.frameBytes)) else { throw .frameTooBig }
        guard length <= UInt64(max(0, limits.messageBytes - message.count)) else { throw .messageTooBig }
        if opcode != .continuation {
            messageOpcode = opcode
            utf8 = UTF8Validator()
        }
    }

    private mutating func takePayload(_ rest: inout ArraySlice<UInt8>) throws(WebSocketFault) {
        guard var frame, frame.remaining > 0 else { return }
        let count = Int(min(UInt64(rest.count), frame.remaining))
        guard count > 0 else { return }
        let piece = rest.prefix(count)
        rest = rest.dropFirst(count)
        if frame.opcode.isControl {
            Self.append(piece, of: frame, to: &control)
        } else {
            let start = message.count
            Self.append(piece, of: frame, to: &message)
            if messageOpcode == .text, !utf8.consume(message[start...]) { throw .invalidUTF8 }
        }
        frame.remaining -= UInt64(count)
        frame.consumed += UInt64(count)
        self.frame = frame
    }

    private static func append(_ piece: ArraySlice<UInt8>, of frame: Frame, to bytes: inout [UInt8]) {
        let start = bytes.count
        bytes += piece
        if let mask = frame.mask {
            WebSocketMask.apply(mask, to: &bytes, from: start, offset: frame.consumed)
        }
    }

    /// The event of a frame whose payload is complete; nil for a piece of a message.
    private mutating func finish(_ frame: Frame) throws(WebSocketFault) -> Event? {
        if frame.opcode.isControl {
            let payload = control
            control = []
            switch frame.opcode {
            case .ping: return .ping(payload)
            case .pong: return .pong(payload)
            default:
                let status = try Self.closeStatus(payload)
                endReceiving()
                return .close(status)
            }
        }
        guard frame.isFinal else { return nil }
        let payload = message
        let opcode = messageOpcode
        message = []
        messageOpcode = nil
        guard opcode == .text else { return .binary(payload) }
        guard utf8.isComplete else { throw .invalidUTF8 }
        return .text(String(decoding: payload, as: UTF8.self))
    }

    /// Section 5.5.1: nothing, or a code of two bytes and a reason in UTF-8.
    private static func closeStatus(_ payload: [UInt8]) throws(WebSocketFault) -> WebSocketCloseStatus? {
        guard !payload.isEmpty else { return nil }
        guard payload.count >= 2 else { throw .malformedClose }
        let code = UInt16(payload[0]) << 8 | UInt16(payload[1])
        guard WebSocketCloseCode.mayBeSent(code) else { throw .invalidCloseCode(code) }
        var validator = UTF8Validator()
        guard validator.consume(payload[2...]), validator.isComplete else { throw .invalidUTF8 }
        return WebSocketCloseStatus(code: code, reason: String(decoding: payload[2...], as: UTF8.self))
    }

    // MARK: Sending

    /// The frame of a binary message; nil after our close.
    package func binary(
        _ payload: some Collection<UInt8>, using generator: inout some RandomNumberGenerator
    ) -> [UInt8]? {
        encode(.binary, payload, &generator)
    }

    /// The frame of a text message; nil after our close.
    package func text(_ text: String, using generator: inout some RandomNumberGenerator) -> [UInt8]? {
        encode(.text, Array(text.utf8), &generator)
    }

    /// A ping with at most 125 bytes, more are cut off; nil after our close.
    package func ping(
        _ payload: [UInt8] = [], using generator: inout some RandomNumberGenerator
    ) -> [UInt8]? {
        encode(.ping, payload.prefix(WebSocketFrame.controlPayloadLimit), &generator)
    }

    /// The answer to a ping; nil after our close.
    package func pong(
        _ payload: [UInt8], using generator: inout some RandomNumberGenerator
    ) -> [UInt8]? {
        encode(.pong, payload.prefix(WebSocketFrame.controlPayloadLimit), &generator)
    }

    /// Our close frame, without a code when `status` is nil; nil when it was made before. The reason is cut
    /// to what fits, at the end of a character.
    package mutating func close(
        _ status: WebSocketCloseStatus?, using generator: inout some RandomNumberGenerator
    ) -> [UInt8]? {
        var payload: [UInt8] = []
        if let status {
            precondition(WebSocketCloseCode.mayBeSent(status.code), "a close code that must not be sent")
            payload = [UInt8(status.code >> 8), UInt8(status.code & 255)]
            for character in status.reason.unicodeScalars {
                let bytes = Array(String(character).utf8)
                guard payload.count + bytes.count <= WebSocketFrame.controlPayloadLimit else { break }
                payload += bytes
            }
        }
        let frame = encode(.close, payload, &generator)
        hasSentClose = true
        return frame
    }

    private func encode(
        _ opcode: WebSocketOpcode, _ payload: some Collection<UInt8>,
        _ generator: inout some RandomNumberGenerator
    ) -> [UInt8]? {
        guard !hasSentClose else { return nil }
        let mask: UInt32? = role == .client ? UInt32(truncatingIfNeeded: generator.next()) : nil
        return WebSocketFrame.encode(opcode, payload, mask: mask)
    }
}

/// A frame header that arrives byte by byte: at most 14 bytes, kept without an allocation.
private struct FrameHeaderBytes: Sendable {
    private(set) var count = 0
    private(set) var first: UInt8 = 0
    private var second: UInt8 = 0
    private var extendedLength: UInt64 = 0
    private var maskBits: UInt32 = 0

    private var lengthBytes: Int {
        switch second & 0x7f {
        case 126: 2
        case 127: 8
        default: 0
        }
    }

    private var maskBytes: Int { second & 0x80 == 0 ? 0 : 4 }

    var isComplete: Bool { count >= 2 && count == 2 + lengthBytes + maskBytes }

    var mask: UInt32? { maskBytes == 0 ? nil : maskBits }

    /// The payload's length, and whether it is written in as few bytes as possible.
    var length: (value: UInt64, isMinimal: Bool) {
        switch lengthBytes {
        case 2: (extendedLength, extendedLength > 125)
        case 8: (extendedLength, extendedLength > 65_535)
        default: (UInt64(second & 0x7f), true)
        }
    }

    mutating func append(_ byte: UInt8) {
        switch count {
        case 0: first = byte
        case 1: second = byte
        case ..<(2 + lengthBytes): extendedLength = extendedLength << 8 | UInt64(byte)
        default: maskBits = maskBits << 8 | UInt32(byte)
        }
        count += 1
    }
}
