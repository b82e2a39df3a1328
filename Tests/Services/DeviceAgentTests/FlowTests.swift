import DeviceAgent
import DeviceProtocol
import Domain
import EventLoop
import Testing

/// A UDP target on loopback, which tests look at by hand.
private final class Target {
    let address: SocketAddress
    private let descriptor: Int32
    private let reader = DatagramReader()
    private let writer = DatagramWriter()
    private(set) var received: [(bytes: [UInt8], from: SocketAddress)] = []

    init() throws {
        let loopback = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        descriptor = try Sockets.bindDatagrams(loopback)
        address = try #require(Sockets.localAddress(descriptor))
    }

    deinit {
        close()
    }

    private var isOpen = true

    func close() {
        guard isOpen else { return }
        isOpen = false
        Sockets.close(descriptor)
    }

    func poll() -> [[UInt8]] {
        _ = reader.receive(descriptor) { bytes, peer in received.append((Array(bytes), peer)) }
        return received.map(\.bytes)
    }

    func answer(_ payloads: [[UInt8]]) throws {
        let peer = try #require(received.last?.from)
        let errors = Errors()
        for payload in payloads {
            payload.withUnsafeBytes { writer.append([], $0, to: peer, of: descriptor, errors) }
        }
        writer.flush()
    }

    private final class Errors: DatagramSource {
        func datagramsNotSent(_ count: Int, errorNumber: Int32) {}
    }
}

@Suite struct FlowTests {
    private let fixture: AgentFixture
    private let control: FakeControl
    private let data: FakeData

    init() throws {
        fixture = try AgentFixture()
        (control, data) = try fixture.whole()
    }

    private func open(
        _ address: SocketAddress, flowID: UInt64, idleMilliseconds: UInt32 = 60_000,
        _ connID: ConnID = AgentFixture.connID
    ) {
        control.receive(
            .command(
                Command(
                    connID: connID,
                    body: .openUDP(
                        target: "\(address)", flowID: flowID, idleTimeoutMilliseconds: idleMilliseconds))))
    }

    private func responses() -> [CommandResponse] {
        control.sent.compactMap { if case .commandResponse(let response) = $0 { response } else { nil } }
    }

    private func ends() -> [ConnClosed] {
        control.sent.compactMap { if case .connClosed(let closed) = $0 { closed } else { nil } }
    }

    private func receive(_ datagram: [UInt8]) {
        datagram.withUnsafeBytes { data.receivedDatagram?($0) }
    }

    @Test func datagramsGoToTheTargetOfTheirFlowAndBack() throws {
        let (one, two) = (try Target(), try Target())
        open(one.address, flowID: 5)
        open(two.address, flowID: 300, ConnID(high: 3, low: 5))
        fixture.run { responses().count == 2 }
        #expect(responses().allSatisfy { $0.success })
        #expect(Set(responses().map(\.resolvedAddress)) == ["\(one.address)", "\(two.address)"])
        for datagram in [[5, 1], [0x41, 0x2c, 2], [5], [6, 9], []] as [[UInt8]] { receive(datagram) }
        fixture.run { one.poll().count == 2 && two.poll().count == 1 }
        #expect(one.poll() == [[1], []])
        #expect(two.poll() == [[2]])
        try two.answer([[3, 3], [4, 4], []])
        fixture.run { data.datagrams.count == 3 }
        #expect(data.datagrams == [[0x41, 0x2c, 3, 3], [0x41, 0x2c, 4, 4], [0x41, 0x2c]])
    }

    @Test func withoutRoomOnTheWayToThePOPAllIsReadAllTheSame() throws {
        let target = try Target()
        open(target.address, flowID: 1)
        fixture.run { !responses().isEmpty }
        receive([1, 0])
        fixture.run { !target.poll().isEmpty }
        data.datagramRoomBytes = 0
        // Of different sizes, so that the kernel gives them one by one.
        let answers: [[UInt8]] = (0..<30).map { [UInt8](repeating: $0, count: 60 - 2 * Int($0 % 7)) }
        for answer in answers { try target.answer([answer]) }
        fixture.run { data.datagrams.count == 30 }
        #expect(data.datagrams == answers.map { [1] + $0 })
    }

    /// Each datagram is larger than the one before, so that it sends that one first: the second of them is told of
    /// the refusal, while the third is being added.
    @Test func aRefusalThatIsToldWhileAnotherDatagramIsAddedEndsTheFlow() throws {
        let target = try Target()
        open(target.address, flowID: 1)
        fixture.run { !responses().isEmpty }
        target.close()
        for size in [10, 20, 30] { receive([1] + [UInt8](repeating: 7, count: size)) }
        fixture.run { !ends().isEmpty }
        #expect(ends().map(\.reason) == [.error])
        receive([1] + [UInt8](repeating: 7, count: 40))
        let other = try Target()
        open(other.address, flowID: 2, ConnID(high: 3, low: 5))
        fixture.run { responses().count == 2 }
        receive([2, 9])
        fixture.run { !other.poll().isEmpty }
        #expect(other.poll() == [[9]])
    }

    @Test func aSilentFlowEndsIdleWithItsCounts() throws {
        let target = try Target()
        open(target.address, flowID: 1, idleMilliseconds: 30)
        fixture.run { !responses().isEmpty }
        receive([1, 7, 7, 7])
        fixture.run { !ends().isEmpty }
        #expect(ends().map(\.reason) == [.idle])
        #expect(ends().first?.bytesSent == 3)
        receive([1, 8])
        fixture.run { target.poll().count == 1 }
        #expect(target.poll() == [[7, 7, 7]])
    }

    @Test func aFlowIDInUseIsRefusedAndItsFlowGoesOn() throws {
        let target = try Target()
        open(target.address, flowID: 1)
        fixture.run { responses().count == 1 }
        open(target.address, flowID: 1, ConnID(high: 3, low: 5))
        fixture.run { responses().count == 2 }
        #expect(responses().last.map { !$0.success && $0.errorCode == .internal } == true)
        receive([1, 4])
        fixture.run { !target.poll().isEmpty }
        #expect(target.poll() == [[4]])
    }

    @Test func aClosedPortEndsItsFlow() throws {
        let target = try Target()
        target.close()
        open(target.address, flowID: 1)
        fixture.run { !responses().isEmpty }
        // The first one brings ICMP's answer, which the next look at the socket finds.
        receive([1, 4])
        fixture.run { !ends().isEmpty }
        #expect(ends().map(\.reason) == [.error])
    }

    @Test func theEndOfTheDataConnectionEndsItsFlows() throws {
        let target = try Target()
        open(target.address, flowID: 1)
        fixture.run { !responses().isEmpty }
        receive([1, 4])
        fixture.run { !target.poll().isEmpty }
        data.events(.closed(code: nil, "lost"))
        fixture.run { !ends().isEmpty }
        #expect(ends().map(\.reason) == [.sessionLost])
        try target.answer([[5]])
        receive([1, 6])
        fixture.loop.runOnce(waitingAtMost: .milliseconds(20))
        #expect(data.datagrams.isEmpty)
        #expect(target.poll() == [[4]])
    }
}
