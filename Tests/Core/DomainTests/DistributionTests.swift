import Domain
import Testing

@Suite struct DistributionTests {
    private let scale = DistributionScale(bounds: [10, 20, 40], valuesPerUnit: 10)

    @Test func aValueBelongsToTheFirstBucketWhoseBoundIsNotBelowIt() {
        var distribution = Distribution(scale)
        for value: UInt64 in [0, 10, 11, 20, 21, 40, 41, .max] { distribution.note(value) }
        #expect(distribution.counts == [2, 2, 2, 2])
        #expect(distribution.count == 8)
    }

    @Test func durationsAreNanosecondsAndNeverBelowZero() {
        var distribution = Distribution(scale)
        distribution.note(.nanoseconds(15))
        distribution.note(.seconds(-3))
        #expect(distribution.counts == [1, 1, 0, 0])
        #expect(distribution.sum == 15)
    }

    @Test func distributionsOfOneScaleAddUp() {
        var first = Distribution(scale)
        var second = Distribution(scale)
        first.note(5 as UInt64)
        second.note(6 as UInt64)
        second.note(100 as UInt64)
        first.add(second)
        #expect(first.counts == [2, 0, 0, 1])
        #expect(first.sum == 111)
    }

    @Test(arguments: [
        DistributionScale.turns, .waits, .roundTrips, .lifetimes, .windows, .batches,
    ])
    func theScalesInUseRise(_ scale: DistributionScale) {
        #expect(scale.bounds == scale.bounds.sorted())
        #expect(Set(scale.bounds).count == scale.bounds.count)
    }
}
