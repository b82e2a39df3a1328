internal import EventLoop
internal import Glibc
internal import ProgramKit

extension NodeProgram {
    /// Runs the program on the process's arguments, environment and streams.
    package static func main() -> Never {
        let program = NodeProgram(
            environment: ProcessEnvironment.variables, actions: .live, output: .standard)
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }
}
