import DeviceProtocol
import Domain
import Testing

private typealias H = AgentHarness

@Suite struct AgentRegistrationTests {
    @Test func startConnectsToTheFirstPOP() {
        var agent = AgentHarness()
        agent.start()
        #expect(agent.take().connects == ["wss://a:443"])
        agent.start()
        #expect(agent.take().isEmpty)
    }

    @Test func connectedControlRegistersWithWhatIsConfigured() {
        var agent = AgentHarness(capacity: 7)
        agent.start()
        agent.connect(H.first)
        #expect(
            agent.take().requests == [
                RegisterRequest(deviceID: "d", capacity: 7, capabilities: ["tcp", "udp", "migration"])
            ])
    }

    @Test func acceptedRegistrationOpensTheDataPlaneAtTheDialledHost() throws {
        var agent = AgentHarness()
        agent.start()
        agent.connect(H.first)
        agent.receive(H.first, H.accepted())
        let plan = try #require(agent.take().dataPlans.first)
        #expect(plan.host == .name("a"))
        #expect(plan.port == 7_443)
        #expect(plan.hello.sessionID == H.sessionA.bytes)
        #expect(plan.certificateSHA256.count == 32)
        #expect(plan.idleTimeout == .seconds(90))
        #expect(!agent.machine.isWhole)
        agent.dataUp(H.first)
        #expect(agent.machine.isWhole)
    }

    @Test(arguments: [("wss://[::1]:9", ":1", "[::1]:1"), ("wss://1.2.3.4", "h:5", "h:5")])
    func quicAddressNamesItsHostOrMeansTheDialledOne(pop: String, quic: String, expected: String) throws {
        var agent = AgentHarness([pop])
        agent.start()
        agent.connect(H.first)
        agent.receive(H.first, H.accepted(quic: quic))
        let plan = try #require(agent.take().dataPlans.first)
        #expect(Target(host: plan.host, port: plan.port).description == expected)
    }

    @Test func heartbeatAndLoadReportGoOutAtOnceAndAtTheirIntervals() {
        var agent = AgentHarness()
        agent.start()
        agent.whole(H.first)
        _ = agent.take()
        agent.pass(.zero)
        #expect(agent.take() == [.sendHeartbeat(H.first, sequence: 1), .reportLoad(H.first)])
        agent.receive(
            H.first,
            .heartbeatAck(
                HeartbeatAck(sequence: 1, sentAtUnixMilliseconds: 0, receivedAtUnixMilliseconds: 0)))
        #expect(agent.expire() == .seconds(30))
        #expect(agent.take() == [.sendHeartbeat(H.first, sequence: 2), .reportLoad(H.first)])
    }

    @Test func answerThatBreaksTheProtocolIsComeBackFromAfterAWait() {
        for response in [
            RegisterResponse(status: .ok, quicAddress: ":1", sessionID: [1], dataToken: [1]),
            RegisterResponse(status: .ok, quicAddress: ":1", sessionID: H.sessionA.bytes),
            RegisterResponse(status: .ok, quicAddress: "", sessionID: H.sessionA.bytes, dataToken: [1]),
            RegisterResponse(status: .ok, quicAddress: "x:0", sessionID: H.sessionA.bytes, dataToken: [1]),
            RegisterResponse(status: .invalid),
            RegisterResponse(status: .unspecified),
        ] {
            var agent = AgentHarness(["wss://a"])
            agent.start()
            agent.connect(H.first)
            _ = agent.take()
            agent.receive(H.first, .registerResponse(response))
            let actions = agent.take().withoutNotes
            #expect(actions == [.closeControl(H.first, code: 1_000), .forget(H.first)])
            #expect(agent.expire() >= .seconds(1))
            #expect(agent.take().connects == ["wss://a:443"])
        }
    }

    @Test func silenceAfterTheRequestIsALossThatSendsToTheNextPOP() {
        var agent = AgentHarness()
        agent.start()
        agent.connect(H.first)
        _ = agent.take()
        #expect(agent.expire() == AgentLimit.registerTimeout)
        let actions = agent.take()
        #expect(actions.contains(.closeControl(H.first, code: 1_000)))
        #expect(actions.connects == ["wss://b:443"])
    }

    @Test func messagesBeforeTheAnswerAndUnknownOnesAreIgnored() {
        var agent = AgentHarness()
        agent.start()
        agent.connect(H.first)
        _ = agent.take()
        agent.receive(H.first, H.openTCP(ConnID(high: 1, low: 1)))
        agent.receive(H.first, .drain(Drain(deadlineMilliseconds: 1)))
        agent.receive(H.first, .unknown)
        agent.receive(H.first, .goodbye(reason: "?"))
        #expect(agent.take().isEmpty)
        agent.receive(AgentSessionNumber(99), H.accepted())
        #expect(agent.take().isEmpty)
    }
}

