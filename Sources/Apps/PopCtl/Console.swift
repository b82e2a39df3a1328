package import EventLoop

/// Columns and rows of a terminal.
package struct TerminalSize: Sendable, Hashable {
    package var columns: Int
    package var rows: Int

    package init(columns: Int, rows: Int) {
        self.columns = columns
        self.rows = rows
    }
}

/// What happens at the terminal while popctl waits for something else.
package enum ConsoleEvent: Sendable, Hashable {
    /// Ctrl-C, SIGTERM, or the terminal has gone.
    case interrupted
    case resized
    /// Ctrl-Z: the process stops when the event has been handled.
    case suspending
    /// `fg` after Ctrl-Z: what was drawn is gone.
    case resumed
    /// What was typed, as it came.
    case keys([UInt8])
}

/// Signals and keys as events; the terminal is as before when it is closed.
package protocol ConsoleWatch: AnyObject {
    func close()
}

/// The standard streams, and the terminal behind them where there is one.
package protocol Console: AnyObject {
    /// Of the terminal that `print` writes to; nil when that is none.
    var outputSize: TerminalSize? { get }
    /// Of the terminal that `complain` writes to; nil when that is none.
    var errorSize: TerminalSize? { get }
    /// Whether keys can be read one by one.
    var hasKeyboard: Bool { get }

    /// Writes to standard output, as it is.
    func print(_ text: String)
    /// Writes to standard error, as it is.
    func complain(_ text: String)
    /// All of standard input, at most `limit` bytes.
    func readInput(limit: Int) throws(SystemError) -> [UInt8]
    /// Tells of signals, and of keys when they are wanted, until it is closed. Keys are not echoed.
    func watch(
        on loop: EventLoop, takesKeys: Bool, told: @escaping (ConsoleEvent) -> Void
    ) throws(SystemError) -> any ConsoleWatch
}
