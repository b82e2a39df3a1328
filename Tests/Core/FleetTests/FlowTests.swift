import DeviceProtocol
import Domain
import Fleet
import Testing

@Suite struct FlowTests {
    /// A fleet with one device that carries datagrams, and an association through it.
    private struct Associated {
        let harness = FleetHarness()
        let device: FleetHarness.Device
        let association: AssociationPlacement

        init(capacity: UInt32 = 0) throws {
            device = try harness.join("d", capacity: capacity, capabilities: ["tcp", "udp"])
            association = try #require(harness.associate())
            harness.drainActions()
        }

        func flow() throws -> ConnID {
            guard case .placed(let id, _) = try harness.openFlow(association) else { throw NoFlow() }
            return id
        }
    }

    private struct NoFlow: Error {}

    @Test func aFlowFromTheFirstDatagramToItsEnd() throws {
        let world = try Associated()
        let (harness, device) = (world.harness, world.device)
        #expect(world.association.connection == device.data)
        let opening = try harness.openFlow(world.association)
        let id = try #require(harness.connIDs.first)
        #expect(opening == .placed(id, flowID: 1))
        let body = Command.Body.openUDP(target: "192.0.2.1:53", flowID: 1, idleTimeoutMilliseconds: 60_000)
        #expect(harness.drainActions() == [.send(device.control, .command(Command(connID: id, body: body)))])
        let answer = CommandResponse(connID: id, success: true, resolvedAddress: "192.0.2.1:53")
        let actions = harness.receive(.commandResponse(answer), on: device.control)
        #expect(actions.last == .flowOpened(id, on: device.data, resolvedAddress: "192.0.2.1:53"))
        #expect(harness.conn(id)?.state == .open)
        #expect(harness.conn(id)?.clientProtocol == .udp)
        // The node ended it for idleness: the device, which has no stream to tell it, is told.
        let end = harness.connEnds(id, sent: 3, received: 4, .idle)
        #expect(end.first == .send(device.control, .command(Command(connID: id, body: .close(.idle)))))
        #expect(end.endedConns == [.idle])
    }

    @Test func theDeviceMayEndAFlow() throws {
        let world = try Associated()
        let id = try world.flow()
        world.harness.receive(
            .commandResponse(CommandResponse(connID: id, success: true)), on: world.device.control)
        let closed = ControlMessage.connClosed(ConnClosed(connID: id, reason: .error, detail: "ICMP"))
        #expect(
            world.harness.receive(closed, on: world.device.control)
                == [.closeConn(id, on: world.device.data, .error)])
        #expect(world.harness.receive(closed, on: world.device.control).isEmpty)
        let end = world.harness.connEnds(id, .error)
        #expect(end.endedConns == [.error])
        // The device said so itself.
        #expect(!end.contains { if case .send = $0 { true } else { false } })
    }

    @Test func aDeviceCantEndTheFlowOfAnother() throws {
        let world = try Associated()
        let other = try world.harness.join("other", capabilities: ["tcp", "udp"])
        let id = try world.flow()
        world.harness.drainActions()
        let closed = ControlMessage.connClosed(ConnClosed(connID: id, reason: .error))
        #expect(world.harness.receive(closed, on: other.control).isEmpty)
        let success = ControlMessage.commandResponse(CommandResponse(connID: id, success: true))
        #expect(world.harness.receive(success, on: other.control).isEmpty)
        #expect(world.harness.conn(id)?.state == .opening)
    }

    @Test func onlyDevicesThatCarryDatagramsAreChosen() throws {
        let harness = FleetHarness()
        _ = try harness.join("plain")
        #expect(harness.associate() == nil)
        let able = try harness.join("able", capabilities: ["udp"])
        _ = try harness.openConn()
        for _ in 0..<3 { #expect(harness.associate()?.session == able.session) }
    }

    @Test func associationsTakeTurns() throws {
        let harness = FleetHarness()
        let first = try harness.join("a", capabilities: ["udp"])
        let second = try harness.join("b", capabilities: ["udp"])
        let chosen = (0..<4).compactMap { _ in harness.associate()?.session }
        #expect(chosen.filter { $0 == first.session }.count == 2)
        #expect(chosen.filter { $0 == second.session }.count == 2)
    }

    @Test func aFullDeviceTakesNoFlowAndNoneMoves() throws {
        let world = try Associated(capacity: 1)
        _ = try world.harness.join("other", capabilities: ["tcp", "udp"])
        let id = try world.flow()
        #expect(try world.harness.openFlow(world.association) == .full)
        world.harness.drainActions()
        let failure = CommandResponse(connID: id, success: false, errorCode: .capacity)
        #expect(
            world.harness.receive(.commandResponse(failure), on: world.device.control)
                == [.failConn(id, on: world.device.data, .capacity)])
    }

    @Test func aDeviceThatLeavesTakesNoFlow() throws {
        let world = try Associated()
        world.harness.fleet.dataClosed(world.device.data, at: world.harness.moment)
        #expect(try world.harness.openFlow(world.association) == .leaving)
        #expect(world.harness.associate() == nil)
    }

    @Test func aFlowThatIsNotAnsweredFails() throws {
        let world = try Associated()
        let id = try world.flow()
        world.harness.drainActions()
        let actions = world.harness.pass(.seconds(10))
        #expect(actions.contains(.failConn(id, on: world.device.data, .timeout)))
    }
}
