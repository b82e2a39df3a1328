package import ArgumentParser
internal import HTTP1
internal import JSON

/// How results are printed.
enum OutputFormat: String, CaseIterable, ExpressibleByArgument {
    case table, json
}

/// What all commands take, before or after the noun and the verb.
struct ServerOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The admin API; POP_SERVER, or http://127.0.0.1:9080.", valueName: "url"))
    var server: String?

    @Option(help: "An admin token; better given in POP_TOKEN, which other users can't see.")
    var token: String?

    @Option(
        name: .customLong("ca-file"),
        help: ArgumentHelp(
            "Certificate authorities (PEM) to trust instead of the system's.", valueName: "file"))
    var caFile: String?

    @Option(name: [.short, .customLong("output")], help: "table or json.")
    var output = OutputFormat.table
}

/// How much of a list is wanted.
struct ListOptions: ParsableArguments {
    @Option(help: "Most items.")
    var limit = 100

    @Flag(help: "All items, however many there are.")
    var all = false

    mutating func validate() throws {
        guard limit >= 1 else { throw ValidationError("--limit must be at least 1") }
    }
}

/// The command line of `popctl`.
package struct ControlCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "popctl", abstract: "Operates POP nodes over their admin API.",
        discussion: "Exit codes: 0 done, 1 refused or unreachable, 64 wrong usage.",
        version: ControlProgram.version,
        subcommands: [NodesCommand.self, DevicesCommand.self, ConnsCommand.self])

    @OptionGroup var options: ServerOptions

    package init() {}
}

/// A verb: what it does with a session of the API.
protocol ControlVerb: ParsableCommand {
    var options: ServerOptions { get }
    func perform(_ session: ControlSession) throws
}

// MARK: Nodes

struct NodesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nodes", abstract: "Nodes, and taking them out of service.",
        subcommands: [ListNodes.self, ShowNode.self, DrainNode.self, UndrainNode.self])
    @OptionGroup var options: ServerOptions
}

struct ListNodes: ControlVerb {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the nodes.")
    @OptionGroup var options: ServerOptions
    @OptionGroup var list: ListOptions

    func perform(_ session: ControlSession) throws {
        try session.list(["v1", "nodes"], [], list, ControlSession.nodeColumns)
    }
}

struct ShowNode: ControlVerb {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Show one node.")
    @OptionGroup var options: ServerOptions
    @Argument(help: "The node's id, or self for the one that answers.") var node: String

    func perform(_ session: ControlSession) throws {
        try session.show(["v1", "nodes", node])
    }
}

struct DrainNode: ControlVerb {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Send a node's devices away and take no new ones.")
    @OptionGroup var options: ServerOptions
    @Argument(help: "The node's id, or self for the one that answers.") var node: String

    @Option(
        name: .customLong("deadline-seconds"),
        help: ArgumentHelp("When what is left is closed; 300 by default.", valueName: "seconds"))
    var deadlineSeconds: Int?

    @Option(
        name: .customLong("devices-per-second"),
        help: ArgumentHelp("The pace at which devices move; 50 by default.", valueName: "count"))
    var devicesPerSecond: Int?

    @Option(
        name: .customLong("redirect-to"),
        help: ArgumentHelp("A node that devices are sent to; may be repeated.", valueName: "node"))
    var redirectTo: [String] = []

    @Option(help: "Why, for the record.") var reason: String?
    @Flag(name: .customLong("wait"), help: "Show progress until the node is drained.") var waits = false

    func perform(_ session: ControlSession) throws {
        try session.drain(self)
    }
}

struct UndrainNode: ControlVerb {
    static let configuration = CommandConfiguration(
        commandName: "undrain", abstract: "Cancel a drain and take devices again.")
    @OptionGroup var options: ServerOptions
    @Argument(help: "The node's id, or self for the one that answers.") var node: String

    func perform(_ session: ControlSession) throws {
        let drain = try session.client.call(.delete, RequestPath.make(["v1", "nodes", node, "drain"]))
        session.report(drain, "\(node) takes devices again")
    }
}

// MARK: Devices

struct DevicesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "devices", abstract: "Devices and their sessions.",
        subcommands: [ListDevices.self, ShowDevice.self, DisconnectDevice.self])
    @OptionGroup var options: ServerOptions
}

