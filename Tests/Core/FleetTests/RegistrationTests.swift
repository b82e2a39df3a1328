import DeviceProtocol
import Domain
import Fleet
import Testing

@Suite struct RegistrationTests {
    @Test func aDeviceIsAnsweredOnceItsSessionIsOnRecord() throws {
        let harness = FleetHarness()
        let control = harness.openControl()
        let actions = harness.receive(.registerRequest(RegisterRequest(deviceID: "d")), on: control)
        guard case .sessionStarted(let snapshot)? = actions.first, actions.count == 1 else {
            Issue.record("\(actions)")
            return
        }
        #expect(snapshot.health == .controlOnly)
        harness.fleet.sessionRecorded(snapshot.sessionID, at: harness.moment)
        let response = try #require(harness.drainActions().responses.first)
        #expect(response.status == .ok)
        #expect(response.deviceID == "d")
        #expect(response.nodeID == "node-1")
        #expect(response.sessionID == snapshot.sessionID.bytes)
        #expect(response.dataToken.count == 32)
        #expect(response.sessionEpoch == UInt64(harness.moment.wall.microseconds))
        #expect(response.heartbeatTimeoutMilliseconds == 90_000)
        #expect(!response.resumed)
        harness.fleet.sessionRecorded(snapshot.sessionID, at: harness.moment)
        #expect(harness.drainActions().isEmpty)
    }

    @Test func aRecordThatTakesTooLongIsNotWaitedFor() {
        let harness = FleetHarness()
        let control = harness.openControl()
        harness.receive(.registerRequest(RegisterRequest(deviceID: "d")), on: control)
        #expect(harness.pass(.milliseconds(4_999)).isEmpty)
        let actions = harness.pass(.milliseconds(1))
        guard case .recordOverdue? = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(actions.responses.map(\.status) == [.ok])
    }

    @Test(arguments: [
        RegisterRequest(deviceID: ""),
        RegisterRequest(deviceID: "a b"),
        RegisterRequest(deviceID: String(repeating: "a", count: 129)),
        RegisterRequest(deviceID: "d", location: String(repeating: "a", count: 129)),
        RegisterRequest(deviceID: "d", location: "a\nb"),
        RegisterRequest(deviceID: "d", tags: Array(repeating: "t", count: 33)),
        RegisterRequest(deviceID: "d", tags: [String(repeating: "ä", count: 33)]),
        RegisterRequest(deviceID: "d", resumeSessionID: [1, 2, 3]),
    ])
    func whatBreaksARuleIsInvalid(_ request: RegisterRequest) {
        let harness = FleetHarness()
        let actions = harness.receive(.registerRequest(request), on: harness.openControl())
        #expect(actions.responses.map(\.status) == [.invalid])
        #expect(actions.responses.allSatisfy { !$0.error.isEmpty })
        #expect(actions.closes == [.outOfOrder])
        #expect(harness.isEmpty)
    }

    @Test func theLongestOfEverythingIsValid() throws {
        let harness = FleetHarness()
        let request = RegisterRequest(
            deviceID: String(repeating: "a", count: 128), location: String(repeating: "l", count: 128),
            capacity: .max, tags: Array(repeating: String(repeating: "t", count: 64), count: 32),
            agentVersion: String(repeating: "v", count: 10_000),
            capabilities: Array(repeating: "c", count: 1_000))
        let actions = harness.receive(.registerRequest(request), on: harness.openControl())
        guard case .sessionStarted(let snapshot)? = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(snapshot.agentVersion.utf8.count == 128)
        #expect(snapshot.capabilities.count == 32)
    }

