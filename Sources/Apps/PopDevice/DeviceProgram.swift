internal import ArgumentParser
internal import EventLoop
internal import Glibc
internal import JSON

/// `pop-device` from its arguments to its exit code.
package struct DeviceProgram {
    package static let version = "0.1.0"

    /// The exit codes that scripts rely on (contract section 1).
    private enum ExitCode {
        static let clean: Int32 = 0
        static let failure: Int32 = 1
        /// EX_USAGE
        static let usage: Int32 = 64
        /// EX_CONFIG
        static let configuration: Int32 = 78
    }

    private let environment: [String: String]
    private let serve: (DeviceConfiguration) throws -> Void
    private let print: (String) -> Void
    private let complain: (String) -> Void

    /// - Parameters:
    ///   - serve: runs the device until it is told to stop; its error ends the program with 1, a
    ///     `ConfigurationError` with 78.
    ///   - print: writes to standard output.
    ///   - complain: writes to standard error.
    package init(
        environment: [String: String], serve: @escaping (DeviceConfiguration) throws -> Void,
        print: @escaping (String) -> Void, complain: @escaping (String) -> Void
    ) {
        self.environment = environment
        self.serve = serve
        self.print = print
        self.complain = complain
    }

    /// Runs the program on the process's arguments, environment and streams.
    package static func main() -> Never {
        let program = DeviceProgram(
            environment: ProcessEnvironment.variables, serve: { try DeviceProcess.run($0) },
            print: { write($0, to: STDOUT_FILENO) }, complain: { write($0, to: STDERR_FILENO) })
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }

    /// - Parameter arguments: without the program's name.
    package func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try DeviceCommand.parseAsRoot(arguments)
            switch command {
            case let run as RunCommand:
                let configuration = try DeviceConfiguration(
                    file: try load(run.configurationFile), environment: environment, flags: run.flags)
                return try start(configuration)
            case is DeviceCommand:
                complain(DeviceCommand.helpMessage())
                return ExitCode.usage
            default:
                try command.run()
                return ExitCode.clean
            }
        } catch let error as ConfigurationError {
            complain("pop-device: wrong configuration:\n\(error)")
            return ExitCode.configuration
        } catch {
            let code = DeviceCommand.exitCode(for: error)
            (code.isSuccess ? print : complain)(DeviceCommand.fullMessage(for: error))
            return code.isSuccess ? ExitCode.clean : ExitCode.usage
        }
    }

    private func start(_ configuration: DeviceConfiguration) throws -> Int32 {
        do {
            try serve(configuration)
            return ExitCode.clean
        } catch let error as ConfigurationError {
            throw error
        } catch {
            complain("pop-device: \(error)")
            return ExitCode.failure
        }
    }

    private func load(_ path: String?) throws(ConfigurationError) -> JSONValue {
        guard let path else { return .object([]) }
        let bytes: [UInt8]
        do { bytes = try Files.read(path) } catch { throw ConfigurationError(key: "", message: "\(error)") }
        do {
            return try JSONValue(parsing: bytes)
        } catch {
            throw ConfigurationError(key: "", message: "\(path): \(error)")
        }
    }

    private static func write(_ text: String, to descriptor: Int32) {
        var rest = Array((text.hasSuffix("\n") ? text : text + "\n").utf8)[...]
        while !rest.isEmpty {
            let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0, errno == EINTR { continue }
            guard written > 0 else { return }
            rest = rest.dropFirst(written)
        }
    }
}
