internal import EventLoop
internal import Glibc
internal import Observability

extension NodeProgram {
    /// Runs the program on the process's arguments, environment and streams.
    package static func main() -> Never {
        let program = NodeProgram(
            environment: ProcessEnvironment.variables, actions: .live,
            print: { StandardStream.output.write($0.endingWithLineFeed) },
            complain: { StandardStream.error.write($0.endingWithLineFeed) })
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }
}

extension String {
    fileprivate var endingWithLineFeed: String { hasSuffix("\n") ? self : self + "\n" }
}
