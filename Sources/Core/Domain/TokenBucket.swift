// How many bytes may pass at a rate: what nobody takes is kept, up to a burst.
//
//     level   <- min(burst, level + rate * time gone by)
//     taken   <- at most level
//
// Invariants:
//   - between any two moments at most `burst + rate * (time between them)` bytes are taken, rounded up;
//   - no fraction of a byte is lost or made by how often it is asked;
//   - a clock that stands still gives nothing.
package struct TokenBucket: Sendable, Hashable {
    /// Bytes a second.
    package let rate: UInt64
    /// The most that can be taken at once.
    package let burst: UInt64

    private var level: UInt64
    /// What has come in beside whole bytes, in parts of 10^9 of one.
    private var fraction: UInt64 = 0
    private var refilledAt: Instant

    private static let nanosecondsPerSecond: UInt64 = 1_000_000_000

    /// A full bucket.
    package init(rate: UInt64, burst: UInt64, at now: Instant) {
        self.rate = max(1, rate)
        self.burst = max(1, burst)
        level = self.burst
        refilledAt = now
    }

    /// Takes as much of `wanted` bytes as there is; how many.
    package mutating func take(upTo wanted: UInt64, at now: Instant) -> UInt64 {
        refill(now)
        let taken = min(wanted, level)
        level -= taken
        return taken
    }

    /// Takes `wanted` bytes, or none when there are fewer.
    package mutating func take(exactly wanted: UInt64, at now: Instant) -> Bool {
        refill(now)
        guard wanted <= level else { return false }
        level -= wanted
        return true
    }

    /// Puts back what was taken and not used.
    package mutating func giveBack(_ count: UInt64) {
        let (sum, overflow) = level.addingReportingOverflow(count)
        level = overflow ? burst : min(burst, sum)
    }

    /// When `count` bytes, or a whole burst if that is less, will be there.
    package mutating func moment(of count: UInt64, at now: Instant) -> Instant {
        refill(now)
        let wanted = min(count, burst)
        guard wanted > level else { return now }
        // (missing * 10^9 - fraction) / rate, rounded up.
        var (high, low) = (wanted - level).multipliedFullWidth(by: Self.nanosecondsPerSecond)
        let (rest, borrow) = low.subtractingReportingOverflow(fraction)
        low = rest
        if borrow { high -= 1 }
        guard high < rate else { return .distantFuture }
        let (quotient, remainder) = rate.dividingFullWidth((high, low))
        let wait = remainder > 0 ? quotient &+ 1 : quotient
        let (nanoseconds, overflow) = refilledAt.nanoseconds.addingReportingOverflow(wait)
        return overflow ? .distantFuture : Instant(nanoseconds: nanoseconds)
    }

    private mutating func refill(_ now: Instant) {
        guard now > refilledAt else { return }
        let elapsed = now.nanoseconds - refilledAt.nanoseconds
        refilledAt = now
        var (high, low) = elapsed.multipliedFullWidth(by: rate)
        let (sum, carry) = low.addingReportingOverflow(fraction)
        low = sum
        if carry { high += 1 }
        // More than 2^64 bytes have come in.
        guard high < Self.nanosecondsPerSecond else { return fill() }
        let (bytes, rest) = Self.nanosecondsPerSecond.dividingFullWidth((high, low))
        let (total, overflow) = level.addingReportingOverflow(bytes)
        guard !overflow, total < burst else { return fill() }
        level = total
        fraction = rest
    }

    private mutating func fill() {
        level = burst
        fraction = 0
    }
}
