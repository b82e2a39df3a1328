import ControlWire
import DataPlane
import DevicePlane
import DevicePlaneKit
import DeviceProtocol
import Domain
import EventLoop
import Fleet
import TestKit
import Testing

@Suite struct DevicePlaneTests {
    @Test func aDeviceJoinsAndIsTold() throws {
        let harness = try PlaneHarness()
        let device = StandInDevice(harness.plane)
        let data = try #require(device.join("d", dataLoop: harness.dataLoops[0]))
        harness.settle()
        #expect(harness.dataLoops[0].accepted == [data])
        #expect(device.response?.quicAddress == ":8443")
        let name = try #require(DeviceID("d"))
        #expect(harness.plane.session(of: name)?.health == .whole)
        #expect(harness.observer.started.count == 1)
        device.send(.heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: 2)))
        #expect(device.roundTripsAsked == 1)
        harness.plane.measured(roundTrip: .milliseconds(12), on: device.id)
        #expect(harness.plane.session(of: name)?.roundTripMilliseconds == 12)
    }

    @Test func theAnswerWaitsForTheRecord() throws {
        let harness = try PlaneHarness()
        harness.observer.recordsAtOnce = false
        let device = StandInDevice(harness.plane)
        device.send(.registerRequest(RegisterRequest(deviceID: "d")))
        #expect(device.response == nil)
        harness.observer.unrecorded.first?()
        #expect(device.response?.status == .ok)
    }

    @Test(
        arguments: [
            ([UInt8](), 1002), ([0, 0, 0], 1002), ([0, 0, 0, 5, 1], 1002), ([0, 1, 0, 1], 1009),
            ([255, 255, 255, 255], 1009), ([0, 0, 0, 1, 0xff], 1007), ([0, 0, 0, 0], nil),
        ] as [([UInt8], UInt16?)])
    func bytesThatAreNoMessages(_ bytes: [UInt8], _ code: UInt16?) throws {
        let harness = try PlaneHarness()
        let device = StandInDevice(harness.plane)
        harness.plane.received(bytes, on: device.id)
        #expect(device.closeCode == code)
    }

    @Test func mutatedMessagesNeverHarmThePlane() throws {
        var random = SeededRandom.ofEnvironment()
        let seed = random.seed
        let harness = try PlaneHarness()
        let messages: [ControlMessage] = [
            .registerRequest(RegisterRequest(deviceID: "d", tags: ["a", "b"], capabilities: ["tcp"])),
            .heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: 2)),
            .commandResponse(CommandResponse(connID: ConnID(high: 1, low: 2), success: false)),
            .connClosed(ConnClosed(connID: ConnID(high: 1, low: 2), reason: .finished)),
            .goodbye(reason: "x"),
        ]
        for _ in 0..<1_000 {
            let device = StandInDevice(harness.plane)
            _ = device.join("d", dataLoop: harness.dataLoops[0])
            for _ in 0..<4 {
                let message = messages.randomElement(using: &random) ?? .unknown
                var bytes = ControlFraming.encode(ControlCodec.encode(message))
                for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
                    let index = Int.random(in: 0..<bytes.count, using: &random)
                    bytes[index] = UInt8.random(in: 0...255, using: &random)
                    if Bool.random(using: &random) { bytes.remove(at: index) }
                }
                harness.plane.received(bytes, on: device.id)
            }
            harness.plane.closed(device.id)
            harness.settle()
            #expect(harness.plane.controlCount == 0, "seed \(seed)")
            #expect(harness.plane.sessionCount <= 1_001, "seed \(seed)")
        }
    }

    @Test func anEmptyFrameIsASignOfLife() throws {
        let harness = try PlaneHarness { $0.heartbeatTimeout = .seconds(1) }
        let device = StandInDevice(harness.plane)
        _ = device.join("d", dataLoop: harness.dataLoops[0])
        let end = harness.loop.now + .milliseconds(1_200)
        while harness.loop.now < end {
            harness.plane.received([0, 0, 0, 0], on: device.id)
            harness.loop.runOnce(waitingAtMost: .milliseconds(5))
        }
        #expect(device.closeCode == nil)
    }

    @Test func theFramesBeforeABadOneCount() throws {
        let harness = try PlaneHarness()
        let device = StandInDevice(harness.plane)
        let register = ControlCodec.encode(.registerRequest(RegisterRequest(deviceID: "d")))
        harness.plane.received(ControlFraming.encode(register) + [0, 0, 0, 9], on: device.id)
        #expect(device.response?.status == .ok)
        #expect(device.closeCode == 1002)
        #expect(harness.observer.ended.map(\.reason) == [.protocolError])
    }

    @Test func aSlowReaderIsDropped() throws {
        let harness = try PlaneHarness()
        let device = StandInDevice(harness.plane)
        _ = device.join("d", dataLoop: harness.dataLoops[0])
        device.bufferedBytes = DevicePlaneLimits.outboundBytes + 1
        device.send(.heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: 2)))
        #expect(device.isAborted)
        #expect(harness.plane.session(of: try #require(DeviceID("d")))?.health == .dataOnly)
    }

    @Test func stoppingIsDoneWhenAllIsTold() throws {
        let harness = try PlaneHarness()
        let device = StandInDevice(harness.plane)
        _ = device.join("d", dataLoop: harness.dataLoops[0])
        var isStopped = false
        harness.plane.stop { isStopped = true }
        #expect(device.closeCode == 1001)
        harness.settle()
        #expect(isStopped)
        #expect(harness.observer.ended.map(\.reason) == [.nodeStopped])
        #expect(harness.dataLoops[0].closed.values.first == DataPlaneError.normalEnd)
    }

    @Test func anOperatorsOrders() throws {
        let harness = try PlaneHarness()
        let name = try #require(DeviceID("d"))
        let first = StandInDevice(harness.plane)
        _ = first.join("d", dataLoop: harness.dataLoops[0])
        #expect(harness.plane.disconnect(name))
        #expect(first.closeCode == 4010)
        #expect(!harness.plane.disconnect(name))
        let second = StandInDevice(harness.plane)
        _ = second.join("d", dataLoop: harness.dataLoops[1])
        harness.plane.setEnabled(name, false)
        #expect(second.closeCode == 4003)
        harness.plane.setEnabled(name, true)
        let third = StandInDevice(harness.plane)
        _ = third.join("d", dataLoop: harness.dataLoops[1])
        harness.plane.startDrain(DrainRequest(deadline: .milliseconds(1)))
        harness.loop.run { third.closeCode != nil }
        #expect(third.closeCode == 4012)
        harness.settle()
        #expect(harness.observer.ended.map(\.reason) == [.operator, .disabled, .drained])
        #expect(harness.observer.states == [.draining, .drained])
    }

    @Test func whatDataLoopsTellOfUnknownThingsIsIgnored() throws {
        let harness = try PlaneHarness()
        let unknown = DataConnectionID(loop: 7, serial: 1)
        let conn = ConnID(high: 1, low: 2)
        harness.plane.receive(.connectionClosed(unknown, reason: ""))
        harness.plane.receive(
            .hello(
                unknown, peer: SocketAddress(ip: .v4(IPv4Address(0)), port: 0), sessionID: [], dataToken: []))
        harness.plane.receive(.connOpened(conn, resolvedAddress: ""))
        harness.plane.receive(
            .connEnded(ConnProgress(connID: conn, bytesSent: 1, bytesReceived: 1), .finished))
        harness.plane.receive(.progress([ConnProgress(connID: conn, bytesSent: 1, bytesReceived: 1)]))
        #expect(harness.plane.conns.isEmpty)
    }
}
