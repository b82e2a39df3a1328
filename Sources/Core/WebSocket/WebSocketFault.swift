/// How the peer broke RFC 6455 or our limits.
package enum WebSocketFault: Error, Sendable, Hashable {
    /// RSV1 to RSV3 are set and no extension was agreed on (section 5.2).
    case reservedBits
    case reservedOpcode(UInt8)
    /// A client's frame without a mask, or a server's with one (section 5.1).
    case wrongMasking
    /// A control frame in pieces, or with more than 125 bytes (section 5.5).
    case fragmentedControlFrame
    case oversizedControlFrame
    /// A length in more bytes than it needs, or with its highest bit set (section 5.2).
    case lengthNotMinimal
    case lengthTooLarge
    /// A continuation of nothing, or a new message inside another (section 5.4).
    case unexpectedContinuation
    case interleavedMessage
    /// A close frame with one byte, or with a code that must not be sent (section 7.4).
    case malformedClose
    case invalidCloseCode(UInt16)
    case textNotAccepted
    case invalidUTF8
    case frameTooBig
    case messageTooBig

    /// The code to close with (section 7.4.1).
    package var closeCode: UInt16 {
        switch self {
        case .textNotAccepted: WebSocketCloseCode.unsupportedData
        case .invalidUTF8: WebSocketCloseCode.invalidPayload
        case .frameTooBig, .messageTooBig: WebSocketCloseCode.messageTooBig
        default: WebSocketCloseCode.protocolError
        }
    }
}

/// Close codes (RFC 6455 section 7.4 and the IANA registry).
package enum WebSocketCloseCode {
    package static let normal: UInt16 = 1_000
    package static let goingAway: UInt16 = 1_001
    package static let protocolError: UInt16 = 1_002
    package static let unsupportedData: UInt16 = 1_003
    package static let invalidPayload: UInt16 = 1_007
    package static let policyViolation: UInt16 = 1_008
    package static let messageTooBig: UInt16 = 1_009
    package static let internalError: UInt16 = 1_011
    package static let serviceRestart: UInt16 = 1_012
    package static let tryAgainLater: UInt16 = 1_013

    /// Whether `code` may stand in a close frame: a registered one, or one of libraries and applications.
    package static func mayBeSent(_ code: UInt16) -> Bool {
        switch code {
        case 1_000...1_003, 1_007...1_014, 3_000...4_999: true
        default: false
        }
    }
}

/// What a close frame says.
package struct WebSocketCloseStatus: Sendable, Hashable {
    package let code: UInt16
    package let reason: String

    package init(code: UInt16, reason: String = "") {
        self.code = code
        self.reason = reason
    }
}
