import Domain
import EventLoop
import Fleet
import Foundation
import Logging
import Store
import TestKit
import Testing

@testable import ClusterMember

/// What a node comes back as.
struct NodeStandingTests {
    private let folder = TemporaryDirectory()

    private var path: String { folder.path + "/standing.json" }
    private func keeper() -> StandingKeeper { StandingKeeper(path: path, logger: Logger(label: "test")) }

    private func record(_ state: String, moved: Int = 0) -> DrainRecord {
        let start = WallTime(microseconds: 1_800_000_000_000_000)
        return DrainRecord(
            drainID: DrainID(high: 1, low: 2), state: state, version: 3, startedAt: start, deadlineAt: start,
            endedAt: nil, deadlineSeconds: 60, devicesPerSecond: 9, redirectTo: ["b"], onDeadline: "hold",
            reason: "\"up\"\n", actor: "ann", etaSeconds: 0, devicesTotal: 20, devicesMoved: moved,
            devicesRemaining: 0, connsRemaining: 0, connsCut: 1, updatedAt: start)
    }

    @Test func anActiveNodeKeepsNothing() throws {
        let first = keeper()
        #expect(try first.read() == nil)
        first.nodeStateChanged(.cordoned)
        #expect(try keeper().read() == NodeStanding(state: .cordoned, drain: nil))
        first.nodeStateChanged(.active)
        #expect(try keeper().read() == nil)
    }

    @Test func aDrainUnderWayComesBackAsOneThatIsOver() throws {
        let first = keeper()
        first.nodeStateChanged(.draining)
        first.drainTold(record("handover", moved: 4))
        first.drainTold(record("handover", moved: 7))
        let kept = try #require(try keeper().read())
        #expect(kept == NodeStanding(state: .draining, drain: record("handover", moved: 7)))
        #expect(kept.restoredState == .drained)
        let now = WallTime(microseconds: 1_900_000_000_000_000)
        let past = try #require(kept.past(now: now))
        #expect(past.record.endedAt == now && past.drain.endedAt == now)
        #expect(past.drain.devicesTotal == 20 && past.drain.devicesMoved == 7 && past.drain.connsCut == 1)
    }

    @Test func aNodeThatStopsByItselfComesBackAsItWas() throws {
        let first = keeper()
        first.end()
        first.nodeStateChanged(.draining)
        first.drainTold(record("handover"))
        #expect(try keeper().read() == nil)
        let second = keeper()
        second.nodeStateChanged(.cordoned)
        second.end()
        second.nodeStateChanged(.draining)
        #expect(try keeper().read()?.state == .cordoned)
    }

    @Test(arguments: ["", "{}", #"{"state":"x"}"#, #"{"state":"drained","drain":{"drain_id":1}}"#])
    func whatCannotBeReadIsNotPassedOver(text: String) throws {
        try Data(text.utf8).write(to: URL(filePath: path))
        #expect(throws: StandingError.self) { try keeper().read() }
    }
}
