internal import CQUIC
package import EventLoop

/// The library that speaks QUIC for us.
package enum QUICLibrary {
    /// Of the ngtcp2 that is loaded, e.g. "1.11.0".
    package static var version: String { String(cString: cq_library_version()) }
}

/// Why a connection ended.
package enum QUICCloseReason: Sendable, Hashable, CustomStringConvertible {
    /// `close(code:reason:)` of this side.
    case local(code: UInt64)
    /// CONNECTION_CLOSE of the peer's application (frame 0x1d).
    case peerApplication(code: UInt64, reason: String)
    /// CONNECTION_CLOSE of the peer's transport (frame 0x1c); 0x100 + n is TLS alert n.
    case peerTransport(code: UInt64, reason: String)
    case idleTimeout
    /// This side ended the handshake: a bad certificate, another protocol.
    case handshakeFailed(String)
    case handshakeTimedOut
    /// The peer speaks no version that we do.
    case versionNegotiation
    /// The peer has forgotten the connection (RFC 9000 section 10.3).
    case statelessReset
    case endpointClosed
    /// The peer broke the protocol, as found by this side.
    case protocolError(String)

    package var description: String {
        switch self {
        case .local(let code): "closed with 0x\(String(code, radix: 16))"
        case .peerApplication(let code, let reason):
            "closed by the peer with 0x\(String(code, radix: 16))" + (reason.isEmpty ? "" : ": \(reason)")
        case .peerTransport(let code, let reason):
            "closed by the peer's transport with 0x\(String(code, radix: 16))"
                + (reason.isEmpty ? "" : ": \(reason)")
        case .idleTimeout: "idle timeout"
        case .handshakeFailed(let text): "handshake failed: \(text)"
        case .handshakeTimedOut: "handshake timed out"
        case .versionNegotiation: "no common version"
        case .statelessReset: "stateless reset"
        case .endpointClosed: "endpoint closed"
        case .protocolError(let text): "protocol error: \(text)"
        }
    }
}

/// What keeps an endpoint or a connection from being made.
package enum QUICError: Error, Sendable, Hashable, CustomStringConvertible {
    case system(SystemError)
    /// The certificate, key or authorities could not be used.
    case credentials(String)
    case outOfMemory
    case endpointClosed
    /// The peer is IPv6 and the socket IPv4, or the other way round.
    case otherAddressFamily

    package var description: String {
        switch self {
        case .system(let error): error.description
        case .credentials(let text): "QUIC credentials: \(text)"
        case .outOfMemory: "QUIC: out of memory"
        case .endpointClosed: "QUIC: the endpoint is closed"
        case .otherAddressFamily: "QUIC: the socket is of another address family"
        }
    }
}

/// What became of a datagram (RFC 9221).
package enum QUICDatagramResult: Sendable, Hashable {
    case queued
    /// Queued in place of this many older ones.
    case queuedDroppingOldest(Int)
    /// Larger than what path and peer take now.
    case tooLarge(limitBytes: Int)
    /// The peer takes no datagrams, or the connection has ended.
    case unavailable
}
