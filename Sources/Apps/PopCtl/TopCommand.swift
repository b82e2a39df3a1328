internal import ArgumentParser
internal import Domain
internal import EventLoop
internal import JSON

struct TopCommand: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "top", arguments: "[nodes | devices | conns]",
        abstract: "Watch the busiest nodes, devices or conns.",
        discussion: """
            On a terminal: n, d and c choose what is watched, s what stands at the top, r turns the order, \
            space looks at once, q or Ctrl-C ends with exit code 0. Elsewhere, and with --once, the \
            busiest are printed after one interval.

            EXAMPLES:
              popctl top conns --sort received
              popctl top devices --once --limit 5 -o json
            """)

    @Argument(help: "What is watched.") var view = TopView.devices

    @Option(help: "What stands at the top.") var sort = TopSort.traffic

    @Option(help: ArgumentHelp("Between two looks, at least 1s; 2s.", valueName: "span"))
    var interval: TimeSpan?

    @Flag(help: "Print the busiest after one interval, and end.") var once = false

    @Option(help: ArgumentHelp("Most items with --once.", valueName: "count")) var limit = 20

    @OptionGroup var options: ServerOptions

    mutating func validate() throws {
        guard interval?.seconds ?? 1 >= 1 else { throw ValidationError("--interval must be at least 1s") }
        guard limit >= 1 else { throw ValidationError("--limit must be at least 1") }
    }

    private static let defaultInterval = Duration.seconds(2)

    func perform(_ session: ControlSession) throws {
        let interval = interval?.duration ?? Self.defaultInterval
        do {
            if once || session.console.outputSize == nil || !session.canDraw {
                try session.interruptibly { () throws(APIError) in try printOnce(session, interval) }
            } else {
                try TopScreen(session, view, sort, interval).run()
            }
        } catch APIError.interrupted {
            return
        }
    }

    private func printOnce(_ session: ControlSession, _ interval: Duration) throws(APIError) {
        var model = TopModel(view)
        model.take(try session.sample(view), at: SystemClock.now)
        try session.client.wait(interval)
        model.take(try session.sample(view), at: SystemClock.now)
        let items = Array(model.sorted(by: sort, isReversed: false).prefix(limit))
        guard session.output == .table else { return session.show(.array(items)) }
        let width = session.console.outputSize?.columns
        let table = Table(view.columns, items, now: session.now, width: width)
        session.console.print(table.header + table.rows(items))
    }
}

extension ControlSession {
    /// The most that is looked at every few seconds: two pages of the API. Devices with most conns come
    /// first; of conns, which have no such order, the oldest.
    private static let mostWatched = 2_000

    func sample(_ view: TopView) throws(APIError) -> [JSONValue] {
        let query: [(String, String?)] =
            view == .devices ? [("status", "online"), ("sort", "active_conns"), ("order", "desc")] : []
        var items: [JSONValue] = []
        _ = try forEachPage(["v1", view.rawValue], query, most: Self.mostWatched) { items += $0 }
        return items
    }
}

/// The live view: what the keys have chosen, drawn over the whole terminal.
private final class TopScreen {
    private let session: ControlSession
    private let interval: Duration
    private var sort: TopSort
    private var isReversed = false
    private var model: TopModel
    private var nodes = TopModel(.nodes)
    private var trouble: String?
    /// Another view was chosen, or a look at once.
    private var isStale = false
    private var isOpen = false

    init(_ session: ControlSession, _ view: TopView, _ sort: TopSort, _ interval: Duration) {
        self.session = session
        self.interval = interval
        self.sort = sort
        model = TopModel(view)
    }

    /// Returns when the operator has had enough; throws when there is nothing to see, or no longer.
    func run() throws {
        defer { leave() }
        try session.interruptibly(takesKeys: true, told: { [weak self] in self?.handle($0) }) {
            () throws(APIError) in
            while true {
                try look()
                if !isOpen { enter() }
                draw()
                try session.client.wait(interval, until: { self.isStale })
            }
        }
    }

    // MARK: Looking

