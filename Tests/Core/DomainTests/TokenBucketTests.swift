import Domain
import TestKit
import Testing

@Suite struct TokenBucketTests {
    private let start = Instant(nanoseconds: 5_000_000_000)

    @Test func aBurstAtOnceAndThenTheRate() {
        var bucket = TokenBucket(rate: 1_000, burst: 300, at: start)
        #expect(bucket.take(upTo: 1_000, at: start) == 300)
        #expect(bucket.take(upTo: 1, at: start) == 0)
        #expect(bucket.moment(of: 100, at: start) == start + .milliseconds(100))
        #expect(bucket.take(upTo: 1_000, at: start + .milliseconds(100)) == 100)
        #expect(bucket.take(upTo: 1_000, at: start + .seconds(100)) == 300)
    }

    @Test func allOrNothing() {
        var bucket = TokenBucket(rate: 1_000, burst: 300, at: start)
        #expect(bucket.take(exactly: 301, at: start) == false)
        #expect(bucket.take(exactly: 300, at: start) == true)
        #expect(bucket.take(exactly: 1, at: start) == false)
        #expect(bucket.take(exactly: 1, at: start + .milliseconds(1)) == true)
    }

    @Test func whatIsGivenBackCanBeTakenAgainButNeverMoreThanABurst() {
        var bucket = TokenBucket(rate: 1_000, burst: 300, at: start)
        #expect(bucket.take(upTo: 200, at: start) == 200)
        bucket.giveBack(150)
        #expect(bucket.take(upTo: 1_000, at: start) == 250)
        bucket.giveBack(.max)
        #expect(bucket.take(upTo: 1_000, at: start) == 300)
    }

    @Test func noMoreThanABurstIsWaitedFor() {
        var bucket = TokenBucket(rate: 10, burst: 5, at: start)
        #expect(bucket.take(upTo: 5, at: start) == 5)
        #expect(bucket.moment(of: .max, at: start) == start + .milliseconds(500))
        #expect(bucket.moment(of: 0, at: start) == start)
    }

    @Test func theLargestAndTheSmallestNumbers() {
        var fast = TokenBucket(rate: .max, burst: .max, at: Instant(nanoseconds: 0))
        #expect(fast.take(upTo: .max, at: Instant(nanoseconds: 0)) == .max)
        #expect(fast.take(upTo: .max, at: Instant(nanoseconds: 1_000_000_000)) == .max)
        #expect(fast.take(upTo: .max, at: Instant(nanoseconds: .max)) == .max)
        var slow = TokenBucket(rate: 1, burst: .max, at: Instant(nanoseconds: 0))
        #expect(slow.take(upTo: .max, at: Instant(nanoseconds: 0)) == .max)
        #expect(slow.moment(of: .max, at: Instant(nanoseconds: 0)) == .distantFuture)
        #expect(slow.moment(of: 1, at: Instant(nanoseconds: 0)) == Instant(nanoseconds: 1_000_000_000))
        var none = TokenBucket(rate: 0, burst: 0, at: Instant(nanoseconds: 0))
        #expect(none.take(upTo: 5, at: Instant(nanoseconds: 0)) == 1)
    }

    @Test func aClockThatGoesBackGivesNothing() {
        var bucket = TokenBucket(rate: 1_000, burst: 300, at: start)
        #expect(bucket.take(upTo: 300, at: start) == 300)
        #expect(bucket.take(upTo: 300, at: start + .seconds(-1)) == 0)
        #expect(bucket.take(upTo: 300, at: start) == 0)
        #expect(bucket.take(upTo: 300, at: start + .milliseconds(10)) == 10)
    }

    /// However often it is asked, exactly the rate comes in: what is taken is a burst and every whole byte since.
    @Test func askingOftenNeitherLosesNorMakesAFraction() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<200 {
            let rate = UInt64.random(in: 1...5_000_000_000, using: &random)
            var bucket = TokenBucket(rate: rate, burst: rate, at: start)
            var taken: UInt64 = 0
            var now = start
            for _ in 0..<200 {
                taken += bucket.take(upTo: .max, at: now)
                now = now + .nanoseconds(Int64.random(in: 0...3_000_000, using: &random))
            }
            taken += bucket.take(upTo: .max, at: now)
            let elapsed = now.nanoseconds - start.nanoseconds
            let (high, low) = elapsed.multipliedFullWidth(by: rate)
            let came = UInt64(1_000_000_000).dividingFullWidth((high, low)).quotient
            #expect(taken == rate + came, "seed \(random.seed)")
        }
    }

    /// Whatever is asked and given back, no more than a burst and the rate passes between any two moments.
    @Test func neverMoreThanABurstAndTheRateBetweenAnyTwoMoments() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<50 {
            let rate = UInt64.random(in: 1...2_000_000, using: &random)
            let burst = UInt64.random(in: 1...500_000, using: &random)
            var bucket = TokenBucket(rate: rate, burst: burst, at: start)
            var now = start
            var passed: [(at: Instant, bytes: UInt64)] = []
            for _ in 0..<60 {
                let wanted = UInt64.random(in: 0...(2 * burst), using: &random)
                if Bool.random(using: &random) {
                    let granted = bucket.take(upTo: wanted, at: now)
                    let unused = UInt64.random(in: 0...granted, using: &random)
                    bucket.giveBack(unused)
                    passed.append((now, granted - unused))
                } else if bucket.take(exactly: wanted, at: now) {
                    passed.append((now, wanted))
                }
                now = now + .microseconds(Int64.random(in: 0...400_000, using: &random))
            }
            for first in passed.indices {
                var sum: UInt64 = 0
                for last in first..<passed.count {
                    sum += passed[last].bytes
                    let elapsed = passed[last].at.nanoseconds - passed[first].at.nanoseconds
                    let most = burst + rate * (elapsed / 1_000) / 1_000_000 + 1
                    #expect(sum <= most, "seed \(random.seed)")
                }
            }
        }
    }

    /// What it says when there will be enough is true, and a nanosecond before it would not be.
    @Test func theMomentIsTheFirstOne() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<1_000 {
            let rate = UInt64.random(in: 1...10_000_000_000, using: &random)
            let burst = UInt64.random(in: 1...1_000_000, using: &random)
            var bucket = TokenBucket(rate: rate, burst: burst, at: start)
            _ = bucket.take(upTo: UInt64.random(in: 0...burst, using: &random), at: start)
            let now = start + .nanoseconds(Int64.random(in: 0...1_000_000, using: &random))
            let wanted = UInt64.random(in: 1...burst, using: &random)
            let moment = bucket.moment(of: wanted, at: now)
            var early = bucket
            if moment > now {
                let isEnough = early.take(exactly: wanted, at: moment + .nanoseconds(-1))
                #expect(!isEnough, "seed \(random.seed)")
            }
            #expect(bucket.take(exactly: wanted, at: moment) == true, "seed \(random.seed)")
        }
    }
}
