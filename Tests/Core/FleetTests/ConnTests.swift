import DeviceProtocol
import Domain
import Fleet
import Testing

@Suite struct ConnTests {
    @Test func aConnFromRequestToEnd() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        harness.log = []
        let placement = try #require(try harness.open("example.com:80"))
        #expect(placement.connection == device.data)
        let command = Command(
            connID: placement.connID,
            body: .openTCP(target: "example.com:80", connectTimeoutMilliseconds: 10_000))
        #expect(harness.drainActions() == [.send(device.control, .command(command))])
        #expect(harness.conn(placement.connID)?.state == .opening)
        harness.fleet.connOpened(placement.connID, resolvedAddress: "192.0.2.1:80", at: harness.moment)
        guard case .connOpened(let opened)? = harness.drainActions().first else {
            Issue.record("not told")
            return
        }
        #expect(opened.resolvedAddress == "192.0.2.1:80")
        #expect(harness.pass(.seconds(20)).isEmpty)
        #expect(harness.conn(placement.connID)?.idleSeconds(at: harness.moment.now) == 20)
        harness.fleet.connProgressed(
            placement.connID, bytesSent: 1, bytesReceived: 2, at: harness.moment)
        #expect(harness.conn(placement.connID)?.idleSeconds(at: harness.moment.now) == 0)
        #expect(harness.connEnds(placement.connID, sent: 5, received: 7).endedConns == [.finished])
        let session = try #require(harness.session(device.session))
        #expect(session.bytesSent == 5)
        #expect(session.bytesReceived == 7)
        #expect(session.connsTotal == 1)
        #expect(session.activeConns == 0)
        #expect(harness.connEnds(placement.connID).isEmpty)
    }

    @Test func aWaitingConnFailsWithItsDataConnection() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        _ = try harness.openConn()
        let waiting = try #require(try harness.open())
        _ = harness.drainActions()
        harness.fleet.dataClosed(device.data, at: harness.moment)
        let failures = harness.drainActions().filter { if case .failConn = $0 { true } else { false } }
        #expect(failures == [.failConn(waiting.connID, on: device.data, .internal)])
        #expect(harness.connEnds(waiting.connID).endedConns == [.error])
    }

    @Test(arguments: OpenError.allCases.filter { $0 != .capacity })
    func aFailureIsToldToTheClient(_ error: OpenError) throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try #require(try harness.open())
        harness.drainActions()
        let failure = CommandResponse(connID: placement.connID, success: false, errorCode: error)
        #expect(
            harness.receive(.commandResponse(failure), on: device.control)
                == [.failConn(placement.connID, on: device.data, error)])
        #expect(harness.receive(.commandResponse(failure), on: device.control).isEmpty)
        #expect(harness.connEnds(placement.connID, .finished).endedConns == [.error])
    }

    @Test func aSuccessIsToldByTheStream() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try #require(try harness.open())
        harness.drainActions()
        let success = CommandResponse(connID: placement.connID, success: true)
        #expect(harness.receive(.commandResponse(success), on: device.control).isEmpty)
        #expect(harness.conn(placement.connID)?.state == .opening)
    }

    @Test func anotherDevicesAnswerChangesNothing() throws {
        let harness = FleetHarness()
        let first = try harness.join("a")
        let second = try harness.join("b")
        let placement = try #require(try harness.open())
        harness.drainActions()
        let other = placement.connection == first.data ? second : first
        let failure = CommandResponse(connID: placement.connID, success: false, errorCode: .timeout)
        #expect(harness.receive(.commandResponse(failure), on: other.control).isEmpty)
    }

    @Test func aSilentDeviceIsATimeout() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try #require(try harness.open())
        harness.drainActions()
        let actions = harness.pass(.seconds(10))
        #expect(
            actions == [
                .send(
                    device.control, .command(Command(connID: placement.connID, body: .close(.error)))),
                .failConn(placement.connID, on: device.data, .timeout),
            ])
        #expect(harness.connEnds(placement.connID, .finished).endedConns == [.error])
    }

    @Test func aFullDeviceHandsOverToAnother() throws {
        let harness = FleetHarness()
        let devices = [try harness.join("a"), try harness.join("b")]
        let placement = try #require(try harness.open())
        harness.drainActions()
        let first = try #require(devices.first { $0.data == placement.connection })
        let second = try #require(devices.first { $0.data != placement.connection })
        let full = CommandResponse(connID: placement.connID, success: false, errorCode: .capacity)
        #expect(
            harness.receive(.commandResponse(full), on: first.control)
                == [.moveConn(placement.connID, from: first.data, to: second.data)])
        harness.fleet.connMoved(placement.connID, at: harness.moment)
        guard case .command(let command)? = harness.drainActions().sent.first else {
            Issue.record("not sent")
            return
        }
        #expect(command.connID == placement.connID)
        #expect(harness.session(first.session)?.activeConns == 0)
        #expect(harness.session(second.session)?.activeConns == 1)
        #expect(
            harness.receive(.commandResponse(full), on: second.control)
                == [.failConn(placement.connID, on: second.data, .capacity)])
    }

    @Test func aConnClosedWhileItMovesIsClosedWhenItHasMoved() throws {
        let harness = FleetHarness()
        let devices = [try harness.join("a"), try harness.join("b")]
        let placement = try #require(try harness.open())
        harness.drainActions()
        let first = try #require(devices.first { $0.data == placement.connection })
        let second = try #require(devices.first { $0.data != placement.connection })
        let full = CommandResponse(connID: placement.connID, success: false, errorCode: .capacity)
        harness.receive(.commandResponse(full), on: first.control)
        #expect(harness.closeConn(placement.connID, .admin))
        harness.drainActions()
        harness.fleet.connMoved(placement.connID, at: harness.moment)
        #expect(harness.drainActions() == [.closeConn(placement.connID, on: second.data, .admin)])
        #expect(harness.connEnds(placement.connID, .admin).endedConns == [.admin])
    }

    @Test func aClientThatLeavesCancelsTheOpen() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try #require(try harness.open())
        harness.drainActions()
        let actions = harness.connEnds(placement.connID, .clientReset)
        #expect(
            actions.sent == [.command(Command(connID: placement.connID, body: .close(.clientReset)))])
        #expect(actions.endedConns == [.clientReset])
        #expect(harness.session(device.session)?.activeConns == 0)
        #expect(harness.pass(.seconds(15)).isEmpty)
    }

    @Test func anOperatorClosesAConn() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        let placement = try harness.openConn()
        #expect(harness.closeConn(placement.connID, .admin))
        #expect(harness.drainActions().contains(.closeConn(placement.connID, on: device.data, .admin)))
        #expect(harness.closeConn(placement.connID, .admin))
        #expect(harness.drainActions().isEmpty)
        #expect(harness.connEnds(placement.connID, .admin).endedConns == [.admin])
        #expect(!harness.closeConn(placement.connID, .admin))
    }

    @Test func noDeviceNoConn() throws {
        let harness = FleetHarness()
        #expect(try harness.open() == nil)
        _ = try harness.register("control-only")
        #expect(try harness.open() == nil)
    }

    @Test func capacityIsKept() throws {
        let harness = FleetHarness()
        _ = try harness.join("d", capacity: 2)
        let first = try #require(try harness.open())
        #expect(try harness.open() != nil)
        #expect(try harness.open() == nil)
        harness.connEnds(first.connID)
        #expect(try harness.open() != nil)
    }

    @Test(arguments: SelectionStrategy.allCases.filter { $0 != .latency })
    func equalDevicesTakeTurns(_ strategy: SelectionStrategy) throws {
        let harness = FleetHarness { $0.strategy = strategy }
        for name in ["a", "b", "c"] { _ = try harness.join(name) }
        var counts: [DeviceID: Int] = [:]
        for _ in 0..<9 { counts[try #require(try harness.open()).deviceID, default: 0] += 1 }
        #expect(counts.values.sorted() == [3, 3, 3])
    }

    @Test func theLeastBusyDeviceIsChosen() throws {
        let harness = FleetHarness()
        _ = try harness.join("a")
        for _ in 0..<5 { _ = try harness.openConn() }
        _ = try harness.join("b")
        for _ in 0..<5 { #expect(try #require(try harness.open()).deviceID.description == "b") }
    }

    @Test func weightsAreCapacities() throws {
        let harness = FleetHarness { $0.strategy = .weighted }
        _ = try harness.join("small", capacity: 10)
        _ = try harness.join("large", capacity: 90)
        var counts: [String: Int] = [:]
        for _ in 0..<50 { counts[try #require(try harness.open()).deviceID.description, default: 0] += 1 }
        #expect(counts == ["small": 5, "large": 45])
    }

    @Test func sessionsThatCarriedSomethingAreToldOnce() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        _ = try harness.join("idle")
        #expect(harness.fleet.takeCountedSessions().isEmpty)
        let conn = try harness.openConn()
        #expect(harness.fleet.takeCountedSessions().map(\.connsTotal) == [1])
        harness.fleet.connProgressed(conn.connID, bytesSent: 3, bytesReceived: 4, at: harness.moment)
        harness.fleet.connProgressed(conn.connID, bytesSent: 5, bytesReceived: 4, at: harness.moment)
        let counted = harness.fleet.takeCountedSessions()
        #expect(counted.map(\.bytesSent) == [5])
        #expect(counted.map(\.sessionID) == [device.session])
        #expect(harness.fleet.takeCountedSessions().isEmpty)
        harness.connEnds(conn.connID, sent: 6, received: 7)
        #expect(harness.fleet.takeCountedSessions().map(\.activeConns) == [0])
        // One that carries nothing counts for as long as it is there.
        harness.connEnds(try harness.openConn().connID)
        #expect(harness.fleet.takeCountedSessions().map(\.activeConns) == [0])
        _ = harness.disconnect(try #require(DeviceID("d")))
        _ = harness.disconnect(try #require(DeviceID("idle")))
        #expect(harness.fleet.takeCountedSessions().isEmpty)
    }
}
