internal import Domain
internal import EventLoop
internal import Store

/// Tells other nodes what happens here, while one of them listens (`docs/adr/0022`).
///
/// A batch is a row that all listeners read, with a number that rises by one. What doesn't fit, or can't be
/// written, takes its number with it, so every listener notices that it is missing. Nothing waits for this.
final class EventTeller {
    private struct Listener {
        var kinds: AdminEventKinds
        var until: Instant
        /// Every batch behind this one is told with it in mind.
        let since: UInt64
    }

    /// What a node that listens has to know.
    struct Place {
        let life: UInt64
        /// Of the last batch there is.
        let number: UInt64
        /// From behind this one on the node has been listened to without a break.
        let since: UInt64
    }

    /// Who has not asked again by then has gone away.
    static let listenTime = Duration.seconds(15)
    /// Events of so short a time are one row.
    private static let gatherTime = Duration.milliseconds(20)
    /// What waits while a batch is being written; more is more than the database takes.
    private static let mostBytes = 1 << 20
    /// A batch is written without delay from this size on.
    private static let fullBytes = 262_144

    private let loop: EventLoop
    private let nodeID: NodeID
    private let life: UInt64
    /// The node behind the API; it outlives the API.
    private unowned let backend: any AdminBackend
    private var listeners: [NodeID: Listener] = [:]
    /// Of all listeners, so that what nobody wants costs no more than a look at this.
    private var kinds: AdminEventKinds = []
    private var number: UInt64 = 0
    private var waiting: [UInt8] = []
    private var isWriting = false
    private var timer: LoopTimer?
    private(set) var lostBatches: UInt64 = 0

    init(on loop: EventLoop, life: UInt64, backend: any AdminBackend) {
        self.loop = loop
        self.life = life
        self.backend = backend
        nodeID = backend.nodeID
        timer = loop.makeTimer { [weak self] in self?.write() }
    }

    deinit {
        timer?.cancel()
    }

    /// Another node listens, from now on or still.
    func listen(_ node: NodeID, _ kinds: AdminEventKinds) -> Place {
        review()
        let listener = Listener(
            kinds: kinds, until: loop.now + Self.listenTime, since: listeners[node]?.since ?? number)
        listeners[node] = listener
        self.kinds.formUnion(kinds)
        return Place(life: life, number: number, since: listener.since)
    }

    private func review() {
        listeners = listeners.filter { $0.value.until > loop.now }
        kinds = listeners.values.reduce(into: []) { $0.formUnion($1.kinds) }
        if listeners.isEmpty { waiting = [] }
    }

    /// - Parameter data: asked for only if somebody listens.
    func happened(_ kind: AdminEventKind, _ data: () -> [UInt8]) {
        guard kinds.contains(kind) else { return }
        let data = data()
        guard waiting.count + data.count < Self.mostBytes else { return lose() }
        waiting += kind.rawValue.utf8
        waiting.append(UInt8(ascii: " "))
        waiting += data
        waiting.append(UInt8(ascii: "\n"))
        if waiting.count >= Self.fullBytes {
            write()
        } else if timer?.isArmed != true, !isWriting {
            timer?.arm(at: loop.now + Self.gatherTime)
        }
    }

    /// What waits, with the event that has no room in it, is not told.
    private func lose() {
        waiting = []
        number += 1
        lostBatches += 1
    }

    /// Writes what waits, unless a batch is on its way: then right behind it.
    func write() {
        timer?.cancel()
        guard !isWriting else { return }
        review()
        guard !waiting.isEmpty else { return }
        number += 1
        let batch = EventBatch(
            node: nodeID, life: life, number: number, body: String(decoding: waiting, as: UTF8.self))
        waiting = []
        isWriting = true
        backend.ask(.tellEvents(batch)) { [weak self] result in
            guard let self else { return }
            isWriting = false
            if case .failure = result { lostBatches += 1 }
            write()
        }
    }

    /// The events of a batch, in their order; those of kinds that this version does not know are left out.
    static func events(in body: String) -> [(kind: AdminEventKind, data: [UInt8])] {
        body.utf8.split(separator: UInt8(ascii: "\n")).compactMap { line in
            guard let space = line.firstIndex(of: UInt8(ascii: " ")),
                let kind = AdminEventKind(rawValue: String(decoding: line[..<space], as: UTF8.self))
            else { return nil }
            return (kind, Array(line[space...].dropFirst()))
        }
    }
}
