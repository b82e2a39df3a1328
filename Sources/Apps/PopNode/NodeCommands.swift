package import ArgumentParser
internal import JSON
internal import ProgramKit

/// The command line of `pop-node`: what was asked, checked for form and nothing done yet.
package struct NodeCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "pop-node",
        abstract: "The node of a device proxy: takes devices in, and clients' connections to them.",
        discussion: """
            Settings come from flags, then environment variables (POP_ and the key path in capitals, e.g. \
            POP_DEVICE_WSS_PORT), then the configuration file, then defaults.

            Exit codes: 0 clean stop, 1 failure, 64 wrong usage, 78 wrong configuration.
            """,
        version: Release.version,
        subcommands: [ServeCommand.self, MigrateCommand.self, CheckConfigCommand.self])

    package init() {}
}

package struct ServeCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run the node until SIGTERM or SIGINT; SIGHUP reloads certificates.")

    @Option(name: .customLong("config"), help: ArgumentHelp("Configuration file (JSON).", valueName: "file"))
    var configurationFile: String?

    @Flag(
        name: .customLong("dev"),
        help: "For trying out: local addresses, no authentication, a PostgreSQL of its own, data in ./.pop.")
    var isDev = false

    @Option(
        name: .customLong("data-dir"),
        help: ArgumentHelp("Directory for what the node keeps on disk.", valueName: "dir"))
    var dataDirectory: String?

    @Flag(name: .customLong("print-config"), help: "Print the settings in force, without secrets, and exit.")
    var printsConfiguration = false

    @OptionGroup var log: LogOptions

    package init() {}

    var flags: [String: JSONValue] {
        var flags = log.flags
        if let dataDirectory { flags["node.data_dir"] = .string(dataDirectory) }
        return flags
    }
}

/// What `pop-node migrate` is asked to do.
package enum MigrationAction: String, Sendable, CaseIterable, ExpressibleByArgument {
    /// Apply what is pending.
    case up
    /// List what is applied and what is pending.
    case status
}

package struct MigrateCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "Bring the database's schema up to date, or show how it stands.")

    @Option(name: .customLong("config"), help: ArgumentHelp("Configuration file (JSON).", valueName: "file"))
    var configurationFile: String?

    @Option(
        name: .customLong("database-url"),
        help: ArgumentHelp("PostgreSQL to use instead of the configured one.", valueName: "url"))
    var databaseURL: String?

    @OptionGroup var log: LogOptions

    @Argument(help: "up applies pending migrations, status lists them.")
    var action: MigrationAction

    package init() {}

    var flags: [String: JSONValue] {
        var flags = log.flags
        if let databaseURL { flags["database.url"] = .string(databaseURL) }
        return flags
    }
}

package struct CheckConfigCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Check a configuration file and the environment; change nothing.")

    @Option(name: .customLong("config"), help: ArgumentHelp("Configuration file (JSON).", valueName: "file"))
    var configurationFile: String

    @Flag(name: .customLong("dev"), help: "Check it as serve --dev would take it.")
    var isDev = false

    package init() {}
}