    /// What the API can't say for a moment is told on the screen; what it refuses for good ends the view.
    private func look() throws(APIError) {
        isStale = false
        let view = model.view
        do {
            nodes.take(try session.sample(.nodes), at: SystemClock.now)
            let items = view == .nodes ? [] : try session.sample(view)
            // A key may have chosen another view meanwhile.
            if model.view == view {
                if view == .nodes { model = nodes } else { model.take(items, at: SystemClock.now) }
            }
            trouble = nil
        } catch {
            guard isOpen, error.isTransient else { throw error }
            trouble = "\(error)".split(separator: "\n").first.map(String.init)
        }
    }

    // MARK: Keys

    private func handle(_ event: ConsoleEvent) {
        switch event {
        case .interrupted: break
        case .resized: draw()
        case .suspending: leave()
        case .resumed:
            enter()
            draw()
        case .keys(let bytes):
            for byte in bytes { press(byte) }
            draw()
        }
    }

    private func press(_ key: UInt8) {
        switch key {
        case UInt8(ascii: "q"), UInt8(ascii: "Q"), 0x04: session.client.isInterrupted = true
        case UInt8(ascii: "n"): choose(.nodes)
        case UInt8(ascii: "d"): choose(.devices)
        case UInt8(ascii: "c"): choose(.conns)
        case UInt8(ascii: "s"):
            let all = TopSort.allCases
            let next = (all.firstIndex(of: sort) ?? 0) + 1
            sort = all[next % all.count]
        case UInt8(ascii: "r"): isReversed.toggle()
        case UInt8(ascii: " "): isStale = true
        default: break
        }
    }

    private func choose(_ view: TopView) {
        guard view != model.view else { return }
        model = view == .nodes ? nodes : TopModel(view)
        isStale = true
    }

    // MARK: Drawing

    private func enter() {
        isOpen = true
        session.console.print(Screen.enterAlternate + Screen.hideCursor)
    }

    private func leave() {
        guard isOpen else { return }
        isOpen = false
        session.console.print(Screen.showCursor + Screen.leaveAlternate)
    }

    private func draw() {
        guard isOpen, let size = session.console.outputSize else { return }
        // The last column stays free: terminals differ in what they do after it.
        let width = size.columns - 1
        let items = model.sorted(by: sort, isReversed: isReversed)
        let shown = items.prefix(max(0, size.rows - 5))
        let table = Table(model.view.columns, Array(shown), now: session.now, width: width)
        var lines = [title(width), DisplayWidth.cutEnd(summary, to: width), ""]
        lines.append(Screen.reverse + bar(table.header, width) + Screen.plain)
        lines += shown.map { DisplayWidth.cutEnd(String(table.row($0).dropLast()), to: width) }
        lines = Array(lines.prefix(size.rows - 1))
        while lines.count < size.rows - 1 { lines.append("") }
        let keys = "q quit  n nodes  d devices  c conns  s sort: \(sort.rawValue)  r reverse  space now"
        lines.append(DisplayWidth.cutEnd(keys, to: width))
        let text = lines.map { $0 + Screen.clearToLineEnd }.joined(separator: "\r\n")
        session.console.print(Screen.home + text)
    }

    private func title(_ width: Int) -> String {
        let title =
            "popctl top \(model.view.rawValue)  \(session.client.server.description)  \(session.now.rfc3339)"
        guard let trouble else { return Screen.bold + DisplayWidth.cutEnd(title, to: width) + Screen.plain }
        return Screen.bold + DisplayWidth.cutEnd(Cell.visible(trouble) + "; trying again", to: width)
            + Screen.plain
    }

    private var summary: String {
        func sum(_ member: String) -> String {
            Cell.fixed(nodes.items.reduce(0) { $0 + ($1[member]?.number ?? 0) }, 0)
        }
        let inactive = nodes.items.count { $0["state"]?.string != "active" }
        var text = "\(nodes.items.count) nodes" + (inactive > 0 ? " (\(inactive) not active)" : "")
        text += "  \(sum("devices_online")) devices  \(sum("conns_active")) conns"
        if let totals = nodes.totals {
            text += "  sent \(Cell.bytes(totals.sent))/s  received \(Cell.bytes(totals.received))/s"
        }
        return text
    }

    private func bar(_ line: String, _ width: Int) -> String {
        let text = DisplayWidth.cutEnd(String(line.dropLast()), to: width)
        return text + String(repeating: " ", count: max(0, width - text.count))
    }
}
