internal import ArgumentParser
internal import EventLoop
internal import Glibc
internal import JSON
package import ProgramKit

/// `pop-device` from its arguments to its exit code.
package struct DeviceProgram {
    private let environment: [String: String]
    private let serve: (DeviceConfiguration) throws -> Void
    private let output: ProgramOutput

    /// - Parameter serve: runs the device until it is told to stop; its error ends the program with 1, a
    ///   `ConfigurationError` with 78.
    package init(
        environment: [String: String], serve: @escaping (DeviceConfiguration) throws -> Void,
        output: ProgramOutput
    ) {
        self.environment = environment
        self.serve = serve
        self.output = output
    }

    /// Runs the program on the process's arguments, environment and streams.
    package static func main() -> Never {
        let program = DeviceProgram(
            environment: ProcessEnvironment.variables, serve: { try DeviceProcess.run($0) },
            output: .standard)
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }

    /// - Parameter arguments: without the program's name.
    package func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try DeviceCommand.parseAsRoot(arguments)
            switch command {
            case let run as RunCommand:
                let configuration = try DeviceConfiguration(
                    file: try ConfigurationFile.read(run.configurationFile), environment: environment,
                    flags: run.flags)
                return try start(configuration)
            case is DeviceCommand:
                output.complain(DeviceCommand.helpMessage())
                return ProgramExit.usage
            default:
                try command.run()
                return ProgramExit.clean
            }
        } catch let error as ConfigurationError {
            output.complain("pop-device: wrong configuration:\n\(error)")
            return ProgramExit.configuration
        } catch {
            return output.answer(error, of: DeviceCommand.self)
        }
    }

    private func start(_ configuration: DeviceConfiguration) throws -> Int32 {
        do {
            try serve(configuration)
            return ProgramExit.clean
        } catch let error as ConfigurationError {
            throw error
        } catch {
            output.complain("pop-device: \(error)")
            return ProgramExit.failure
        }
    }
}
