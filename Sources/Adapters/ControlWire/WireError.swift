/// Bytes of a peer that are not the message they should be; always the peer's fault.
package enum WireError: Error, Sendable, Equatable, CustomStringConvertible {
    /// More bytes than the message may have.
    case tooBig(count: Int, limit: Int)
    /// Not the encoding of this message: bad tags, lengths, wire types or varints.
    case malformed(message: String)
    /// A string that is not UTF-8, or that holds a NUL, which no field of the protocol allows.
    case invalidText(field: String)
    /// A fixed-size field with another size, e.g. a `conn_id` that is not 16 bytes.
    case invalidLength(field: String, count: Int)

    /// The WebSocket close code that answers it on the control plane (contract section 2).
    package var closeCode: UInt16 {
        switch self {
        case .tooBig: 1009
        case .malformed, .invalidText: 1007
        case .invalidLength: 1008
        }
    }

    package var description: String {
        switch self {
        case .tooBig(let count, let limit): "message of \(count) bytes, at most \(limit) are allowed"
        case .malformed(let message): "not a valid \(message)"
        case .invalidText(let field): "field \(field) is not UTF-8 text"
        case .invalidLength(let field, let count): "field \(field) has \(count) bytes"
        }
    }
}
