package import Domain

/// Why a stream's transport ended; TLS adds its own errors above it.
package enum StreamError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The peer cut the connection (RST), or we wrote to one it had cut.
    case reset
    /// The connection could not be made: the error of connect(2), e.g. ECONNREFUSED.
    case connectFailed(SystemError)
    /// The peer did not answer within the time given to `connect`.
    case connectTimedOut(SocketAddress)
    /// A call on the open connection failed otherwise, e.g. with ETIMEDOUT after lost keep-alives.
    case failed(SystemError)

    package init(_ errorNumber: Int32, during call: String) {
        switch errorNumber {
        case Errno.connectionReset, Errno.brokenPipe: self = .reset
        default: self = .failed(SystemError(call: call, errorNumber: errorNumber))
        }
    }

    package var description: String {
        switch self {
        case .reset: "connection reset by peer"
        case .connectFailed(let error): error.description
        case .connectTimedOut(let address): "connect to \(address): no answer in time"
        case .failed(let error): error.description
        }
    }
}
