internal import Domain
internal import EventLoop
internal import JSON

/// Shows a drain's progress until it is over.
final class DrainFollower {
    private let session: ControlSession
    /// As it was given, until the answer says which node it is: behind one address `self` may be another
    /// node each time.
    private var node: String
    private let display: LiveRegion
    private var lastLine = ""
    private var lastState = ""
    private var lastLineAt: Instant?
    private var latest = JSONValue.null
    private var trouble: String?

    /// Where lines can't be drawn over, one in this time is enough unless the state changes.
    private static let lineInterval = Duration.seconds(5)

    init(_ session: ControlSession, node: String) {
        self.session = session
        self.node = node
        display = LiveRegion(session.console)
    }

    func report(_ drain: JSONValue) {
        learn(from: drain)
        session.report(drain, DrainProgress(node, drain).line)
    }

    /// - Parameter begin: starts the drain or finds it.
    func follow(timeout: TimeSpan?, begin: () throws(APIError) -> JSONValue) throws {
        var hasBegun = false
        do {
            try session.interruptibly(told: { [weak self] event in
                if event == .resized { self?.update() }
            }) { () throws(APIError) in
                latest = try begin()
                learn(from: latest)
                hasBegun = true
                var isFirst = true
                try session.poll(timeout: timeout, outage: { fail($0) }) { () throws(APIError) in
                    if !isFirst { latest = try session.get(["v1", "nodes", node, "drain"]) }
                    isFirst = false
                    trouble = nil
                    if DrainProgress(node, latest).isOver { return true }
                    update()
                    return false
                }
            }
        } catch {
            display.erase()
            guard hasBegun, let error = error as? APIError else { throw error }
            throw APIError.gaveUp(
                "\(error); the drain of \(node) goes on, popctl drains show \(node) --wait follows it")
        }
        display.erase()
        report(latest)
        let progress = DrainProgress(node, latest)
        guard progress.state == "drained" else {
            throw APIError.gaveUp(
                progress.state == "none"
                    ? "\(node) is not being drained" : "the drain ended as \(progress.state)")
        }
    }

    private func learn(from drain: JSONValue) {
        if let node = drain["node_id"]?.string { self.node = node }
    }

    private func fail(_ error: APIError) {
        trouble = "\(error)".split(separator: "\n").first.map(String.init)
        update()
    }

    private func update() {
        let progress = DrainProgress(node, latest)
        if session.canDraw, let size = session.console.errorSize {
            // A line as wide as the terminal would leave the cursor in a place that terminals differ about.
            display.draw(progress.drawing(width: size.columns - 1, now: session.now, trouble: trouble))
        } else {
            tell(progress)
        }
    }

    private func tell(_ progress: DrainProgress) {
        let line = trouble.map { "\(node): \($0); trying again" } ?? progress.line
        let state = trouble == nil ? progress.state : "?"
        let now = SystemClock.now
        let isDue = lastLineAt.map { now - $0 >= Self.lineInterval } ?? true
        guard line != lastLine, state != lastState || isDue else { return }
        session.console.complain(Cell.visible(line) + "\n")
        (lastLine, lastState, lastLineAt) = (line, state, now)
    }
}

/// A drain as the API tells it, in words.
struct DrainProgress {
    let node: String
    let state: String
    private let drain: JSONValue

    private static let widestBar = 40
    private static let narrowestBar = 8

    init(_ node: String, _ drain: JSONValue) {
        self.node = node
        self.drain = drain
        state = drain["state"]?.string ?? "none"
    }

    var isOver: Bool { ["drained", "held", "canceled", "none"].contains(state) }

    private func count(_ member: String) -> Int64 { drain[member]?.integer ?? 0 }

    /// All on one line, for logs.
    var line: String {
        var text =
            "\(node): \(state), \(count("devices_moved")) of \(count("devices_total")) devices moved, "
            + "\(count("conns_remaining")) conns left"
        if count("conns_cut") > 0 { text += ", \(count("conns_cut")) cut" }
        if !isOver, let eta { text += ", about \(eta) to go" }
        if !isOver, let blockers = blockers(width: .max) { text += "; waiting for " + blockers }
        return text
    }

    private var eta: String? {
        guard let seconds = drain["eta_seconds"]?.integer, seconds > 0 else { return nil }
        return Cell.span(seconds)
    }

    /// A bar with figures, and below it what stands in the way.
    func drawing(width: Int, now: WallTime, trouble: String?) -> [String] {
        let total = count("devices_total")
        let moved = max(0, min(count("devices_moved"), total))
        let share = total > 0 ? Double(moved) / Double(total) : 1
        var figures = "\(Cell.fixed(share * 100, 0))%  \(moved)/\(total) devices"
        figures += "  \(count("conns_remaining")) conns left"
        if let eta { figures += "  ETA \(eta)" }
        let title = Cell.visible("\(node) \(state)")
        let room = width - DisplayWidth.of(title) - figures.count - 5
        var line = title + "  "
        if room >= Self.narrowestBar {
            let cells = min(room, Self.widestBar)
            let filled = Int((share * Double(cells)).rounded(.down))
            line += "[" + String(repeating: "#", count: filled)
            line += String(repeating: "-", count: cells - filled) + "] "
        }
        var lines = [line + figures]
        if let trouble {
            lines.append("  " + Cell.visible(trouble) + "; trying again")
        } else {
            var notes: [String] = []
            if let at = drain["deadline_at"], !at.isNull { notes.append("deadline \(Cell.age(at, now))") }
            if let blockers = blockers(width: width - 40) { notes.append("waiting for " + blockers) }
            if !notes.isEmpty { lines.append("  " + notes.joined(separator: ", ")) }
        }
        return lines.map { DisplayWidth.cutEnd($0, to: width) }
    }

    /// As many of those that hold the drain up as fit; the rest is counted.
    private func blockers(width: Int) -> String? {
        let all = (drain["blockers"]?.array ?? []).map { Self.describe($0) }
        guard let first = all.first else { return nil }
        var shown = [first]
        for blocker in all.dropFirst().prefix(4) {
            guard DisplayWidth.of((shown + [blocker]).joined(separator: ", ")) <= width else { break }
            shown.append(blocker)
        }
        let left = all.count - shown.count
        return shown.joined(separator: ", ") + (left > 0 ? " and \(left) more" : "")
    }

    private static func describe(_ blocker: JSONValue) -> String {
        guard blocker.object != nil else { return Cell.text(blocker) }
        let named = ["device_id", "conn_id", "target", "user", "reason", "why"].compactMap { name in
            blocker[name].flatMap { $0.isNull ? nil : Cell.text($0) }
        }
        return named.isEmpty ? Cell.text(blocker) : named.joined(separator: " ")
    }
}
