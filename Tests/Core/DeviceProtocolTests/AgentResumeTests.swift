import DeviceProtocol
import Domain
import Testing

private typealias H = AgentHarness
private let conn = ConnID(high: 1, low: 1)
private let other = ConnID(high: 2, low: 2)

@Suite struct AgentResumeTests {
    private func wholeAgent(_ pops: [String] = ["wss://a", "wss://b"]) -> AgentHarness {
        var agent = AgentHarness(pops)
        agent.start()
        agent.whole(H.first)
        agent.pass(.zero)
        _ = agent.take()
        return agent
    }

    @Test(arguments: [nil, 1006, 4008, 1002] as [UInt16?])
    func controlLostWhileDataLivesIsResumedAtTheSamePOP(code: UInt16?) {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.close(H.first, code)
        #expect(!agent.take().contains(.closeData(H.first, code: DataPlaneError.normalEnd)))
        let wait = agent.expire()
        #expect(wait >= .seconds(1) && wait <= .seconds(2))
        #expect(agent.take().connects == ["wss://a:443"])
        agent.connect(H.first)
        #expect(agent.take().requests.first?.resumeSessionID == H.sessionA.bytes)
        agent.receive(H.first, H.accepted(resumed: true))
        #expect(agent.take().dataPlans.isEmpty)
        #expect(agent.machine.isWhole)
        #expect(agent.machine.activeConns(H.first) == 1)
    }

    @Test func silentPOPCountsAsLostControl() {
        var agent = wholeAgent()
        agent.pass(.seconds(91))
        let actions = agent.take()
        #expect(actions.contains(.closeControl(H.first, code: 1_000)))
        #expect(actions.contains(.note(H.first, .controlSilent)))
        #expect(agent.expire() <= .seconds(2))
        #expect(agent.take().connects == ["wss://a:443"])
    }

    @Test func anUnansweredHeartbeatReplacesControlWhileTheDataPlaneLives() {
        var agent = wholeAgent()
        agent.receive(
            H.first,
            .heartbeatAck(HeartbeatAck(sequence: 1, sentAtUnixMilliseconds: 0, receivedAtUnixMilliseconds: 0))
        )
        _ = agent.take()
        // The next heartbeat goes out after 30 s; nothing comes back for 10 s more.
        agent.pass(.seconds(31))
        _ = agent.take()
        agent.pass(.seconds(8))
        #expect(!agent.take().contains(.note(H.first, .controlSilent)))
        agent.pass(.seconds(2))
        let actions = agent.take()
        #expect(actions.contains(.closeControl(H.first, code: 1_000)))
        #expect(actions.contains(.note(H.first, .controlSilent)))
        agent.expire()
        agent.connect(H.first)
        #expect(agent.take().requests.first?.resumeSessionID == H.sessionA.bytes)
    }

