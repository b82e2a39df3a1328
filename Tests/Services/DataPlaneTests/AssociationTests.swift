import DataPlane
import DeviceProtocol
import Domain
import EventLoop
import QUIC
import QUICKit
import Testing

/// A client with a UDP association of the plane.
private final class AssociatedClient {
    let id: AssociationID
    let control: TCPEnd
    private let fixture: PlaneFixture
    private let device: DataConnectionID
    private let relay: SocketAddress
    private let descriptor: Int32
    private let reader = DatagramReader()
    private(set) var received: [[UInt8]] = []

    static let failure: [UInt8] = [5, 1]
    static let loopback = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)

    init(_ fixture: PlaneFixture, on device: DataConnectionID, idleTimeout: Duration = .seconds(60)) throws {
        self.fixture = fixture
        self.device = device
        id = AssociationID(serial: 1)
        let (control, controlDescriptor) = try TCPEnd.pair()
        self.control = control
        let datagrams = try Sockets.bindDatagrams(Self.loopback)
        relay = try #require(Sockets.localAddress(datagrams))
        descriptor = try Sockets.connectDatagrams(relay)
        fixture.send(
            .associate(
                PendingAssociation(
                    id: id, connection: device, clientDescriptor: controlDescriptor,
                    datagramDescriptor: datagrams, reply: Frames.success, failureReply: Self.failure,
                    client: Self.loopback, idleTimeout: idleTimeout)), to: device.loop)
    }

    /// Waits for the reply that it may send now.
    func accepted() throws -> Self {
        try #require(fixture.run { fixture.polled(control).received == Frames.success })
        return self
    }

    deinit {
        Sockets.close(descriptor)
    }

    /// The header of datagrams to and from a port of 192.0.2.7.
    static func header(_ port: UInt8) -> [UInt8] { [0, 0, 0, 1, 192, 0, 2, 7, 0, port] }

    static func target(_ port: UInt8) throws -> Target { try #require(Target("192.0.2.7:\(port)")) }

    func send(_ payload: [UInt8], _ port: UInt8) { sendRaw(Self.header(port) + payload) }

    func sendRaw(_ datagram: [UInt8], from other: Int32? = nil) {
        _ = datagram.withUnsafeBytes { Sockets.send(other ?? descriptor, $0) }
    }

    func stranger() throws -> Int32 { try Sockets.connectDatagrams(relay) }

    func poll() -> [[UInt8]] {
        _ = reader.receive(descriptor) { bytes, _ in received.append(Array(bytes)) }
        return received
    }

    func command(_ command: DataCommand) { fixture.send(command, to: device.loop) }

    /// Waits until the plane has asked for a flow, and has it placed and opened.
    func openFlow(_ port: UInt8, _ connID: ConnID, flowID: UInt64) throws {
        try place(port, connID, flowID: flowID)
        command(.flowOpened(connID, resolvedAddress: "192.0.2.7:\(port)"))
    }

    func place(_ port: UInt8, _ connID: ConnID, flowID: UInt64) throws {
        let target = try Self.target(port)
        try #require(fixture.run { fixture.wantedFlows(id).contains(target) })
        command(.flowPlaced(id, target, connID, flowID: flowID))
    }

    func drops(_ cause: DatagramDropCause) -> UInt64 {
        fixture.datagramFigures(of: device.loop).dropped[cause]
    }
}

extension PlaneFixture {
    fileprivate func wantedFlows(_ id: AssociationID) -> [Target] {
        events.compactMap { if case .flowWanted(id, let target) = $0 { target } else { nil } }
    }

    fileprivate func hasEnded(_ id: AssociationID) -> Bool {
        events.contains { if case .associationEnded(id) = $0 { true } else { false } }
    }

    /// What the loop has counted by now.
    fileprivate func datagramFigures(of index: Int) -> DatagramFigures {
        let before = figures.count
        send(.tellFigures, to: index)
        run { figures.count > before }
        return figures.last ?? DatagramFigures()
    }

    private var figures: [DatagramFigures] {
        events.compactMap { if case .figures(_, let figures) = $0 { figures.datagrams } else { nil } }
    }
}

@Suite struct AssociationTests {
    private let fixture: PlaneFixture
    private let device: QUICPeer
    private let connection: DataConnectionID
    private let first = ConnID(high: 1, low: 1)
    private let second = ConnID(high: 1, low: 2)

    init() throws {
        fixture = try PlaneFixture()
        (device, _, connection) = try fixture.join()
    }

    private func sendFromDevice(_ datagram: [UInt8]) {
        _ = datagram.withUnsafeBytes { device.connection?.sendDatagram($0) }
    }

    @Test func flowIDsStandBeforePayloadsBothWays() throws {
        let client = try AssociatedClient(fixture, on: connection).accepted()
        client.send([1], 53)
        client.send([2], 53)
        client.send([3], 54)
        try client.openFlow(53, first, flowID: 7)
        try client.openFlow(54, second, flowID: 300)
        #expect(fixture.run { device.datagrams.count == 3 })
        #expect(device.datagrams == [[7, 1], [7, 2], [0x41, 0x2c, 3]])
        sendFromDevice([0x41, 0x2c, 9])
        sendFromDevice([7])
        #expect(fixture.run { client.poll().count == 2 })
        #expect(client.received == [AssociatedClient.header(54) + [9], AssociatedClient.header(53)])
        sendFromDevice([8, 1])
        #expect(fixture.run { client.drops(.unknownFlow) == 1 })
        #expect(fixture.wantedFlows(client.id).count == 2)
    }

