internal import EventLoop
internal import Glibc

/// SplitMix64: a random source that a failing run can be replayed with (`POP_TEST_SEED`).
package struct SeededRandom: RandomNumberGenerator {
    package let seed: UInt64
    private var state: UInt64

    package init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    package static func ofEnvironment() -> SeededRandom {
        if let text = getenv("POP_TEST_SEED"), let seed = UInt64(String(cString: text)) {
            return SeededRandom(seed: seed)
        }
        return SeededRandom(seed: SystemRandom().next())
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
