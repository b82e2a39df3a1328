internal import Domain
internal import EventLoop
internal import Glibc
internal import ProgramKit

extension ControlProgram {
    /// Runs the program on the process's arguments, environment and streams.
    package static func main() -> Never {
        let program = ControlProgram(
            environment: ProcessEnvironment.variables, console: ProcessConsole(),
            now: { SystemClock.wall })
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }
}

/// The process's own streams and terminal.
private final class ProcessConsole: Console {
    /// What has to be undone before the process may end.
    private weak var watch: TerminalWatch?

    var outputSize: TerminalSize? { Self.size(of: STDOUT_FILENO) }
    var errorSize: TerminalSize? { Self.size(of: STDERR_FILENO) }
    var hasKeyboard: Bool { isatty(STDIN_FILENO) == 1 }

    private static func size(of descriptor: Int32) -> TerminalSize? {
        guard isatty(descriptor) == 1 else { return nil }
        var size = winsize()
        // A terminal that doesn't know its size is taken for the classic one.
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return TerminalSize(columns: 80, rows: 24)
        }
        return TerminalSize(columns: Int(size.ws_col), rows: Int(size.ws_row))
    }

    // MARK: Streams

    /// A reader that has gone (`popctl ... | head`) ends the program without a word.
    func print(_ text: String) {
        guard let failure = Self.write(text, to: STDOUT_FILENO) else { return }
        watch?.close()
        if failure != EPIPE { complain("popctl: \(SystemError(call: "write", errorNumber: failure))\n") }
        exit(ProgramExit.failure)
    }

    /// What can't be said is lost: there is nowhere left to say so.
    func complain(_ text: String) {
        _ = Self.write(text, to: STDERR_FILENO)
    }

    /// The error number of what went wrong; nil when all was written.
    private static func write(_ text: String, to descriptor: Int32) -> Int32? {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count < 0 else {
                rest = rest.dropFirst(count)
                continue
            }
            switch errno {
            case EINTR: continue
            case EAGAIN:
                // Somebody else has made the shared descriptor non-blocking.
                var waited = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = poll(&waited, 1, -1)
            case let failure: return failure
            }
        }
        return nil
    }

    func readInput(limit: Int) throws(SystemError) -> [UInt8] {
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = read(STDIN_FILENO, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw SystemError(call: "read standard input", errorNumber: errno) }
            guard count > 0 else { return content }
            content += chunk[..<count]
            guard content.count <= limit else {
                throw SystemError(call: "read standard input", errorNumber: EFBIG)
            }
        }
    }

    func watch(
        on loop: EventLoop, takesKeys: Bool, told: @escaping (ConsoleEvent) -> Void
    ) throws(SystemError) -> any ConsoleWatch {
        let watch = try TerminalWatch(on: loop, takesKeys: takesKeys && hasKeyboard, told: told)
        self.watch = watch
        return watch
    }
}

/// Signals by signalfd, and standard input as a terminal that gives each key at once.
private final class TerminalWatch: ConsoleWatch, ReadinessHandler {
    private let loop: EventLoop
    private let told: (ConsoleEvent) -> Void
    private let takesKeys: Bool
    private var signals: SignalWatch?
    private var keyboard: Registration?
    /// How the terminal was before.
    private var modes = termios()

    init(on loop: EventLoop, takesKeys: Bool, told: @escaping (ConsoleEvent) -> Void) throws(SystemError) {
        self.loop = loop
        self.told = told
        self.takesKeys = takesKeys
        var watched = [SIGINT, SIGTERM, SIGHUP, SIGWINCH]
        // Stopped in the middle of a screen, the shell would get an odd terminal.
        if takesKeys { watched.append(SIGTSTP) }
        signals = try SignalWatch(on: loop, watched) { [weak self] in self?.receive($0) }
        guard takesKeys else { return }
        tcgetattr(STDIN_FILENO, &modes)
        takeKeys()
        keyboard = try loop.register(STDIN_FILENO, self)
    }

    func close() {
        guard let signals else { return }
        self.signals = nil
        signals.close()
        guard takesKeys else { return }
        if let keyboard { loop.deregister(keyboard) }
        giveBack()
    }

    private func receive(_ signal: Int32) {
        switch signal {
        case SIGWINCH: told(.resized)
        case SIGTSTP:
            told(.suspending)
            giveBack()
            // SIGSTOP and not SIGTSTP, which is blocked here; this call returns when `fg` is typed.
            kill(getpid(), SIGSTOP)
            takeKeys()
            told(.resumed)
        default: told(.interrupted)
        }
    }

    func ready(_ readiness: Readiness) {
        var bytes = [UInt8](repeating: 0, count: 256)
        while true {
            let count = read(STDIN_FILENO, &bytes, bytes.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            told(.keys(Array(bytes[..<count])))
        }
        if readiness.contains(.failed) { told(.interrupted) }
    }

    /// Each key at once and unseen, reads that don't wait; Ctrl-C and Ctrl-Z stay signals.
    private func takeKeys() {
        var raw = modes
        raw.c_lflag &= ~tcflag_t(ICANON | ECHO | IEXTEN)
        withUnsafeMutableBytes(of: &raw.c_cc) { characters in
            characters[Int(VMIN)] = 0
            characters[Int(VTIME)] = 0
        }
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw)
    }

    private func giveBack() {
        tcsetattr(STDIN_FILENO, TCSADRAIN, &modes)
    }
}
