package import Domain

/// What a device says of itself in each registration, and how patient it is.
package struct AgentConfiguration: Sendable, Equatable {
    package var deviceID: String
    package var location: String
    /// Most conns at once; 0 means no limit.
    package var capacity: UInt32
    package var tags: [String]
    package var agentVersion: String
    package var capabilities: [String]
    /// Tried in this order.
    package var pops: [PopURL]
    /// Overrules the interval that the POP asks for.
    package var heartbeatInterval: Duration?

    package init(
        deviceID: String, location: String = "", capacity: UInt32 = 0, tags: [String] = [],
        agentVersion: String = "", capabilities: [String] = ["tcp", "udp", "migration"], pops: [PopURL],
        heartbeatInterval: Duration? = nil
    ) {
        self.deviceID = deviceID
        self.location = location
        self.capacity = capacity
        self.tags = tags
        self.agentVersion = agentVersion
        self.capabilities = capabilities
        self.pops = pops
        self.heartbeatInterval = heartbeatInterval
    }
}

/// Bounds of the device's side, each with its reason.
package enum AgentLimit {
    /// TCP, TLS and the upgrade together; longer than any working path needs.
    package static let connectTimeout = Duration.seconds(15)
    /// The POP answers once the session is durable, which a slow database delays.
    package static let registerTimeout = Duration.seconds(15)
    /// QUIC handshake and DataHelloAck; well inside the 30 s for which the token is good.
    package static let dataTimeout = Duration.seconds(15)
    /// How long a POP may take to become whole before a draining device tries another one.
    package static let handoverTimeout = Duration.seconds(45)
    /// How long to wait for the close frame that explains a data connection closed as replaced or drained.
    package static let explanationTimeout = Duration.seconds(5)
    /// A session that lasted this long was a success: the next loss waits the shortest time again.
    package static let stableAfter = Duration.seconds(30)
    /// The least wait after 4003 (contract section 2).
    package static let forbiddenWait = Duration.seconds(60)
    /// Most that a POP can make a device wait by `retry_after_ms`.
    package static let longestRetryAfter = Duration.seconds(300)
    /// Most alternatives of one message that are kept.
    package static let alternatives = 16
    /// Most conns of a session, dials included, whatever the POP orders: the descriptors of a process.
    package static let conns = 65_536
    /// How long the answer to a heartbeat may take before control is opened anew beside a data connection that
    /// lives; a third of the heartbeat timeout if that is shorter.
    package static let answerTimeout = Duration.seconds(10)
    /// How long the word of a conn's end waits for others: too short for anybody to notice, and dozens share a
    /// message when conns come and go by the thousand.
    package static let connClosedDelay = Duration.milliseconds(5)
    /// How long a flow without datagrams lives when the POP doesn't say.
    package static let flowIdleTimeout = Duration.seconds(60)
    /// Most that a POP can ask for: a flow holds a descriptor.
    package static let longestFlowIdleTimeout = Duration.seconds(3_600)
    /// How long after the loss of both planes a session is still worth asking for at its POP.
    package static let resumeMemory = Duration.seconds(300)
    /// A POP that asks for more than twenty heartbeats a second is mistaken.
    package static let shortestInterval = Duration.milliseconds(50)
    package static let longestInterval = Duration.seconds(3_600)
}

/// One relation with one POP: from the first attempt to connect to the end of its session.
package struct AgentSessionNumber: Sendable, Hashable, CustomStringConvertible {
    package let value: Int

    package init(_ value: Int) {
        self.value = value
    }

    package var description: String { String(value) }
}

/// What a data connection needs.
package struct DataPlan: Sendable, Equatable {
    /// The host to dial and to verify the certificate for.
    package let host: Target.Host
    package let port: UInt16
    package let hello: DataHello
    /// The SHA-256 of the leaf certificate's DER; empty when the POP told none.
    package let certificateSHA256: [UInt8]
    /// The connection's `max_idle_timeout`.
    package let idleTimeout: Duration

    package init(
        host: Target.Host, port: UInt16, hello: DataHello, certificateSHA256: [UInt8],
        idleTimeout: Duration
    ) {
        self.host = host
        self.port = port
        self.hello = hello
        self.certificateSHA256 = certificateSHA256
        self.idleTimeout = idleTimeout
    }
}

/// Why a control connection did not come to be.
package enum ControlFailure: Sendable, Equatable {
    /// No connection, no TLS, no certificate that verifies, no time left, or no sensible answer.
    case unreachable
    /// 401: the token is bad.
    case unauthorized
    /// 503 with its `Retry-After`.
    case unavailable(retryAfter: Duration)
}

/// What the shell of an agent has to do.
package enum AgentAction: Sendable, Equatable {
    case connectControl(AgentSessionNumber, PopURL)
    case send(AgentSessionNumber, ControlMessage)
    /// Send a Heartbeat with this sequence, stamped with the wall clock.
    case sendHeartbeat(AgentSessionNumber, sequence: UInt64)
    /// Sample the machine and send a LoadReport.
    case reportLoad(AgentSessionNumber)
    /// Close the control connection, or give up the attempt; nothing more is told of it.
    case closeControl(AgentSessionNumber, code: UInt16)
    case connectData(AgentSessionNumber, DataPlan)
    /// Close the data connection, or give up the attempt; only the ends of its conns are told any more.
    case closeData(AgentSessionNumber, code: UInt64)
    case dial(AgentSessionNumber, ConnID, target: String, timeoutMilliseconds: UInt32)
    /// Open a connected UDP socket to the target.
    case openFlow(AgentSessionNumber, ConnID, target: String, flowID: UInt64, idleTimeout: Duration)
    /// End the conn at once; `connEnded` follows if it was open.
    case endConn(AgentSessionNumber, ConnID, CloseReason)
    case note(AgentSessionNumber, AgentNote)
    /// The session is over; what the shell keeps for it can go.
    case forget(AgentSessionNumber)
    /// The agent has stopped for good: by order, or replaced by a newer session of the same device.
    case finished(AgentEnd)
}

/// What is worth a line in the log.
package enum AgentNote: Sendable, Equatable {
    case registered(sessionID: SessionID, nodeID: String, resumed: Bool)
    case refused(RegisterResponse.Status, String)
    case whole
    case controlLost(code: UInt16?)
    case controlSilent
    case dataLost(code: UInt64?)
    case draining(deadlineMilliseconds: UInt32)
    case moving
    case protocolError(String)
}

/// Why an agent has stopped.
package enum AgentEnd: Sendable, Equatable {
    case ordered
    /// 4009: another session of this device is the current one; it must be started again by someone.
    case replaced
}
