internal import EventLoop
internal import Glibc
internal import Observability

extension ControlProgram {
    /// Runs the program on the process's arguments, environment and streams.
    package static func main() -> Never {
        let program = ControlProgram(
            environment: ProcessEnvironment.variables, width: terminalWidth,
            print: { StandardStream.output.write($0.endingWithLineFeed) },
            complain: { StandardStream.error.write($0.endingWithLineFeed) })
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }

    private static var terminalWidth: Int? {
        guard isatty(STDOUT_FILENO) == 1 else { return nil }
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return Int(size.ws_col)
    }
}

extension String {
    fileprivate var endingWithLineFeed: String { hasSuffix("\n") || isEmpty ? self : self + "\n" }
}
