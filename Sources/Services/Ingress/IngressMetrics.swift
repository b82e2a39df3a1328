internal import DevicePlane
internal import Domain
internal import Fleet
internal import HTTPConnect
package import Observability
internal import SOCKS5

/// Why a client's handshake ended without a request.
enum IngressHandshakeFault: String, Countable {
    /// The client closed.
    case closed
    /// The connection was reset, or broke.
    case lost
    case timedOut = "timed_out"
    /// The first byte is of no protocol that is spoken here.
    case unknownProtocol = "unknown_protocol"
    case malformed
    /// The client offers no method of authentication that will do.
    case noMethod = "no_method"
    case login
    /// A command or an address type that the protocol knows and the node doesn't serve, or a plain request.
    case unsupported

    init(_ error: SOCKS5Error) {
        self =
            switch error {
            case .notSOCKS5: .unknownProtocol
            case .noAcceptableMethod: .noMethod
            case .authenticationFailed: .login
            case .unsupportedCommand, .unsupportedAddressType: .unsupported
            case .authenticationVersion, .requestVersion, .invalidHostName, .invalidPort, .tooMuchAhead:
                .malformed
            }
    }

    init(_ fault: ConnectFault) {
        self =
            switch fault {
            case .otherMethod: .unsupported
            case .malformed, .badTarget: .malformed
            }
    }
}

/// What became of a client's request; docs/metrics.md says which reply each one is.
enum IngressOutcome: String, Countable {
    case succeeded
    case dnsFailure = "dns_failure"
    case connectionRefused = "connection_refused"
    case hostUnreachable = "host_unreachable"
    case networkUnreachable = "network_unreachable"
    case timedOut = "timed_out"
    /// By the device's policy about targets, or the node's.
    case denied
    case capacity
    case unsupported
    case failed
    case noDevice = "no_device"
    /// The user has all that it may have, or its address has tried too many passwords.
    case limited
    /// The database is away, and the user is not one that this node has let in before.
    case unavailable
    /// The client left before the answer, or an operator closed its conn.
    case abandoned

    init(_ outcome: ConnOpeningOutcome) {
        self =
            switch outcome {
            case .opened: .succeeded
            case .abandoned: .abandoned
            case .failed(.dnsFailure): .dnsFailure
            case .failed(.connectionRefused): .connectionRefused
            case .failed(.hostUnreachable): .hostUnreachable
            case .failed(.networkUnreachable): .networkUnreachable
            case .failed(.timeout): .timedOut
            case .failed(.deniedByPolicy): .denied
            case .failed(.capacity): .capacity
            case .failed(.unsupported): .unsupported
            case .failed(.unspecified), .failed(.internal): .failed
            }
    }

    var ordinal: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// What the ingress counts.
struct IngressFigures {
    var accepted: UInt64 = 0
    var turnedAway: UInt64 = 0
    var failedHandshakes = Tally<IngressHandshakeFault>()
    var failedLogins: UInt64 = 0
    var withoutDevice: UInt64 = 0
    var placed: UInt64 = 0
    /// By the protocols' places.
    private var requests = ConnProtocol.allCases.map { _ in Tally<IngressOutcome>() }
    private var connectTimes = ConnProtocol.allCases.map { _ in Distribution(.waits) }

    /// A request has had its answer.
    mutating func settled(_ clientProtocol: ConnProtocol, _ outcome: IngressOutcome, after wait: Duration) {
        requests[clientProtocol.ordinal].note(outcome)
        if outcome == .succeeded { connectTimes[clientProtocol.ordinal].note(wait) }
    }

    func writeRequests(on page: inout MetricPage) {
        for clientProtocol in ConnProtocol.allCases {
            for (outcome, count) in requests[clientProtocol.ordinal].all {
                page.counter(
                    "pop_ingress_requests_total", "Requests of clients, by protocol and outcome", count,
                    ["protocol": clientProtocol.rawValue, "outcome": outcome.rawValue])
            }
        }
        page.histograms(
            "pop_ingress_connect_seconds", "Time from a request to the reply that its target is reached",
            by: "protocol",
            ConnProtocol.allCases.map { ($0.rawValue, connectTimes[$0.ordinal]) })
    }
}

extension Ingress {
    package func writeMetrics(on page: inout MetricPage) {
        page.counter("pop_ingress_accepted_total", "Client connections accepted", figures.accepted)
        page.counter(
            "pop_ingress_turned_away_total", "Client connections closed because too many were waiting",
            figures.turnedAway)
        page.gauge("pop_ingress_clients_waiting", "Clients in their handshake", waitingClients)
        page.counters(
            "pop_ingress_failed_handshakes_total", "Handshakes that ended without a request, by cause",
            by: "cause", figures.failedHandshakes)
        page.counter("pop_ingress_failed_logins_total", "Logins refused", figures.failedLogins)
        page.counter(
            "pop_ingress_no_device_total", "Requests for which no device was found", figures.withoutDevice)
        page.counter("pop_ingress_placed_total", "Requests given to a device", figures.placed)
        figures.writeRequests(on: &page)
    }
}
