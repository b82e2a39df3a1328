import Domain
import TestKit
import Testing

struct FailureLimiterTests {
    private let start = Instant(nanoseconds: 1_000_000_000_000)

    private func origin(_ text: String) throws -> NetworkOrigin {
        NetworkOrigin(try #require(IPAddress(text)))
    }

    @Test func holdsUpAfterABurstAndLetsOneThroughEachInterval() throws {
        var limiter = FailureLimiter(burst: 3, interval: .seconds(10))
        let guesser = try origin("192.0.2.1")
        for _ in 0..<3 {
            #expect(limiter.wait(for: guesser, at: start) == nil)
            limiter.failed(guesser, at: start)
        }
        #expect(limiter.wait(for: guesser, at: start) == .seconds(10))
        #expect(limiter.wait(for: guesser, at: start + .seconds(4)) == .seconds(6))
        let later = start + .seconds(10)
        #expect(limiter.wait(for: guesser, at: later) == nil)
        limiter.failed(guesser, at: later)
        #expect(limiter.wait(for: guesser, at: later) == .seconds(10))
        // All room is back after three intervals without a failure.
        let muchLater = later + .seconds(30)
        for _ in 0..<3 {
            #expect(limiter.wait(for: guesser, at: muchLater) == nil)
            limiter.failed(guesser, at: muchLater)
        }
        #expect(limiter.wait(for: guesser, at: muchLater) != nil)
    }

    @Test func addressesDoNotHoldUpEachOther() throws {
        var limiter = FailureLimiter(burst: 1, interval: .seconds(10))
        limiter.failed(try origin("192.0.2.1"), at: start)
        #expect(limiter.wait(for: try origin("192.0.2.1"), at: start) != nil)
        #expect(limiter.wait(for: try origin("192.0.2.2"), at: start) == nil)
        #expect(limiter.wait(for: try origin("::ffff:192.0.2.1"), at: start) != nil)
        limiter.failed(try origin("127.0.0.1"), at: start)
        #expect(limiter.wait(for: try origin("127.0.0.1"), at: start) != nil)
    }

    @Test func anIPv6SiteIsOneStranger() throws {
        var limiter = FailureLimiter(burst: 1, interval: .seconds(10))
        limiter.failed(try origin("2001:db8:0:1::1"), at: start)
        #expect(limiter.wait(for: try origin("2001:db8:0:1:ffff::2"), at: start) != nil)
        #expect(limiter.wait(for: try origin("2001:db8:0:2::1"), at: start) == nil)
    }

    @Test func memoryIsBoundedAndTheWorstAreKept() throws {
        var random = SeededRandom.ofEnvironment()
        var limiter = FailureLimiter(burst: 2, interval: .seconds(10), capacity: 64)
        let worst = NetworkOrigin(.v4(IPv4Address(1)))
        for _ in 0..<50 { limiter.failed(worst, at: start) }
        for step in 0..<10_000 {
            let now = start + .milliseconds(Int64(step))
            let stranger = IPv4Address(UInt32.random(in: 2...5_000, using: &random))
            limiter.failed(NetworkOrigin(.v4(stranger)), at: now)
            #expect(limiter.count <= 64, "seed \(random.seed)")
            #expect(limiter.wait(for: worst, at: now) != nil, "seed \(random.seed)")
        }
    }
}
