package import Domain
package import HTTP1
package import Observability
package import TLS

extension HTTPServer {
    /// What the server has done since its start.
    package struct Statistics: Sendable, Hashable {
        package var connectionsAccepted: UInt64 = 0
        /// Closed at once because of `connectionLimit`, or because no TLS session could be made.
        package var connectionsRefused: UInt64 = 0
        package var requests: UInt64 = 0
        /// Requests answered by the server itself because of a fault in them.
        package var faults = Tally<HTTPFault>()
        /// Before TLS, until a connection changes to another protocol.
        package var bytesReceived: UInt64 = 0
        package var bytesSent: UInt64 = 0
        package var handshakes = Tally<TLSVersion>()
        package var handshakesFailed = Tally<TLSHandshakeFault>()
    }

    /// - Parameter name: tells the servers of one program apart.
    package func writeMetrics(on page: inout MetricPage, as name: String) {
        let label = ("server", name)
        page.gauge(
            "pop_http_connections", "Connections that speak HTTP", connectionCount, ["server": name])
        page.counter(
            "pop_http_connections_accepted_total", "Connections accepted", statistics.connectionsAccepted,
            ["server": name])
        page.counter(
            "pop_http_connections_refused_total", "Connections closed at once: there were too many",
            statistics.connectionsRefused, ["server": name])
        page.counter("pop_http_requests_total", "Requests read", statistics.requests, ["server": name])
        page.counters(
            "pop_http_faults_total", "Requests refused because of a fault in them", by: "fault",
            statistics.faults.all.filter { $0.count > 0 }.map { ($0.kind.rawValue, $0.count) }, label)
        page.counter(
            "pop_http_received_bytes_total", "Bytes of requests", statistics.bytesReceived,
            ["server": name])
        page.counter(
            "pop_http_sent_bytes_total", "Bytes of responses", statistics.bytesSent, ["server": name])
        page.counters(
            "pop_tls_handshakes_total", "TLS handshakes completed, by version", by: "version",
            statistics.handshakes.all.map { ($0.kind.rawValue, $0.count) }, label)
        page.counters(
            "pop_tls_handshakes_failed_total", "TLS handshakes that failed, by cause", by: "cause",
            statistics.handshakesFailed.all.map { ($0.kind.rawValue, $0.count) }, label)
    }
}
