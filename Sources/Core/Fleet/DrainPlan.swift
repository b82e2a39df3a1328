package import Domain

/// How the devices of a node would be taken by others.
package enum DrainPlan {
    /// A node that takes devices, and how many more it has room for.
    package struct Target: Sendable, Hashable {
        package let nodeID: NodeID
        package let room: Int
        /// Whether those that come have to wait longer than they should.
        package let isBusy: Bool

        package init(nodeID: NodeID, room: Int, isBusy: Bool = false) {
            self.nodeID = nodeID
            self.room = max(0, room)
            self.isBusy = isBusy
        }
    }

    /// How long it takes until the last device begins to move, as things are; those for which there is no room stay
    /// until the deadline.
    package static func estimate(
        _ devices: Int, over targets: [Target], _ request: DrainRequest
    ) -> DrainEstimate {
        guard devices > 0 else { return DrainEstimate(time: .zero, basis: .none) }
        let room = targets.reduce(0) { $0.addingReportingOverflow($1.room).partialValue }
        guard targets.isEmpty || room >= devices else {
            return DrainEstimate(time: request.deadline, basis: .deadline)
        }
        let set = Double(max(1, request.devicesPerSecond))
        // Without any other node devices look after themselves, told at the pace that is set.
        let most = targets.isEmpty ? set : TakerBook.devicesPerSecond(of: targets, set: set)
        let pace = min(set, most)
        return DrainEstimate(
            time: .milliseconds(Int64((Double(devices) / pace * 1_000).rounded(.up))),
            basis: most < set ? .takerRate : .setRate)
    }

    /// How many of `devices` each target takes: in proportion to its room, never more than that. Devices for
    /// which there is no room stay where they are.
    package static func split(_ devices: Int, over targets: [Target]) -> [(target: Target, taken: Int)] {
        let room = targets.reduce(0) { $0.addingReportingOverflow($1.room).partialValue }
        guard devices < room else { return targets.map { ($0, $0.room) } }
        guard devices > 0 else { return targets.map { ($0, 0) } }
        let shares = targets.map { target in
            room.dividingFullWidth(devices.multipliedFullWidth(by: target.room))
        }
        // What rounding down has left over goes to the largest remainders, of equal ones to the smaller id.
        let left = devices - shares.reduce(0) { $0 + $1.quotient }
        let favoured = Set(
            targets.indices.sorted {
                (shares[$1].remainder, targets[$0].nodeID) < (shares[$0].remainder, targets[$1].nodeID)
            }.prefix(left))
        return targets.indices.map { (targets[$0], shares[$0].quotient + (favoured.contains($0) ? 1 : 0)) }
    }
}
