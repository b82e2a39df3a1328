internal import DequeModule
internal import Domain
internal import Fleet
internal import JSON

/// What events tell (contract section 5); the names are those of the `event` lines and of `?types=`.
package enum AdminEventKind: String, Countable {
    case deviceOnline = "device.online"
    case deviceOffline = "device.offline"
    case connOpened = "conn.opened"
    case connClosed = "conn.closed"
    case nodeState = "node.state"
    case drainProgress = "drain.progress"

    var bit: UInt8 {
        switch self {
        case .deviceOnline: 1
        case .deviceOffline: 2
        case .connOpened: 4
        case .connClosed: 8
        case .nodeState: 16
        case .drainProgress: 32
        }
    }

    package var ordinal: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// Some kinds of events.
struct AdminEventKinds: OptionSet, Sendable, Hashable {
    let rawValue: UInt8

    static let all = AdminEventKinds(AdminEventKind.allCases)

    init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    init(_ kinds: [AdminEventKind]) {
        rawValue = kinds.reduce(0) { $0 | $1.bit }
    }

    func contains(_ kind: AdminEventKind) -> Bool { rawValue & kind.bit != 0 }
}

/// That a conn was opened, or has ended: what is told of it is written when somebody reads it.
struct ConnEvent {
    let conn: ConnSnapshot
    let node: NodeID
    let at: WallTime
    /// The same on the clock that the conn's idleness is measured by.
    let now: Instant
    /// Nil while it lives.
    let reason: CloseReason?

    var kind: AdminEventKind { reason == nil ? .connOpened : .connClosed }

    var data: [UInt8] {
        var writer = JSONWriter(eventAt: at, of: node)
        writer.field("conn_id", conn.connID)
        conn.writeMembers(to: &writer, now: now)
        if let reason {
            writer.field("ended_at", at)
            writer.field("end_reason", reason.name)
        }
        writer.endObject()
        return writer.bytes
    }

    /// The memory that it holds at most.
    fileprivate var byteCount: Int {
        var count = MemoryLayout<Self>.stride + conn.deviceID.description.utf8.count
        count += (conn.user?.utf8.count ?? 0) + (conn.resolvedAddress?.utf8.count ?? 0)
        if case .name(let name) = conn.target.host { count += name.utf8.count }
        return count
    }
}

extension JSONWriter {
    /// Begins the object that an event's data is.
    init(eventAt at: WallTime, of node: NodeID) {
        self.init()
        reserveCapacity(512)
        beginObject()
        field("at", at)
        field("node_id", node.description)
    }
}

/// The latest events in their order, as far back as a reader may resume: a pure value.
///
///     forgotten ... | start  ...  last | end
///                 ^ the ids from here to the last one resume without a gap, and those before it of which nothing
///                   that the reader wants is forgotten
///
/// An event's number is one above that of the event before it. Its id is the number and the life of the log,
/// which is another one after each start of the node: a number of an earlier life says nothing about this one's
/// events, and is told apart. Events of whichever node are told by the order in which they are added here.
struct EventLog {
    /// How much is kept: by count, and by bytes, so that events with long names in them don't add up.
    struct Limits: Sendable, Hashable {
        var events = 10_000
        var bytes = 8 << 20
    }

    /// Why events are missing between what a reader has seen and what it is sent next.
    enum Gap: String, Sendable, Hashable {
        /// They are no longer kept.
        case forgotten
        /// The node was started again, or the id is another node's.
        case restarted
        /// Nobody here listened to other nodes meanwhile: theirs are missing.
        case unfollowed
        /// It is no id of ours.
        case unknown
    }

    /// Where a reader goes on.
    struct Resumption: Sendable, Hashable {
        /// The number of the first event to be sent.
        var position: UInt64
        /// Nil: nothing is missing.
        var gap: Gap?
    }

    private struct Entry {
        enum Content {
            /// The event as the stream has it.
            case frame([UInt8])
            indirect case conn(ConnEvent)
        }

        /// Nil: for every reader.
        let kind: AdminEventKind?
        let content: Content

        var byteCount: Int {
            switch content {
            case .frame(let frame): frame.count
            case .conn(let event): event.byteCount
            }
        }
    }

    let life: UInt64
    /// The number of the oldest event that is kept.
    private(set) var start: UInt64 = 1
    private(set) var byteCount = 0
    private let limits: Limits
    private var entries = Deque<Entry>()
    /// The last event of each kind, by its place, that is no longer kept; 0: none.
    private var lastForgotten = AdminEventKind.allCases.map { _ in UInt64(0) }
    /// The same of those for every reader.
    private var lastForgottenOfAll: UInt64 = 0

    /// - Parameter life: drawn at random for each start of the node.
    init(life: UInt64, limits: Limits = Limits()) {
        self.life = life
        self.limits = limits
    }

    /// The number that the next event will have.
    var end: UInt64 { start + UInt64(entries.count) }
    var count: Int { entries.count }

    // MARK: Adding

    /// Adds an event at the end; the oldest ones make room for it.
    ///
    /// - Parameter data: JSON, which has no line feed in it.
    mutating func append(_ kind: AdminEventKind, data: [UInt8]) {
        append(Entry(kind: kind, content: .frame(frame(kind.rawValue, data, id: end))))
    }

    /// Adds an event that is written when it is read, which most never are.
    mutating func append(_ event: ConnEvent) {
        append(Entry(kind: event.kind, content: .conn(event)))
    }

    /// Adds what every reader is to know, whatever kinds it wants.
    mutating func append(toAll name: String, data: [UInt8]) {
        append(Entry(kind: nil, content: .frame(frame(name, data, id: end))))
    }

    private mutating func append(_ entry: Entry) {
        entries.append(entry)
        byteCount += entry.byteCount
        while entries.count > limits.events || byteCount > limits.bytes, let oldest = entries.popFirst() {
            byteCount -= oldest.byteCount
            if let kind = oldest.kind {
                lastForgotten[kind.ordinal] = start
            } else {
                lastForgottenOfAll = start
            }
            start += 1
        }
    }

    // MARK: Reading

    /// Whether anything behind the event `number` that a reader of `kinds` is to be sent is no longer kept. That of
    /// others may be gone: one that wants what is rare has not missed it because of what is frequent.
    func hasForgotten(_ kinds: AdminEventKinds, behind number: UInt64) -> Bool {
        guard number + 1 < start else { return false }
        return lastForgottenOfAll > number
            || AdminEventKind.allCases.contains { kinds.contains($0) && lastForgotten[$0.ordinal] > number }
    }

    /// Where a reader of `kinds` goes on that has seen the event with this id last; one without an id starts with
    /// the next event.
    func resume(after id: String?, _ kinds: AdminEventKinds) -> Resumption {
        guard let id else { return Resumption(position: end) }
        guard let (life, number) = Self.parse(id) else { return Resumption(position: start, gap: .unknown) }
        guard life == self.life, number < end else { return Resumption(position: start, gap: .restarted) }
        let isWhole = !hasForgotten(kinds, behind: number)
        return Resumption(position: max(start, number + 1), gap: isWhole ? nil : .forgotten)
    }

    /// Events of `kinds` from `position` on, which moves behind all that was looked at.
    ///
    /// - Parameter bytes: reached by the last event that is given.
    func frames(from position: inout UInt64, _ kinds: AdminEventKinds, upTo bytes: Int) -> [UInt8] {
        var frames: [UInt8] = []
        position = max(position, start)
        while position < end, frames.count < bytes {
            let entry = entries[Int(position - start)]
            if entry.kind.map(kinds.contains) ?? true {
                switch entry.content {
                case .frame(let frame): frames += frame
                case .conn(let event): frames += frame(event.kind.rawValue, event.data, id: position)
                }
            }
            position += 1
        }
        return frames
    }

    // MARK: Text

    /// What a stream begins with: when to come back after a loss, and the id to come back with before the first
    /// event.
    func opening(at position: UInt64, retryMilliseconds: Int) -> [UInt8] {
        Array("retry: \(retryMilliseconds)\nid: \(id(position - 1))\n\n".utf8)
    }

    /// What a silent stream is kept open with. It has the id to come back with, which goes on though nothing of
    /// what the reader wants has happened; an id without data sets it and is no event.
    func heartbeat(at position: UInt64) -> [UInt8] {
        Array(": heartbeat\nid: \(id(position - 1))\n\n".utf8)
    }

    /// An event that is a reader's own and not kept; it has the id of what the reader has seen of the log.
    func ownFrame(_ name: String, data: [UInt8], at position: UInt64) -> [UInt8] {
        frame(name, data, id: position - 1)
    }

    private func frame(_ name: String, _ data: [UInt8], id number: UInt64) -> [UInt8] {
        var frame: [UInt8] = []
        frame.reserveCapacity(data.count + 80)
        frame += "id: ".utf8
        append(id: number, to: &frame)
        frame += "\nevent: ".utf8
        frame += name.utf8
        frame += "\ndata: ".utf8
        frame += data
        frame += "\n\n".utf8
        return frame
    }

    func id(_ number: UInt64) -> String {
        var bytes: [UInt8] = []
        append(id: number, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func append(id number: UInt64, to bytes: inout [UInt8]) {
        bytes.append(hexadecimalDigits: 16, of: life)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(digitsOf: number)
    }

    private static func parse(_ id: String) -> (life: UInt64, number: UInt64)? {
        let parts = id.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].utf8.count == 16, parts[0].utf8.first != UInt8(ascii: "+"),
            let life = UInt64(parts[0], radix: 16), parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = UInt64(parts[1])
        else { return nil }
        return (life, number)
    }
}
