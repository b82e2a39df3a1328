package import DataPath
package import Domain
package import Fleet

/// A client's wish for a conn, with what its protocol says in either case.
package struct ConnOpening {
    package var request: ConnRequest
    /// What the client sent after its request.
    package var earlyBytes: [UInt8]
    /// Ends the conn when no byte has moved for this long; nil for never.
    package var idleTimeout: Duration?
    /// What the user's conns may carry together; nil for no limit.
    package var rate: UserRate?
    package var successReply: (Placement) -> [UInt8]
    package var failureReply: (OpenError) -> [UInt8]
    /// Called once for a conn that was placed, when its client does not wait any more.
    package var settled: (ConnOpeningOutcome) -> Void

    package init(
        request: ConnRequest, earlyBytes: [UInt8], idleTimeout: Duration?, rate: UserRate? = nil,
        successReply: @escaping (Placement) -> [UInt8], failureReply: @escaping (OpenError) -> [UInt8],
        settled: @escaping (ConnOpeningOutcome) -> Void = { _ in }
    ) {
        self.request = request
        self.earlyBytes = earlyBytes
        self.idleTimeout = idleTimeout
        self.rate = rate
        self.successReply = successReply
        self.failureReply = failureReply
        self.settled = settled
    }
}

/// How a client's wait for its device ended.
package enum ConnOpeningOutcome: Sendable, Hashable {
    /// The target is reached.
    case opened
    case failed(OpenError)
    /// The client left before, or an operator closed the conn.
    case abandoned
}

/// What became of a ``ConnOpening``.
package enum ConnOpeningResult: Sendable, Hashable {
    /// The data loop owns the client's socket; the rest is its and the device plane's.
    case placed(Placement)
    /// No device fits; the socket is still the caller's.
    case noDevice
    /// The caller had no socket to give.
    case abandoned
}
