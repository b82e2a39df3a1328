package import Domain

/// What the database's clock says at an instant of this node's monotonic one.
///
/// Each answer of the database with its time in it was made between the question and the answer, so it bounds how
/// far the two clocks are apart. The tightest bound is kept, and given up for a wider one only as it ages.
package struct DatabaseClock: Sendable, Hashable {
    /// Microseconds to add to an instant's, in the middle of the bound.
    private var lead: Int64?
    /// Half of the bound's width, as it was when it was taken.
    private var slackMicroseconds: Int64 = 0
    private var takenAt = Instant(nanoseconds: 0)

    /// By how much two good clocks drift apart in a second: one in ten thousand.
    private static let driftDivisor: Int64 = 10_000
    /// A clock that is off by more than a bound and this was set.
    private static let stepMicroseconds: Int64 = 100_000

    package init() {}

    /// - Returns: whether the database's clock was set, or is another server's.
    package mutating func note(_ time: WallTime, sentAt: Instant, receivedAt: Instant) -> Bool {
        let slack = max(0, (receivedAt - sentAt).nanoseconds / 2_000)
        let middle = Self.microseconds(sentAt) &+ slack
        let new = time.microseconds &- middle
        defer {
            if slack <= slackNow(receivedAt) || lead == nil {
                lead = new
                slackMicroseconds = slack
                takenAt = receivedAt
            }
        }
        guard let lead else { return false }
        let distance = (new &- lead).magnitude
        guard distance > UInt64(slack &+ slackNow(receivedAt) &+ Self.stepMicroseconds) else { return false }
        self.lead = nil
        return true
    }

    /// Nil before the database was heard of.
    package func time(at instant: Instant) -> WallTime? {
        lead.map { WallTime(microseconds: Self.microseconds(instant) &+ $0) }
    }

    private func slackNow(_ now: Instant) -> Int64 {
        slackMicroseconds &+ max(0, (now - takenAt).nanoseconds / 1_000) / Self.driftDivisor
    }

    private static func microseconds(_ instant: Instant) -> Int64 {
        Int64(clamping: instant.nanoseconds / 1_000)
    }
}
