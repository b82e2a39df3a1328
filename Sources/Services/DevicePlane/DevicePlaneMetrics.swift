internal import DeviceProtocol
internal import Domain
internal import Fleet
package import Observability

/// What the control loop's half of the device plane counts, beside the fleet's own totals.
struct DevicePlaneFigures {
    var messagesReceived = Tally<ControlMessageKind>()
    var messagesSent = Tally<ControlMessageKind>()
    /// Of WebSocket messages.
    var bytesReceived: UInt64 = 0
    var bytesSent: UInt64 = 0
    var registrations = Tally<RegisterResponse.Status>()
    /// Closes sent.
    var closes = Tally<ControlCloseCode>()
    var slowReaders: UInt64 = 0
    var roundTrips = Distribution(.roundTrips)
    var hellosAccepted: UInt64 = 0
    var hellosRejected: UInt64 = 0
    var recordsOverdue: UInt64 = 0
    var sessionEnds = Tally<SessionEndReason>()
    var connEnds = Tally<CloseReason>()
    var connDurations = Distribution(.lifetimes)
}

extension DevicePlane {
    package func writeMetrics(on page: inout MetricPage) {
        writeControlPlane(on: &page)
        writeSessions(on: &page)
        writeConns(on: &page)
        writeNode(on: &page)
    }

    private func writeControlPlane(on page: inout MetricPage) {
        page.gauge("pop_control_connections", "Control connections, registered or not", controlCount)
        page.counters(
            "pop_control_messages_received_total", "Messages of devices, by type", by: "type",
            figures.messagesReceived)
        page.counters(
            "pop_control_messages_sent_total", "Messages to devices, by type", by: "type",
            figures.messagesSent)
        page.counter(
            "pop_control_received_bytes_total", "WebSocket messages of devices, in bytes",
            figures.bytesReceived)
        page.counter(
            "pop_control_sent_bytes_total", "WebSocket messages to devices, in bytes", figures.bytesSent)
        page.counters(
            "pop_control_closes_total", "Control connections closed by the node, by WebSocket code",
            by: "code",
            figures.closes.all.map { (String($0.kind.rawValue), $0.count) })
        page.counter(
            "pop_control_slow_readers_total",
            "Control connections dropped because the device read too slowly",
            figures.slowReaders)
        page.histogram(
            "pop_control_round_trip_seconds", "Round trips over control connections, at each heartbeat",
            figures.roundTrips)
    }

    private func writeSessions(on page: inout MetricPage) {
        let (totals, census) = (totals, census)
        page.gauge("pop_devices_online", "Sessions that live", sessionCount)
        page.gauges(
            "pop_devices", "Sessions that live, by which of their planes are up", by: "health",
            SessionHealth.allCases.map { ($0.rawValue, census[$0]) })
        page.gauge("pop_devices_available", "Devices that take another conn now", availableDevices)
        page.gauge(
            "pop_devices_capacity_conns", "Most conns of the devices that tell a limit", census.capacity)
        page.gauge("pop_devices_unlimited", "Devices that tell no limit", census.unlimited)
        page.counters(
            "pop_registrations_total", "Registrations by the status that was answered", by: "status",
            figures.registrations.all.filter { $0.kind != .unspecified }.map { ("\($0.kind)", $0.count) })
        page.counter(
            "pop_registrations_refused_total", "Registrations not answered with OK",
            totals.registrationsRefused)
        page.counter(
            "pop_session_records_overdue_total",
            "Sessions whose device was answered before their row was written", figures.recordsOverdue)
        page.counter("pop_sessions_started_total", "Sessions started", totals.sessionsStarted)
        page.counter("pop_sessions_resumed_total", "Sessions resumed", totals.resumes)
        page.counters(
            "pop_sessions_ended_total", "Sessions ended, by reason", by: "reason", figures.sessionEnds)
        page.counters(
            "pop_data_hellos_total", "First words on new data connections", by: "result",
            [("accepted", figures.hellosAccepted), ("rejected", figures.hellosRejected)])
    }

    private func writeConns(on page: inout MetricPage) {
        let totals = totals
        page.gauge("pop_conns_active", "Conns opening and open", connCount)
        page.gauge("pop_conns_opening", "Conns whose target is not reached yet", openingConnCount)
        page.counter("pop_conns_placed_total", "Conns given to a device", totals.connsPlaced)
        page.counter("pop_conns_opened_total", "Conns whose target was reached", totals.connsOpened)
        page.counters(
            "pop_conns_without_device_total", "Conns for which no device was found, by cause", by: "cause",
            totals.connsWithoutDevice)
        page.counter("pop_conns_moved_total", "Conns moved for lack of room", totals.connsMoved)
        page.counters(
            "pop_conns_ended_total", "Conns ended, by reason", by: "reason",
            figures.connEnds.all.map { ($0.kind.name, $0.count) })
        page.histogram(
            "pop_conn_duration_seconds", "Time from a client's request to the end of its conn",
            figures.connDurations)
        page.counter("pop_bytes_sent_total", "Bytes from clients towards targets", totals.bytesSent)
        page.counter("pop_bytes_received_total", "Bytes from targets towards clients", totals.bytesReceived)
    }

    private func writeNode(on page: inout MetricPage) {
        let drain = drainSnapshot
        page.gauges(
            "pop_node_state", "1 for the state that the node is in", by: "state",
            NodeState.allCases.map { ($0.rawValue, $0 == nodeState ? 1 : 0) })
        page.gauges(
            "pop_drain_state", "1 for the state that the node's last drain is in", by: "state",
            DrainSnapshot.State.allCases.map { ($0.rawValue, $0 == drain.state ? 1 : 0) })
        page.gauge("pop_nodes_taking_devices", "Other nodes that are known to take devices", takerCount)
        page.gauge("pop_drain_devices_at_start", "Devices that the drain began with", drain.devicesTotal)
        page.gauge("pop_drain_devices_remaining", "Devices still to leave", drain.devicesRemaining)
        page.gauge("pop_drain_devices_waiting", "Devices still to be told to leave", drain.devicesWaiting)
        page.gauge("pop_drain_devices_moved", "Devices that have moved", drain.devicesMoved)
        page.gauge(
            "pop_drain_devices_lost", "Devices that went otherwise than by moving", drain.devicesLost)
        page.gauge(
            "pop_drain_devices_per_second", "The pace that devices are told at as things are",
            drain.devicesPerSecond)
        page.gauge("pop_drain_conns_remaining", "Conns still to end", drain.connsRemaining)
        page.gauge("pop_drain_conns_cut", "Conns that the drain's deadline has cut", drain.connsCut)
        page.gauge(
            "pop_drain_deadline_timestamp_seconds", "The drain's deadline, since the Unix epoch; 0 for none",
            drain.deadlineAt.map { Double($0.microseconds) / 1e6 } ?? 0)
    }
}
