internal import ArgumentParser
internal import Domain

/// What all commands take, before or after the noun and the verb.
struct ServerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The admin API: http://HOST[:PORT] or https://HOST[:PORT]. (POP_SERVER; http://127.0.0.1:9080)",
            valueName: "url"),
        completion: .default)
    var server: String?

    @Option(
        help: "An admin token; better given in POP_TOKEN or a file, since other users see a command line.",
        completion: .default)
    var token: String?

    @Option(
        name: .customLong("token-file"),
        help: ArgumentHelp("The file that holds the admin token.", valueName: "file"), completion: .file())
    var tokenFile: String?

    @Option(
        name: .customLong("ca-file"),
        help: ArgumentHelp(
            "Certificates (PEM) to trust instead of the system's: authorities, or the server's own.",
            valueName: "file"),
        completion: .file())
    var caFile: String?

    @Option(
        name: [.customLong("cert-file"), .customLong("cert")],
        help: ArgumentHelp(
            "Our certificate (PEM), for servers that ask for one; with --key-file.", valueName: "file"),
        completion: .file())
    var certificateFile: String?

    @Option(
        name: [.customLong("key-file"), .customLong("key")],
        help: ArgumentHelp("The private key (PEM) of --cert-file.", valueName: "file"), completion: .file())
    var keyFile: String?

    @Option(name: [.short, .customLong("output")], help: "How results are printed.")
    var output = OutputFormat.table

    mutating func validate() throws {
        guard token == nil || tokenFile == nil else {
            throw ValidationError("give --token or --token-file, not both")
        }
        guard (certificateFile == nil) == (keyFile == nil) else {
            throw ValidationError("--cert-file and --key-file go together")
        }
    }
}

/// How much of a list is wanted, and how its table looks.
struct ListOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Most items.", valueName: "count"))
    var limit = 100

    @Flag(help: "All items, however many there are.")
    var all = false

    @Flag(name: .customLong("no-headers"), help: "Leave out the line of titles, for scripts.")
    var noHeaders = false

    mutating func validate() throws {
        guard limit >= 1 else { throw ValidationError("--limit must be at least 1") }
    }
}

/// The span of time that a history is wanted of.
struct RangeOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Not before: RFC 3339, or so long ago (90s, 5m, 2h, 7d).", valueName: "time"))
    var from: PointInTime?

    @Option(help: ArgumentHelp("Before: RFC 3339, or so long ago.", valueName: "time"))
    var to: PointInTime?

    func parameters(_ now: WallTime) -> [(String, String?)] {
        [("from", from?.before(now)), ("to", to?.before(now))]
    }
}

/// Why something is done.
struct ReasonOption: ParsableArguments {
    @Option(help: ArgumentHelp("Why, for the audit trail.", valueName: "text"))
    var reason: String?

    var parameters: [(String, String?)] { [("reason", reason)] }
}

/// Waiting for what a call has set off.
struct WaitOptions: ParsableArguments {
    @Flag(name: .customLong("wait"), help: "Return when it has come about, not when it has begun.")
    var waits = false

    @Option(help: ArgumentHelp("Longest wait (90s, 5m, 2h); then exit with 1.", valueName: "span"))
    var timeout: TimeSpan?

    mutating func validate() throws {
        guard timeout == nil || waits else { throw ValidationError("--timeout needs --wait") }
    }
}

/// The argument that names a node.
struct NodeArgument: ParsableArguments {
    @Argument(
        help: "The node's id, or self for the one that answers.", completion: .custom(Candidates.nodes))
    var node: String
}

/// The argument that names a device.
struct DeviceArgument: ParsableArguments {
    @Argument(help: "The device's id.", completion: .custom(Candidates.devices))
    var device: String
}
