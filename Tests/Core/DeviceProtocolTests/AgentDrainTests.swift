import DeviceProtocol
import Domain
import Testing

private typealias H = AgentHarness
private let conn = ConnID(high: 1, low: 1)

@Suite struct AgentDrainTests {
    private func wholeAgent(_ pops: [String] = ["wss://a", "wss://b"]) -> AgentHarness {
        var agent = AgentHarness(pops)
        agent.start()
        agent.whole(H.first)
        agent.pass(.zero)
        _ = agent.take()
        return agent
    }

    private func drain(
        _ alternatives: [String] = [], notBefore: UInt32 = 0, deadline: UInt32 = 300_000
    ) -> ControlMessage {
        .drain(
            Drain(
                deadlineMilliseconds: deadline, alternatives: alternatives, reason: "d",
                notBeforeMilliseconds: notBefore))
    }

    @Test func drainedDeviceMovesToTheAlternativeAndThenSaysGoodbye() {
        var agent = wholeAgent()
        agent.receive(H.first, drain(["wss://c:1"]))
        #expect(agent.take().connects == ["wss://c:1"])
        agent.connect(H.second)
        #expect(agent.take().requests.map(\.resumeSessionID) == [[]])
        agent.receive(H.second, H.accepted(H.sessionB))
        #expect(agent.machine.currentSession == H.first)
        #expect(!agent.take().contains(.closeControl(H.first, code: 1_000)))
        agent.dataUp(H.second)
        #expect(agent.machine.currentSession == H.second)
        #expect(
            agent.take().withoutNotes == [
                .send(H.first, .goodbye(reason: "moved")), .closeControl(H.first, code: 1_000),
                .closeData(H.first, code: DataPlaneError.normalEnd), .forget(H.first),
            ])
    }

    @Test func oldSessionStaysUntilItsConnsHaveEnded() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.receive(H.first, drain())
        agent.whole(H.second, session: H.sessionB)
        #expect(!agent.take().contains(.forget(H.first)))
        let closed = ConnClosed(connID: conn, reason: .finished)
        agent.end(H.first, closed)
        let actions = agent.take()
        #expect(actions.sent == [.connClosed(closed), .goodbye(reason: "moved")])
        #expect(actions.contains(.forget(H.first)))
    }

    @Test func whatOneSessionWasToldIsNotMeantForTheNextOne() {
        var agent = wholeAgent()
        agent.receive(H.first, drain())
        agent.fail(H.second)
        // Its POP is killed and started again, and knows neither the session nor the drain.
        agent.close(H.first, nil)
        agent.pass(.seconds(3))
        agent.connect(H.first)
        agent.receive(H.first, H.accepted(H.sessionB))
        agent.dataUp(H.first)
        _ = agent.take()
        agent.pass(.seconds(5))
        #expect(agent.take().connects.isEmpty)
        #expect(agent.machine.currentSession == H.first)
    }

    @Test func moveDoesNotBeginBeforeItsTime() {
        var agent = wholeAgent()
        agent.receive(H.first, drain(notBefore: 5_000))
        #expect(agent.take().connects.isEmpty)
        #expect(agent.expire() == .seconds(5))
        #expect(agent.take().connects == ["wss://b:443"])
    }

    @Test func otherConfiguredPOPsServeWhereNoneIsNamed() {
        var agent = wholeAgent()
        agent.receive(H.first, drain(["wss://a", "ws://plain", "nonsense"]))
        #expect(agent.take().connects == ["wss://b:443"])
    }

    @Test func withoutAnAlternativeTheDeviceStaysUntilTheDeadline() {
        var agent = wholeAgent(["wss://a"])
        agent.receive(H.first, drain())
        #expect(agent.take().connects.isEmpty)
        #expect(agent.expire() == .seconds(30))
        _ = agent.take()
        agent.close(H.first, 4012)
        _ = agent.take()
        #expect(agent.expire() <= .seconds(2))
        #expect(agent.take().connects == ["wss://a:443"])
    }

    @Test func unreachableAlternativeIsTriedAgainWhileTheOldSessionLives() {
        var agent = wholeAgent()
        agent.receive(H.first, drain())
        agent.fail(H.second)
        #expect(agent.take().connects == ["wss://b:443"])
        let wait = agent.expire()
        #expect(wait >= .seconds(1) && wait <= .seconds(2))
        #expect(agent.take().connects == ["wss://b:443"])
        #expect(agent.machine.currentSession == H.first)
    }

    @Test func alternativeThatIsNotWholeInTimeIsLeft() {
        var agent = wholeAgent()
        agent.receive(H.first, drain(["wss://c", "wss://d"]))
        agent.connect(H.second)
        agent.receive(H.second, H.accepted(H.sessionB))
        _ = agent.take()
        for _ in 0..<20 where agent.machine.activeConns(H.third) == 0 {
            agent.receive(H.first, .unknown)
            agent.receive(H.second, .unknown)
            agent.expire()
            if agent.actions.connects.contains("wss://d:443") { break }
        }
        let actions = agent.take()
        #expect(actions.contains(.forget(H.second)))
        #expect(actions.connects == ["wss://d:443"])
        #expect(agent.machine.currentSession == H.first)
    }

    /// A device that did not get away in time, by what it was told when it was to leave; its own POPs come after.
    @Test(arguments: [4012, 1001] as [UInt16])
    func whoeverIsCutGoesToTheAlternativesFirst(code: UInt16) {
        var agent = wholeAgent()
        agent.receive(H.first, drain(["wss://c", "wss://d"], notBefore: 60_000))
        agent.close(H.first, code)
        #expect(agent.take().connects == ["wss://c:443"])
        agent.fail(H.second)
        #expect(agent.take().connects == ["wss://d:443"])
        agent.fail(H.third)
        #expect(agent.take().connects == ["wss://b:443"])
    }

    @Test func whoeverIsCutBetweenTwoTriesTriesTheAlternativesAgainAtOnce() {
        var agent = wholeAgent()
        agent.receive(H.first, drain(["wss://c"]))
        agent.fail(H.second)
        _ = agent.take()
        agent.close(H.first, 4012)
        #expect(agent.take().connects == ["wss://c:443"])
    }

    @Test func aCutThatOnlyTheDataPlaneTellsLeadsToTheAlternatives() {
        var agent = wholeAgent()
        agent.receive(H.first, drain(["wss://c"], notBefore: 60_000))
        agent.close(H.first, nil)
        _ = agent.take()
        agent.dataDown(H.first, DataPlaneError.drained)
        #expect(agent.take().connects == ["wss://c:443"])
    }

    @Test func deadlineDuringTheMoveLeavesTheMoveToEnd() {
        var agent = wholeAgent()
        agent.receive(H.first, drain())
        agent.connect(H.second)
        _ = agent.take()
        agent.close(H.first, 4012)
        #expect(agent.take().connects.isEmpty)
        agent.receive(H.second, H.accepted(H.sessionB))
        #expect(agent.machine.currentSession == H.second)
    }

    @Test func oldSessionThatIsClosedAfterTheMoveIsJustForgotten() {
        for code in [4012, 4009, nil] as [UInt16?] {
            var agent = wholeAgent()
            agent.open(H.first, conn)
            agent.receive(H.first, drain())
            agent.whole(H.second, session: H.sessionB)
            _ = agent.take()
            agent.dataDown(H.first, DataPlaneError.drained)
            agent.close(H.first, code)
            let actions = agent.take()
            #expect(actions.contains(.forget(H.first)))
            #expect(actions.connects.isEmpty)
            #expect(agent.machine.currentSession == H.second)
        }
    }

    /// The POP that it moves away from is killed and started again, and takes the registration that wanted the old
    /// session back for one of a new session: the newest, so the new POP lets go of the one that counts.
    @Test func aDeviceThatReplacesItselfIsNotAtItsEnd() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.receive(H.first, drain())
        agent.whole(H.second, session: H.sessionB)
        agent.close(H.first, nil)
        agent.pass(.seconds(3))
        agent.connect(H.first)
        _ = agent.take()
        agent.close(H.second, 4009)
        #expect(!agent.take().contains(.finished(.replaced)))
        agent.receive(H.first, H.accepted(SessionID(high: 3, low: 3)))
        #expect(agent.take().contains(.forget(H.first)))
        agent.pass(.seconds(3))
        let actions = agent.take()
        #expect(!actions.connects.isEmpty && !actions.contains(.finished(.replaced)))
    }

    /// As before, but the old session has gone by then: its registration is still on its way.
    @Test func aRegistrationThatIsGivenUpMayReplaceTheDeviceItself() {
        var agent = wholeAgent()
        agent.receive(H.first, drain())
        agent.connect(H.second)
        agent.receive(H.second, H.accepted(H.sessionB))
        agent.close(H.first, nil)
        agent.pass(.seconds(3))
        agent.connect(H.first)
        agent.dataUp(H.second)
        #expect(agent.take().contains(.forget(H.first)))
        agent.close(H.second, 4009)
        #expect(!agent.take().contains(.finished(.replaced)))
        agent.pass(.seconds(3))
        #expect(!agent.take().connects.isEmpty)
    }

    /// As before, but the new POP's session was the later one, and it is the old POP that lets go.
    @Test func aMoveThatReplacesTheSessionItLeavesGoesOn() {
        var agent = wholeAgent()
        agent.receive(H.first, drain())
        agent.connect(H.second)
        agent.receive(H.second, H.accepted(H.sessionB))
        agent.close(H.first, 4009)
        #expect(!agent.take().contains(.finished(.replaced)))
        #expect(agent.machine.currentSession == H.second)
    }

    @Test func stopDuringTheMoveLeavesBoth() {
        var agent = wholeAgent()
        agent.receive(H.first, drain())
        agent.connect(H.second)
        _ = agent.take()
        let actions = agent.machine.stop(reason: "x", now: agent.now)
        #expect(actions.contains(.forget(H.first)) && actions.contains(.forget(H.second)))
        #expect(actions.last == .finished(.ordered))
    }
}

