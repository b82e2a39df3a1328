package import ArgumentParser
internal import DeviceAgent
internal import DeviceProtocol
internal import Domain
internal import JSON
internal import ProgramKit

/// The command line of `pop-device`: what was asked, checked for form and nothing done yet.
package struct DeviceCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "pop-device",
        abstract: "The agent of a device: connects out to a POP and opens connections on its behalf.",
        discussion: """
            Settings come from flags, then environment variables (POP_AGENT_ and the key in capitals, e.g. \
            POP_AGENT_DEVICE_ID; lists with commas), then the configuration file, then defaults.

            Exit codes: 0 clean stop, 1 failure, 64 wrong usage, 78 wrong configuration.
            """,
        version: Release.version,
        subcommands: [RunCommand.self])

    package init() {}
}

package struct RunCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Serve a POP until SIGTERM or SIGINT.")

    @Option(name: .customLong("config"), help: ArgumentHelp("Configuration file (JSON).", valueName: "file"))
    var configurationFile: String?

    @Option(
        name: .customLong("pop"),
        help: ArgumentHelp("A POP, wss://HOST:PORT; several are tried in this order.", valueName: "url"))
    var pops: [String] = []

    @Option(
        name: .customLong("device-id"),
        help: ArgumentHelp("This device's name, 1 to 128 of A-Z a-z 0-9 . _ : -", valueName: "id"))
    var deviceID: String?

    @Option(
        name: .customLong("token"),
        help: ArgumentHelp(
            "The device's token; other users of the machine can see it here.", valueName: "token"))
    var token: String?

    @Option(name: .customLong("token-file"), help: ArgumentHelp("File with the token.", valueName: "file"))
    var tokenFile: String?

    @Option(
        name: .customLong("location"), help: ArgumentHelp("Where it is, e.g. eu-west.", valueName: "name"))
    var location: String?

    @Option(
        name: .customLong("tag"), help: ArgumentHelp("A tag to be chosen by; repeatable.", valueName: "tag"))
    var tags: [String] = []

    @Option(
        name: .customLong("capacity"),
        help: ArgumentHelp("Most connections at once; 0 for no limit.", valueName: "n"))
    var capacity: UInt32?

    @Option(
        name: .customLong("ca-file"),
        help: ArgumentHelp("Certificates to trust instead of the system's (PEM).", valueName: "file"))
    var caFile: String?

    @Option(
        name: .customLong("cert-file"),
        help: ArgumentHelp("This device's certificate, for a POP that wants one (PEM).", valueName: "file"))
    var certificateFile: String?

    @Option(
        name: .customLong("key-file"), help: ArgumentHelp("The certificate's key (PEM).", valueName: "file"))
    var keyFile: String?

    @Flag(name: .customLong("tls-skip-verify"), help: "Trust any POP: for tests only.")
    var skipsVerification = false

    @Option(
        name: .customLong("allow-target"),
        help: ArgumentHelp(
            "A private target to open, CIDR or host[:port]; repeatable.", valueName: "target"))
    var allowedTargets: [String] = []

    @Option(
        name: .customLong("deny-target"),
        help: ArgumentHelp("A target to refuse, CIDR or host[:port]; repeatable.", valueName: "target"))
    var deniedTargets: [String] = []

    @OptionGroup var log: LogOptions

    package init() {}

    package func validate() throws {
        for pop in pops where PopURL(pop) == nil {
            throw ValidationError("--pop must be of the form wss://HOST[:PORT]")
        }
        if let deviceID, DeviceID(deviceID) == nil {
            throw ValidationError("--device-id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
        }
        if token != nil, tokenFile != nil {
            throw ValidationError("--token and --token-file exclude each other")
        }
        for target in allowedTargets where TargetRule(target) == nil {
            throw ValidationError("--allow-target must be CIDR, host[:port] or ip[:port]")
        }
        for target in deniedTargets where TargetRule(target) == nil {
            throw ValidationError("--deny-target must be CIDR, host[:port] or ip[:port]")
        }
    }

    /// The settings of the command line by key; what was not given is not in it.
    var flags: [String: JSONValue] {
        var flags = log.flags
        flags["pops"] = Self.list(pops)
        flags["device_id"] = deviceID.map { .string($0) }
        flags["token"] = token.map { .string($0) }
        if let tokenFile {
            flags["token_file"] = .string(tokenFile)
            // A flag goes before a token of the file or the environment.
            flags["token"] = .null
        }
        flags["location"] = location.map { .string($0) }
        flags["tags"] = Self.list(tags)
        flags["capacity"] = capacity.map { .integer(Int64($0)) }
        flags["ca_file"] = caFile.map { .string($0) }
        flags["cert_file"] = certificateFile.map { .string($0) }
        flags["key_file"] = keyFile.map { .string($0) }
        if skipsVerification { flags["tls_skip_verify"] = .bool(true) }
        flags["allow_targets"] = Self.list(allowedTargets)
        flags["deny_targets"] = Self.list(deniedTargets)
        return flags
    }

    private static func list(_ values: [String]) -> JSONValue? {
        values.isEmpty ? nil : .array(values.map { .string($0) })
    }
}