    @Test func connClosedWaitsForTheResumeAndGoesOutOnce() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.close(H.first, nil)
        let closed = ConnClosed(connID: conn, reason: .finished, bytesSent: 5)
        agent.end(H.first, closed)
        agent.end(H.first, closed)
        #expect(agent.take().sent.isEmpty)
        agent.expire()
        agent.connect(H.first)
        _ = agent.take()
        agent.receive(H.first, H.accepted(resumed: true))
        #expect(agent.take().sent == [.connClosed(closed)])
    }

    @Test func heldConnClosedIsDroppedWithItsSession() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.open(H.first, other)
        agent.close(H.first, nil)
        agent.end(H.first, ConnClosed(connID: conn, reason: .finished))
        agent.expire()
        agent.connect(H.first)
        _ = agent.take()
        agent.receive(H.first, H.accepted(H.sessionB))
        let actions = agent.take()
        #expect(actions.sent.isEmpty)
        #expect(actions.contains(.endConn(H.first, other, .sessionLost)))
        #expect(actions.contains(.closeData(H.first, code: DataPlaneError.normalEnd)))
        #expect(actions.dataPlans.count == 1)
        agent.end(H.first, ConnClosed(connID: other, reason: .sessionLost))
        #expect(agent.take().isEmpty)
    }

    @Test func resumeThatFindsTheDataPlaneLostAtThePOPOpensItAgain() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.close(H.first, nil)
        agent.expire()
        agent.connect(H.first)
        _ = agent.take()
        agent.receive(H.first, H.accepted())
        let actions = agent.take()
        #expect(actions.contains(.endConn(H.first, conn, .sessionLost)))
        #expect(actions.contains(.closeData(H.first, code: DataPlaneError.normalEnd)))
        #expect(actions.dataPlans.count == 1)
        let closed = ConnClosed(connID: conn, reason: .sessionLost)
        agent.end(H.first, closed)
        agent.pass(AgentLimit.connClosedDelay)
        #expect(agent.take().sent.contains(.connClosed(closed)))
    }

    @Test func dataLostWhileControlIsUpRegistersAgainOnTheSameConnection() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.receive(H.first, H.openTCP(other))
        _ = agent.take()
        agent.dataDown(H.first)
        let actions = agent.take()
        #expect(actions.contains(.endConn(H.first, conn, .sessionLost)))
        #expect(actions.contains(.endConn(H.first, other, .sessionLost)))
        #expect(actions.requests.map(\.resumeSessionID) == [H.sessionA.bytes])
        #expect(actions.connects.isEmpty)
        agent.receive(H.first, H.accepted())
        #expect(agent.take().dataPlans.count == 1)
        agent.dataUp(H.first)
        #expect(agent.machine.isWhole)
    }

    @Test func dataPlaneThatCannotBeOpenedIsTriedAgainAfterAWait() {
        var agent = AgentHarness(["wss://a"])
        agent.start()
        agent.connect(H.first)
        agent.receive(H.first, H.accepted())
        agent.pass(.zero)
        _ = agent.take()
        agent.dataDown(H.first, DataPlaneError.badToken)
        #expect(agent.take().requests.isEmpty)
        let wait = agent.expire()
        #expect(wait >= .seconds(1) && wait <= .seconds(2))
        #expect(agent.take().requests.map(\.resumeSessionID) == [H.sessionA.bytes])
    }

    @Test func dataPlaneThatNeverAnswersIsGivenUp() {
        var agent = AgentHarness(["wss://a"])
        agent.start()
        agent.connect(H.first)
        agent.receive(H.first, H.accepted())
        agent.pass(.zero)
        _ = agent.take()
        #expect(agent.expire() == AgentLimit.dataTimeout)
        #expect(agent.take().first == .closeData(H.first, code: DataPlaneError.normalEnd))
    }

    @Test func reconnectOrderEndsTheConnsAndRegistersAgain() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        _ = agent.take()
        agent.receive(H.first, .reconnect(reason: "lost"))
        let actions = agent.take()
        #expect(actions.contains(.endConn(H.first, conn, .sessionLost)))
        #expect(actions.contains(.closeData(H.first, code: DataPlaneError.normalEnd)))
        #expect(actions.requests.map(\.resumeSessionID) == [H.sessionA.bytes])
        agent.receive(H.first, .reconnect(reason: "again"))
        #expect(agent.take().isEmpty)
    }

    @Test func closedAsReplacedOnDataWaitsForTheCloseOnControl() {
        var agent = wholeAgent()
        agent.dataDown(H.first, DataPlaneError.replaced)
        #expect(agent.take().requests.isEmpty)
        agent.close(H.first, 4009)
        #expect(agent.take().last == .finished(.replaced))
    }

    @Test func bothPlanesLostComesBackToThePOPAndAsksForTheSession() {
        var agent = wholeAgent()
        agent.close(H.first, nil)
        agent.dataDown(H.first)
        #expect(agent.take().withoutNotes.last == .forget(H.first))
        agent.expire()
        #expect(agent.take().connects == ["wss://a:443"])
        agent.connect(H.second)
        #expect(agent.take().requests.first?.resumeSessionID == H.sessionA.bytes)
        agent.receive(H.second, H.accepted())
        #expect(agent.take().dataPlans.count == 1)
    }

    @Test func bothPlanesLostAndThePOPGoneGoesToTheNextWithoutResume() {
        var agent = wholeAgent()
        agent.dataDown(H.first)
        agent.close(H.first, nil)
        agent.expire()
        _ = agent.take()
        agent.fail(H.second)
        #expect(agent.take().connects == ["wss://b:443"])
        agent.connect(H.third)
        #expect(agent.take().requests.first?.resumeSessionID == [])
    }

    @Test func resumeAtAPOPThatHasNotNoticedTheLossOfDataAsksForATokenAtOnce() {
        var agent = wholeAgent(["wss://a"])
        agent.close(H.first, nil)
        agent.dataDown(H.first)
        agent.expire()
        agent.connect(H.second)
        _ = agent.take()
        agent.receive(H.second, H.accepted(resumed: true))
        #expect(agent.take().requests.map(\.resumeSessionID) == [H.sessionA.bytes])
        agent.receive(H.second, H.accepted())
        #expect(agent.take().dataPlans.count == 1)
    }

    @Test func resumedAnswerWithoutADataPlaneAsksAgainAfterAWait() {
        var agent = wholeAgent(["wss://a"])
        agent.dataDown(H.first)
        _ = agent.take()
        agent.receive(H.first, H.accepted(resumed: true))
        #expect(agent.take().requests.isEmpty)
        agent.pass(.seconds(2))
        #expect(agent.take().requests.map(\.resumeSessionID) == [H.sessionA.bytes])
    }
}