@Suite struct AgentRandomTests {
    /// Whatever happens in whatever order: conns are told once, and nothing happens after the end.
    @Test(arguments: 0..<300 as Range<UInt64>) func anyOrderOfEventsKeepsTheInvariants(seed: UInt64) {
        var agent = AgentHarness(["wss://a", "wss://b", "wss://c"], seed: seed)
        var random = SeededGenerator(seed: seed)
        var opened: Set<ConnID> = []
        var closedCount: [ConnID: Int] = [:]
        var finished = false
        agent.start()
        for _ in 0..<300 {
            step(&agent, &random, &opened)
            for action in agent.take() {
                #expect(!finished, "an action after the end, seed \(seed)")
                switch action {
                case .send(_, .connClosed(let closed)): closedCount[closed.connID, default: 0] += 1
                case .finished: finished = true
                case .endConn(let number, let connID, let reason):
                    agent.end(number, ConnClosed(connID: connID, reason: reason))
                default: break
                }
            }
            agent.actions = agent.actions.filter {
                if case .send(_, .connClosed(let closed)) = $0 { closedCount[closed.connID, default: 0] += 1 }
                return false
            }
        }
        #expect(closedCount.values.allSatisfy { $0 == 1 }, "seed \(seed)")
        #expect(closedCount.keys.allSatisfy { opened.contains($0) }, "seed \(seed)")
    }

