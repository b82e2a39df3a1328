internal import Domain

/// Whether a loop that has nothing to do looks for events for a while before it sleeps (docs/adr/0033).
///
/// To wake a thread whose processor sleeps takes 20 to 40 us on a virtual machine, as long as all else that a
/// small message needs in a process. So a loop whose events come in quick succession waits awake, unless it moves
/// bulk data: there nobody waits for the single packet, and what comes meanwhile is better taken together.
struct BusyPolling {
    /// The longest that is waited awake; zero for never.
    let window: Duration
    /// Waits since the last one that ended within the window.
    private var misses = Self.patience
    /// The mean of what a batch moved; the last ones count most.
    private var bytesPerBatch = 0

    /// So many waits in vain show that events don't come in quick succession any more.
    private static let patience = 4
    /// What moves more is bulk data: a few packets of a common size.
    private static let bulk = 4_096

    init(window: Duration) {
        self.window = window
    }

    /// A batch of events has moved this many bytes.
    mutating func note(bytes: Int) {
        bytesPerBatch += (bytes - bytesPerBatch) / 8
    }

    /// A wait, awake or asleep, took this long.
    mutating func note(waited: Duration) {
        misses = waited <= window ? 0 : min(misses + 1, Self.patience)
    }

    /// Whether the next event is worth waiting awake for.
    var pays: Bool { window > .zero && misses < Self.patience && bytesPerBatch <= Self.bulk }
}
