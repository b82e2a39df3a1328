import DeviceProtocol
import Domain
import Fleet
import Testing

@Suite struct DrainTests {
    @Test func devicesAreToldAndLeave() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(60), reason: "update"), at: harness.moment)
        let actions = harness.drainActions()
        #expect(actions.first == .nodeStateChanged(.draining))
        #expect(
            actions.sent == [
                .drain(
                    Drain(
                        deadlineMilliseconds: 60_000, alternatives: ["wss://other:443"], reason: "update"))
            ])
        #expect(harness.conn(placement.connID)?.state == .open)
        #expect(try harness.open() == nil)
        harness.connEnds(placement.connID)
        #expect(harness.drainSnapshot.devicesRemaining == 1)
        let last = harness.receive(.goodbye(reason: "drained"), on: device.control)
        #expect(last.closes == [.normal])
        #expect(last.endings == [.drained])
        #expect(last.last == .nodeStateChanged(.drained))
        #expect(harness.drainSnapshot.state == .drained)
        #expect(harness.drainSnapshot.devicesMoved == 1)
    }

    @Test func whatIsLeftAtTheDeadlineIsCut() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(60)), at: harness.moment)
        harness.drainActions()
        #expect(harness.pass(.seconds(59)).isEmpty)
        let actions = harness.pass(.seconds(1))
        #expect(actions.closes == [.drained])
        #expect(
            actions.contains(.closeData(device.data, code: DataPlaneError.drained, reason: .nodeDrained)))
        #expect(harness.connEnds(placement.connID, .nodeDrained).endings == [.drained])
        #expect(harness.drainSnapshot.connsCut == 1)
        #expect(harness.nodeState == .drained)
    }

    @Test func aDrainingNodeTakesResumesOnly() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.startDrain(DrainRequest(alternatives: ["wss://x:1"]), at: harness.moment)
        let (_, refused) = try harness.register("new")
        #expect(refused.status == .draining)
        #expect(refused.alternatives == ["wss://x:1"])
        #expect(harness.log.closes.last == .tryLater)
        #expect(try harness.register("d").1.status == .draining)
        #expect(harness.session(device.session) != nil)
        harness.log = []
        let (_, resumed) = try harness.register("d", resuming: device.session)
        #expect(resumed.resumed)
        guard case .drain? = harness.log.sent.last else {
            Issue.record("not told again")
            return
        }
    }

    @Test func aCordonedNodeTakesResumesOnlyAndTellsNobody() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.setEligible(false)
        #expect(harness.drainActions() == [.nodeStateChanged(.cordoned)])
        #expect(try harness.open() == nil)
        #expect(try harness.register("new").1.status == .draining)
        #expect(try harness.register("d", resuming: device.session).1.resumed)
        harness.fleet.setEligible(true)
        #expect(try harness.open() != nil)
    }

    @Test func devicesMoveAtAPace() throws {
        let harness = FleetHarness()
        for index in 0..<5 { _ = try harness.join("d\(index)") }
        harness.fleet.startDrain(
            DrainRequest(deadline: .seconds(60), devicesPerSecond: 2), at: harness.moment)
        let turns: [UInt32] = harness.drainActions().sent.compactMap {
            guard case .drain(let drain) = $0 else { return nil }
            return drain.notBeforeMilliseconds
        }
        #expect(turns == [0, 500, 1_000, 1_500, 2_000])
    }

    @Test func anUndrainedNodeIsUsedAgain() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(60)), at: harness.moment)
        harness.fleet.cancelDrain(staysCordoned: false)
        harness.drainActions()
        #expect(harness.nodeState == .active)
        #expect(harness.drainSnapshot.state == .canceled)
        harness.connEnds(try harness.openConn().connID)
        #expect(harness.pass(.seconds(61)).closes.isEmpty)
        // The device moved after all: its new session leaves the old one alone.
        let (_, response) = try harness.register("d")
        #expect(response.status == .ok)
        #expect(harness.session(device.session)?.isDraining == true)
        #expect(harness.sessionCount == 2)
        #expect(harness.receive(.goodbye(reason: ""), on: device.control).endings == [.drained])
    }

    @Test func anEmptyNodeIsDrainedAtOnce() {
        let harness = FleetHarness()
        harness.fleet.startDrain(DrainRequest(), at: harness.moment)
        #expect(harness.nodeState == .drained)
        harness.fleet.cancelDrain(staysCordoned: true)
        #expect(harness.nodeState == .cordoned)
        harness.fleet.cancelDrain(staysCordoned: false)
        #expect(harness.nodeState == .active)
    }
}
