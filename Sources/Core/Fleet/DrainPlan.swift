package import Domain

/// How the devices of a node would be taken by others.
package enum DrainPlan {
    /// A node that takes devices, and how many more it has room for.
    package struct Target: Sendable, Hashable {
        package let nodeID: NodeID
        package let room: Int

        package init(nodeID: NodeID, room: Int) {
            self.nodeID = nodeID
            self.room = max(0, room)
        }
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
