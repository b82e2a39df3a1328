import Glibc
import TestKit
import Testing

/// The cluster under thousands of seeds (``ClusterInvariants`` says what must hold). A failing seed is
/// played again, alone and told in detail, with `POP_SIMULATION_SEED`.
@Suite struct ClusterSimulationTests {
    private static let seedsPerRun = 250

    @Test(arguments: 0..<8)
    func whatMustHoldHolds(run: Int) {
        if let text = getenv("POP_SIMULATION_SEED"), let seed = UInt64(String(cString: text)) {
            guard run == 0 else { return }
            let world = World(seed: seed)
            world.log = { print($0) }
            let fault = world.play()
            #expect(fault == nil, "seed \(seed)")
            return
        }
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<run { _ = random.next() }
        var seeds = SeededRandom(seed: random.next())
        for _ in 0..<Self.seedsPerRun {
            let seed = seeds.next()
            if let fault = World(seed: seed).play() {
                Issue.record("seed \(seed): \(fault)")
                return
            }
        }
    }
}
