package import Domain

/// Why a datagram of a client or for one was dropped.
package enum DatagramDropCause: String, Countable {
    /// The client has sent faster than the loop reads; datagrams that came as one count as one.
    case socketFull = "socket_full"
    /// Not from the association's client.
    case foreignSource = "foreign_source"
    /// FRAG is not 0.
    case fragment
    /// No header, or none that can be read.
    case malformed
    /// The association has as many flows as it may.
    case flowLimit = "flow_limit"
    /// Too many waited for the device to open the flow.
    case openingQueueFull = "opening_queue_full"
    /// The flow was refused or has just ended, or did while they waited.
    case refused
    /// Larger than one QUIC packet to the device.
    case tooLarge = "too_large"
    /// The QUIC connection's queue was full and older ones gave way.
    case connectionQueueFull = "connection_queue_full"
    /// The device has sent for a flow that there is none of.
    case unknownFlow = "unknown_flow"
    /// The system has not taken it on its way to the client.
    case clientSocket = "client_socket"
    /// Over what its user may carry in a second.
    case rateLimit = "rate_limit"
}

/// What one data loop has done for associations.
package struct DatagramFigures: Sendable {
    package var associations = 0
    package var associationsOpened: UInt64 = 0
    package var flows = 0
    package var flowsOpened: UInt64 = 0
    /// Payloads from clients that went on to a device.
    package var datagramsSent: UInt64 = 0
    /// Payloads from devices that went on to a client.
    package var datagramsReceived: UInt64 = 0
    package var dropped = Tally<DatagramDropCause>()

    package init() {}

    package mutating func add(_ other: DatagramFigures) {
        associations += other.associations
        associationsOpened &+= other.associationsOpened
        flows += other.flows
        flowsOpened &+= other.flowsOpened
        datagramsSent &+= other.datagramsSent
        datagramsReceived &+= other.datagramsReceived
        dropped.add(other.dropped)
    }
}
