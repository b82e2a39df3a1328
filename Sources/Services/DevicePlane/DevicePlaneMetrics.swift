internal import Domain
internal import Fleet
package import Observability

extension DevicePlane {
    /// Adds the fleet's figures to the node's metrics.
    package func register(_ registry: MetricRegistry) {
        let devices = registry.gauge("pop_devices_online", "Sessions that live")
        let controls = registry.gauge("pop_control_connections", "Control connections, registered or not")
        let conns = registry.gauge("pop_conns_active", "Conns opening and open")
        registry.beforeExposition { [weak self] in
            guard let self else { return }
            devices.set(sessionCount)
            controls.set(controlCount)
            conns.set(connCount)
        }
        registerTotals(registry)
    }

    private func registerTotals(_ registry: MetricRegistry) {
        let figures: [(Counter, KeyPath<FleetTotals, UInt64>)] = [
            (registry.counter("pop_sessions_started_total", "Sessions started"), \.sessionsStarted),
            (registry.counter("pop_sessions_resumed_total", "Sessions resumed"), \.resumes),
            (
                registry.counter("pop_registrations_refused_total", "Registrations not answered with OK"),
                \.registrationsRefused
            ),
            (registry.counter("pop_conns_placed_total", "Conns given to a device"), \.connsPlaced),
            (registry.counter("pop_conns_opened_total", "Conns whose target was reached"), \.connsOpened),
            (
                registry.counter("pop_conns_without_device_total", "Conns for which no device was found"),
                \.connsWithoutDevice
            ),
            (registry.counter("pop_conns_moved_total", "Conns moved for lack of room"), \.connsMoved),
            (registry.counter("pop_bytes_sent_total", "Bytes from clients towards targets"), \.bytesSent),
            (
                registry.counter("pop_bytes_received_total", "Bytes from targets towards clients"),
                \.bytesReceived
            ),
        ]
        registry.beforeExposition { [weak self] in
            guard let totals = self?.totals else { return }
            for (counter, figure) in figures where totals[keyPath: figure] > counter.value {
                counter.add(totals[keyPath: figure] - counter.value)
            }
        }
    }
}
