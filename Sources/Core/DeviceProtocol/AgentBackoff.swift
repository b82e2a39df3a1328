internal import Domain

/// Jittered exponential waits of 1 s to 60 s (contract section 2, "the device's answer to a close").
///
/// The n-th wait lies between half of its ceiling and the ceiling, which doubles from 2 s, so that thousands
/// of devices that lost the same node don't come back in one moment.
package struct AgentBackoff: Sendable, Equatable {
    package static let shortestWait = Duration.seconds(1)
    package static let longestWait = Duration.seconds(60)

    private var failures = 0
    private var random: SplitMix64

    /// - Parameter seed: what the waits are drawn from; devices must have different ones.
    package init(seed: UInt64) {
        random = SplitMix64(seed: seed)
    }

    /// The wait before the next attempt.
    package mutating func next() -> Duration {
        // 2^6 s is above the longest wait already.
        let ceiling = min(Duration.seconds(1 << (min(failures, 5) + 1)), Self.longestWait)
        failures = min(failures + 1, 6)
        return max(Self.shortestWait, jittered(ceiling / 2, spread: ceiling / 2))
    }

    /// `least` and up to `spread` more.
    package mutating func jittered(_ least: Duration, spread: Duration) -> Duration {
        // 53 random bits as a fraction of 0 to below 1.
        let fraction = Double(random.next() >> 11) * 0x1p-53
        return least + .nanoseconds(Int64(Double(spread.nanoseconds) * fraction))
    }

    /// The next wait is the shortest again.
    package mutating func reset() {
        failures = 0
    }
}

/// A small random sequence that is wholly given by its seed.
struct SplitMix64: RandomNumberGenerator, Sendable, Equatable {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}
