internal import DataPlane
internal import Domain
internal import Fleet

/// The associations on the data loops, as the control loop knows them.
struct AssociationBook {
    struct Entry {
        let opening: AssociationOpening
        let placement: AssociationPlacement
    }

    private(set) var entries: [AssociationID: Entry] = [:]
    private var counts: [String: Int] = [:]
    private var lastSerial: UInt64 = 0

    /// Without users all clients are one, and only the number of all is bounded.
    func count(of user: String?) -> Int {
        guard let user else { return 0 }
        return counts[user] ?? 0
    }

    mutating func add(_ entry: Entry) -> AssociationID {
        lastSerial += 1
        let id = AssociationID(serial: lastSerial)
        entries[id] = entry
        if let user = entry.opening.request.user { counts[user, default: 0] += 1 }
        return id
    }

    mutating func remove(_ id: AssociationID) {
        guard let user = entries.removeValue(forKey: id)?.opening.request.user else { return }
        counts[user] = count(of: user) > 1 ? count(of: user) - 1 : nil
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
            associations.count(of: opening.request.user) < DevicePlaneLimits.associationsOfUser,
            let placement = chooseForAssociation(opening.request.wish)
        else { return .noDevice }
        guard let sockets = handOver() else { return .abandoned }
        let id = associations.add(.init(opening: opening, placement: placement))
        command(
            .associate(
                PendingAssociation(
                    id: id, connection: placement.connection, clientDescriptor: sockets.clientDescriptor,
                    datagramDescriptor: sockets.datagramDescriptor, reply: sockets.reply,
                    failureReply: sockets.failureReply, client: opening.client,
                    idleTimeout: opening.idleTimeout, rate: opening.rate)),
            on: placement.connection)
        return .placed(placement.deviceID)
    }

    /// Ends all associations of a user, who has no way to get another flow.
    func endAssociations(of user: String) {
        for (id, entry) in associations.entries where entry.opening.request.user == user {
            command(.endAssociation(id), on: entry.placement.connection)
        }
    }

    /// An association's client has sent to a target that there is no flow to.
    func flowWanted(_ id: AssociationID, _ target: Target) {
        // Its end may be under way.
        guard let entry = associations.entries[id] else { return }
        let connection = entry.placement.connection
        if let refusal = entry.opening.refusal(target) {
            return command(.flowRefused(id, target, refusal), on: connection)
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
