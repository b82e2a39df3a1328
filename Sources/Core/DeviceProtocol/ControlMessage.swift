package import Domain

/// A message of the control plane (Protos/pop/control/v1/control.proto), in Swift's terms.
package enum ControlMessage: Sendable, Equatable {
    case registerRequest(RegisterRequest)
    case registerResponse(RegisterResponse)
    case heartbeat(Heartbeat)
    case heartbeatAck(HeartbeatAck)
    case loadReport(LoadReport)
    case command(Command)
    case commandResponse(CommandResponse)
    case connClosed(ConnClosed)
    case drain(Drain)
    case goodbye(reason: String)
    case reconnect(reason: String)
    /// An empty message, or a oneof member this version does not know; ignored by contract.
    case unknown
}

/// Which message it is, by its name on the wire.
package enum ControlMessageKind: String, Countable {
    case registerRequest = "register_request"
    case registerResponse = "register_response"
    case heartbeat
    case heartbeatAck = "heartbeat_ack"
    case loadReport = "load_report"
    case command
    case commandResponse = "command_response"
    case connClosed = "conn_closed"
    case drain
    case goodbye
    case reconnect
    case unknown

    package var ordinal: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

extension ControlMessage {
    package var kind: ControlMessageKind {
        switch self {
        case .registerRequest: .registerRequest
        case .registerResponse: .registerResponse
        case .heartbeat: .heartbeat
        case .heartbeatAck: .heartbeatAck
        case .loadReport: .loadReport
        case .command: .command
        case .commandResponse: .commandResponse
        case .connClosed: .connClosed
        case .drain: .drain
        case .goodbye: .goodbye
        case .reconnect: .reconnect
        case .unknown: .unknown
        }
    }
}

/// Device to POP, first message of a control connection, or a resume.
///
/// Fields are as received: ``DeviceProtocol`` checks them, the codec only their types and sizes.
package struct RegisterRequest: Sendable, Equatable {
    package var deviceID: String
    package var location: String
    /// Most conns at once; 0 means no limit.
    package var capacity: UInt32
    package var tags: [String]
    package var agentVersion: String
    package var capabilities: [String]
    /// 16 bytes, or empty for a new session.
    package var resumeSessionID: [UInt8]

    package init(
        deviceID: String = "", location: String = "", capacity: UInt32 = 0, tags: [String] = [],
        agentVersion: String = "", capabilities: [String] = [], resumeSessionID: [UInt8] = []
    ) {
        self.deviceID = deviceID
        self.location = location
        self.capacity = capacity
        self.tags = tags
        self.agentVersion = agentVersion
        self.capabilities = capabilities
        self.resumeSessionID = resumeSessionID
    }
}

/// POP to device, the answer to a ``RegisterRequest``.
package struct RegisterResponse: Sendable, Equatable {
    package enum Status: Int32, Countable {
        case unspecified = 0
        case ok = 1
        case invalid = 2
        case forbidden = 3
        case draining = 4
        case overloaded = 5
    }

    package var status: Status
    package var deviceID: String
    /// `host:port`; an empty host means the host the device dialled.
    package var quicAddress: String
    package var sessionID: [UInt8]
    /// 32 bytes for one DataHello, valid 30 s; empty when resumed.
    package var dataToken: [UInt8]
    package var nodeID: String
    package var heartbeatIntervalMilliseconds: UInt32
    package var heartbeatTimeoutMilliseconds: UInt32
    package var loadReportIntervalMilliseconds: UInt32
    /// The QUIC connection and its conns live on; no DataHello is needed.
    package var resumed: Bool
    package var error: String
    package var retryAfterMilliseconds: UInt32
    package var alternatives: [String]
    /// SHA-256 of the DER of the QUIC leaf certificate.
    package var quicCertificateSHA256: [UInt8]
    package var sessionEpoch: UInt64

    package init(
        status: Status = .unspecified, deviceID: String = "", quicAddress: String = "",
        sessionID: [UInt8] = [], dataToken: [UInt8] = [], nodeID: String = "",
        heartbeatIntervalMilliseconds: UInt32 = 0, heartbeatTimeoutMilliseconds: UInt32 = 0,
        loadReportIntervalMilliseconds: UInt32 = 0, resumed: Bool = false, error: String = "",
        retryAfterMilliseconds: UInt32 = 0, alternatives: [String] = [],
        quicCertificateSHA256: [UInt8] = [], sessionEpoch: UInt64 = 0
    ) {
        self.status = status
        self.deviceID = deviceID
        self.quicAddress = quicAddress
        self.sessionID = sessionID
        self.dataToken = dataToken
        self.nodeID = nodeID
        self.heartbeatIntervalMilliseconds = heartbeatIntervalMilliseconds
        self.heartbeatTimeoutMilliseconds = heartbeatTimeoutMilliseconds
        self.loadReportIntervalMilliseconds = loadReportIntervalMilliseconds
        self.resumed = resumed
        self.error = error
        self.retryAfterMilliseconds = retryAfterMilliseconds
        self.alternatives = alternatives
        self.quicCertificateSHA256 = quicCertificateSHA256
        self.sessionEpoch = sessionEpoch
    }
}

package struct Heartbeat: Sendable, Equatable {
    package var sequence: UInt64
    package var sentAtUnixMilliseconds: Int64

    package init(sequence: UInt64, sentAtUnixMilliseconds: Int64) {
        self.sequence = sequence
        self.sentAtUnixMilliseconds = sentAtUnixMilliseconds
    }
}

package struct HeartbeatAck: Sendable, Equatable {
    package var sequence: UInt64
    package var sentAtUnixMilliseconds: Int64
    package var receivedAtUnixMilliseconds: Int64

    package init(sequence: UInt64, sentAtUnixMilliseconds: Int64, receivedAtUnixMilliseconds: Int64) {
        self.sequence = sequence
        self.sentAtUnixMilliseconds = sentAtUnixMilliseconds
        self.receivedAtUnixMilliseconds = receivedAtUnixMilliseconds
    }
}

/// Device to POP: what the device carries and how busy its machine is.
package struct LoadReport: Sendable, Equatable {
    package var sampledAtUnixMilliseconds: Int64
    package var activeConns: UInt32
    /// Towards targets, since the session began.
    package var bytesSent: UInt64
    /// From targets, since the session began.
    package var bytesReceived: UInt64
    /// 0 to 1 of the whole machine.
    package var cpuUtilization: Double
    package var memoryUsedBytes: UInt64
    package var memoryTotalBytes: UInt64

    package init(
        sampledAtUnixMilliseconds: Int64, activeConns: UInt32, bytesSent: UInt64, bytesReceived: UInt64,
        cpuUtilization: Double, memoryUsedBytes: UInt64, memoryTotalBytes: UInt64
    ) {
        self.sampledAtUnixMilliseconds = sampledAtUnixMilliseconds
        self.activeConns = activeConns
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.cpuUtilization = cpuUtilization
        self.memoryUsedBytes = memoryUsedBytes
        self.memoryTotalBytes = memoryTotalBytes
    }
}

/// POP to device: an order about one conn.
package struct Command: Sendable, Equatable {
    package enum Body: Sendable, Equatable {
        /// `target` is `host:port` or `[v6]:port`.
        case openTCP(target: String, connectTimeoutMilliseconds: UInt32)
        case openUDP(target: String, flowID: UInt64, idleTimeoutMilliseconds: UInt32)
        case close(CloseReason)
        /// A command this version does not know.
        case unknown
    }

    package var connID: ConnID
    package var body: Body

    package init(connID: ConnID, body: Body) {
        self.connID = connID
        self.body = body
    }
}

/// Device to POP: how an open went.
package struct CommandResponse: Sendable, Equatable {
    package var connID: ConnID
    package var success: Bool
    package var errorCode: OpenError
    package var error: String
    /// `ip:port` that was dialled.
    package var resolvedAddress: String
    package var connectTimeMilliseconds: UInt32

    package init(
        connID: ConnID, success: Bool, errorCode: OpenError = .unspecified, error: String = "",
        resolvedAddress: String = "", connectTimeMilliseconds: UInt32 = 0
    ) {
        self.connID = connID
        self.success = success
        self.errorCode = errorCode
        self.error = error
        self.resolvedAddress = resolvedAddress
        self.connectTimeMilliseconds = connectTimeMilliseconds
    }
}

/// Either way: a conn has ended.
package struct ConnClosed: Sendable, Equatable {
    package var connID: ConnID
    package var reason: CloseReason
    package var detail: String
    package var bytesSent: UInt64
    package var bytesReceived: UInt64

    package init(
        connID: ConnID, reason: CloseReason, detail: String = "", bytesSent: UInt64 = 0,
        bytesReceived: UInt64 = 0
    ) {
        self.connID = connID
        self.reason = reason
        self.detail = detail
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
    }
}

/// POP to device: move to another node.
package struct Drain: Sendable, Equatable {
    /// From now on; the POP closes what is left then.
    package var deadlineMilliseconds: UInt32
    package var alternatives: [String]
    package var reason: String
    /// From now on; the device does not start to move before.
    package var notBeforeMilliseconds: UInt32

    package init(
        deadlineMilliseconds: UInt32, alternatives: [String] = [], reason: String = "",
        notBeforeMilliseconds: UInt32 = 0
    ) {
        self.deadlineMilliseconds = deadlineMilliseconds
        self.alternatives = alternatives
        self.reason = reason
        self.notBeforeMilliseconds = notBeforeMilliseconds
    }
}

/// Device to POP, first bytes of the first stream of a data connection.
package struct DataHello: Sendable, Equatable {
    package var sessionID: [UInt8]
    package var dataToken: [UInt8]

    package init(sessionID: [UInt8], dataToken: [UInt8]) {
        self.sessionID = sessionID
        self.dataToken = dataToken
    }
}

/// Device to POP, first bytes of a conn's stream: the target has been reached.
package struct StreamHeader: Sendable, Equatable {
    package var connID: ConnID
    /// `ip:port` that was dialled.
    package var resolvedAddress: String

    package init(connID: ConnID, resolvedAddress: String) {
        self.connID = connID
        self.resolvedAddress = resolvedAddress
    }
}
