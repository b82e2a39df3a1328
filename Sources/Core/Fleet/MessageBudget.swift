internal import Domain

/// A token bucket: so many messages a second on average, so many at once.
struct MessageBudget: Sendable, Hashable {
    private let perSecond: UInt64
    private let burst: UInt64
    private var available: UInt64
    private var refilled: Instant

    init(perSecond: UInt64, burst: UInt64, now: Instant) {
        self.perSecond = perSecond
        self.burst = burst
        available = burst
        refilled = now
    }

    /// Takes one token; false when there is none.
    mutating func take(now: Instant) -> Bool {
        if available == 0 { refill(now) }
        guard available > 0 else { return false }
        available -= 1
        return true
    }

    private mutating func refill(_ now: Instant) {
        let elapsed = UInt64(max(0, (now - refilled).nanoseconds))
        // A bucket is full long before the product could overflow.
        let nanosecondsToFull = (burst / perSecond + 1) * 1_000_000_000
        let added = min(elapsed, nanosecondsToFull) * perSecond / 1_000_000_000
        guard added > 0 else { return }
        available = min(burst, added)
        refilled = now
    }
}
