internal import ArgumentParser
internal import HTTP1
internal import JSON

struct ConnsCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "conns", abstract: "Live proxied connections.",
        subcommands: [ListConns.self, ShowConn.self, CloseConn.self])
    @OptionGroup var options: ServerOptions
}

struct ConnFilterOptions: ParsableArguments {
    @Option(help: "Only of this device.", completion: .custom(Candidates.devices)) var device: String?
    @Option(help: "Only of this node.", completion: .custom(Candidates.nodes)) var node: String?
    @Option(help: "Only of this user.") var user: String?
    @Option(name: .customLong("protocol"), help: "Only of this protocol.") var clientProtocol: ClientProtocol?
    @Option(help: ArgumentHelp("Only to this host, or host:port.", valueName: "host")) var target: String?

    var parameters: [(String, String?)] {
        [
            ("device_id", device), ("node_id", node), ("user", user),
            ("protocol", clientProtocol?.rawValue), ("target", target),
        ]
    }

    var isEmpty: Bool { parameters.allSatisfy { $0.1 == nil } }
}

struct ListConns: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "conns list", abstract: "List live conns, the oldest first.")
    @OptionGroup var list: ListOptions
    @OptionGroup var filter: ConnFilterOptions
    @OptionGroup var options: ServerOptions

    static let columns: [Column] = [
        .key("CONN", "conn_id"), .identifier("DEVICE", "device_id", rank: 1),
        .text("TARGET", "target", rank: 0), .text("USER", "user", rank: 4),
        .word("PROTOCOL", "protocol", rank: 6), .text("CLIENT", "client_address", rank: 7),
        .word("STATE", "state", rank: 8), .number("SENT", "bytes_sent", rank: 3, Cell.bytes),
        .number("RECEIVED", "bytes_received", rank: 3, Cell.bytes), .age("OPEN", "opened_at", rank: 2),
        .number("IDLE", "idle_seconds", rank: 5) { $0?.integer.map { Cell.span($0) } ?? "-" },
        .identifier("NODE", "node_id", rank: 9),
    ]

    func perform(_ session: ControlSession) throws {
        try session.list(["v1", "conns"], filter.parameters, list, Self.columns)
    }
}

struct ShowConn: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "conns show", arguments: "<conn>", abstract: "Show one live conn.")
    @Argument(help: "The conn's id.", completion: .custom(Candidates.conns)) var conn: String
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        session.show(try session.get(["v1", "conns", conn]))
    }
}

struct CloseConn: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "conns close", arguments: "<conn> ... | <filters>",
        abstract: "Close conns, by id or all that match a filter.",
        discussion: """
            Client and target both see a reset.

            EXAMPLES:
              popctl conns close 0d0b9f0e-3f52-4d4e-8d4f-1c9e6f1b2a33
              popctl conns close --user alice --target example.com --reason abuse
            """)
    @OptionGroup var filter: ConnFilterOptions
    @OptionGroup var reason: ReasonOption
    @Argument(help: "Ids of conns.", completion: .custom(Candidates.conns)) var conns: [String] = []
    @OptionGroup var options: ServerOptions

    mutating func validate() throws {
        guard conns.isEmpty != filter.isEmpty else {
            throw ValidationError("give either the ids of conns or a filter such as --device")
        }
    }

    func perform(_ session: ControlSession) throws {
        if conns.isEmpty {
            let members = (filter.parameters + reason.parameters).map { name, value in
                (name, value.map { JSONValue.string($0) })
            }
            let answer = try session.call(.post, ["v1", "conns", "close"], body: members)
            return session.report(answer, "\(Cell.text(answer["closed"])) closed")
        }
        for conn in conns {
            _ = try session.call(.delete, ["v1", "conns", conn], reason.parameters)
            if session.output == .table { session.report(.null, "\(conn) closed") }
        }
        if session.output == .json { session.show(["closed": .integer(Int64(conns.count))]) }
    }
}
