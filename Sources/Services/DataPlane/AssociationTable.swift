internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import SOCKS5

/// The UDP associations of one data loop and their flows.
final class AssociationTable {
    let loop: EventLoop
    let reader = DatagramReader()
    let writer = DatagramWriter()
    var figures = DatagramFigures()
    /// The loop holds its table.
    private unowned(unsafe) let owner: DataLoop
    private var associations: [AssociationID: ClientAssociation] = [:]
    private var flows: [ConnID: (association: ClientAssociation, flow: DatagramFlow)] = [:]
    private var moved: [DatagramFlow] = []
    private var isFlushScheduled = false

    init(owner: DataLoop) {
        self.owner = owner
        loop = owner.loop
    }

    func add(_ pending: PendingAssociation, on connection: DeviceConnection?) {
        guard let connection else { return refuse(pending) }
        do {
            let association = ClientAssociation(pending, connection, self)
            try association.start(reply: pending.reply)
            associations[pending.id] = association
            connection.associations[pending.id] = association
            figures.associations += 1
            figures.associationsOpened &+= 1
        } catch {
            refuse(pending)
        }
    }

    /// The reply is a few bytes on a connection that has carried none: the kernel's buffer takes it.
    private func refuse(_ pending: PendingAssociation) {
        _ = pending.failureReply.withUnsafeBytes { Sockets.send(pending.clientDescriptor, $0) }
        Sockets.close(pending.clientDescriptor)
        Sockets.close(pending.datagramDescriptor)
        owner.tell(.associationEnded(pending.id))
    }

    func placed(_ id: AssociationID, _ target: Target, _ connID: ConnID, _ flowID: UInt64) {
        guard let association = associations[id], let flow = association.placed(target, connID, flowID) else {
            // The association has ended while the order was under way.
            let nothing = ConnProgress(connID: connID, bytesSent: 0, bytesReceived: 0)
            return owner.tell(.connEnded(nothing, .finished))
        }
        flows[connID] = (association, flow)
    }

    func refused(_ id: AssociationID, _ target: Target, _ refusal: FlowRefusal) {
        associations[id]?.refused(target, refusal)
    }

    func opened(_ connID: ConnID, _ resolvedAddress: String) {
        guard let (association, flow) = flows[connID] else { return }
        association.opened(flow, resolvedAddress)
    }

    /// Ends the conn if it is a flow here; whether it is.
    func endFlow(_ connID: ConnID, _ reason: CloseReason) -> Bool {
        guard let (association, flow) = flows[connID] else { return false }
        association.end(flow, reason)
        return true
    }

    func end(_ id: AssociationID) {
        associations[id]?.end(.admin, isCut: true)
    }

    func endAll(_ reason: CloseReason) {
        for association in associations.values { association.end(reason, isCut: true) }
    }

    /// The counters, with what the kernel has to say of the sockets.
    func measure() -> DatagramFigures {
        for association in associations.values { association.countSocketDrops() }
        return figures
    }

    // MARK: What associations tell

    func want(_ target: Target, _ id: AssociationID) {
        figures.flows += 1
        owner.tell(.flowWanted(id, target))
    }

    func flowMoved(_ flow: DatagramFlow) {
        guard !flow.isReported else { return }
        flow.isReported = true
        moved.append(flow)
        owner.expectProgress()
    }

    func flowEnded(_ flow: DatagramFlow, _ reason: CloseReason) {
        figures.flows -= 1
        guard let progress = flow.progress else { return }
        flows[progress.connID] = nil
        owner.tell(.connEnded(progress, reason))
    }

    func ended(_ association: ClientAssociation) {
        guard associations.removeValue(forKey: association.id) != nil else { return }
        association.connection.associations[association.id] = nil
        figures.associations -= 1
        owner.tell(.associationEnded(association.id))
    }

    /// The counts of the flows that moved bytes since this was last called.
    func takeProgress() -> [ConnProgress] {
        let told = moved
        moved.removeAll(keepingCapacity: true)
        return told.compactMap { flow in
            flow.isReported = false
            // What has ended was told with its last counts.
            return flow.progress
        }
    }

    /// Lets what was written leave at the end of the batch.
    func scheduleFlush() {
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        // A weak reference would make each retain and release, of which each datagram has some, take the slow
        // path.
        loop.atEndOfBatch {
            self.isFlushScheduled = false
            self.writer.flush()
        }
    }
}
