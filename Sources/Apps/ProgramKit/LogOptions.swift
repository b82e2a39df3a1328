package import ArgumentParser
package import JSON
package import Logging
package import Observability

extension LogFormat: ExpressibleByArgument {}

/// The options about logs that every program with a log has.
package struct LogOptions: ParsableArguments {
    @Option(name: .customLong("log-format"), help: "Layout of log lines: text or json.")
    package var format: LogFormat?

    @Option(
        name: .customLong("log-level"),
        help: "Least severe level logged: trace, debug, info, notice, warning, error or critical.",
        transform: { text in
            guard let level = Logger.Level(rawValue: text) else {
                let names = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("log level must be one of \(names)")
            }
            return level
        })
    package var level: Logger.Level?

    package init() {}

    /// As settings by key; what was not given is not in it.
    package var flags: [String: JSONValue] {
        var flags: [String: JSONValue] = [:]
        if let format { flags["log.format"] = .string(format.rawValue) }
        if let level { flags["log.level"] = .string(level.rawValue) }
        return flags
    }
}
