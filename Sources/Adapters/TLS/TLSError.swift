internal import COpenSSL

/// What went wrong with TLS, whose fault it is, and all that OpenSSL says about it.
///
/// Failures of the connection below TLS (refused, reset, timed out) are `StreamError`s.
package struct TLSError: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Reason: Sendable, Hashable {
        /// A certificate, key, file or name that we were configured with can't be used.
        case configuration
        /// We refused the peer's certificate; the text of the X509_V_ERR code says why.
        case certificateRefused(String)
        /// The peer refused us, or what it speaks is no TLS that we accept.
        case handshakeFailed
        /// The peer did not complete the handshake in time.
        case handshakeTimedOut
        /// The open session broke: an alert, or records that are not the session's.
        case sessionFailed
        /// The connection ended without close_notify: what was received may be cut (RFC 8446 section 6.1).
        case truncated
    }

    package let reason: Reason
    /// What was being done.
    package let operation: String
    /// OpenSSL's error queue, oldest first.
    package let stack: [String]

    init(_ reason: Reason, during operation: String, stack: [String] = []) {
        self.reason = reason
        self.operation = operation
        self.stack = stack
    }

    /// Takes the calling thread's error queue along.
    static func takingStack(_ reason: Reason, during operation: String) -> TLSError {
        TLSError(reason, during: operation, stack: errorStack())
    }

    private static func errorStack() -> [String] {
        let text = String(unsafeUninitializedCapacity: 4_096) { buffer in
            buffer.withMemoryRebound(to: CChar.self) { co_take_errors($0.baseAddress, $0.count) }
        }
        return text.split(separator: "\n").map(String.init)
    }

    package var description: String {
        let what =
            switch reason {
            case .configuration: "not usable"
            case .certificateRefused(let text): "certificate refused: \(text)"
            case .handshakeFailed: "handshake failed"
            case .handshakeTimedOut: "handshake timed out"
            case .sessionFailed: "session failed"
            case .truncated: "ended without close_notify"
            }
        let cause = stack.isEmpty ? "" : " (\(stack.joined(separator: "; ")))"
        return "\(operation): \(what)\(cause)"
    }
}
