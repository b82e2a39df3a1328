import Domain
import Fleet
import TestKit
import Testing

struct DrainPlanTests {
    private func taken(_ devices: Int, _ rooms: [Int]) throws -> [Int] {
        let targets = try rooms.enumerated().map { index, room in
            DrainPlan.Target(nodeID: try #require(NodeID("n\(index)")), room: room)
        }
        return DrainPlan.split(devices, over: targets).map(\.taken)
    }

    @Test func devicesAreSplitByRoom() throws {
        #expect(try taken(30, [10, 20, 30]) == [5, 10, 15])
        #expect(try taken(10, [100, 100, 100]) == [4, 3, 3])
        #expect(try taken(2, [1, 1, 1]) == [1, 1, 0])
        #expect(try taken(0, [5, 5]) == [0, 0])
        #expect(try taken(100, [10, 0, 20]) == [10, 0, 20])
        #expect(try taken(5, []) == [])
        #expect(try taken(5, [-3, 9]) == [0, 5])
        #expect(try taken(1_000_000, [.max / 2, .max / 2 - 1]).reduce(0, +) == 1_000_000)
    }

    @Test func nobodyIsLostAndNobodyOverfull() throws {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<500 {
            let rooms = (0..<Int.random(in: 1...8, using: &random)).map { _ in
                Int.random(in: 0...50, using: &random)
            }
            let devices = Int.random(in: 0...200, using: &random)
            let total = rooms.reduce(0, +)
            let result = try taken(devices, rooms)
            #expect(result.reduce(0, +) == min(devices, total), "seed \(random.seed)")
            for (taken, room) in zip(result, rooms) {
                #expect(taken <= room, "seed \(random.seed)")
                guard total > 0, devices < total else { continue }
                let fair = Double(devices) * Double(room) / Double(total)
                #expect(abs(Double(taken) - fair) < 1, "seed \(random.seed)")
            }
        }
    }
}
