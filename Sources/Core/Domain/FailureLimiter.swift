// How often a stranger may guess a secret.
//
// Each address has room for `burst` failures in a row, and gets one back each `interval`. All of that is one
// instant: the one at which the address will have all its room again. A failure puts it `interval` later; the
// address is held up while the instant is more than `burst - 1` intervals away, for then there is no room for
// another failure. (The "virtual scheduling" form of the generic cell rate algorithm, ITU-T I.371 annex A.)
//
// Invariants:
//   - at most `capacity` addresses are remembered; those that are nearest to having all their room again are
//     forgotten first;
//   - what is tried while an address is held up makes its wait no longer.
package struct FailureLimiter: Sendable {
    private let burst: Int
    private let interval: Duration
    private let capacity: Int
    private var recoveries: [NetworkOrigin: Instant] = [:]

    /// - Parameters:
    ///   - burst: several programs behind one address may come with an old secret, a few tries each, before
    ///     it looks like guessing.
    ///   - interval: a guess a second finds nothing that is worth the name of a secret.
    ///   - capacity: 4,096 addresses take about half a megabyte.
    package init(burst: Int = 50, interval: Duration = .seconds(1), capacity: Int = 4_096) {
        self.burst = max(1, burst)
        self.interval = interval
        self.capacity = max(1, capacity)
    }

    /// How long the address must wait before it may try again; nil when it may now.
    package func wait(for origin: NetworkOrigin, at now: Instant) -> Duration? {
        guard let recovery = recoveries[origin] else { return nil }
        let wait = recovery - now - interval * (burst - 1)
        return wait > .zero ? wait : nil
    }

    /// A secret of the address was wrong.
    package mutating func failed(_ origin: NetworkOrigin, at now: Instant) {
        if recoveries[origin] == nil, recoveries.count >= capacity { makeRoom(at: now) }
        recoveries[origin] = max(recoveries[origin] ?? now, now) + interval
    }

    /// Addresses that are remembered.
    package var count: Int { recoveries.count }

    /// Forgets a quarter at least, so that the work is not done again for the next address.
    private mutating func makeRoom(at now: Instant) {
        recoveries = recoveries.filter { $0.value > now }
        guard recoveries.count > capacity - capacity / 4 else { return }
        let kept = recoveries.sorted { $0.value > $1.value }.prefix(capacity - max(1, capacity / 4))
        recoveries = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
    }
}
