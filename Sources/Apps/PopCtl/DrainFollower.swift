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
