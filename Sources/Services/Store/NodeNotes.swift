internal import Domain
internal import EventLoop
internal import Outbox

/// What a node notes on its own disk for its next life, whether or not the database takes what it should: the
/// newest session epoch, and what the open sessions have carried so far.
///
/// Notes are gathered and written a few times a second, without a wait for the disk: they survive the end of the
/// process in any way, and a loss of power costs the last of them.
final class NodeNotes {
    private let loop: EventLoop
    private let disk: DiskQueue
    private let life: NodeLife
    private var timer: LoopTimer?
    private var notedEpoch: UInt64
    private var epoch: UInt64
    private var counts: [SessionID: SessionUpdate] = [:]
    /// Ended sessions, in their order, whose counts can go once the end itself is safe.
    private var ended: [(session: SessionID, at: Instant)] = []

    private static let interval = Duration.milliseconds(150)
    /// By then an end is in the database or on disk.
    private static let endPatience = Duration.seconds(2)
    private static let epochMark = "session_epoch"
    /// An epoch that is further ahead of the clock than this was given to one device, after one of a node whose
    /// clock is wrong; it says nothing of the others.
    private static let plausibleLeadMicroseconds: UInt64 = 3_600_000_000
    /// What a life may have given after it noted the last epoch.
    private static let epochMarginMicroseconds: UInt64 = 2_000_000

    init(on loop: EventLoop, disk: DiskQueue, life: NodeLife) {
        self.loop = loop
        self.disk = disk
        self.life = life
        let read = disk.attempt(loop.now, isReading: true) { outbox throws(OutboxError) in
            try outbox.mark(Self.epochMark)
        }
        notedEpoch = UInt64(clamping: (read ?? nil) ?? 0)
        epoch = notedEpoch
        timer = loop.makeTimer { [weak self] in self?.write() }
    }

    /// No new session may have an epoch up to this: lives before this one gave them; 0 when there is no note.
    static func lastEpoch(outboxPath: String) -> UInt64 {
        do throws(OutboxError) {
            guard let noted = try Outbox(path: outboxPath).mark(epochMark) else { return 0 }
            return UInt64(clamping: noted) &+ epochMarginMicroseconds
        } catch {
            // The store says so as soon as it tries the same.
            return 0
        }
    }

    func started(_ record: SessionRecord) {
        let now = UInt64(clamping: SystemClock.wall.microseconds)
        guard record.sessionEpoch > epoch, record.sessionEpoch <= now + Self.plausibleLeadMicroseconds else {
            return
        }
        epoch = record.sessionEpoch
        arm()
    }

    /// What a session has carried so far.
    func counted(_ update: SessionUpdate) {
        counts[update.sessionID] = update
        arm()
    }

    func ended(_ session: SessionID) {
        counts[session] = nil
        ended.append((session, loop.now))
        arm()
    }

    private func arm() {
        if timer?.isArmed != true { timer?.arm(at: loop.now + Self.interval) }
    }

    /// Writes what has been gathered.
    func write() {
        let settled = ended.prefix { loop.now - $0.at >= Self.endPatience }
        let tallies = counts.values.compactMap { update in
            EventCodec.encode(.sessionUpdated(update)).map { (update.sessionID.bytes, $0) }
        }
        let done: Void? = disk.attempt(loop.now) { outbox throws(OutboxError) in
            if epoch > notedEpoch { try outbox.setMark(Self.epochMark, Int64(clamping: epoch)) }
            if !tallies.isEmpty || !settled.isEmpty {
                try outbox.tally(tallies, closed: settled.map(\.session.bytes), origin: life.bytes)
            }
        }
        // What a disk did not take now is as good as gone: newer counts follow.
        counts.removeAll(keepingCapacity: true)
        if done != nil { notedEpoch = epoch }
        ended.removeFirst(settled.count)
        if !ended.isEmpty || notedEpoch < epoch { arm() }
    }
}