    @Test(arguments: [
        ControlMessage.heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: 0)),
        .goodbye(reason: ""),
        .connClosed(ConnClosed(connID: ConnID(high: 0, low: 0), reason: .finished)),
        .commandResponse(CommandResponse(connID: ConnID(high: 0, low: 0), success: true)),
        .loadReport(
            LoadReport(
                sampledAtUnixMilliseconds: 0, activeConns: 0, bytesSent: 0, bytesReceived: 0,
                cpuUtilization: 0, memoryUsedBytes: 0, memoryTotalBytes: 0)),
        .drain(Drain(deadlineMilliseconds: 0)),
    ])
    func anythingBeforeARegistrationIsOutOfOrder(_ message: ControlMessage) {
        let harness = FleetHarness()
        #expect(harness.receive(message, on: harness.openControl()).closes == [.outOfOrder])
    }

    @Test func anEmptyMessageBeforeARegistrationIsIgnored() {
        let harness = FleetHarness()
        #expect(harness.receive(.unknown, on: harness.openControl()).isEmpty)
    }

    @Test func aDeviceThatNeverRegistersIsClosed() {
        let harness = FleetHarness()
        _ = harness.openControl()
        #expect(harness.pass(.seconds(10)).closes == [.silent])
        #expect(harness.isEmpty)
    }

    @Test func aTokenOfAnotherDeviceIsForbidden() {
        let harness = FleetHarness()
        let control = harness.openControl(identity: DeviceID("mine"))
        let actions = harness.receive(.registerRequest(RegisterRequest(deviceID: "yours")), on: control)
        #expect(actions.responses.map(\.status) == [.forbidden])
        #expect(actions.closes == [.forbidden])
    }

    @Test func aDisabledDeviceIsForbiddenUntilItIsEnabled() throws {
        let harness = FleetHarness()
        let device = try #require(DeviceID("d"))
        harness.fleet.setEnabled(device, false, at: harness.moment)
        #expect(try harness.register("d").1.status == .forbidden)
        harness.fleet.setEnabled(device, true, at: harness.moment)
        #expect(try harness.register("d").1.status == .ok)
    }

    @Test func aFullNodeIsOverloadedButForTheDevicesItHas() throws {
        let harness = FleetHarness { $0.maximumDevices = 1 }
        let device = try harness.join("a")
        let (_, refused) = try harness.register("b")
        #expect(refused.status == .overloaded)
        #expect(refused.retryAfterMilliseconds > 0)
        #expect(refused.alternatives == ["wss://other:443"])
        #expect(harness.log.closes == [.tryLater])
        #expect(try harness.register("a", resuming: device.session).1.resumed)
        #expect(try harness.register("a").1.status == .ok)
    }

    @Test func aSecondRegistrationThatResumesNothingIsOutOfOrder() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let actions = harness.receive(.registerRequest(RegisterRequest(deviceID: "d")), on: device.control)
        #expect(actions.closes == [.outOfOrder])
        #expect(actions.dataCloses == [DataPlaneError.protocolViolation])
        #expect(actions.endings == [.protocolError])
    }

    @Test func epochsGrowWhenTheClockGoesBack() throws {
        let harness = FleetHarness()
        let first = try harness.register("d").1.sessionEpoch
        harness.moment.wall.microseconds -= 3_600_000_000
        let second = try harness.register("d").1.sessionEpoch
        #expect(second > first)
    }

    @Test func epochsAreAboveThoseOfEarlierLives() throws {
        let harness = FleetHarness()
        let known = UInt64(harness.moment.wall.microseconds) + 5_000_000
        harness.fleet.learnEpoch(known)
        #expect(try harness.register("d").1.sessionEpoch == known + 1)
        #expect(try harness.register("other").1.sessionEpoch == known + 2)
        harness.fleet.learnEpoch(7)
        harness.advance(.seconds(10))
        #expect(try harness.register("d").1.sessionEpoch == UInt64(harness.moment.wall.microseconds))
    }

    @Test func epochsAreAboveThoseOfOtherNodes() throws {
        let harness = FleetHarness()
        let known = UInt64(harness.moment.wall.microseconds) + 5_000_000
        harness.fleet.learnEpoch(known, of: try #require(DeviceID("d")))
        #expect(try harness.register("d").1.sessionEpoch == known + 1)
        #expect(try harness.register("d").1.sessionEpoch == known + 2)
        #expect(try harness.register("other").1.sessionEpoch < known)
        harness.advance(.seconds(10))
        #expect(
            try harness.register("d").1.sessionEpoch == UInt64(harness.moment.wall.microseconds))
    }

    /// A paused process finds what devices said to it long ago; they have gone elsewhere since.
    @Test func aRequestThatIsFoundTooLateBeginsNoSession() {
        let harness = FleetHarness()
        let control = harness.openControl()
        harness.advance(FleetLimits.registrationTimeout)
        let actions = harness.receive(.registerRequest(RegisterRequest(deviceID: "dev-1")), on: control)
        #expect(actions.closes == [.silent])
        #expect(harness.sessionCount == 0)
        #expect(actions.count == 1)
    }

    @Test func theEpochThatIsOnRecordIsTheOneThatIsTold() throws {
        let harness = FleetHarness()
        let control = harness.openControl()
        let actions = harness.receive(.registerRequest(RegisterRequest(deviceID: "dev-1")), on: control)
        guard case .sessionStarted(let session) = actions.first else {
            Issue.record("no session")
            return
        }
        harness.fleet.epochSettled(session.epoch + 1_000_000_000_000, of: session.sessionID)
        harness.fleet.sessionRecorded(session.sessionID, at: harness.moment)
        let told = harness.drainActions().responses.first?.sessionEpoch
        #expect(told == session.epoch + 1_000_000_000_000)
        // The next one is above it.
        let next = try harness.register("dev-1").1
        #expect(next.sessionEpoch > session.epoch + 1_000_000_000_000)
    }

    @Test func aSessionWhoseDeviceHasComeToAnotherNodeEnds() throws {
        let harness = FleetHarness()
        let device = try harness.join("dev-1")
        harness.fleet.sessionTakenOver(device.session, at: harness.moment)
        let actions = harness.drainActions()
        #expect(actions.closes == [.replaced])
        #expect(actions.dataCloses == [DataPlaneError.replaced])
        #expect(actions.endings == [.replaced])
    }

    @Test func oneThatWasToldToLeaveLivesOnWhenItsDeviceHasCome() throws {
        let harness = FleetHarness()
        let device = try harness.join("dev-1")
        harness.fleet.takersChanged(
            [Taker(nodeID: try #require(NodeID("other")), url: "wss://other:443", room: 10)],
            at: harness.moment)
        harness.fleet.startDrain(DrainRequest(), at: harness.moment)
        harness.pass(.seconds(5))
        harness.fleet.sessionTakenOver(device.session, at: harness.moment)
        #expect(harness.drainActions().endings.isEmpty)
        let isCurrent = harness.fleet.isCurrent(device.session)
        #expect(!isCurrent)
        #expect(harness.session(device.session)?.isDraining == true)
    }
}
