/// What carries a control connection: a WebSocket, or a test's stand-in.
package protocol ControlTransport: AnyObject {
    /// Bytes written and not yet taken by the kernel.
    var bufferedBytes: Int { get }
    /// Sends control messages, framed, together with what else is sent in the same batch of the loop.
    func send(_ frames: [UInt8])
    /// Measures the round trip; answered by ``DevicePlane/measured(roundTrip:on:)``.
    func measureRoundTrip()
    /// Sends a close frame after what was sent, and gets rid of the connection in bounded time.
    func close(code: UInt16, reason: String)
    /// Drops the connection.
    func abort()
}

/// The limits of the device plane's shell, each with its reason.
package enum DevicePlaneLimits {
    /// A device that takes no more than this behind is too slow to be of use: 1 MiB is 10,000 commands.
    package static let outboundBytes = 1_048_576
    /// Connections that have not been upgraded yet; each holds TLS state of some 20 KiB.
    package static let waitingConnections = 10_000
    /// How long an authenticator may take before the device is told to try later.
    package static let authenticationTimeout = Duration.seconds(5)
    /// UDP associations at once; each holds two descriptors.
    package static let associations = 16_384
    /// Of one user: a client has a few, and nobody takes them all from the others.
    package static let associationsOfUser = 1_024
    /// Above `max_devices`, so that resumes and refusals with an answer find room.
    package static let controlConnectionsAboveDevices = 10_000
}
