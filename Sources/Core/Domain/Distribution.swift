/// How many values of which size there were, and their sum: a histogram as a plain value, for whoever counts
/// on one thread.
package struct Distribution: Sendable, Hashable {
    package let scale: DistributionScale
    /// Values in each bucket, not accumulated; the last one is without a bound.
    package private(set) var counts: [UInt64]
    /// In the values' own unit.
    package private(set) var sum: UInt64 = 0

    package init(_ scale: DistributionScale) {
        self.scale = scale
        counts = Array(repeating: 0, count: scale.bounds.count + 1)
    }

    package var count: UInt64 { counts.reduce(0, &+) }

    package mutating func note(_ value: UInt64) {
        // A dozen bounds at most, and small values come most often: nothing is found faster than this way.
        var bucket = 0
        while bucket < scale.bounds.count, value > scale.bounds[bucket] { bucket += 1 }
        counts[bucket] &+= 1
        sum &+= value
    }

    /// For a scale of nanoseconds; a duration below zero counts as none.
    package mutating func note(_ duration: Duration) {
        note(UInt64(max(0, duration.nanoseconds)))
    }

    /// Takes in what was counted elsewhere on the same scale.
    package mutating func add(_ other: Distribution) {
        precondition(other.scale == scale, "distributions of different scales")
        for bucket in counts.indices { counts[bucket] &+= other.counts[bucket] }
        sum &+= other.sum
    }
}

/// Where the buckets of a ``Distribution`` end.
package struct DistributionScale: Sendable, Hashable {
    /// Rising.
    package let bounds: [UInt64]
    /// How many of the values make one of the unit that people are told, e.g. 10^9 for nanoseconds told in
    /// seconds.
    package let valuesPerUnit: UInt64

    /// - Parameter bounds: rising; a last bucket without a bound follows them.
    package init(bounds: [UInt64], valuesPerUnit: UInt64 = 1) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds must rise")
        self.bounds = bounds
        self.valuesPerUnit = valuesPerUnit
    }

    private static func microseconds(_ bounds: [UInt64]) -> DistributionScale {
        DistributionScale(bounds: bounds.map { $0 * 1_000 }, valuesPerUnit: 1_000_000_000)
    }

    /// 100 µs to 1 s: how long an event loop is busy with one thing.
    package static let turns = microseconds([
        100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000,
    ])

    /// 1 ms to 10 s: what people and programs wait for.
    package static let waits = microseconds([
        1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000,
    ])

    /// 1 ms to 1 s: round trips on the internet.
    package static let roundTrips = microseconds([
        1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    ])

    /// 100 ms to 12 h: how long conns live.
    package static let lifetimes = microseconds([
        100_000, 1_000_000, 10_000_000, 60_000_000, 300_000_000, 1_800_000_000, 7_200_000_000,
        43_200_000_000,
    ])

    /// 16 KiB to 16 MiB: congestion windows.
    package static let windows = DistributionScale(bounds: [
        16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
    ])

    /// 1 to 1,024: things that are done together.
    package static let batches = DistributionScale(bounds: [1, 4, 16, 64, 256, 1_024])
}
