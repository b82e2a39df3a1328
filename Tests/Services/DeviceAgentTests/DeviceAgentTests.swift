import DeviceAgent
import DeviceProtocol
import Domain
import EventLoop
import Testing

@Suite struct DeviceAgentTests {
    @Test func registersReportsAndBeats() throws {
        let fixture = try AgentFixture()
        fixture.agent.start()
        let control = try #require(fixture.transports.controls.first)
        #expect(control.pop.description == "ws://127.0.0.1:1")
        control.open()
        fixture.run { !control.sent.isEmpty }
        #expect(
            control.takeSent() == [
                .registerRequest(RegisterRequest(deviceID: "d", capabilities: ["tcp", "udp", "migration"]))
            ])
        control.receive(AgentFixture.accepted())
        let data = try #require(fixture.transports.datas.first)
        #expect(data.plan.port == 7_443)
        #expect(data.address == .v4(IPv4Address(0x7f00_0001)))
        #expect(!fixture.agent.isWhole)
        data.events(.acknowledged)
        #expect(fixture.agent.isWhole)
        fixture.run { control.sent.count == 2 }
        let sent = control.takeSent()
        guard case .heartbeat(let heartbeat)? = sent.first, case .loadReport(let report)? = sent.last else {
            Issue.record("sent \(sent)")
            return
        }
        #expect(heartbeat.sequence == 1)
        #expect(heartbeat.sentAtUnixMilliseconds > 1_600_000_000_000)
        #expect(report.memoryTotalBytes > 0)
        #expect(report.activeConns == 0)
    }

    @Test func dataPlaneOfAnotherHostIsNotLookedForAtTheControlAddress() throws {
        let fixture = try AgentFixture()
        fixture.agent.start()
        let control = try #require(fixture.transports.controls.first)
        control.open()
        control.receive(AgentFixture.accepted(quic: "other.example:1"))
        let data = try #require(fixture.transports.datas.first)
        #expect(data.address == nil)
        #expect(data.plan.host == .name("other.example"))
    }

    @Test func targetThatRefusesIsAnswered() throws {
        let fixture = try AgentFixture()
        let (control, _) = try fixture.whole()
        let address = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        let listener = try Listener(on: fixture.loop, address) { descriptor, _ in Sockets.close(descriptor) }
        let port = listener.address.port
        listener.close()
        control.receive(AgentFixture.openTCP("127.0.0.1:\(port)"), AgentFixture.openTCP("127.0.0.1:\(port)"))
        fixture.run { !control.sent.isEmpty }
        guard case .commandResponse(let response)? = control.takeSent().first else {
            Issue.record("no CommandResponse")
            return
        }
        #expect(response.connID == AgentFixture.connID)
        #expect(!response.success)
        #expect(response.errorCode == .connectionRefused)
        #expect(response.resolvedAddress == "127.0.0.1:\(port)")
    }

    @Test func targetOutsideThePolicyIsDenied() throws {
        let fixture = try AgentFixture()
        let (control, _) = try fixture.whole()
        control.receive(AgentFixture.openTCP("10.0.0.1:80"))
        fixture.run { !control.sent.isEmpty }
        guard case .commandResponse(let response)? = control.takeSent().first else {
            Issue.record("no CommandResponse")
            return
        }
        #expect(response.errorCode == .deniedByPolicy)
    }

    @Test func connWaitsForStreamCreditInsteadOfFailing() throws {
        let fixture = try AgentFixture()
        let (control, data) = try fixture.whole()
        let address = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        let accepted = Accepted()
        let listener = try Listener(on: fixture.loop, address) { descriptor, _ in
            accepted.descriptors.append(descriptor)
        }
        control.receive(AgentFixture.openTCP("127.0.0.1:\(listener.address.port)"))
        fixture.run { data.streamsAsked == 1 }
        data.events(.creditGrew)
        #expect(data.streamsAsked == 2)
        #expect(control.takeSent().isEmpty)
        // The order to close it meanwhile cuts the target off.
        control.receive(.command(Command(connID: AgentFixture.connID, body: .close(.admin))))
        data.events(.creditGrew)
        #expect(data.streamsAsked == 2)
        #expect(control.takeSent().isEmpty)
        listener.close()
        for descriptor in accepted.descriptors { Sockets.close(descriptor) }
    }

    private final class Accepted {
        var descriptors: [Int32] = []
    }

    @Test(
        arguments: [
            ([], 1_002), ([0, 0, 0], 1_002), ([0, 2, 0, 0], 1_009), ([0, 0, 0, 1, 0x0f], 1_007),
        ] as [([UInt8], UInt16)])
    func brokenMessageClosesControlWithItsCode(message: [UInt8], code: UInt16) throws {
        let fixture = try AgentFixture()
        let (control, data) = try fixture.whole()
        control.events(.received(message))
        #expect(control.closeCode == code)
        #expect(data.closeCode == nil)
        control.events(.received([0, 0, 0, 0]))
        control.events(.closed(code: nil, "gone"))
        // Data lives, so the session is asked for again.
        fixture.run { fixture.transports.controls.count == 2 }
        let again = try #require(fixture.transports.controls.last)
        again.open()
        fixture.run { !again.sent.isEmpty }
        guard case .registerRequest(let request)? = again.takeSent().first else {
            Issue.record("no RegisterRequest")
            return
        }
        #expect(request.resumeSessionID == AgentFixture.sessionID.bytes)
    }

    @Test func stopSaysGoodbyeAndEndsWhenTheConnectionIsGone() throws {
        let fixture = try AgentFixture()
        let (control, data) = try fixture.whole()
        fixture.agent.stop(reason: "test")
        #expect(control.takeSent() == [.goodbye(reason: "test")])
        #expect(control.closeCode == 1_000)
        #expect(data.closeCode == DataPlaneError.normalEnd)
        #expect(fixture.end == nil)
        control.events(.closed(code: 1_000, "closed"))
        fixture.run { fixture.end != nil }
        #expect(fixture.end == .ordered)
    }

    @Test func replacedAgentEndsAndStaysAway() throws {
        let fixture = try AgentFixture()
        let (control, data) = try fixture.whole()
        control.events(.closed(code: 4_009, "replaced"))
        fixture.run { fixture.end != nil }
        #expect(fixture.end == .replaced)
        #expect(data.closeCode != nil)
        #expect(fixture.transports.controls.count == 1)
    }

    @Test func failedControlGoesToTheNextPOP() throws {
        let fixture = try AgentFixture()
        fixture.agent.start()
        let first = try #require(fixture.transports.controls.first)
        first.events(.failed(.unreachable, "refused"))
        #expect(fixture.transports.controls.map(\.pop.port) == [1, 2])
        // What an abandoned connection still says is of no interest.
        first.open()
        first.events(.closed(code: 4_009, "late"))
        #expect(fixture.transports.controls.count == 2)
        #expect(fixture.end == nil)
    }
}
