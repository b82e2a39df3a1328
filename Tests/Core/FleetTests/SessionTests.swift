import DeviceProtocol
import Domain
import Fleet
import Testing

@Suite struct SessionTests {
    @Test func aTokenIsGoodOnce() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        #expect(harness.session(device.session)?.health == .whole)
        let other = harness.newData()
        #expect(harness.hello(other, device.response) == [.rejectHello(other)])
    }

    @Test func aTokenExpires() throws {
        let harness = FleetHarness()
        let (_, response) = try harness.register("d")
        harness.pass(.seconds(30))
        let data = harness.newData()
        #expect(harness.hello(data, response) == [.rejectHello(data)])
    }

    @Test func aWrongTokenOrSessionIsRefused() throws {
        let harness = FleetHarness()
        let (_, response) = try harness.register("d")
        let data = harness.newData()
        var wrong = response
        wrong.dataToken[31] ^= 1
        #expect(harness.hello(data, wrong) == [.rejectHello(data)])
        wrong = response
        wrong.sessionID = [1]
        #expect(harness.hello(data, wrong) == [.rejectHello(data)])
        wrong = response
        wrong.dataToken = []
        #expect(harness.hello(data, wrong) == [.rejectHello(data)])
        #expect(harness.hello(data, response).first == .acceptHello(data, capacity: 0))
    }

    @Test func heartbeatsAreAcknowledged() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let heartbeat = Heartbeat(sequence: 5, sentAtUnixMilliseconds: 77)
        let ack = HeartbeatAck(
            sequence: 5, sentAtUnixMilliseconds: 77,
            receivedAtUnixMilliseconds: harness.moment.wall.milliseconds)
        #expect(
            harness.receive(.heartbeat(heartbeat), on: device.control)
                == [.send(device.control, .heartbeatAck(ack))])
        #expect(harness.session(device.session)?.lastHeartbeatAt == harness.moment.wall)
    }

    @Test func anyMessageCountsAsLife() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        for _ in 0..<5 {
            #expect(harness.pass(.seconds(89)).closes.isEmpty)
            harness.receive(.unknown, on: device.control)
        }
        let actions = harness.pass(.seconds(90))
        #expect(actions.closes == [.silent])
        #expect(actions.dataCloses == [DataPlaneError.heartbeatLost])
        #expect(actions.endings == [.heartbeatLost])
    }

    @Test func aNewSessionReplacesTheOld() throws {
        let harness = FleetHarness()
        let old = try harness.join("d")
        harness.log = []
        let (_, response) = try harness.register("d")
        #expect(response.status == .ok)
        #expect(response.sessionID != old.session.bytes)
        #expect(response.sessionEpoch > old.response.sessionEpoch)
        #expect(harness.log.closes == [.replaced])
        #expect(harness.log.dataCloses == [DataPlaneError.replaced])
        #expect(harness.log.endings == [.replaced])
    }

    @Test func controlLostAndResumed() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        harness.fleet.controlClosed(device.control, at: harness.moment)
        harness.drainActions()
        #expect(harness.session(device.session)?.health == .dataOnly)
        #expect(try harness.open() == nil)
        harness.pass(.seconds(29))
        let (_, response) = try harness.register("d", resuming: device.session)
        #expect(response.resumed)
        #expect(response.dataToken.isEmpty)
        #expect(response.sessionID == device.session.bytes)
        #expect(response.sessionEpoch == device.response.sessionEpoch)
        #expect(harness.session(device.session)?.health == .whole)
        #expect(harness.session(device.session)?.resumes == 1)
        #expect(harness.conn(placement.connID)?.state == .open)
        #expect(harness.pass(.seconds(5)).endings.isEmpty)
    }

    @Test func controlLostForGood() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        harness.fleet.controlClosed(device.control, at: harness.moment)
        let actions = harness.pass(.seconds(30))
        #expect(actions.dataCloses.count == 1)
        #expect(actions.endings.isEmpty, "the conn has not told its last counts")
        let last = harness.connEnds(placement.connID, sent: 10, received: 20, .sessionLost)
        #expect(last.endedConns == [.sessionLost])
        #expect(last.endings == [.controlLost])
        guard case .sessionEnded(let snapshot, _, _)? = last.last else { return }
        #expect(snapshot.bytesSent == 10)
        #expect(snapshot.bytesReceived == 20)
        let (_, response) = try harness.register("d", resuming: device.session)
        #expect(!response.resumed)
        #expect(response.sessionID != device.session.bytes)
    }

    @Test func anEndedSessionDoesNotWaitForItsConnsForEver() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        _ = harness.disconnect(try #require(DeviceID("d")))
        #expect(harness.drainActions().endings.isEmpty)
        #expect(harness.pass(.seconds(2)).endings == [.operator])
        #expect(harness.session(device.session) == nil)
        #expect(harness.connEnds(placement.connID).endedConns.count == 1)
        #expect(harness.isEmpty)
    }

    @Test func resumingWhileTheOldControlIsOpenClosesIt() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.log = []
        let (control, response) = try harness.register("d", resuming: device.session)
        #expect(response.resumed)
        #expect(harness.log.closes == [.replaced])
        harness.fleet.controlClosed(device.control, at: harness.moment)
        #expect(harness.session(device.session)?.health == .whole)
        #expect(harness.receive(.unknown, on: control).isEmpty)
    }

    @Test func aForeignSessionIsNotResumed() throws {
        let harness = FleetHarness()
        let device = try harness.join("a")
        let (_, response) = try harness.register("b", resuming: device.session)
        #expect(!response.resumed)
        #expect(response.sessionID != device.session.bytes)
        #expect(harness.session(device.session)?.health == .whole)
    }

    @Test func dataLostIsNoticedByTheNode() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        harness.connEnds(placement.connID, .sessionLost)
        harness.fleet.dataClosed(device.data, at: harness.moment)
        let actions = harness.drainActions()
        guard case .reconnect? = actions.sent.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(harness.session(device.session)?.health == .controlOnly)
        let (_, response) = try harness.register("d", resuming: device.session, on: device.control)
        #expect(response.status == .ok)
        #expect(!response.resumed)
        #expect(response.sessionID == device.session.bytes)
        #expect(response.dataToken.count == 32)
        #expect(response.dataToken != device.response.dataToken)
        #expect(harness.hello(harness.newData(), response).count == 2)
        #expect(harness.session(device.session)?.health == .whole)
    }

    @Test func dataLostIsNoticedByTheDevice() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let opening = try #require(try harness.open())
        let placement = try harness.openConn()
        harness.log = []
        let (_, response) = try harness.register("d", resuming: device.session, on: device.control)
        #expect(!response.resumed)
        #expect(harness.log.contains(.failConn(opening.connID, on: device.data, .internal)))
        #expect(
            harness.log.contains(
                .closeData(device.data, code: DataPlaneError.normalEnd, reason: .sessionLost)))
        #expect(harness.connEnds(placement.connID, .sessionLost).endedConns == [.sessionLost])
        harness.fleet.dataClosed(device.data, at: harness.moment)
        #expect(harness.drainActions().isEmpty)
        harness.hello(harness.newData(), response)
        #expect(harness.session(device.session)?.health == .whole)
    }

    @Test func bothPlanesLostAndResumed() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.controlClosed(device.control, at: harness.moment)
        harness.fleet.dataClosed(device.data, at: harness.moment)
        #expect(harness.drainActions().sent.isEmpty)
        harness.pass(.seconds(10))
        let (_, response) = try harness.register("d", resuming: device.session)
        #expect(!response.resumed)
        #expect(response.sessionID == device.session.bytes)
        #expect(response.dataToken.count == 32)
    }

    @Test func aDeviceThatNeverOpensItsDataPlaneIsReminded() throws {
        let harness = FleetHarness()
        let (control, _) = try harness.register("d")
        #expect(harness.pass(.seconds(30)).sent == [.reconnect(reason: "there is no data plane")])
        harness.receive(.unknown, on: control)
        #expect(harness.pass(.seconds(30)).sent.count == 1)
    }

    @Test func anOperatorDisconnects() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let name = try #require(DeviceID("d"))
        #expect(harness.disconnect(name))
        let actions = harness.drainActions()
        #expect(actions.closes == [.disconnected])
        #expect(actions.dataCloses == [DataPlaneError.normalEnd])
        #expect(actions.endings == [.operator])
        #expect(!harness.disconnect(name))
        let (_, response) = try harness.register("d", resuming: device.session)
        #expect(!response.resumed)
        #expect(response.sessionID != device.session.bytes)
    }

    @Test func disablingAndRevokingEndTheSession() throws {
        let harness = FleetHarness()
        let name = try #require(DeviceID("d"))
        _ = try harness.join("d")
        harness.fleet.revoke(name, at: harness.moment)
        var actions = harness.drainActions()
        #expect(actions.closes == [.forbidden])
        #expect(actions.endings == [.revoked])
        _ = try harness.join("d")
        harness.fleet.setEnabled(name, false, at: harness.moment)
        actions = harness.drainActions()
        #expect(actions.closes == [.forbidden])
        #expect(actions.dataCloses == [DataPlaneError.normalEnd])
        #expect(actions.endings == [.disabled])
        #expect(harness.disabledDevices == [name])
    }

    @Test func revokingTurnsAwayWhoIsAboutToRegister() throws {
        let harness = FleetHarness()
        let name = try #require(DeviceID("d"))
        let coming = harness.openControl(identity: name)
        let other = harness.openControl(identity: DeviceID("e"))
        harness.fleet.revoke(name, at: harness.moment)
        #expect(harness.drainActions().closes == [.forbidden])
        #expect(harness.receive(.registerRequest(RegisterRequest(deviceID: "d")), on: coming).isEmpty)
        #expect(try harness.register("e", on: other).1.status == .ok)
    }

    @Test func goodbye() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let actions = harness.receive(.goodbye(reason: "maintenance"), on: device.control)
        #expect(actions.closes == [.normal])
        #expect(actions.endings == [.goodbye])
        #expect(harness.isEmpty)
    }

    @Test(arguments: [ControlCloseCode.framing, .text, .malformed, .tooBig])
    func aBrokenRuleOfTheCodecEndsTheSession(_ code: ControlCloseCode) throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.controlViolated(device.control, code, reason: "", at: harness.moment)
        let actions = harness.drainActions()
        #expect(actions.closes == [code])
        #expect(actions.endings == [.protocolError])
        #expect(harness.receive(.unknown, on: device.control).isEmpty)
    }

    @Test(arguments: [
        ControlMessage.registerResponse(RegisterResponse()),
        .heartbeatAck(HeartbeatAck(sequence: 0, sentAtUnixMilliseconds: 0, receivedAtUnixMilliseconds: 0)),
        .command(Command(connID: ConnID(high: 0, low: 0), body: .close(.admin))),
        .drain(Drain(deadlineMilliseconds: 0)),
        .reconnect(reason: ""),
    ])
    func aMessageThatOnlyAPOPSendsIsOutOfOrder(_ message: ControlMessage) throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        #expect(harness.receive(message, on: device.control).closes == [.outOfOrder])
    }

    @Test func aFloodOfMessagesEndsTheSession() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        var actions: [FleetAction] = []
        for _ in 0..<201 where actions.isEmpty { actions = harness.receive(.unknown, on: device.control) }
        #expect(actions.closes == [.outOfOrder])
    }

    @Test func aBudgetFillsUpAgain() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        for _ in 0..<100 {
            for _ in 0..<20 { harness.receive(.unknown, on: device.control) }
            harness.pass(.seconds(1))
        }
        #expect(harness.session(device.session)?.health == .whole)
    }

    @Test func stoppingEndsEverything() throws {
        let harness = FleetHarness()
        _ = try harness.join("a")
        _ = try harness.join("b")
        _ = harness.openControl()
        harness.fleet.stop(at: harness.moment)
        let actions = harness.drainActions()
        #expect(actions.closes == [.nodeStopping, .nodeStopping, .nodeStopping])
        #expect(actions.endings == [.nodeStopped, .nodeStopped])
        #expect(harness.isEmpty)
        _ = harness.openControl()
        #expect(harness.drainActions().closes == [.nodeStopping])
    }

    @Test func migrationsAreCounted() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.fleet.pathChanged(device.data, peer: FleetHarness.client)
        #expect(harness.session(device.session)?.migrations == 1)
        #expect(harness.session(device.session)?.quicRemoteAddress == FleetHarness.client)
    }

    @Test func loadReportsAreKeptAndTold() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let report = LoadReport(
            sampledAtUnixMilliseconds: 1, activeConns: 2, bytesSent: 3, bytesReceived: 4,
            cpuUtilization: .nan, memoryUsedBytes: 5, memoryTotalBytes: 6)
        guard case .loadReported(let load)? = harness.receive(.loadReport(report), on: device.control).first
        else {
            Issue.record("not told")
            return
        }
        #expect(load.sessionID == device.session)
        #expect(load.receivedAt == harness.moment.wall)
        #expect(harness.session(device.session)?.load?.activeConns == 2)
    }
}
