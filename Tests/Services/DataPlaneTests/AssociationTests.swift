import DataPlane
import Domain
import EventLoop
import QUIC
import QUICKit
import Testing

@Suite struct AssociationTests {
    private static let success: [UInt8] = [5, 0]
    private static let failure: [UInt8] = [5, 1]

    /// A client whose association goes to a connection.
    private func associate(
        _ plane: PlaneFixture, on connection: DataConnectionID, _ id: AssociationID
    ) throws -> TCPEnd {
        let (client, descriptor) = try TCPEnd.pair()
        let any = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        plane.send(
            .associate(
                PendingAssociation(
                    id: id, connection: connection, clientDescriptor: descriptor,
                    datagramDescriptor: try Sockets.bindDatagrams(any), reply: Self.success,
                    failureReply: Self.failure, client: any, idleTimeout: .seconds(60))),
            to: connection.loop)
        return client
    }

    private func hasEnded(_ plane: PlaneFixture, _ id: AssociationID) -> Bool {
        plane.events.contains { if case .associationEnded(id) = $0 { true } else { false } }
    }

    @Test func anAssociationLivesAsLongAsItsClient() throws {
        let plane = try PlaneFixture()
        let (_, _, connection) = try plane.join()
        let id = AssociationID(serial: 1)
        let client = try associate(plane, on: connection, id)
        #expect(plane.run { plane.polled(client).received == Self.success })
        #expect(!hasEnded(plane, id))
        client.finish()
        #expect(plane.run { hasEnded(plane, id) })
    }

    @Test func aClientWhoseDeviceIsLostOnTheWayIsTold() throws {
        let plane = try PlaneFixture()
        let (device, _, connection) = try plane.join()
        device.connection?.close(code: 0x100)
        #expect(plane.run { plane.isClosed(connection) })
        let id = AssociationID(serial: 1)
        let client = try associate(plane, on: connection, id)
        #expect(plane.run { plane.polled(client).hasEnded })
        #expect(client.received == Self.failure)
        #expect(!client.wasReset)
        #expect(plane.run { hasEnded(plane, id) })
    }
}
