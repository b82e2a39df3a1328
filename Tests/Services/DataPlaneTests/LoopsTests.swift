import DataPlane
import DeviceProtocol
import Domain
import EventLoop
import QUIC
import QUICKit
import Testing

/// Several data loops behind one port: each device stays on the loop that its connection began on.
@Suite struct LoopsTests {
    private struct Device {
        let peer: QUICPeer
        let id: DataConnectionID
        let client: TCPEnd
        let flow: QUICFlow
    }

    /// Devices with an open conn each, on every one of the loops.
    private func devices(_ fixture: PlaneFixture, _ count: Int) throws -> [Device] {
        let devices = try (0..<count).map { number in
            let (peer, _, id) = try fixture.join([UInt8(number), 1])
            let (client, flow, _) = try fixture.openConn(peer, id)
            return Device(peer: peer, id: id, client: client, flow: flow)
        }
        // A connection's loop is drawn by its first id: that sixteen draw one of two happens once in 32,768 times.
        try #require(Set(devices.map(\.id.loop)).count == 2)
        return devices
    }

    private func exchange(_ fixture: PlaneFixture, _ devices: [Device], _ round: UInt8) {
        let size = 100_000
        func bytes(_ number: Int, _ isUp: Bool) -> [UInt8] {
            (0..<size).map {
                UInt8(truncatingIfNeeded: $0 &* 31 &+ number &* 7 &+ Int(round) &+ (isUp ? 1 : 0))
            }
        }
        for (number, device) in devices.enumerated() {
            device.client.send(bytes(number, true))
            device.flow.send(bytes(number, false))
        }
        let start = Int(round) * size
        let isThere = fixture.run {
            devices.allSatisfy { device in
                fixture.polled(device.client).received.count == Frames.success.count + start + size
                    && device.flow.received.count == start + size
            }
        }
        #expect(isThere)
        for (number, device) in devices.enumerated() {
            #expect(Array(device.flow.received.suffix(size)) == bytes(number, true))
            #expect(Array(device.client.received.suffix(size)) == bytes(number, false))
        }
    }

    @Test func bytesStayWholeOnEveryLoopAndAfterADeviceHasMoved() throws {
        let fixture = try PlaneFixture(loops: 2)
        let devices = try devices(fixture, 16)
        exchange(fixture, devices, 0)
        // From another port the kernel's own choice of a socket would be another one.
        try fixture.endpoint.rebind(to: SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0))
        exchange(fixture, devices, 1)
        let moved = fixture.run {
            devices.allSatisfy { device in
                fixture.events.contains { if case .pathChanged(device.id, _) = $0 { true } else { false } }
            }
        }
        #expect(moved)
        exchange(fixture, devices, 2)
        #expect(devices.allSatisfy { !fixture.isClosed($0.id) })
    }
}
