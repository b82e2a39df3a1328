package import DevicePlane
internal import Domain
package import EventLoop
package import Fleet
internal import Logging

/// A device plane with two stand-in data loops, all on one loop that the test drives.
package final class PlaneHarness {
    package let loop: EventLoop
    package let plane: DevicePlane
    package let dataLoops: [StandInDataLoop]
    package let observer = PlaneObserver()

    package init(_ change: (inout FleetConfiguration) -> Void = { _ in }) throws {
        loop = try EventLoop()
        dataLoops = [
            try StandInDataLoop(on: loop, index: 0), try StandInDataLoop(on: loop, index: 1),
        ]
        guard let nodeID = NodeID("node-1") else { throw HarnessError.badName }
        var configuration = FleetConfiguration(nodeID: nodeID, quicAddress: ":8443")
        change(&configuration)
        plane = DevicePlane(
            on: loop, configuration: configuration, dataLoops: dataLoops.map(\.mailbox),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        plane.observer = observer
        for dataLoop in dataLoops { dataLoop.plane = plane }
    }

    package enum HarnessError: Error {
        case badName
    }

    /// Handles what is ready, for a few batches.
    package func settle() {
        for _ in 0..<5 { loop.runOnce(waitingAtMost: .zero) }
    }
}