@Suite struct AgentWayBackTests {
    @Test func unreachablePOPsAreTriedInTurnAndThenWaitedFor() {
        var agent = AgentHarness()
        agent.start()
        agent.fail(H.first)
        #expect(agent.take().connects == ["wss://a:443", "wss://b:443"])
        agent.fail(H.second, .unauthorized)
        #expect(agent.take().connects.isEmpty)
        let wait = agent.expire()
        #expect(wait >= .seconds(1) && wait <= .seconds(2))
        #expect(agent.take().connects == ["wss://a:443"])
    }

    @Test func connectThatTakesTooLongIsGivenUp() {
        var agent = AgentHarness()
        agent.start()
        _ = agent.take()
        #expect(agent.expire() == AgentLimit.connectTimeout)
        let actions = agent.take()
        #expect(actions.first == .closeControl(H.first, code: 1_000))
        #expect(actions.connects == ["wss://b:443"])
    }

    @Test func waitsDoubleUpToAMinuteAndAreJittered() {
        var waits: Set<Duration> = []
        for seed in 0..<20 as Range<UInt64> {
            var agent = AgentHarness(["wss://a"], seed: seed)
            agent.start()
            var ceiling = Duration.seconds(2)
            for attempt in 1...10 {
                agent.fail(AgentSessionNumber(attempt))
                let wait = agent.expire()
                #expect(wait >= .seconds(1) && wait >= ceiling / 2 && wait <= ceiling)
                waits.insert(wait)
                ceiling = min(ceiling * 2, .seconds(60))
            }
        }
        #expect(waits.count > 150)
    }

    @Test(arguments: [4012, 1001, 1013] as [UInt16]) func goingAwaySendsToTheNextPOPAtOnce(code: UInt16) {
        var agent = AgentHarness()
        agent.start()
        agent.whole(H.first)
        _ = agent.take()
        agent.close(H.first, code)
        let actions = agent.take()
        #expect(actions.connects == ["wss://b:443"])
        #expect(actions.contains(.closeData(H.first, code: DataPlaneError.normalEnd)))
    }

    @Test func refusalsWaitForRetryAfterWhenAllRefuse() {
        var agent = AgentHarness()
        agent.start()
        agent.connect(H.first)
        agent.receive(H.first, H.refused(.overloaded, retryAfter: 20_000))
        agent.fail(H.second, .unavailable(retryAfter: .seconds(10)))
        #expect(agent.take().connects == ["wss://a:443", "wss://b:443"])
        #expect(agent.expire() == .seconds(20))
        #expect(agent.take().connects == ["wss://a:443"])
    }

    @Test func retryAfterIsBounded() {
        var agent = AgentHarness(["wss://a"])
        agent.start()
        agent.connect(H.first)
        agent.receive(H.first, H.refused(.draining, retryAfter: .max))
        #expect(agent.expire() == AgentLimit.longestRetryAfter)
    }

