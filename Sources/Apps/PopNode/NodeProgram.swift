internal import ArgumentParser
internal import EventLoop
internal import JSON
internal import Logging
internal import Observability
package import ProgramKit

/// What the commands set in motion, so that tests can put their own in place.
package struct NodeActions {
    /// Runs the node until it is told to stop; the error of a failure ends the program with 1.
    package var serve: (NodeConfiguration) throws -> Void
    /// Returns what to print on standard output.
    package var migrate: (NodeConfiguration, MigrationAction) throws -> String

    package init(
        serve: @escaping (NodeConfiguration) throws -> Void,
        migrate: @escaping (NodeConfiguration, MigrationAction) throws -> String
    ) {
        self.serve = serve
        self.migrate = migrate
    }
}

/// `pop-node` from its arguments to its exit code.
package struct NodeProgram {
    private let environment: [String: String]
    private let actions: NodeActions
    private let output: ProgramOutput

    package init(environment: [String: String], actions: NodeActions, output: ProgramOutput) {
        self.environment = environment
        self.actions = actions
        self.output = output
    }

    /// - Parameter arguments: without the program's name.
    package func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try NodeCommand.parseAsRoot(arguments)
            switch command {
            case let serve as ServeCommand: try run(serve)
            case let migrate as MigrateCommand: try run(migrate)
            case let check as CheckConfigCommand: try run(check)
            case is NodeCommand:
                output.complain(NodeCommand.helpMessage())
                return ProgramExit.usage
            default: try command.run()
            }
            return ProgramExit.clean
        } catch let error as ConfigurationError {
            output.complain("pop-node: wrong configuration:\n\(error)")
            return ProgramExit.configuration
        } catch let error as ActionError {
            output.complain("pop-node: \(error.cause)")
            return ProgramExit.failure
        } catch {
            return output.answer(error, of: NodeCommand.self)
        }
    }

    /// Tells a failure of the work from an error of the command line.
    private struct ActionError: Error {
        let cause: any Error
    }

    private func run(_ command: ServeCommand) throws {
        let configuration = try NodeConfiguration(
            NodeConfigurationSources(
                file: try ConfigurationFile.read(command.configurationFile), environment: environment,
                flags: command.flags,
                isDev: command.isDev))
        if command.printsConfiguration {
            complainAboutWarnings(configuration)
            output.print(
                String(decoding: configuration.effectiveSettings.serialised(isPretty: true), as: UTF8.self))
            return
        }
        do { try actions.serve(configuration) } catch { throw ActionError(cause: error) }
    }

    private func run(_ command: MigrateCommand) throws {
        let configuration = try NodeConfiguration(
            NodeConfigurationSources(
                purpose: .migrating, file: try ConfigurationFile.read(command.configurationFile),
                environment: environment,
                flags: command.flags))
        do { output.print(try actions.migrate(configuration, command.action)) } catch {
            throw ActionError(cause: error)
        }
    }

    private func run(_ command: CheckConfigCommand) throws {
        let configuration = try NodeConfiguration(
            NodeConfigurationSources(
                file: try ConfigurationFile.read(command.configurationFile), environment: environment,
                isDev: command.isDev))
        try checkFiles(configuration.device.tls, "device.tls")
        try checkFiles(configuration.admin.tls, "admin.tls")
        complainAboutWarnings(configuration)
        output.print("configuration OK")
    }

    private func checkFiles(_ tls: TLSConfiguration, _ key: String) throws(ConfigurationError) {
        guard tls.isEnabled else { return }
        let files = [
            ("cert_file", tls.certificateFile), ("key_file", tls.keyFile),
            ("client_ca_file", tls.clientCAFile),
        ]
        var faults: [ConfigurationError.Fault] = []
        for case (let name, let path?) in files {
            do {
                _ = try Files.read(path)
            } catch {
                faults.append(ConfigurationError.Fault(key: "\(key).\(name)", message: "\(error)"))
            }
        }
        guard faults.isEmpty else { throw ConfigurationError(faults: faults) }
    }

    private func complainAboutWarnings(_ configuration: NodeConfiguration) {
        for warning in configuration.warnings { output.complain("pop-node: warning: \(warning)") }
    }
}
