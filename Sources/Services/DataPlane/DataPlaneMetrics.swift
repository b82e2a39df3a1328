internal import Domain
package import EventLoop
package import Observability
package import QUIC

/// What one data loop has done.
package struct DataLoopFigures: Sendable {
    package let loop: LoopStatistics
    package let quic: QUICMetrics
    package let datagrams: DatagramFigures
}

/// The data loops' figures on the control loop, as they were told last.
package final class DataPlaneMetrics: MetricSource {
    private let commands: [Mailbox<DataCommand>]
    private var figures: [DataLoopFigures?]
    private var unanswered: Set<Int> = []
    private var done: (() -> Void)?

    /// - Parameter commands: the way into each loop.
    package init(_ commands: [Mailbox<DataCommand>]) {
        self.commands = commands
        figures = Array(repeating: nil, count: commands.count)
    }

    package func refresh(_ done: @escaping () -> Void) {
        self.done = done
        unanswered = Set(commands.indices)
        for mailbox in commands { mailbox.send(.tellFigures) }
    }

    /// Takes what a loop told: ``DataEvent/figures(loop:_:)``.
    package func received(_ new: DataLoopFigures, of loop: Int) {
        figures[loop] = new
        unanswered.remove(loop)
        guard unanswered.isEmpty, let done else { return }
        self.done = nil
        done()
    }

    package func write(on page: inout MetricPage) {
        var sum = QUICMetrics()
        var datagrams = DatagramFigures()
        for (index, figures) in figures.enumerated() {
            page.eventLoop("data-\(index)", figures?.loop ?? LoopStatistics())
            page.counter(
                "pop_quic_packets_overrun_total",
                "Packets, or aggregates of them, dropped because a loop read too late",
                figures?.quic.packetsOverrun ?? 0, ["loop": "data-\(index)"])
            guard let figures else { continue }
            sum.add(figures.quic)
            datagrams.add(figures.datagrams)
        }
        writeConnections(sum, on: &page)
        writeStreams(sum, on: &page)
        writePackets(sum, on: &page)
        writeDatagrams(datagrams, on: &page)
    }

    private func writeConnections(_ sum: QUICMetrics, on page: inout MetricPage) {
        page.gauge(
            "pop_quic_connections", "QUIC connections, handshakes and farewells included", sum.connections)
        page.gauge(
            "pop_quic_connections_unauthenticated", "Connections whose DataHello is not accepted yet",
            sum.connectionsUnauthenticated)
        page.counters(
            "pop_quic_connections_refused_total", "Connections refused before their handshake, by cause",
            by: "cause", sum.connectionsRefused)
        page.gauge("pop_quic_handshakes_in_progress", "Handshakes under way", sum.handshakesInProgress)
        page.counter("pop_quic_handshakes_started_total", "Handshakes begun", sum.handshakesStarted)
        page.counter("pop_quic_handshakes_completed_total", "Handshakes completed", sum.handshakesCompleted)
        page.counters(
            "pop_quic_handshakes_failed_total", "Handshakes that failed, by how they ended", by: "cause",
            sum.handshakesFailed)
        page.counters(
            "pop_quic_connections_closed_total", "Connections ended after their handshake, by how they ended",
            by: "cause", sum.connectionsClosed)
        page.counter(
            "pop_quic_path_changes_total", "Changes of a device's address that a connection lived through",
            sum.migrations)
        page.counter("pop_quic_retries_sent_total", "Clients asked to prove their address", sum.retriesSent)
        page.counter(
            "pop_quic_version_negotiations_sent_total", "Clients of another version answered",
            sum.versionNegotiationsSent)
        page.counter(
            "pop_quic_stateless_resets_sent_total", "Peers told that their connection is gone",
            sum.statelessResetsSent)
        page.histogram(
            "pop_quic_round_trip_seconds",
            "Smoothed round trips of connections that send, every 10 s of each",
            sum.roundTrips)
        page.histogram(
            "pop_quic_congestion_window_bytes",
            "Congestion windows of connections that send, every 10 s of each", sum.congestionWindows)
    }

    private func writeStreams(_ sum: QUICMetrics, on page: inout MetricPage) {
        page.gauge("pop_quic_streams", "Streams open", sum.streams)
        page.counter("pop_quic_streams_opened_total", "Streams opened", sum.streamsOpened)
        page.counters(
            "pop_quic_stream_resets_sent_total", "Streams reset by this side, by error code", by: "code",
            byCode(sum.resetsSent))
        page.counters(
            "pop_quic_stream_resets_received_total", "Streams reset by devices, by error code", by: "code",
            byCode(sum.resetsReceived))
    }

    private func byCode(_ counts: QUICResetCounts) -> [(String, UInt64)] {
        DataPlaneError.streamCodes.map { ("0x\(String($0, radix: 16))", counts.known[$0] ?? 0) }
            + [("other", counts.other)]
    }

    private func writePackets(_ sum: QUICMetrics, on page: inout MetricPage) {
        page.counter("pop_quic_packets_sent_total", "UDP datagrams sent", sum.packetsSent)
        page.counter("pop_quic_packets_received_total", "UDP datagrams received", sum.packetsReceived)
        page.counter(
            "pop_quic_packets_lost_total", "Packets with stream data that were declared lost",
            sum.packetsLost)
        page.counters(
            "pop_quic_packets_dropped_total", "Packets received that no connection was given, by cause",
            by: "cause", sum.packetsDropped)
        page.counter("pop_quic_sent_bytes_total", "UDP payload sent", sum.bytesSent)
        page.counter("pop_quic_received_bytes_total", "UDP payload received", sum.bytesReceived)
        page.counter("pop_quic_sends_failed_total", "Sends that the system refused", sum.sendsFailed)
        page.counter(
            "pop_quic_payloads_reduced_total", "Paths that seemed to take jumbo frames no longer",
            sum.payloadsReduced)
        page.counter("pop_quic_datagrams_sent_total", "DATAGRAM frames sent", sum.datagramsSent)
        page.counter("pop_quic_datagrams_received_total", "DATAGRAM frames received", sum.datagramsReceived)
        page.counters(
            "pop_quic_datagrams_dropped_total", "Datagrams not sent, by cause", by: "cause",
            sum.datagramsDropped)
        page.counter(
            "pop_quic_datagrams_lost_total", "DATAGRAM frames whose packet was declared lost",
            sum.datagramsLost)
    }

    private func writeDatagrams(_ sum: DatagramFigures, on page: inout MetricPage) {
        page.gauge("pop_udp_associations", "UDP associations of clients", sum.associations)
        page.counter(
            "pop_udp_associations_opened_total", "UDP associations begun", sum.associationsOpened)
        page.gauge("pop_udp_flows", "Flows of associations to a target, opening and open", sum.flows)
        page.counter("pop_udp_flows_opened_total", "Flows that a device has opened", sum.flowsOpened)
        page.counter(
            "pop_udp_datagrams_sent_total", "Datagrams of clients passed on to devices", sum.datagramsSent)
        page.counter(
            "pop_udp_datagrams_received_total", "Datagrams of targets passed on to clients",
            sum.datagramsReceived)
        page.counters(
            "pop_udp_datagrams_dropped_total", "Datagrams of clients or for them that were dropped, by cause",
            by: "cause", sum.dropped)
    }
}
