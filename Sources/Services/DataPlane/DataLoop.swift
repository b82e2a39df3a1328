internal import DataPath
internal import Domain
internal import EventLoop
internal import QUIC

/// One data loop: its share of the devices' QUIC connections, and the client sockets of their conns.
///
/// It decides nothing about devices: who may connect and what belongs to whom is asked of the control loop
/// by ``DataEvent`` and told by ``DataCommand``.
final class DataLoop: QUICEndpointDelegate, StreamRelayOwner {
    let loop: EventLoop
    private let index: Int
    private let pool = ChunkPool()
    private let commands: Mailbox<DataCommand>
    private let events: Mailbox<DataEvent>
    private var endpoint: QUICEndpoint?
    private var connections: [UInt64: DeviceConnection] = [:]
    private var conns: [ConnID: Conn] = [:]
    /// Of users whose conns are here, by how many there are.
    private var gates: [UserRate: (gate: RateGate, conns: Int)] = [:]
    private var nextSerial: UInt64 = 1
    private var moved: [StreamRelay] = []
    private var progressTimer: LoopTimer?
    private(set) lazy var associations = AssociationTable(owner: self)

    /// A conn on this loop: waiting for its device's stream, or open on a connection.
    private final class Conn {
        var pending: PendingConn
        let relay: StreamRelay
        var openOn: DeviceConnection?

        init(_ pending: PendingConn, _ relay: StreamRelay) {
            self.pending = pending
            self.relay = relay
        }
    }

    /// How often byte counts are told while bytes move.
    private static let progressInterval = Duration.milliseconds(400)

    /// - Parameter commands: the mailbox whose messages the loop gives to `handle`.
    init(
        loop: EventLoop, index: Int, commands: Mailbox<DataCommand>, events: Mailbox<DataEvent>
    ) {
        self.loop = loop
        self.index = index
        self.commands = commands
        self.events = events
        progressTimer = loop.makeTimer { [weak self] in self?.tellProgress() }
    }

    /// Serves `endpoint`, whose delegate this loop is.
    func serve(_ endpoint: QUICEndpoint) {
        self.endpoint = endpoint
    }

    func tell(_ event: DataEvent) {
        events.send(event)
    }

    /// Tells what nobody waits for.
    private func tellSoon(_ event: DataEvent) {
        events.send(event, soonFrom: loop)
    }

    // MARK: Commands

    func handle(_ command: DataCommand) {
        switch command {
        case .acceptHello(let id, let capacity):
            connections[id.serial]?.acceptHello(capacity: capacity)
        case .rejectHello(let id):
            connections[id.serial]?.close(code: DataPlaneError.badToken, "bad data token", ending: .error)
        case .closeConnection(let id, let code, let reason):
            connections[id.serial]?.close(code: code, "", ending: reason)
        case .expect(let pending):
            expect(pending)
        case .fail(let connID, let reply):
            fail(connID, reply)
        case .reassign(let connID, let connection):
            reassign(connID, to: connection)
        case .close(let connID, let reason):
            if !associations.endFlow(connID, reason) { conns[connID]?.relay.close(reason) }
        case .associate(let pending):
            associations.add(pending, on: connections[pending.connection.serial])
        case .endAssociation(let id):
            associations.end(id)
        case .flowPlaced(let id, let target, let connID, let flowID):
            associations.placed(id, target, connID, flowID)
        case .flowRefused(let id, let target, let refusal):
            associations.refused(id, target, refusal)
        case .flowOpened(let connID, let resolvedAddress):
            associations.opened(connID, resolvedAddress)
        case .useCertificate(let certificate, let key):
            // Checked by who sent it: the pair has been loaded once already.
            if let credentials = try? QUICServerCredentials(certificatePEM: certificate, keyPEM: key) {
                endpoint?.serverCredentials = credentials
            }
        case .tellFigures:
            let figures = DataLoopFigures(
                loop: loop.statistics, quic: endpoint?.measure() ?? QUICMetrics(),
                datagrams: associations.measure())
            tell(.figures(loop: index, figures))
        case .stop:
            stop()
        }
    }

    private func expect(_ pending: PendingConn) {
        do {
            let relay = try StreamRelay(
                on: loop, pool: pool, connID: pending.connID, descriptor: pending.clientDescriptor,
                earlyBytes: pending.earlyBytes, idleTimeout: pending.idleTimeout,
                rate: pending.rate.map { enter($0) }, owner: self)
            conns[pending.connID] = Conn(pending, relay)
        } catch {
            if let rate = pending.rate { leave(rate) }
            Sockets.closeWithReset(pending.clientDescriptor)
            tell(.connEnded(ConnProgress(connID: pending.connID, bytesSent: 0, bytesReceived: 0), .error))
        }
    }

