internal import DataPlane
internal import Domain
internal import Fleet

/// The associations on the data loops, as the control loop knows them.
struct AssociationBook {
    struct Entry {
        let opening: AssociationOpening
        let placement: AssociationPlacement
    }

    var entries: [AssociationID: Entry] = [:]
    private var lastSerial: UInt64 = 0

    mutating func add(_ entry: Entry) -> AssociationID {
        lastSerial += 1
        let id = AssociationID(serial: lastSerial)
        entries[id] = entry
        return id
    }
}

extension DevicePlane {
    /// Finds a device for a client's UDP association.
    ///
    /// - Parameter handOver: called once a device is found; gives the client's sockets away, or nil when there
    ///   are none.
    package func openAssociation(
        _ opening: AssociationOpening, handOver: () -> AssociationSockets?
    ) -> AssociationOpeningResult {
        guard associations.entries.count < DevicePlaneLimits.associations,
            let placement = chooseForAssociation(opening.request.wish)
        else { return .noDevice }
        guard let sockets = handOver() else { return .abandoned }
        let id = associations.add(.init(opening: opening, placement: placement))
        command(
            .associate(
                PendingAssociation(
                    id: id, connection: placement.connection, clientDescriptor: sockets.clientDescriptor,
                    datagramDescriptor: sockets.datagramDescriptor, reply: sockets.reply,
                    client: opening.client, idleTimeout: opening.idleTimeout)),
            on: placement.connection)
        return .placed(placement.deviceID)
    }

    /// An association's client has sent to a target that there is no flow to.
    func flowWanted(_ id: AssociationID, _ target: Target) {
        // Its end may be under way.
        guard let entry = associations.entries[id] else { return }
        let connection = entry.placement.connection
        guard entry.opening.permits(target) else {
            return command(.flowRefused(id, target, .denied), on: connection)
        }
        var request = entry.opening.request
        request.target = target
        switch openFlow(request, idleTimeout: entry.opening.idleTimeout, of: entry.placement) {
        case .placed(let connID, let flowID):
            command(.flowPlaced(id, target, connID, flowID: flowID), on: connection)
        case .full:
            command(.flowRefused(id, target, .full), on: connection)
        case .leaving:
            command(.flowRefused(id, target, .leaving), on: connection)
        }
    }
}
