import DataPlane
import Domain
import EventLoop
import Observability
import QUIC
import QUICKit
import Testing

@Suite struct DataPlaneMetricsTests {
    private func page(_ metrics: DataPlaneMetrics) -> String {
        var page = MetricPage()
        metrics.write(on: &page)
        return String(decoding: page.text, as: UTF8.self)
    }

    /// Asks the loops and waits for all of them.
    private func scrape(_ plane: PlaneFixture, _ metrics: DataPlaneMetrics) throws -> String {
        var isDone = false
        let before = plane.events.count
        metrics.refresh { isDone = true }
        #expect(!isDone)
        var taken = before
        try #require(
            plane.run {
                for event in plane.events[taken...] {
                    if case .figures(let loop, let figures) = event { metrics.received(figures, of: loop) }
                }
                taken = plane.events.count
                return isDone
            })
        return page(metrics)
    }

    @Test func allLoopsAreAskedAndTheirFiguresAddUp() throws {
        let plane = try PlaneFixture(loops: 2)
        let metrics = DataPlaneMetrics(plane.plane.commands)
        for token: UInt8 in 1...4 { _ = try plane.join([token]) }
        let text = try scrape(plane, metrics)
        #expect(text.contains("pop_quic_connections 4\n"))
        #expect(text.contains("pop_quic_handshakes_completed_total 4\n"))
        #expect(text.contains("pop_quic_streams 4\n"))
        #expect(text.contains("pop_loop_turn_seconds_count{loop=\"data-0\"}"))
        #expect(text.contains("pop_loop_turn_seconds_count{loop=\"data-1\"}"))
    }

    @Test func aConnectionIsUnauthenticatedUntilItsHelloIsAccepted() throws {
        let plane = try PlaneFixture()
        let metrics = DataPlaneMetrics(plane.plane.commands)
        let (_, hello, id) = try plane.greet([1])
        let silent = try plane.connect()
        #expect(try scrape(plane, metrics).contains("pop_quic_connections_unauthenticated 2\n"))
        plane.send(.acceptHello(id, capacity: 1))
        try #require(plane.run { hello.received == Frames.accepted })
        #expect(try scrape(plane, metrics).contains("pop_quic_connections_unauthenticated 1\n"))
        silent.connection?.close(code: 0)
        try #require(
            plane.run {
                (try? scrape(plane, metrics))?.contains("pop_quic_connections_unauthenticated 0\n") == true
            })
        #expect(
            try scrape(plane, metrics).contains(
                "pop_quic_connections_refused_total{cause=\"address_limit\"} 0\n"))
    }

    @Test func aStreamOfNobodysConnIsResetWithItsCode() throws {
        let plane = try PlaneFixture()
        let metrics = DataPlaneMetrics(plane.plane.commands)
        let (device, _, _) = try plane.join()
        let flow = try #require(device.open())
        flow.send(Frames.header(ConnID(high: 1, low: 1)))
        try #require(plane.run { flow.resetCode == 0x202 })
        let text = try scrape(plane, metrics)
        #expect(text.contains("pop_quic_stream_resets_sent_total{code=\"0x202\"} 1\n"))
        #expect(text.contains("pop_quic_stream_resets_sent_total{code=\"other\"} 0\n"))
    }

    @Test func beforeTheFirstAnswerThereIsNothingToTell() throws {
        let plane = try PlaneFixture()
        let text = page(DataPlaneMetrics(plane.plane.commands))
        #expect(text.contains("pop_quic_connections 0\n"))
        #expect(text.contains("pop_loop_turn_seconds_count{loop=\"data-0\"} 0\n"))
    }
}
