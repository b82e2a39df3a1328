/// Why a device could not open a target (contract section 2, `OpenError`; raw values are the wire's).
package enum OpenError: Int32, Sendable, Hashable, CaseIterable {
    case unspecified = 0
    case dnsFailure = 1
    case connectionRefused = 2
    case hostUnreachable = 3
    case networkUnreachable = 4
    case timeout = 5
    case deniedByPolicy = 6
    case capacity = 7
    case unsupported = 8
    case `internal` = 9
}

/// Why a conn ended (contract section 2, `CloseReason`; raw values are the wire's).
package enum CloseReason: Int32, Countable {
    case unspecified = 0
    case finished = 1
    case clientReset = 2
    case targetReset = 3
    case admin = 4
    case idle = 5
    case sessionLost = 6
    case nodeDrained = 7
    case quota = 8
    case error = 9

    /// The word for it in SQL and JSON.
    package var name: String {
        switch self {
        case .unspecified: "unspecified"
        case .finished: "finished"
        case .clientReset: "client_reset"
        case .targetReset: "target_reset"
        case .admin: "admin"
        case .idle: "idle"
        case .sessionLost: "session_lost"
        case .nodeDrained: "node_drained"
        case .quota: "quota"
        case .error: "error"
        }
    }

    package var ordinal: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// Why a device session ended; raw values are `pop.device_sessions.end_reason`.
package enum SessionEndReason: String, Countable {
    case goodbye
    case controlLost = "control_lost"
    case heartbeatLost = "heartbeat_lost"
    case replaced
    case drained
    case `operator`
    case disabled
    case revoked
    case nodeStopped = "node_stopped"
    case nodeLost = "node_lost"
    case protocolError = "protocol_error"
}

/// Which planes of a session are up; only `whole` sessions get new conns.
package enum SessionHealth: String, Sendable, Hashable, CaseIterable {
    case whole
    case controlOnly = "control_only"
    case dataOnly = "data_only"
}

/// Application error codes of the QUIC data plane (contract section 3).
package enum DataPlaneError {
    package static let normalEnd: UInt64 = 0x100
    package static let badToken: UInt64 = 0x101
    package static let replaced: UInt64 = 0x102
    package static let drained: UInt64 = 0x103
    package static let protocolViolation: UInt64 = 0x104
    package static let heartbeatLost: UInt64 = 0x105
    package static let streamCancelled: UInt64 = 0x200
    package static let streamReset: UInt64 = 0x201
    package static let unknownConn: UInt64 = 0x202
    package static let closedByAdmin: UInt64 = 0x203

    /// Those that a stream may be reset with.
    package static let streamCodes = [streamCancelled, streamReset, unknownConn, closedByAdmin]
}
