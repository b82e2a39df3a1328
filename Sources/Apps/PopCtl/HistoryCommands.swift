internal import ArgumentParser

struct SessionsCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "sessions", abstract: "Sessions of devices, past and present.",
        subcommands: [ListSessions.self])
    @OptionGroup var options: ServerOptions
}

struct ListSessions: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "sessions list", abstract: "List sessions, the newest first.",
        discussion: """
            EXAMPLES:
              popctl sessions list --device dev-1 --from 1d
              popctl sessions list --ended --from 2026-01-31T00:00:00Z -o json --all
            """)
    @OptionGroup var list: ListOptions
    @Option(help: "Only of this device.", completion: .custom(Candidates.devices)) var device: String?
    @Option(help: "Only on this node.", completion: .custom(Candidates.nodes)) var node: String?
    @OptionGroup var range: RangeOptions
    @Flag(help: "Only sessions that are open, or only those that have ended.") var state: State?

    enum State: String, EnumerableFlag {
        case open, ended
    }
    @OptionGroup var options: ServerOptions

    private static let columns: [Column] = [
        .key("SESSION", "session_id"), .identifier("DEVICE", "device_id", rank: 0),
        .identifier("NODE", "node_id", rank: 5), .age("STARTED", "started_at", rank: 0),
        .age("ENDED", "ended_at", rank: 2), .word("REASON", "end_reason", rank: 1),
        .text("ADDRESS", "remote_address", rank: 7), .number("CONNS", "conns_total", rank: 4),
        .number("SENT", "bytes_sent", rank: 3, Cell.bytes),
        .number("RECEIVED", "bytes_received", rank: 3, Cell.bytes),
        .number("RESUMES", "resumes", rank: 6), .number("MIGRATIONS", "migrations", rank: 8),
    ]

    func perform(_ session: ControlSession) throws {
        let query = [
            ("device_id", device), ("node_id", node), ("open", state.map { $0 == .open ? "true" : "false" }),
        ]
        try session.list(["v1", "sessions"], query + range.parameters(session.now), list, Self.columns)
    }
}

// MARK: Audit

struct AuditCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "audit", abstract: "Who has changed what.", subcommands: [ListAudit.self])
    @OptionGroup var options: ServerOptions
}

struct ListAudit: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "audit list", abstract: "List calls that changed something or were refused, the newest first.",
        discussion: """
            EXAMPLES:
              popctl audit list --path /v1/nodes --from 7d
              popctl audit list --actor night-shift --status 403
            """)
    @OptionGroup var list: ListOptions
    @Option(help: ArgumentHelp("Only with the token of this name.", valueName: "name")) var actor: String?
    @Option(help: "Only of this method: POST, PUT, PATCH, DELETE.") var method: String?
    @Option(help: ArgumentHelp("Only paths that begin so.", valueName: "prefix")) var path: String?
    @Option(help: "Only with this status of HTTP.") var status: Int?
    @Option(help: "Only at this node.", completion: .custom(Candidates.nodes)) var node: String?
    @OptionGroup var range: RangeOptions
    @OptionGroup var options: ServerOptions

    private static let columns: [Column] = [
        .age("AGE", "at", rank: 0), .text("ACTOR", "actor", rank: 0), .word("METHOD", "method", rank: 0),
        .key("PATH", "path"), .number("STATUS", "status", rank: 0), .text("REASON", "reason", rank: 1),
        .text("ADDRESS", "remote_address", rank: 2), .identifier("NODE", "node_id", rank: 3),
        .identifier("REQUEST", "request_id", rank: 4),
    ]

    func perform(_ session: ControlSession) throws {
        let query = [
            ("actor", actor), ("method", method), ("path", path), ("status", status.map { String($0) }),
            ("node_id", node),
        ]
        try session.list(["v1", "audit"], query + range.parameters(session.now), list, Self.columns)
    }
}