    private func fail(_ connID: ConnID, _ reply: [UInt8]) {
        if associations.endFlow(connID, .error) { return }
        guard let conn = conns[connID] else { return }
        if conn.openOn == nil {
            conn.relay.finish(with: reply, .error)
        } else {
            // The stream came while the order was under way, so the client has been told of success: what the
            // control loop has given up may not live on here.
            conn.relay.close(.error)
        }
    }

    private func reassign(_ connID: ConnID, to connection: DataConnectionID) {
        guard let conn = conns[connID] else { return }
        // A device that has refused it and opened its stream all the same: the control loop has given it away.
        guard conn.openOn == nil else { return conn.relay.close(.error) }
        let pending = conn.pending.moved(to: connection)
        if connection.loop == index {
            conn.pending = pending
        } else {
            conns[connID] = nil
            if let rate = pending.rate { leave(rate) }
            conn.relay.release()
            tell(.released(pending))
        }
    }

    /// Where the conns of a user wait for its rate; left again by each conn that has entered.
    private func enter(_ rate: UserRate) -> RateGate {
        let gate = gates[rate]?.gate ?? RateGate(on: loop, rate)
        gates[rate, default: (gate, 0)].conns += 1
        return gate
    }

    private func leave(_ rate: UserRate) {
        guard let conns = gates[rate]?.conns else { return }
        if conns > 1 { gates[rate]?.conns = conns - 1 } else { gates[rate] = nil }
    }

    private func stop() {
        for connection in connections.values {
            connection.close(code: DataPlaneError.normalEnd, "node stopping", ending: .sessionLost)
        }
        for conn in conns.values { conn.relay.close(.sessionLost) }
        associations.endAll(.sessionLost)
        progressTimer?.cancel()
        endpoint?.close()
        tell(.stopped(loop: index))
        loop.stop()
    }

    // MARK: Connections

    func endpoint(_ endpoint: QUICEndpoint, accepted quic: QUICConnection) {
        let id = DataConnectionID(loop: index, serial: nextSerial)
        nextSerial += 1
        connections[id.serial] = DeviceConnection(id: id, quic: quic, owner: self)
    }

    func connectionEnded(_ connection: DeviceConnection) {
        connections[connection.id.serial] = nil
    }

    /// Opens the conn that waits for a stream of `connection`; false when none does.
    func open(
        _ header: (connID: ConnID, resolvedAddress: String), on connection: DeviceConnection,
        _ stream: QUICStream, received: [UInt8]
    ) -> Bool {
        var found = conns[header.connID]
        if found?.pending.connection != connection.id {
            // The order to expect the conn was sent before the device was asked to dial, but a quick device's
            // stream can be in a batch of packets that is read before the mailbox has its turn.
            for command in commands.takeAll() { handle(command) }
            found = conns[header.connID]
        }
        guard let conn = found, conn.openOn == nil, conn.pending.connection == connection.id
        else { return false }
        conn.openOn = connection
        tellSoon(.connOpened(header.connID, resolvedAddress: header.resolvedAddress))
        conn.relay.attach(stream, preface: conn.pending.successReply, received: received)
        return true
    }

    // MARK: Relays

    func relayMoved(_ relay: StreamRelay) {
        moved.append(relay)
        expectProgress()
    }

    /// Something has moved bytes, which is told soon.
    func expectProgress() {
        guard let progressTimer, !progressTimer.isArmed else { return }
        progressTimer.arm(at: loop.now + Self.progressInterval)
    }

    func relayEnded(_ relay: StreamRelay, _ end: RelayEnd) {
        let conn = conns.removeValue(forKey: relay.connID)
        if let rate = conn?.pending.rate { leave(rate) }
        let counts = relay.takeProgress()
        let progress = ConnProgress(
            connID: relay.connID, bytesSent: counts.fromSocket, bytesReceived: counts.toSocket)
        let reason: CloseReason =
            switch end {
            case .finished: .finished
            case .socketReset: .clientReset
            case .streamReset: .targetReset
            case .connectionLost: conn?.openOn?.endOfConns ?? .sessionLost
            case .idle: .idle
            case .closed(let reason): reason
            }
        tellSoon(.connEnded(progress, reason))
    }

    private func tellProgress() {
        let relays = moved
        moved.removeAll(keepingCapacity: true)
        // What has ended was told with its last counts.
        let streams = relays.filter { conns[$0.connID]?.relay === $0 }.map { relay in
            let counts = relay.takeProgress()
            return ConnProgress(
                connID: relay.connID, bytesSent: counts.fromSocket, bytesReceived: counts.toSocket)
        }
        let progress = streams + associations.takeProgress()
        if !progress.isEmpty { tellSoon(.progress(progress)) }
    }
}

extension PendingConn {
    /// The same conn, waiting for a stream of another connection.
    func moved(to connection: DataConnectionID) -> PendingConn {
        PendingConn(
            connID: connID, connection: connection, clientDescriptor: clientDescriptor,
            earlyBytes: earlyBytes, successReply: successReply, idleTimeout: idleTimeout, rate: rate)
    }
}
