internal import Domain

/// How long those waited that came in the last seconds.
struct RecentWaits {
    private static let window = Duration.seconds(10)
    /// Of more than this in the window the newest stand for all.
    private static let most = 2_000

    private var waits: [(wait: Duration, at: Instant)] = []

    mutating func note(_ wait: Duration, at now: Instant) {
        if waits.count >= Self.most { waits.removeFirst(Self.most / 2) }
        waits.append((wait, now))
    }

    /// What all but one in a hundred stayed below; zero when nobody came.
    mutating func take(at now: Instant) -> Duration {
        waits.removeAll { now - $0.at > Self.window }
        let sorted = waits.map(\.wait).sorted()
        guard let longest = sorted.last else { return .zero }
        let rank = sorted.count * 99 / 100
        return rank < sorted.count ? sorted[rank] : longest
    }
}
