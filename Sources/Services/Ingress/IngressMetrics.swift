package import Observability

/// What the ingress counts.
struct IngressFigures {
    var accepted: UInt64 = 0
    var turnedAway: UInt64 = 0
    var failedHandshakes: UInt64 = 0
    var failedLogins: UInt64 = 0
    var withoutDevice: UInt64 = 0
    var placed: UInt64 = 0
}

extension Ingress {
    package func writeMetrics(on page: inout MetricPage) {
        page.counter("pop_ingress_accepted_total", "Client connections accepted", figures.accepted)
        page.counter(
            "pop_ingress_turned_away_total", "Client connections closed because too many were waiting",
            figures.turnedAway)
        page.counter(
            "pop_ingress_failed_handshakes_total", "Handshakes that ended without a request",
            figures.failedHandshakes)
        page.counter("pop_ingress_failed_logins_total", "Logins refused", figures.failedLogins)
        page.counter(
            "pop_ingress_no_device_total", "Requests for which no device was found", figures.withoutDevice)
        page.counter("pop_ingress_placed_total", "Requests given to a device", figures.placed)
    }
}
