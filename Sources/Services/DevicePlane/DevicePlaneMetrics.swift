internal import Domain
internal import Fleet
package import Observability

extension DevicePlane {
    /// Writes the fleet's figures.
    package func writeMetrics(on page: inout MetricPage) {
        page.gauge("pop_devices_online", "Sessions that live", sessionCount)
        page.gauge("pop_control_connections", "Control connections, registered or not", controlCount)
        page.gauge("pop_conns_active", "Conns opening and open", connCount)
        let totals = totals
        page.counter("pop_sessions_started_total", "Sessions started", totals.sessionsStarted)
        page.counter("pop_sessions_resumed_total", "Sessions resumed", totals.resumes)
        page.counter(
            "pop_registrations_refused_total", "Registrations not answered with OK",
            totals.registrationsRefused)
        page.counter("pop_conns_placed_total", "Conns given to a device", totals.connsPlaced)
        page.counter("pop_conns_opened_total", "Conns whose target was reached", totals.connsOpened)
        page.counter(
            "pop_conns_without_device_total", "Conns for which no device was found",
            totals.connsWithoutDevice)
        page.counter("pop_conns_moved_total", "Conns moved for lack of room", totals.connsMoved)
        page.counter("pop_bytes_sent_total", "Bytes from clients towards targets", totals.bytesSent)
        page.counter("pop_bytes_received_total", "Bytes from targets towards clients", totals.bytesReceived)
    }
}