    @Test func whatWaitsForTheDeviceIsBoundedAndTheOldestGiveWay() throws {
        let client = try AssociatedClient(fixture, on: connection).accepted()
        for number: UInt8 in 0..<70 { client.send([number], 53) }
        #expect(fixture.run { client.drops(.openingQueueFull) == 6 })
        try client.openFlow(53, first, flowID: 1)
        #expect(fixture.run { device.datagrams.count == 64 })
        #expect(device.datagrams == (6..<70).map { [1, $0] })
    }

    @Test func aSilentFlowEndsIdleAndANewOneMayFollow() throws {
        let client = try AssociatedClient(fixture, on: connection, idleTimeout: .milliseconds(30)).accepted()
        client.send([1], 53)
        try client.openFlow(53, first, flowID: 1)
        #expect(fixture.run { fixture.ends(of: first) == [.idle] })
        client.send([2], 53)
        #expect(fixture.run { fixture.wantedFlows(client.id).count == 2 })
    }

    @Test func aFailedFlowKeepsItsTargetFromGettingAnotherAtOnce() throws {
        let client = try AssociatedClient(fixture, on: connection).accepted()
        client.send([1], 53)
        try client.place(53, first, flowID: 1)
        client.command(.fail(first, reply: []))
        #expect(fixture.run { fixture.ends(of: first) == [.error] })
        client.send([2], 53)
        #expect(fixture.run { client.drops(.refused) == 2 })
        client.send([3], 54)
        try client.openFlow(54, second, flowID: 2)
        #expect(fixture.run { device.datagrams == [[2, 3]] })
    }

    @Test func aDeviceThatLeavesEndsAnAssociationWithoutFlows() throws {
        let client = try AssociatedClient(fixture, on: connection).accepted()
        client.send([1], 53)
        let target = try AssociatedClient.target(53)
        #expect(fixture.run { fixture.wantedFlows(client.id) == [target] })
        client.command(.flowRefused(client.id, target, .leaving))
        #expect(fixture.run { fixture.hasEnded(client.id) })
        #expect(fixture.run { fixture.polled(client.control).wasReset })
    }

    @Test func theLossOfTheDeviceEndsFlowsAndAssociation() throws {
        let client = try AssociatedClient(fixture, on: connection).accepted()
        client.send([1], 53)
        try client.openFlow(53, first, flowID: 1)
        #expect(fixture.run { device.datagrams.count == 1 })
        device.connection?.close(code: 0)
        #expect(fixture.run { fixture.hasEnded(client.id) })
        #expect(fixture.ends(of: first) == [.sessionLost])
        #expect(fixture.run { fixture.polled(client.control).wasReset })
        let figures = fixture.datagramFigures(of: connection.loop)
        #expect(figures.flows == 0 && figures.associations == 0)
    }

    @Test func whatIsDroppedIsCountedByItsCause() throws {
        let client = try AssociatedClient(fixture, on: connection).accepted()
        client.send([1], 53)
        try client.openFlow(53, first, flowID: 1)
        #expect(fixture.run { device.datagrams.count == 1 })
        client.sendRaw([0, 0, 1, 1, 192, 0, 2, 7, 0, 53, 9])
        client.sendRaw([0, 0])
        let stranger = try client.stranger()
        defer { Sockets.close(stranger) }
        client.sendRaw(AssociatedClient.header(53) + [9], from: stranger)
        client.send([UInt8](repeating: 9, count: 9_000), 53)
        for cause in [DatagramDropCause.fragment, .malformed, .foreignSource, .tooLarge] {
            #expect(fixture.run { client.drops(cause) == 1 }, "\(cause)")
        }
        client.send([2], 53)
        #expect(fixture.run { device.datagrams == [[1, 1], [1, 2]] })
    }

    @Test func theEndOfTheClientsConnectionEndsItsFlowsInOrder() throws {
        let client = try AssociatedClient(fixture, on: connection).accepted()
        client.send([1], 53)
        try client.openFlow(53, first, flowID: 1)
        #expect(fixture.run { device.datagrams.count == 1 })
        client.control.finish()
        #expect(fixture.run { fixture.hasEnded(client.id) })
        #expect(fixture.ends(of: first) == [.finished])
        #expect(!fixture.isClosed(connection))
    }

    @Test func aClientWhoseDeviceIsLostOnTheWayIsTold() throws {
        device.connection?.close(code: 0x100)
        #expect(fixture.run { fixture.isClosed(connection) })
        let client = try AssociatedClient(fixture, on: connection)
        #expect(fixture.run { fixture.polled(client.control).hasEnded })
        #expect(client.control.received == AssociatedClient.failure)
        #expect(!client.control.wasReset)
        #expect(fixture.run { fixture.hasEnded(client.id) })
    }
}