    @Test func alternativesOfARefusalComeFirstAndNeverLeadToPlainText() {
        var agent = AgentHarness()
        agent.start()
        agent.connect(H.first)
        _ = agent.take()
        agent.receive(
            H.first,
            H.refused(.draining, alternatives: ["ws://evil", "rubbish", "wss://a", "wss://c", "wss://b"]))
        #expect(agent.take().connects == ["wss://c:443"])
        agent.fail(H.second)
        #expect(agent.take().connects == ["wss://b:443"])
        agent.fail(H.third)
        #expect(agent.take().connects.isEmpty)
        #expect(agent.expire() >= .seconds(1))
    }

    @Test func forbiddenWaitsAMinuteAtLeast() {
        for byClose in [true, false] {
            var agent = AgentHarness()
            agent.start()
            agent.whole(H.first)
            if byClose {
                agent.close(H.first, 4003)
            } else {
                agent.dataDown(H.first)
                agent.receive(H.first, H.refused(.forbidden))
            }
            _ = agent.take()
            #expect(agent.expire() >= .seconds(60))
            #expect(agent.take().connects.count == 1)
        }
    }

    @Test func replacedDoesNotComeBack() {
        var agent = AgentHarness()
        agent.start()
        agent.whole(H.first)
        _ = agent.take()
        agent.close(H.first, 4009)
        let actions = agent.take()
        #expect(actions.last == .finished(.replaced))
        #expect(actions.connects.isEmpty)
        #expect(agent.machine.nextDeadline == .distantFuture)
    }

    @Test func replacedOnTheDataPlaneAloneDoesNotComeBackEither() {
        var agent = AgentHarness()
        agent.start()
        agent.whole(H.first)
        agent.close(H.first, nil)
        _ = agent.take()
        agent.dataDown(H.first, DataPlaneError.replaced)
        #expect(agent.take().last == .finished(.replaced))
    }

    @Test func operatorsDisconnectComesBackWithoutResume() {
        var agent = AgentHarness()
        agent.start()
        agent.whole(H.first)
        agent.close(H.first, 4010)
        _ = agent.take()
        let wait = agent.expire()
        #expect(wait >= .seconds(1) && wait <= .seconds(2))
        #expect(agent.take().connects == ["wss://a:443"])
        agent.connect(H.second)
        #expect(agent.take().requests.first?.resumeSessionID == [])
    }

    @Test func longSessionMakesTheNextWaitShortAgain() {
        var agent = AgentHarness(["wss://a"])
        agent.start()
        for attempt in 1...6 {
            agent.fail(AgentSessionNumber(attempt))
            agent.expire()
        }
        let number = AgentSessionNumber(7)
        agent.whole(number)
        agent.pass(.seconds(31))
        agent.close(number, 4010)
        #expect(agent.expire() <= .seconds(2))
    }

    @Test func stopSaysGoodbyeAndEndsBothPlanes() {
        var agent = AgentHarness()
        agent.start()
        agent.whole(H.first)
        agent.open(H.first, ConnID(high: 1, low: 1))
        _ = agent.take()
        agent.actions += agent.machine.stop(reason: "SIGTERM", now: agent.now)
        #expect(
            agent.take() == [
                .send(H.first, .goodbye(reason: "SIGTERM")), .closeControl(H.first, code: 1_000),
                .endConn(H.first, ConnID(high: 1, low: 1), .sessionLost),
                .closeData(H.first, code: DataPlaneError.normalEnd), .forget(H.first), .finished(.ordered),
            ])
        #expect(agent.machine.nextDeadline == .distantFuture)
        #expect(agent.machine.stop(reason: "again", now: agent.now).isEmpty)
    }

    @Test func stopWhileConnectingOrWaitingIsQuiet() {
        var agent = AgentHarness()
        agent.start()
        #expect(
            agent.machine.stop(reason: "x", now: agent.now) == [
                .closeControl(H.first, code: 1_000), .forget(H.first), .finished(.ordered),
            ])
        var waiting = AgentHarness(["wss://a"])
        waiting.start()
        waiting.fail(H.first)
        #expect(waiting.machine.stop(reason: "x", now: waiting.now) == [.finished(.ordered)])
    }
}