@Suite struct AgentConnTests {
    private func wholeAgent(capacity: UInt32 = 0) -> AgentHarness {
        var agent = AgentHarness(capacity: capacity)
        agent.start()
        agent.whole(H.first)
        agent.pass(.zero)
        _ = agent.take()
        return agent
    }

    private func failure(_ connID: ConnID, _ error: OpenError) -> (ControlMessage) -> Bool {
        { message in
            guard case .commandResponse(let response) = message else { return false }
            return response.connID == connID && !response.success && response.errorCode == error
        }
    }

    @Test func openTCPIsDialledOnceEvenIfOrderedTwice() {
        var agent = wholeAgent()
        agent.receive(H.first, H.openTCP(conn))
        agent.receive(H.first, H.openTCP(conn))
        #expect(agent.take() == [.dial(H.first, conn, target: "t:1", timeoutMilliseconds: 500)])
    }

    @Test func failedDialIsAnsweredAndForgotten() {
        var agent = wholeAgent()
        agent.receive(H.first, H.openTCP(conn))
        _ = agent.take()
        agent.actions += agent.machine.connFailed(
            H.first, conn, .connectionRefused, "refused", resolvedAddress: "1.2.3.4:1", now: agent.now)
        let sent = agent.take().sent
        #expect(sent.count == 1)
        #expect(sent.allSatisfy(failure(conn, .connectionRefused)))
        #expect(agent.machine.activeConns(H.first) == 0)
        agent.end(H.first, ConnClosed(connID: conn, reason: .finished))
        #expect(agent.take().isEmpty)
    }

    @Test func connsAboveTheCapacityAreRefused() {
        var agent = wholeAgent(capacity: 1)
        agent.receive(H.first, H.openTCP(conn))
        _ = agent.take()
        agent.receive(H.first, H.openTCP(other))
        #expect(agent.take().sent.contains(where: failure(other, .capacity)))
    }

    @Test func unknownCommandsAreUnsupported() {
        var agent = wholeAgent()
        agent.receive(H.first, .command(Command(connID: conn, body: .unknown)))
        #expect(agent.take().sent.contains(where: failure(conn, .unsupported)))
    }

