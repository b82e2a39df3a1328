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

    @Test func aConnIsCutWhoeverHasClosedTheConnectionFirst() throws {
        let harness = FleetHarness()
        _ = try harness.join("d")
        let placements = try (0..<3).map { _ in try harness.openConn() }
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(1)), at: harness.moment)
        harness.pass(.seconds(1))
        #expect(harness.connEnds(placements[0].connID, .sessionLost).endedConns == [.nodeDrained])
        #expect(harness.connEnds(placements[1].connID, .nodeDrained).endedConns == [.nodeDrained])
        // Its last bytes had gone through before.
        #expect(harness.connEnds(placements[2].connID, .finished).endedConns == [.finished])
        let cut = harness.drainSnapshot.connsCut
        #expect(cut == 2)
    }

    @Test func aDrainingNodeTakesResumesOnly() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.takersChanged([try taker("x", room: 5)], at: harness.moment)
        harness.fleet.startDrain(DrainRequest(), at: harness.moment)
        let (_, refused) = try harness.register("new")
        #expect(refused.status == .draining)
        #expect(refused.alternatives == ["wss://x:443"])
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
        let start = harness.moment.now
        harness.fleet.startDrain(
            DrainRequest(deadline: .seconds(60), devicesPerSecond: 2), at: harness.moment)
        var turns: [Duration] = []
        while turns.count < 5 {
            for case .drain(let drain) in harness.drainActions().sent {
                let moveAt = harness.moment.now + .milliseconds(Int64(drain.notBeforeMilliseconds))
                turns.append(moveAt - start)
                #expect(moveAt - harness.moment.now <= DrainMachine.lookahead)
            }
            harness.step()
        }
        #expect(turns == [0, 500, 1_000, 1_500, 2_000].map { .milliseconds($0) })
    }

    @Test func eachDeviceGetsATakerByItsRoomAndTheOthersBehindIt() throws {
        let harness = FleetHarness()
        harness.fleet.takersChanged(
            [try taker("a", room: 30), try taker("b", room: 10), try taker("c", room: 0)],
            at: harness.moment)
        for index in 0..<8 { _ = try harness.join("d\(index)") }
        harness.fleet.startDrain(DrainRequest(devicesPerSecond: 1_000), at: harness.moment)
        let told: [[String]] = harness.drainActions().sent.compactMap {
            guard case .drain(let drain) = $0 else { return nil }
            return drain.alternatives
        }
        #expect(told.count == 8)
        #expect(told.count { $0 == ["wss://a:443", "wss://b:443"] } == 6)
        #expect(told.count { $0 == ["wss://b:443", "wss://a:443"] } == 2)
    }

    @Test func aFullNodeNamesNodesThatAreNot() throws {
        let harness = FleetHarness {
            $0.maximumDevices = 1
            $0.alternatives = []
        }
        _ = try harness.join("d")
        #expect(try harness.register("e").1.alternatives.isEmpty)
        var closed = try taker("closed", room: 10)
        closed.isOpen = false
        harness.fleet.takersChanged(
            [try taker("a", room: 10), try taker("b", room: 10), closed, try taker("full", room: 0)],
            at: harness.moment)
        let first = try harness.register("f").1
        #expect(first.status == .overloaded)
        let second = try harness.register("g").1
        // Not all of them to the same node.
        #expect(
            Set([first.alternatives.first, second.alternatives.first]) == ["wss://a:443", "wss://b:443"])
        #expect(first.alternatives.count == 2)
    }

    @Test func aDeviceThatHasMovedIsKnownByItsNewerSession() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        harness.fleet.takersChanged([try taker("a", room: 10)], at: harness.moment)
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(60)), at: harness.moment)
        harness.drainActions()
        let nodeA = try #require(NodeID("a"))
        harness.fleet.devicesArrived([nodeA: 1], moved: [device.session], at: harness.moment)
        #expect(harness.drainSnapshot.devicesMoved == 1)
        #expect(harness.drainSnapshot.devicesRemaining == 0)
        #expect(harness.drainSnapshot.state == .settling)
        #expect(
            harness.fleet.drainDetails(atMost: 5, at: harness.moment).targets == [
                DrainTarget(nodeID: nodeA, state: .open, assigned: 1, arrived: 1, devicesPerSecond: 50)
            ])
        // Undrained: the conn may still end in peace, and no other comes.
        harness.fleet.cancelDrain(staysCordoned: false, at: harness.moment)
        harness.drainActions()
        #expect(try harness.open() == nil)
        #expect(harness.conn(placement.connID) != nil)
        #expect(harness.pass(.seconds(60)).closes == [.drained])
    }

    @Test func aDeviceThatIsBackIsToldAfterItsResume() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.controlClosed(device.control, at: harness.moment)
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(60)), at: harness.moment)
        #expect(harness.drainActions().sent.isEmpty)
        #expect(harness.drainSnapshot.state == .handover)
        #expect(harness.drainSnapshot.devicesWaiting == 1)
        let (control, resumed) = try harness.register("d", resuming: device.session)
        #expect(resumed.resumed)
        harness.pass(.milliseconds(1))
        guard
            case .send(control, .drain)? = harness.log.last(where: {
                if case .send = $0 { true } else { false }
            })
        else {
            Issue.record("not told")
            return
        }
        #expect(harness.drainSnapshot.state == .settling)
    }

    @Test func whatIsLeftAtTheDeadlineMayBeHeld() throws {
        let harness = FleetHarness()
        _ = try harness.join("d")
        let placement = try harness.openConn()
        harness.fleet.startDrain(
            DrainRequest(deadline: .seconds(60), onDeadline: .hold), at: harness.moment)
        harness.drainActions()
        #expect(harness.pass(.seconds(3_600)).closes == [.silent])
        harness.connEnds(placement.connID, .sessionLost)
        #expect(harness.nodeState == .drained)

        let patient = FleetHarness { $0.heartbeatTimeout = .seconds(100_000) }
        _ = try patient.join("d")
        let held = try patient.openConn()
        patient.fleet.startDrain(
            DrainRequest(deadline: .seconds(60), onDeadline: .hold), at: patient.moment)
        #expect(patient.pass(.seconds(3_600)).closes.isEmpty)
        #expect(patient.drainSnapshot.state == .held)
        #expect(patient.drainSnapshot.connsRemaining == 1)
        #expect(patient.nodeState == .draining)
        // A new deadline lets it go on.
        patient.fleet.startDrain(DrainRequest(deadline: .seconds(5)), at: patient.moment)
        #expect(patient.drainSnapshot.state == .settling)
        #expect(patient.pass(.seconds(5)).closes == [.drained])
        patient.connEnds(held.connID, .nodeDrained)
        #expect(patient.drainSnapshot.connsCut == 1)
        #expect(patient.drainSnapshot.devicesLost == 1)
    }

    @Test func detailsTellWhatHoldsTheDrainUp() throws {
        let harness = FleetHarness { $0.heartbeatTimeout = .seconds(1_000) }
        _ = try harness.join("d")
        var conns: [ConnID] = []
        for _ in 0..<4 {
            conns.append(try harness.openConn().connID)
            harness.advance(.seconds(10))
        }
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(600)), at: harness.moment)
        let details = harness.fleet.drainDetails(atMost: 3, at: harness.moment)
        #expect(details.blockers.map(\.connID) == Array(conns.prefix(3)))
        #expect(details.estimate == DrainEstimate(time: .seconds(40), basis: .oldestConn))
        #expect(details.unmovedTotal == 0)
        harness.pass(.seconds(60))
        let later = harness.fleet.drainDetails(atMost: 3, at: harness.moment)
        #expect(later.unmoved == [try #require(DeviceID("d"))])
        #expect(later.unmovedTotal == 1)
    }

    @Test func anEarlierLifesDrainStaysInForce() throws {
        let harness = FleetHarness()
        let past = PastDrain(
            startedAt: harness.moment.wall, deadlineAt: harness.moment.wall, endedAt: harness.moment.wall,
            devicesTotal: 9, devicesMoved: 4, connsCut: 2, reason: "update")
        harness.fleet.restore(.drained, past)
        #expect(try harness.register("d").1.status == .draining)
        let drain = harness.drainSnapshot
        #expect(drain.state == .drained && drain.devicesTotal == 9 && drain.devicesMoved == 4)
        #expect(drain.devicesLost == 5 && drain.devicesRemaining == 0 && drain.connsCut == 2)
        harness.fleet.cancelDrain(staysCordoned: false, at: harness.moment)
        #expect(harness.nodeState == .active)
        #expect(harness.drainSnapshot.state == .drained)
    }

    @Test func anUndrainedNodeIsUsedAgain() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.startDrain(DrainRequest(deadline: .seconds(60)), at: harness.moment)
        harness.fleet.cancelDrain(staysCordoned: false, at: harness.moment)
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
        harness.fleet.cancelDrain(staysCordoned: true, at: harness.moment)
        #expect(harness.nodeState == .cordoned)
        harness.fleet.cancelDrain(staysCordoned: false, at: harness.moment)
        #expect(harness.nodeState == .active)
    }

    private func taker(_ name: String, room: Int) throws -> Taker {
        Taker(nodeID: try #require(NodeID(name)), url: "wss://\(name):443", room: room)
    }
}