struct ListDevices: ControlVerb {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List devices.")
    @OptionGroup var options: ServerOptions
    @OptionGroup var list: ListOptions
    @Option(help: "online or offline.") var status: String?
    @Option(help: "Only of this node.") var node: String?
    @Option(help: "Only of this location.") var location: String?
    @Option(help: "Only with this tag; may be repeated.") var tag: [String] = []
    @Option(help: "Only ids that begin so.") var prefix: String?
    @Option(help: "device_id, connected_at or active_conns.") var sort: String?
    @Option(help: "asc or desc.") var order: String?

    func perform(_ session: ControlSession) throws {
        let filters = [
            ("status", status), ("node_id", node), ("location", location), ("q", prefix), ("sort", sort),
            ("order", order),
        ]
        let query = ControlSession.given(filters) + tag.map { ("tag", $0) }
        try session.list(["v1", "devices"], query, list, ControlSession.deviceColumns)
    }
}

struct ShowDevice: ControlVerb {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Show one device.")
    @OptionGroup var options: ServerOptions
    @Argument(help: "The device's id.") var device: String

    func perform(_ session: ControlSession) throws {
        try session.show(["v1", "devices", device])
    }
}

struct DisconnectDevice: ControlVerb {
    static let configuration = CommandConfiguration(
        commandName: "disconnect", abstract: "End a device's session; the device comes back by itself.")
    @OptionGroup var options: ServerOptions
    @Argument(help: "The device's id.") var device: String
    @Option(help: "Why, for the record.") var reason: String?

    func perform(_ session: ControlSession) throws {
        let path = RequestPath.make(["v1", "devices", device, "disconnect"])
        let answer = try session.client.call(.post, path, body: ControlSession.body([("reason", reason)]))
        session.report(answer, "\(device): session \(Cell.text(answer["session_id"])) ends")
    }
}

// MARK: Conns

struct ConnsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conns", abstract: "Live proxied connections.",
        subcommands: [ListConns.self, ShowConn.self, CloseConn.self])
    @OptionGroup var options: ServerOptions
}

struct ConnFilterOptions: ParsableArguments {
    @Option(help: "Only of this device.") var device: String?
    @Option(help: "Only of this node.") var node: String?
    @Option(help: "Only of this user.") var user: String?
    @Option(name: .customLong("protocol"), help: "socks5, http or udp.") var clientProtocol: String?
    @Option(help: "Only to this host, or host:port.") var target: String?

    var given: [(name: String, value: String)] {
        ControlSession.given([
            ("device_id", device), ("node_id", node), ("user", user), ("protocol", clientProtocol),
            ("target", target),
        ])
    }
}

struct ListConns: ControlVerb {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List live conns.")
    @OptionGroup var options: ServerOptions
    @OptionGroup var list: ListOptions
    @OptionGroup var filter: ConnFilterOptions

    func perform(_ session: ControlSession) throws {
        try session.list(["v1", "conns"], filter.given, list, ControlSession.connColumns)
    }
}

struct ShowConn: ControlVerb {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Show one live conn.")
    @OptionGroup var options: ServerOptions
    @Argument(help: "The conn's id.") var conn: String

    func perform(_ session: ControlSession) throws {
        try session.show(["v1", "conns", conn])
    }
}

struct CloseConn: ControlVerb {
    static let configuration = CommandConfiguration(
        commandName: "close", abstract: "Close conns, by id or all that match a filter.")
    @OptionGroup var options: ServerOptions
    @OptionGroup var filter: ConnFilterOptions
    @Option(help: "Why, for the record.") var reason: String?
    @Argument(help: "Ids of conns.") var conns: [String] = []

    mutating func validate() throws {
        guard conns.isEmpty != filter.given.isEmpty else {
            throw ValidationError("give either the ids of conns or a filter such as --device")
        }
    }

    func perform(_ session: ControlSession) throws {
        if conns.isEmpty {
            let body = ControlSession.body(filter.given.map { ($0.name, $0.value) } + [("reason", reason)])
            let answer = try session.client.call(
                .post, RequestPath.make(["v1", "conns", "close"]), body: body)
            return session.report(answer, "\(Cell.text(answer["closed"])) closed")
        }
        for conn in conns {
            let query = ControlSession.given([("reason", reason)])
            _ = try session.client.call(.delete, RequestPath.make(["v1", "conns", conn], query))
            session.report(["closed": .string(conn)], "\(conn) closed")
        }
    }
}
