import DataPlane
import DevicePlane
import DevicePlaneKit
import DeviceProtocol
import Domain
import EventLoop
import Fleet
import Observability
import Testing

@Suite struct DevicePlaneMetricsTests {
    private func page(_ harness: PlaneHarness) -> String {
        var page = MetricPage()
        harness.plane.writeMetrics(on: &page)
        return String(decoding: page.text, as: UTF8.self)
    }

    @Test func messagesRegistrationsAndClosesAreCounted() throws {
        let harness = try PlaneHarness()
        let device = StandInDevice(harness.plane)
        _ = try #require(device.join("d", capacity: 7, dataLoop: harness.dataLoops[0]))
        harness.settle()
        device.send(.heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: 2)))
        harness.plane.measured(roundTrip: .milliseconds(12), on: device.id)
        let odd = StandInDevice(harness.plane)
        odd.send(.registerRequest(RegisterRequest(deviceID: "not a name")))
        let rude = StandInDevice(harness.plane)
        harness.plane.received([0, 0, 0], on: rude.id)
        let text = page(harness)
        for line in [
            "pop_control_messages_received_total{type=\"register_request\"} 2",
            "pop_control_messages_received_total{type=\"heartbeat\"} 1",
            "pop_control_messages_sent_total{type=\"heartbeat_ack\"} 1",
            "pop_registrations_total{status=\"ok\"} 1", "pop_registrations_total{status=\"invalid\"} 1",
            "pop_registrations_refused_total 1", "pop_control_closes_total{code=\"1008\"} 1",
            "pop_control_closes_total{code=\"1002\"} 1", "pop_control_round_trip_seconds_count 1",
            "pop_control_round_trip_seconds_sum 0.012", "pop_data_hellos_total{result=\"accepted\"} 1",
            "pop_devices{health=\"whole\"} 1", "pop_devices_available 1", "pop_devices_capacity_conns 7",
            "pop_devices_unlimited 0", "pop_node_state{state=\"active\"} 1",
            "pop_node_state{state=\"draining\"} 0", "pop_drain_state{state=\"none\"} 1",
        ] {
            #expect(text.contains(line + "\n"), "\(line)")
        }
    }

    @Test func endsAreCountedByTheirReason() throws {
        let harness = try PlaneHarness()
        let device = StandInDevice(harness.plane)
        _ = try #require(device.join("d", dataLoop: harness.dataLoops[0]))
        harness.settle()
        let request = ConnRequest(
            user: nil, clientProtocol: .socks5,
            clientAddress: SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 1),
            target: try #require(Target("example.com:80")), connectTimeout: .seconds(10))
        var outcomes: [ConnOpeningOutcome] = []
        func open() throws -> ConnID {
            let opening = ConnOpening(
                request: request, earlyBytes: [], idleTimeout: nil, successReply: { _ in [] },
                failureReply: { _ in [] }, settled: { outcomes.append($0) })
            let result = harness.plane.openConn(opening, handOver: { try? Sockets.pair().0 })
            guard case .placed(let placement) = result else { throw Missing() }
            harness.settle()
            return placement.connID
        }
        let finished = try open()
        try harness.dataLoops[0].streamArrives(for: finished)
        #expect(page(harness).contains("pop_conns_opening 0\n"))
        harness.dataLoops[0].end(finished, .finished)
        let failed = try open()
        #expect(page(harness).contains("pop_conns_opening 1\n"))
        device.send(
            .commandResponse(CommandResponse(connID: failed, success: false, errorCode: .dnsFailure)))
        harness.settle()
        let left = try open()
        harness.dataLoops[0].end(left, .clientReset)
        _ = harness.plane.disconnect(try #require(DeviceID("d")))
        harness.settle()
        #expect(outcomes == [.opened, .failed(.dnsFailure), .abandoned])
        let text = page(harness)
        for line in [
            "pop_conns_ended_total{reason=\"finished\"} 1", "pop_conns_ended_total{reason=\"error\"} 1",
            "pop_conns_ended_total{reason=\"client_reset\"} 1", "pop_conn_duration_seconds_count 3",
            "pop_sessions_ended_total{reason=\"operator\"} 1", "pop_conns_active 0", "pop_devices_online 0",
        ] {
            #expect(text.contains(line + "\n"), "\(line)")
        }
    }

    @Test func thePageDoesNotGrowWithTheFleet() throws {
        let harness = try PlaneHarness()
        func lines() -> Int { page(harness).split(separator: "\n").count }
        let before = lines()
        var devices: [StandInDevice] = []
        for number in 0..<500 {
            let device = StandInDevice(harness.plane)
            _ = device.join("d\(number)", capacity: UInt32(number), dataLoop: harness.dataLoops[number % 2])
            devices.append(device)
        }
        harness.settle()
        #expect(harness.plane.sessionCount == 500)
        #expect(lines() == before)
    }

    private struct Missing: Error {}
}