    private func step(
        _ agent: inout AgentHarness, _ random: inout SeededGenerator, _ opened: inout Set<ConnID>
    ) {
        let number = AgentSessionNumber(Int.random(in: 1...12, using: &random))
        let connID = ConnID(high: 0, low: UInt64.random(in: 0...1_000_000, using: &random))
        let session = Bool.random(using: &random) ? H.sessionA : H.sessionB
        switch Int.random(in: 0...15, using: &random) {
        case 0, 1: agent.connect(number)
        case 2: agent.fail(number)
        case 3, 4: agent.receive(number, H.accepted(session, resumed: Bool.random(using: &random)))
        case 5: agent.receive(number, H.refused(.draining, retryAfter: 1_000, alternatives: ["wss://d"]))
        case 6, 7: agent.dataUp(number)
        case 8: agent.dataDown(number, Bool.random(using: &random) ? nil : DataPlaneError.badToken)
        case 9:
            let codes: [UInt16?] = [nil, 1_001, 1_013, 4_003, 4_008, 4_010, 4_012]
            agent.close(number, codes[Int.random(in: codes.indices, using: &random)])
        case 10:
            agent.receive(number, H.openTCP(connID))
            if agent.machine.activeConns(number) > 0 {
                opened.insert(connID)
                agent.actions += agent.machine.connOpened(number, connID, now: agent.now)
            }
        case 11:
            agent.receive(number, .drain(Drain(deadlineMilliseconds: 1_000, notBeforeMilliseconds: 10)))
        case 12: agent.receive(number, .reconnect(reason: ""))
        default:
            if agent.machine.nextDeadline != .distantFuture { agent.expire() }
        }
    }
}

/// SplitMix64, so that a failing case is named by its seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}
