internal import Domain

/// The versions that are spoken here, as OpenSSL names them.
package enum TLSVersion: String, Countable {
    case v12 = "TLSv1.2"
    case v13 = "TLSv1.3"
}

/// Why a handshake failed, without what was said of it.
package enum TLSHandshakeFault: String, Countable {
    /// We refused the peer's certificate.
    case certificateRefused = "certificate_refused"
    /// The peer refused us, has nothing in common with us, or speaks no TLS.
    case refused
    case timedOut = "timed_out"
    /// The connection below was closed or reset.
    case lost
    /// This side had no more use for it, or no more time.
    case givenUp = "given_up"

    /// - Parameter error: what the stream ended with.
    package init(_ error: (any Error)?) {
        switch (error as? TLSError)?.reason {
        case .certificateRefused: self = .certificateRefused
        case .handshakeTimedOut: self = .timedOut
        case .configuration, .handshakeFailed, .sessionFailed, .truncated: self = .refused
        case nil: self = .lost
        }
    }
}
