/// A few lines at the end of a terminal's output that are drawn again and again.
final class LiveRegion {
    private let console: any Console
    /// How many lines are on the terminal.
    private var drawn = 0

    init(_ console: any Console) {
        self.console = console
    }

    /// Draws over what was drawn before; no line may be wider than the terminal.
    func draw(_ lines: [String]) {
        let text = lines.map { $0 + Screen.clearToLineEnd }.joined(separator: "\r\n")
        console.complain(backToStart + text + Screen.clearToEnd)
        drawn = lines.count
    }

    /// Takes everything off the terminal, so that what follows stands in its place.
    func erase() {
        guard drawn > 0 else { return }
        console.complain(backToStart + Screen.clearToEnd)
        drawn = 0
    }

    private var backToStart: String { "\r" + (drawn > 1 ? Screen.up(drawn - 1) : "") }
}

/// Control sequences of ECMA-48 that every terminal of today knows.
enum Screen {
    private static let introducer = "\u{1b}["

    static let clearToLineEnd = introducer + "K"
    static let clearToEnd = introducer + "J"
    static let home = introducer + "H"
    static let bold = introducer + "1m"
    static let reverse = introducer + "7m"
    static let plain = introducer + "0m"
    static let hideCursor = introducer + "?25l"
    static let showCursor = introducer + "?25h"
    /// A screen of its own: what was there before comes back afterwards.
    static let enterAlternate = introducer + "?1049h"
    static let leaveAlternate = introducer + "?1049l"

    static func up(_ lines: Int) -> String { introducer + "\(lines)A" }
}