    @Test func aFlowIsOpenedAnsweredAndEndsWithConnClosed() {
        var agent = wholeAgent(capacity: 1)
        let order = Command.Body.openUDP(target: "t:1", flowID: 5, idleTimeoutMilliseconds: 0)
        agent.receive(H.first, .command(Command(connID: conn, body: order)))
        #expect(
            agent.take() == [
                .openFlow(H.first, conn, target: "t:1", flowID: 5, idleTimeout: AgentLimit.flowIdleTimeout)
            ])
        agent.receive(H.first, .command(Command(connID: other, body: order)))
        #expect(agent.take().sent.contains(where: failure(other, .capacity)))
        let opened = agent.machine.flowOpened(
            H.first, conn, resolvedAddress: "192.0.2.1:1", connectTimeMilliseconds: 3, now: agent.now)
        #expect(
            opened.sent == [
                .commandResponse(
                    CommandResponse(
                        connID: conn, success: true, resolvedAddress: "192.0.2.1:1",
                        connectTimeMilliseconds: 3))
            ])
        let closed = ConnClosed(connID: conn, reason: .error, detail: "ICMP")
        agent.end(H.first, closed)
        agent.end(H.first, closed)
        agent.expire()
        #expect(agent.take().sent == [.connClosed(closed)])
    }

    @Test func aFlowIDThatIsNoQUICIntegerIsRefused() {
        var agent = wholeAgent()
        let order = Command.Body.openUDP(target: "t:1", flowID: 1 << 62, idleTimeoutMilliseconds: 1)
        agent.receive(H.first, .command(Command(connID: conn, body: order)))
        #expect(agent.take().sent.contains(where: failure(conn, .internal)))
    }

    @Test func closeOfADialIsSilentAndOfAnOpenConnEndsWithConnClosed() {
        var agent = wholeAgent()
        agent.receive(H.first, H.openTCP(conn))
        agent.open(H.first, other)
        _ = agent.take()
        agent.receive(H.first, .command(Command(connID: conn, body: .close(.admin))))
        agent.receive(H.first, .command(Command(connID: other, body: .close(.admin))))
        #expect(agent.take() == [.endConn(H.first, conn, .admin), .endConn(H.first, other, .admin)])
        agent.end(H.first, ConnClosed(connID: other, reason: .admin))
        agent.expire()
        #expect(agent.take().sent == [.connClosed(ConnClosed(connID: other, reason: .admin))])
        agent.receive(H.first, .command(Command(connID: other, body: .close(.admin))))
        #expect(agent.take().isEmpty)
    }

    @Test func endsOfConnsWaitALittleForEachOther() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        agent.open(H.first, other)
        _ = agent.take()
        let one = ConnClosed(connID: conn, reason: .finished)
        let two = ConnClosed(connID: other, reason: .idle)
        agent.end(H.first, one)
        let deadline = agent.machine.nextDeadline
        #expect(deadline == agent.now + AgentLimit.connClosedDelay)
        agent.pass(AgentLimit.connClosedDelay / 2)
        agent.end(H.first, two)
        #expect(agent.take().isEmpty)
        #expect(agent.machine.nextDeadline == deadline)
        agent.expire()
        #expect(agent.take() == [.send(H.first, .connClosed(one)), .send(H.first, .connClosed(two))])
        #expect(agent.machine.nextDeadline > agent.now + .seconds(1))
    }

    @Test func endsOfConnsThatStillWaitGoOutBeforeGoodbye() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        _ = agent.take()
        let closed = ConnClosed(connID: conn, reason: .finished)
        agent.end(H.first, closed)
        agent.actions += agent.machine.stop(reason: "bye", now: agent.now)
        #expect(agent.take().sent == [.connClosed(closed), .goodbye(reason: "bye")])
    }

    @Test func endsOfConnsThatStillWaitWhenControlIsLostGoOutAfterTheResume() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        _ = agent.take()
        let closed = ConnClosed(connID: conn, reason: .finished)
        agent.end(H.first, closed)
        agent.close(H.first, nil)
        agent.expire()
        agent.connect(H.first)
        #expect(!agent.take().sent.contains(.connClosed(closed)))
        agent.receive(H.first, H.accepted(resumed: true))
        #expect(agent.take().sent == [.connClosed(closed)])
    }

    @Test func connClosedByThePOPEndsTheConn() {
        var agent = wholeAgent()
        agent.open(H.first, conn)
        _ = agent.take()
        agent.receive(H.first, .connClosed(ConnClosed(connID: conn, reason: .clientReset)))
        #expect(agent.take() == [.endConn(H.first, conn, .clientReset)])
    }
}
