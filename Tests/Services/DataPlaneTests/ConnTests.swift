import DataPath
import DataPlane
import Domain
import EventLoop
import QUIC
import QUICKit
import TestKit
import Testing

@Suite struct ConnTests {
    @Test func aConnIsOpenedByItsStreamAndCarriesBytes() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, connID) = try plane.expect(on: id, earlyBytes: [1, 2])
        client.send([3])
        let flow = try #require(device.open())
        // The header, the target's first bytes and its FIN in one packet.
        flow.send(Frames.header(connID) + [7, 8])
        flow.finish()
        #expect(plane.run { plane.polled(client).hasEnded })
        #expect(client.received == Frames.success + [7, 8])
        #expect(plane.run { !plane.openings(of: connID).isEmpty })
        #expect(plane.openings(of: connID) == [Frames.address])
        let up = pattern(2 << 20)
        client.send(up)
        client.finish()
        #expect(
            plane.run {
                client.poll()
                return flow.isFinished
            })
        #expect(flow.received == [1, 2, 3] + up)
        #expect(plane.run { !plane.ends(of: connID).isEmpty })
        #expect(plane.ends(of: connID) == [.finished])
        for case .connEnded(let progress, _) in plane.events {
            #expect(progress.bytesSent == UInt64(up.count + 3))
            #expect(progress.bytesReceived == 2)
        }
    }

    /// Conns of one user on connections of several loops: what passes is a burst and a byte a second for all.
    @Test func allConnsOfAUserShareItsRate() throws {
        let plane = try PlaneFixture(loops: 2)
        let start = SystemClock.now
        let rate = UserRate(bytesPerSecond: 1, at: start)
        var conns: [(client: TCPEnd, flow: QUICFlow)] = []
        for token in UInt8(1)...4 {
            let (device, _, id) = try plane.join([token])
            let (client, connID) = try plane.expect(on: id, rate: rate)
            let flow = try #require(device.open())
            flow.send(Frames.header(connID))
            try #require(plane.run { plane.polled(client).received == Frames.success })
            conns.append((client, flow))
        }
        for conn in conns {
            conn.client.send(pattern(20_000))
            conn.flow.send(pattern(20_000))
        }
        func passed() -> Int {
            conns.reduce(0) {
                $0 + plane.polled($1.client).received.count - Frames.success.count + $1.flow.received.count
            }
        }
        #expect(plane.run { passed() >= 4_096 })
        plane.loop.run(milliseconds: 50)
        #expect(passed() <= 4_096 + Int((SystemClock.now - start).nanoseconds / 1_000_000_000) + 1)
        rate.change(to: nil, at: SystemClock.now)
        #expect(plane.run { passed() == 4 * 40_000 })
        for conn in conns {
            #expect(conn.client.received == Frames.success + pattern(20_000))
            #expect(conn.flow.received == pattern(20_000))
        }
    }

    @Test func aHeaderInPiecesOpensTheConn() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, connID) = try plane.expect(on: id)
        let flow = try #require(device.open())
        for byte in Frames.header(connID) + [7] {
            flow.send([byte])
            plane.loop.run(milliseconds: 1)
        }
        #expect(plane.run { plane.polled(client).received == Frames.success + [7] })
    }

    @Test func aStreamForAnUnknownConnIsReset() throws {
        let plane = try PlaneFixture()
        let (device, _, _) = try plane.join()
        let flow = try #require(device.open())
        flow.send(Frames.header(ConnID(high: 1, low: 1)) + [1, 2, 3])
        #expect(plane.run { flow.resetCode == 0x202 && flow.stopCode == 0x202 })
        #expect(device.closeReason == nil)
    }

    @Test func aConnOfAnotherDeviceIsUnknown() throws {
        let plane = try PlaneFixture()
        let (_, _, first) = try plane.join([1])
        let (thief, _, _) = try plane.join([2])
        let (client, connID) = try plane.expect(on: first)
        let flow = try #require(thief.open())
        flow.send(Frames.header(connID))
        #expect(plane.run { flow.resetCode == 0x202 })
        #expect(plane.polled(client).received.isEmpty)
        #expect(plane.ends(of: connID).isEmpty)
    }

    @Test func aSecondStreamForAConnIsUnknown() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, flow, connID) = try plane.openConn(device, id)
        let second = try #require(device.open())
        second.send(Frames.header(connID))
        #expect(plane.run { second.resetCode == 0x202 })
        flow.send([5])
        #expect(plane.run { plane.polled(client).received == Frames.success + [5] })
    }

    @Test func aStreamThatEndsWithinItsHeaderIsReset() throws {
        let plane = try PlaneFixture()
        let (device, _, _) = try plane.join()
        let flow = try #require(device.open())
        flow.send([0, 0, 0])
        flow.finish()
        #expect(plane.run { flow.resetCode == 0x202 })
        #expect(device.closeReason == nil)
    }

    @Test(arguments: [Frames.malformed, [0, 0, 0x10, 1], [0, 0, 0, 0]])
    func aBrokenHeaderClosesTheConnection(bytes: [UInt8]) throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, _, connID) = try plane.openConn(device, id)
        device.open()?.send(bytes)
        #expect(plane.run { device.peerCode == 0x104 && plane.isClosed(id) })
        #expect(plane.ends(of: connID) == [.error])
        #expect(plane.run { plane.polled(client).wasReset })
    }

    @Test func aFailedConnIsAnsweredAndClosedInOrder() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, connID) = try plane.expect(on: id)
        client.send(pattern(100_000))
        let reply = Array("HTTP/1.1 502 Bad Gateway\r\n\r\n".utf8)
        plane.send(.fail(connID, reply: reply))
        #expect(plane.run { plane.polled(client).hasEnded })
        #expect(client.received == reply)
        #expect(client.errorNumber == nil)
        #expect(plane.run { plane.ends(of: connID) == [.error] })
        let late = try #require(device.open())
        late.send(Frames.header(connID))
        #expect(plane.run { late.resetCode == 0x202 })
    }

    @Test func aConnThatIsGivenUpAfterItsStreamCameIsCut() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, flow, connID) = try plane.openConn(device, id)
        plane.send(.fail(connID, reply: [1]))
        #expect(plane.run { flow.resetCode == 0x200 && plane.polled(client).wasReset })
        #expect(plane.run { plane.ends(of: connID) == [.error] })
    }

    /// Its device has refused it and opened its stream all the same: nobody could close it where it is.
    @Test func aConnThatIsOpenWhenItIsToMoveEnds() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, flow, connID) = try plane.openConn(device, id)
        plane.send(.reassign(connID, to: DataConnectionID(loop: 1, serial: 1)))
        #expect(plane.run { flow.resetCode == 0x200 && plane.polled(client).wasReset })
        #expect(plane.run { plane.ends(of: connID) == [.error] })
    }

    @Test func anOperatorMayCloseAConn() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, flow, connID) = try plane.openConn(device, id)
        let (waiting, waitingID) = try plane.expect(on: id)
        plane.send(.close(connID, .admin))
        plane.send(.close(waitingID, .admin))
        #expect(plane.run { flow.resetCode == 0x203 && flow.stopCode == 0x203 })
        #expect(plane.run { plane.polled(client).wasReset && plane.polled(waiting).wasReset })
        #expect(plane.run { plane.ends(of: waitingID) == [.admin] })
        #expect(plane.ends(of: connID) == [.admin])
    }

    @Test func aWaitingConnMayGoToAnotherDeviceOfItsLoop() throws {
        let plane = try PlaneFixture()
        let (first, _, firstID) = try plane.join([1])
        let (second, _, secondID) = try plane.join([2])
        let (client, connID) = try plane.expect(on: firstID, earlyBytes: [1])
        plane.send(.reassign(connID, to: secondID))
        let flow = try #require(second.open())
        flow.send(Frames.header(connID))
        #expect(plane.run { plane.polled(client).received == Frames.success && flow.received == [1] })
        let late = try #require(first.open())
        late.send(Frames.header(connID))
        #expect(plane.run { late.resetCode == 0x202 })
        #expect(plane.ends(of: connID).isEmpty)
        #expect(plane.released(connID) == nil)
    }

    @Test func aWaitingConnMayGoToADeviceOfAnotherLoop() throws {
        let plane = try PlaneFixture(loops: 2)
        let devices = try plane.joinOnBothLoops()
        let (first, second) = (devices[0], devices[1])
        let (client, connID) = try plane.expect(on: first.id, earlyBytes: [1, 2])
        client.send([3])
        plane.send(.reassign(connID, to: second.id), to: first.id.loop)
        #expect(plane.run { plane.released(connID) != nil })
        let conn = try #require(plane.released(connID))
        #expect(conn.connection == second.id)
        plane.send(.expect(conn), to: second.id.loop)
        let flow = try #require(second.device.open())
        flow.send(Frames.header(connID))
        #expect(plane.run { plane.polled(client).received == Frames.success })
        #expect(plane.run { flow.received == [1, 2, 3] })
        #expect(plane.ends(of: connID).isEmpty)
    }

    @Test func devicesOfBothLoopsCarryConns() throws {
        let plane = try PlaneFixture(loops: 2)
        for (device, id) in try plane.joinOnBothLoops() {
            let (client, flow, connID) = try plane.openConn(device, id)
            let bytes = pattern(1 << 20)
            client.send(bytes)
            client.finish()
            flow.send(bytes)
            flow.finish()
            #expect(plane.run { plane.polled(client).hasEnded && flow.isFinished })
            #expect(client.received == Frames.success + bytes)
            #expect(flow.received == bytes)
            #expect(plane.run { plane.ends(of: connID) == [.finished] })
        }
    }

    @Test func aClientThatResetsWhileItWaitsEndsItsConn() throws {
        let plane = try PlaneFixture()
        let (_, _, id) = try plane.join()
        let (client, connID) = try plane.expect(on: id)
        client.reset()
        #expect(plane.run { plane.ends(of: connID) == [.clientReset] })
        plane.send(.fail(connID, reply: [1]))
        plane.send(.close(connID, .admin))
        plane.loop.run(milliseconds: 30)
        #expect(plane.ends(of: connID) == [.clientReset])
    }

    @Test func aResetOfTheTargetIsTold() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, flow, connID) = try plane.openConn(device, id)
        flow.stream.reset(code: 0x201)
        flow.stream.stopReading(code: 0x201)
        #expect(plane.run { plane.polled(client).wasReset })
        #expect(plane.run { plane.ends(of: connID) == [.targetReset] })
    }

    @Test func aSilentConnEndsIdle() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, connID) = try plane.expect(on: id, idleTimeout: .milliseconds(200))
        let flow = try #require(device.open())
        flow.send(Frames.header(connID))
        #expect(plane.run { plane.ends(of: connID) == [.idle] })
        #expect(plane.run { plane.polled(client).wasReset && flow.resetCode == 0x200 })
    }

    @Test func closingAConnectionEndsItsConnsWithTheReasonBeforeItIsTold() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join([1])
        let (other, _, otherID) = try plane.join([2])
        let conns = try (0..<3).map { _ in try plane.openConn(device, id) }
        let (bystander, flow, bystanderID) = try plane.openConn(other, otherID)
        plane.send(.closeConnection(id, code: 0x103, reason: .nodeDrained))
        #expect(plane.run { device.peerCode == 0x103 && plane.isClosed(id) })
        for (client, _, connID) in conns {
            #expect(plane.ends(of: connID) == [.nodeDrained])
            #expect(plane.run { plane.polled(client).wasReset })
        }
        flow.send([1])
        #expect(plane.run { plane.polled(bystander).received == Frames.success + [1] })
        #expect(plane.ends(of: bystanderID).isEmpty)
    }

    @Test func aDeviceThatLeavesEndsItsConnsAsLost() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, _, connID) = try plane.openConn(device, id)
        device.connection?.close(code: 0x100)
        #expect(plane.run { plane.isClosed(id) })
        #expect(plane.ends(of: connID) == [.sessionLost])
        #expect(plane.run { plane.polled(client).wasReset })
    }

    @Test func aDeviceThatFallsSilentIsGoneAfterTheIdleTimeout() throws {
        let plane = try PlaneFixture(idleTimeout: .seconds(1))
        let (device, _, id) = try plane.join()
        let (client, _, connID) = try plane.openConn(device, id)
        #expect(plane.run { plane.isClosed(id) })
        #expect(plane.ends(of: connID) == [.sessionLost])
        #expect(plane.run { plane.polled(client).wasReset })
    }

    @Test func bytesAreCountedWhileTheyMoveAndOnceTheConnHasEndedNoMore() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let (client, flow, connID) = try plane.openConn(device, id)
        let (short, shortFlow, shortID) = try plane.openConn(device, id)
        client.send([1, 2, 3])
        flow.send([4])
        short.send([1])
        #expect(plane.run { shortFlow.received == [1] })
        plane.send(.close(shortID, .admin))
        #expect(plane.run { !plane.progress.isEmpty })
        #expect(plane.progress == [ConnProgress(connID: connID, bytesSent: 3, bytesReceived: 1)])
        #expect(plane.ends(of: shortID) == [.admin])
    }
}

extension PlaneFixture {
    /// The counts told so far while bytes moved.
    var progress: [ConnProgress] {
        var told: [ConnProgress] = []
        for case .progress(let counts) in events { told += counts }
        return told
    }

    /// Devices until each of two loops has one, in the loops' order.
    func joinOnBothLoops() throws -> [(device: QUICPeer, id: DataConnectionID)] {
        var found: [Int: (device: QUICPeer, id: DataConnectionID)] = [:]
        for token in UInt8(1)...64 where found.count < 2 {
            let (device, _, id) = try join([token])
            found[id.loop] = (device, id)
        }
        return [try #require(found[0]), try #require(found[1])]
    }
}
