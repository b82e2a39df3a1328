import DataPlane
import Domain
import EventLoop
import QUIC
import QUICKit
import TLS
import Testing

@Suite struct HelloTests {
    @Test func anAcceptedHelloIsAcknowledged() throws {
        let plane = try PlaneFixture()
        let (device, hello, id) = try plane.greet([1, 2, 3])
        for case .hello(_, let peer, _, _) in plane.events {
            #expect(peer == plane.endpoint.localAddress)
        }
        #expect(hello.received.isEmpty)
        plane.send(.acceptHello(id, capacity: 10))
        #expect(plane.run { hello.received == Frames.accepted })
        #expect(!hello.isFinished)
        device.connection?.close(code: 0x100)
        #expect(plane.run { plane.isClosed(id) })
    }

    @Test func aHelloInPiecesIsOneHello() throws {
        let plane = try PlaneFixture()
        let device = try plane.connect()
        let hello = try #require(device.open())
        for byte in Frames.hello([5]) {
            hello.send([byte])
            plane.loop.run(milliseconds: 1)
        }
        #expect(plane.run { plane.greeting([5]) != nil })
        #expect(plane.events.count == 1)
    }

    @Test func aBadTokenClosesTheConnection() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.greet([1])
        plane.send(.rejectHello(id))
        #expect(plane.run { device.peerCode == 0x101 })
        #expect(plane.run { plane.isClosed(id) })
    }

    enum Breach: CaseIterable {
        case malformed, tooBig, empty, followed, finishedEarly, reset
    }

    @Test(arguments: Breach.allCases) func aBrokenHelloClosesTheConnection(breach: Breach) throws {
        let plane = try PlaneFixture()
        let device = try plane.connect()
        let hello = try #require(device.open())
        switch breach {
        case .malformed: hello.send(Frames.malformed)
        case .tooBig: hello.send([0, 0, 0x10, 1])
        case .empty: hello.send([0, 0, 0, 1, 0])
        case .followed: hello.send(Frames.hello([1]) + [0])
        case .finishedEarly:
            hello.send([0, 0])
            hello.finish()
        case .reset:
            hello.send([0])
            hello.stream.reset(code: 0x200)
        }
        #expect(plane.run { device.peerCode == 0x104 })
    }

    @Test func aStreamBesideTheHelloIsAViolation() throws {
        let plane = try PlaneFixture()
        let device = try plane.connect()
        let hello = try #require(device.open())
        let second = try #require(device.open())
        second.send([0])
        hello.send([0])
        #expect(plane.run { device.peerCode == 0x104 })
        #expect(plane.events.isEmpty)
    }

    @Test func aStreamBeforeTheAnswerIsAViolation() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.greet([1])
        device.open()?.send([0])
        #expect(plane.run { device.peerCode == 0x104 && plane.isClosed(id) })
    }

    @Test(arguments: [true, false]) func theFirstStreamMayNotSayMoreNorEnd(byBytes: Bool) throws {
        let plane = try PlaneFixture()
        let (device, hello, id) = try plane.join()
        if byBytes {
            hello.send([0])
        } else {
            hello.finish()
        }
        #expect(plane.run { device.peerCode == 0x104 && plane.isClosed(id) })
    }

    @Test func aDeviceWithoutHelloIsClosedAfterItsTime() throws {
        let plane = try PlaneFixture()
        let device = try plane.connect()
        #expect(plane.run(seconds: 30) { device.peerCode == 0x104 })
        #expect(plane.events.isEmpty)
    }

    @Test func aStreamThatNeverSaysItsConnIsGivenUp() throws {
        let plane = try PlaneFixture()
        let (device, _, id) = try plane.join()
        let silent = try #require(device.open())
        silent.send([0, 0])
        // A whole header in between is taken, and what it opens stays.
        let (_, flow, _) = try plane.openConn(device, id)
        #expect(plane.run(seconds: 30) { silent.resetCode == 0x202 && silent.stopCode == 0x202 })
        #expect(device.closeReason == nil && flow.resetCode == nil)
    }

    @Test(arguments: [(UInt32(20), 1_000), (UInt32(1_200), 1_200)])
    func aDeviceMayHaveItsCapacityOfStreamsAtOnce(capacity: UInt32, streams: Int) throws {
        let plane = try PlaneFixture()
        let (device, _, _) = try plane.join(capacity: capacity)
        var flows: [QUICFlow] = []
        plane.run {
            while let flow = device.open() { flows.append(flow) }
            return flows.count >= streams
        }
        #expect(flows.count == streams)
        #expect(device.open() == nil)
    }

    @Test func `a device without a limit waits for no credit`() throws {
        let plane = try PlaneFixture()
        let (device, _, _) = try plane.join(capacity: 0)
        var flows: [QUICFlow] = []
        #expect(
            plane.run {
                while flows.count < 3_000, let flow = device.open() { flows.append(flow) }
                return flows.count == 3_000
            })
        #expect(device.open() != nil)
    }

    @Test func newHandshakesGetTheNewCertificate() throws {
        let plane = try PlaneFixture()
        let (device, _, _) = try plane.join()
        let identity = try SelfSignedCertificate.make(hosts: ["pop.test"])
        plane.send(
            .useCertificate(
                certificatePEM: identity.certificateChainPEM, keyPEM: identity.privateKeyPEM))
        var newcomer: QUICPeer?
        #expect(
            plane.run {
                if newcomer == nil || newcomer?.closeReason != nil {
                    newcomer = try? plane.startToConnect(trusting: identity)
                }
                return newcomer?.isConnected == true
            })
        let late = try plane.startToConnect()
        #expect(plane.run { late.closeReason != nil })
        #expect(!late.isConnected)
        #expect(device.closeReason == nil)
    }

    @Test func stoppingClosesEveryConnectionAndIsToldByEveryLoop() throws {
        let plane = try PlaneFixture(loops: 2)
        let (device, _, id) = try plane.join()
        let (client, _, connID) = try plane.openConn(device, id)
        plane.stop()
        #expect(plane.run { device.peerCode == 0x100 })
        #expect(plane.run { plane.stoppedLoops.count == 2 })
        #expect(plane.stoppedLoops.sorted() == [0, 1])
        #expect(plane.ends(of: connID) == [.sessionLost])
        #expect(plane.run { plane.polled(client).wasReset })
    }
}
