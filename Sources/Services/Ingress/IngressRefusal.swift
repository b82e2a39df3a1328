internal import DevicePlane
package import Domain
internal import HTTP1
internal import SOCKS5

/// Why a client that may come in does not get its conn.
package enum IngressRefusal: Error, Sendable, Hashable {
    /// No device fits what the client may have and wants.
    case noDevice
    /// The session's device is connected to another node, and only there.
    case deviceElsewhere(NodeID)
    /// By the node's policy about targets.
    case denied
    /// The device has answered.
    case device(OpenError)
    /// A command that SOCKS5 knows and the node doesn't serve.
    case unsupportedCommand
    case tooManyConns
    case quotaUsedUp
    /// Too many wrong passwords came from the client's address.
    case heldUp(Duration)
    /// Nobody can say now whether the client may come in.
    case unavailable
}

// What each one is to a client (contract section 4).
extension IngressRefusal {
    var socksCode: SOCKS5ReplyCode {
        switch self {
        case .noDevice, .deviceElsewhere, .unavailable: .generalFailure
        case .denied, .tooManyConns, .quotaUsedUp, .heldUp: .notAllowed
        case .device(let error): SOCKS5ReplyCode(error)
        case .unsupportedCommand: .commandNotSupported
        }
    }

    var outcome: IngressOutcome {
        switch self {
        case .noDevice, .deviceElsewhere: .noDevice
        case .denied: .denied
        case .device(let error): IngressOutcome(.failed(error))
        case .unsupportedCommand: .unsupported
        case .tooManyConns, .quotaUsedUp, .heldUp: .limited
        case .unavailable: .unavailable
        }
    }

    var status: HTTPStatus {
        switch self {
        case .noDevice, .deviceElsewhere, .unavailable, .device(.capacity): .serviceUnavailable
        case .denied, .device(.deniedByPolicy): .forbidden
        case .tooManyConns, .quotaUsedUp, .heldUp: .tooManyRequests
        case .device(.timeout): .gatewayTimeout
        case .device, .unsupportedCommand: .badGateway
        }
    }

    /// Stable, for programs.
    package var code: String {
        switch self {
        case .noDevice: "no_device"
        case .deviceElsewhere: "device_elsewhere"
        case .denied: "target_denied"
        case .device(let error): Self.code(error)
        case .unsupportedCommand: "unsupported"
        case .tooManyConns: "too_many_conns"
        case .quotaUsedUp: "quota_used_up"
        case .heldUp: "too_many_failures"
        case .unavailable: "database_unavailable"
        }
    }

    private static func code(_ error: OpenError) -> String {
        switch error {
        case .dnsFailure: "dns_failure"
        case .connectionRefused: "connection_refused"
        case .hostUnreachable: "host_unreachable"
        case .networkUnreachable: "network_unreachable"
        case .timeout: "connect_timeout"
        case .deniedByPolicy: "target_denied"
        case .capacity: "capacity"
        case .unsupported: "unsupported"
        case .unspecified, .internal: "device_failed"
        }
    }

    /// A sentence for people.
    var detail: String {
        switch self {
        case .noDevice: "No device that fits is connected and has room."
        case .deviceElsewhere(let node): "The session's device is connected to node \(node)."
        case .denied: "The node's policy does not allow this target."
        case .device(let error): Self.detail(error)
        case .unsupportedCommand: "The command is not supported."
        case .tooManyConns: "The user has as many conns as it may have at once."
        case .quotaUsedUp: "The user has used up its bytes of this month."
        case .heldUp: "Too many wrong passwords came from this address."
        case .unavailable: "The user can't be checked right now."
        }
    }

    private static func detail(_ error: OpenError) -> String {
        switch error {
        case .dnsFailure: "The device could not resolve the target's name."
        case .connectionRefused: "The target refused the connection."
        case .hostUnreachable: "The device can't reach the target's host."
        case .networkUnreachable: "The device can't reach the target's network."
        case .timeout: "The target did not answer in time."
        case .deniedByPolicy: "The device's policy does not allow this target."
        case .capacity: "Every device that was asked has all the conns that it takes."
        case .unsupported: "The device does not support this."
        case .unspecified, .internal: "The device failed."
        }
    }

    /// The type of error in Proxy-Status (RFC 9209 section 2.3).
    var proxyError: String {
        switch self {
        case .noDevice, .deviceElsewhere: "destination_unavailable"
        case .denied, .device(.deniedByPolicy): "destination_ip_prohibited"
        case .device(.dnsFailure): "dns_error"
        case .device(.connectionRefused): "connection_refused"
        case .device(.hostUnreachable), .device(.networkUnreachable): "destination_ip_unroutable"
        case .device(.timeout): "connection_timeout"
        case .device(.capacity): "connection_limit_reached"
        case .tooManyConns, .quotaUsedUp, .heldUp: "http_request_denied"
        case .device, .unsupportedCommand, .unavailable: "proxy_internal_error"
        }
    }

    /// When another try makes sense, if that is soon.
    var retryAfterSeconds: Int64? {
        switch self {
        case .unavailable: 5
        case .heldUp(let wait): max(1, (wait.milliseconds + 999) / 1_000)
        default: nil
        }
    }
}
