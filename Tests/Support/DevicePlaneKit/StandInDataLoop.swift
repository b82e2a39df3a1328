package import DataPlane
package import DevicePlane
package import Domain
package import EventLoop
internal import TestKit

/// A data loop without QUIC: keeps the promises of `DataCommand` on the control loop's own thread.
package final class StandInDataLoop {
    package let mailbox: Mailbox<DataCommand>
    package weak var plane: DevicePlane?
    /// Every command, in order.
    package private(set) var commands: [DataCommand] = []
    package private(set) var pending: [ConnID: PendingConn] = [:]
    /// The clients' sockets of open conns, written to as a device would.
    package private(set) var open: [ConnID: any ByteStream] = [:]
    package private(set) var early: [ConnID: [UInt8]] = [:]
    package private(set) var accepted: Set<DataConnectionID> = []
    package private(set) var rejected: Set<DataConnectionID> = []
    package private(set) var closed: [DataConnectionID: UInt64] = [:]

    private let loop: EventLoop
    private let index: Int
    private var lastSerial: UInt64 = 0
    private var connections: [ConnID: DataConnectionID] = [:]

    package init(on loop: EventLoop, index: Int) throws {
        self.loop = loop
        self.index = index
        mailbox = try Mailbox()
        try loop.attach(mailbox) { [weak self] in self?.perform($0) }
    }

    private static let peer = SocketAddress(ip: .v4(IPv4Address(0xc000_0202)), port: 4_433)

    /// A device connects and shows its token.
    package func hello(sessionID: [UInt8], dataToken: [UInt8]) -> DataConnectionID {
        lastSerial += 1
        let id = DataConnectionID(loop: index, serial: lastSerial)
        plane?.receive(.hello(id, peer: Self.peer, sessionID: sessionID, dataToken: dataToken))
        return id
    }

    /// A device's stream for the conn arrives.
    package func streamArrives(for id: ConnID, resolvedAddress: String = "192.0.2.9:80") throws {
        guard let conn = pending.removeValue(forKey: id) else { return }
        let stream = try TCPStream(
            on: loop, adopting: conn.clientDescriptor, peer: Self.peer, handler: StreamRecorder())
        stream.write(conn.successReply)
        open[id] = stream
        early[id] = conn.earlyBytes
        plane?.receive(.connOpened(id, resolvedAddress: resolvedAddress))
    }

    /// A device's connection is gone.
    package func lose(_ connection: DataConnectionID) {
        endConns(on: connection, .sessionLost)
        plane?.receive(.connectionClosed(connection, reason: "lost"))
    }

    private func perform(_ command: DataCommand) {
        commands.append(command)
        switch command {
        case .acceptHello(let id, capacity: _):
            accepted.insert(id)
        case .rejectHello(let id):
            rejected.insert(id)
            plane?.receive(.connectionClosed(id, reason: "rejected"))
        case .closeConnection(let id, let code, let reason):
            closed[id] = code
            endConns(on: id, reason)
            plane?.receive(.connectionClosed(id, reason: "closed"))
        case .expect(let conn):
            pending[conn.connID] = conn
            connections[conn.connID] = conn.connection
        case .fail(let id, let reply):
            fail(id, reply)
        case .close(let id, let reason):
            end(id, reason)
        case .reassign(let id, let to):
            reassign(id, to)
        default:
            break
        }
    }

    private func fail(_ id: ConnID, _ reply: [UInt8]) {
        guard let conn = pending.removeValue(forKey: id) else { return }
        connections[id] = nil
        if let stream = try? TCPStream(
            on: loop, adopting: conn.clientDescriptor, peer: Self.peer, handler: StreamRecorder())
        {
            stream.write(reply)
            stream.closeWhenFlushed()
        }
        ended(id, .error)
    }

    private func reassign(_ id: ConnID, _ to: DataConnectionID) {
        guard let conn = pending[id] else { return }
        let moved = PendingConn(
            connID: id, connection: to, clientDescriptor: conn.clientDescriptor, earlyBytes: conn.earlyBytes,
            successReply: conn.successReply, idleTimeout: conn.idleTimeout)
        if to.loop == index {
            pending[id] = moved
            connections[id] = to
        } else {
            pending[id] = nil
            connections[id] = nil
            plane?.receive(.released(moved))
        }
    }

    private func endConns(on connection: DataConnectionID, _ reason: CloseReason) {
        for (id, owner) in connections where owner == connection { end(id, reason) }
    }

    package func end(_ id: ConnID, _ reason: CloseReason) {
        guard connections.removeValue(forKey: id) != nil else { return }
        if let conn = pending.removeValue(forKey: id) { Sockets.closeWithReset(conn.clientDescriptor) }
        open.removeValue(forKey: id)?.abort()
        ended(id, reason)
    }

    private func ended(_ id: ConnID, _ reason: CloseReason) {
        let progress = ConnProgress(connID: id, bytesSent: 11, bytesReceived: 22)
        plane?.receive(.connEnded(progress, reason))
    }
}
