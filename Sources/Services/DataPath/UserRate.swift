package import Domain
internal import Synchronization

/// The bytes a second that one user's conns may carry together, in both directions, over all loops of a node.
///
/// It is shared between threads, unlike all else here, since a user's conns are on the loops of their devices and
/// the limit is one for all. A loop takes bytes for many packets at a time, so the lock is seldom asked for.
package final class UserRate: Sendable {
    /// What may pass at once after a pause, so that a page that is fetched now and then comes at full speed.
    private static let burst = Duration.milliseconds(250)
    /// The same for a rate that is next to nothing: a few messages of a program.
    private static let leastBurstBytes: UInt64 = 4_096
    /// Turns in a second of those that wait: a shorter wait would only wake the loop more often.
    private static let turnsPerSecond: UInt64 = 50

    private let bucket: Mutex<TokenBucket?>
    private let isSet: Atomic<Bool>

    /// - Parameter bytesPerSecond: nil for no limit.
    package init(bytesPerSecond: UInt64?, at now: Instant) {
        bucket = Mutex(bytesPerSecond.map { Self.bucket($0, now) })
        isSet = Atomic(bytesPerSecond != nil)
    }

    /// Another limit from now on; the same one as before changes nothing.
    package func change(to bytesPerSecond: UInt64?, at now: Instant) {
        bucket.withLock { bucket in
            guard bucket?.rate != bytesPerSecond.map({ max(1, $0) }) else { return }
            bucket = bytesPerSecond.map { Self.bucket($0, now) }
            isSet.store(bytesPerSecond != nil, ordering: .relaxed)
        }
    }

    private static func bucket(_ rate: UInt64, _ now: Instant) -> TokenBucket {
        let share = turnsPerSecond * UInt64(burst.milliseconds) / 1_000
        return TokenBucket(rate: rate, burst: max(leastBurstBytes, rate / turnsPerSecond * share), at: now)
    }

    /// Whether there is a limit at all, for a look without the lock.
    var isLimited: Bool { isSet.load(ordering: .relaxed) }

    /// Takes bytes for one conn's turn: as many of `wanted` as there are, or, when others wait, its share of them.
    /// None when there are too few to be worth a turn.
    func takeTurn(_ wanted: Int, sharing: Bool, at now: Instant) -> Int {
        bucket.withLock { bucket in
            guard let rate = bucket?.rate else { return wanted }
            let wanted = UInt64(clamping: wanted)
            let turn = Self.turn(rate)
            let least = min(wanted, turn)
            guard bucket?.take(exactly: least, at: now) == true else { return 0 }
            let more = sharing ? 0 : bucket?.take(upTo: wanted - least, at: now) ?? 0
            return Int(clamping: least + more)
        }
    }

    /// When there is enough for a turn.
    func nextTurn(after now: Instant) -> Instant {
        bucket.withLock { bucket in
            guard let rate = bucket?.rate else { return now }
            return bucket?.moment(of: Self.turn(rate), at: now) ?? now
        }
    }

    private static func turn(_ rate: UInt64) -> UInt64 { max(1, rate / turnsPerSecond) }

    func giveBack(_ count: Int) {
        guard count > 0, isLimited else { return }
        bucket.withLock { $0?.giveBack(UInt64(count)) }
    }

    /// Whether a datagram may pass, which can't wait.
    package func admits(_ count: Int, at now: Instant) -> Bool {
        guard isLimited else { return true }
        return bucket.withLock { $0?.take(exactly: UInt64(clamping: count), at: now) ?? true }
    }
}

extension UserRate: Hashable {
    package static func == (one: UserRate, other: UserRate) -> Bool { one === other }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(ObjectIdentifier(self))
    }
}
