internal import ArgumentParser
internal import HTTP1
internal import JSON

struct NodesCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "nodes", abstract: "Nodes, and taking them out of service.",
        subcommands: [
            ListNodes.self, ShowNode.self, CordonNode.self, UncordonNode.self, DrainNode.self,
            UndrainNode.self,
        ])
    @OptionGroup var options: ServerOptions
}

struct ListNodes: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "nodes list", abstract: "List the nodes of the cluster.")
    @OptionGroup var list: ListOptions
    @OptionGroup var options: ServerOptions

    static let columns: [Column] = [
        .key("NODE", "node_id"), .word("STATE", "state", rank: 0), .text("LOCATION", "location", rank: 4),
        .number("DEVICES", "devices_online", rank: 1), .number("CONNS", "conns_active", rank: 1),
        .number("SENT", "bytes_sent", rank: 3, Cell.bytes),
        .number("RECEIVED", "bytes_received", rank: 3, Cell.bytes),
        .number("CPU", "cpu_utilization", rank: 2, Cell.percent),
        .number("MEMORY", "memory_used_bytes", rank: 5, Cell.bytes), .word("VERSION", "version", rank: 7),
        .age("UP", "started_at", rank: 6), .number("AGE", "age_seconds", rank: 8, Cell.seconds),
    ]

    func perform(_ session: ControlSession) throws {
        try session.list(["v1", "nodes"], [], list, Self.columns)
    }
}

struct ShowNode: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "nodes show", arguments: "<node>", abstract: "Show one node.")
    @OptionGroup var target: NodeArgument
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        session.show(try session.get(["v1", "nodes", target.node]))
    }
}

struct CordonNode: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "nodes cordon", arguments: "<node>", abstract: "Place no new devices and conns on a node.",
        discussion: "What is on the node stays there untouched; nodes drain moves it away.")
    @OptionGroup var target: NodeArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let node = try session.setEligibility(target.node, false, reason)
        session.report(node, "\(Cell.text(node["node_id"])) takes no new devices and conns")
    }
}

struct UncordonNode: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "nodes uncordon", arguments: "<node>", abstract: "Place devices and conns on a node again.")
    @OptionGroup var target: NodeArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let node = try session.setEligibility(target.node, true, reason)
        session.report(node, "\(Cell.text(node["node_id"])) takes devices and conns again")
    }
}

extension ControlSession {
    fileprivate func setEligibility(
        _ node: String, _ isEligible: Bool, _ reason: ReasonOption
    ) throws(APIError) -> JSONValue {
        try call(
            .put, ["v1", "nodes", node, "eligibility"],
            body: [("eligible", .bool(isEligible)), ("reason", reason.reason.map { .string($0) })])
    }
}

// MARK: Drain

struct DrainNode: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "nodes drain", arguments: "<node>",
        abstract: "Send a node's devices away and take no new ones.",
        discussion: """
            Devices are told to move, so many a second, and register elsewhere before they leave; their \
            conns end in peace until the deadline. What is left then is cut, or held with --on-deadline \
            hold. Called again it changes the drain under way.

            With --wait progress is shown until the node is drained. Ctrl-C ends the waiting, not the \
            drain, and exits with 1; popctl drains show NODE --wait waits again.

            EXAMPLES:
              popctl nodes drain pop-1 --preview
              popctl nodes drain pop-1 --deadline 10m --reason "kernel update" --wait
            """)
    @OptionGroup var target: NodeArgument

    @Option(help: ArgumentHelp("When what is left is cut or held (90s, 5m, 2h); 5m.", valueName: "span"))
    var deadline: TimeSpan?

    @Option(help: ArgumentHelp("Devices told to move in a second; 50.", valueName: "count"))
    var rate: Int?

    @Option(
        name: .customLong("redirect-to"),
        help: ArgumentHelp("A node that devices are sent to; may be repeated.", valueName: "node"),
        completion: .custom(Candidates.nodes))
    var redirectTo: [String] = []

    @Option(name: .customLong("on-deadline"), help: "What happens to the conns left at the deadline.")
    var onDeadline: DeadlineAction?

    @OptionGroup var reason: ReasonOption
    @Flag(help: "Show what the drain would do, and change nothing.") var preview = false
    @OptionGroup var wait: WaitOptions
    @OptionGroup var options: ServerOptions

    mutating func validate() throws {
        guard !preview || !wait.waits else { throw ValidationError("--preview has nothing to wait for") }
        guard rate ?? 1 >= 1 else { throw ValidationError("--rate must be at least 1") }
    }

    private var body: [(String, JSONValue?)] {
        [
            ("deadline_seconds", deadline.map { .integer($0.seconds) }),
            ("devices_per_second", rate.map { .integer(Int64($0)) }),
            ("redirect_to", redirectTo.isEmpty ? nil : .array(redirectTo.map { .string($0) })),
            ("on_deadline", onDeadline.map { .string($0.rawValue) }),
            ("reason", reason.reason.map { .string($0) }),
        ]
    }

    func perform(_ session: ControlSession) throws {
        let path = ["v1", "nodes", target.node, "drain"]
        if preview {
            return session.showPreview(try session.call(.post, path + ["preview"], body: body))
        }
        let follower = DrainFollower(session, node: target.node)
        guard wait.waits else {
            return follower.report(try session.call(.post, path, body: body))
        }
        try follower.follow(timeout: wait.timeout) { () throws(APIError) in
            try session.call(.post, path, body: self.body)
        }
    }
}

struct UndrainNode: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "nodes undrain", arguments: "<node>", abstract: "Cancel a drain and take devices again.",
        discussion: "Devices that have been told to move may still leave.")
    @OptionGroup var target: NodeArgument

    @Flag(name: .customLong("keep-cordoned"), help: "Cancel the drain, but take no new devices and conns.")
    var keepsCordoned = false

    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let drain = try session.call(
            .delete, ["v1", "nodes", target.node, "drain"],
            [("eligibility", keepsCordoned ? "keep" : nil)] + reason.parameters)
        let what = keepsCordoned ? "stays cordoned" : "takes devices again"
        session.report(drain, "\(drain["node_id"]?.string ?? target.node) \(what)")
    }
}

extension ControlSession {
    fileprivate func showPreview(_ preview: JSONValue) {
        guard output == .table else { return show(preview) }
        let targets = preview["targets"]?.array ?? []
        show(.object((preview.object ?? []).filter { $0.name != "targets" }))
        let taken = targets.reduce(0) { $0 + ($1["devices_taken"]?.number ?? 0) }
        if let total = preview["devices_total"]?.number, total > taken, !targets.isEmpty {
            note("the targets have no room for \(Cell.fixed(total - taken, 0)) of the devices; those stay")
        }
        guard !targets.isEmpty else { return }
        let table = Table(
            [
                .key("TARGET", "node_id"), .number("DEVICES TAKEN", "devices_taken", rank: 0),
                .number("DEVICES AFTER", "devices_after", rank: 0),
            ], targets, now: now, width: console.outputSize?.columns)
        console.print("\n" + table.header + table.rows(targets))
    }
}

extension ControlSession {
    /// What a drain says of other nodes and of conns are tables of their own.
    fileprivate func showDrain(_ drain: JSONValue) {
        guard output == .table else { return show(drain) }
        let parts: [(name: String, columns: [Column])] = [
            (
                "targets",
                [
                    .key("TARGET", "node_id"), .word("STATE", "state", rank: 0),
                    .number("ASSIGNED", "assigned", rank: 0), .number("ARRIVED", "arrived", rank: 0),
                    .number("DEVICES/S", "devices_per_second", rank: 1),
                ]
            ),
            (
                "blockers",
                [
                    .identifier("CONN", "conn_id", rank: 2), .key("DEVICE", "device_id"),
                    .text("USER", "user", rank: 1), .text("TARGET", "target", rank: 0),
                    .number("AGE", "age_seconds", rank: 0, Cell.seconds),
                    .number("SENT", "bytes_sent", rank: 3, Cell.bytes),
                    .number("RECEIVED", "bytes_received", rank: 3, Cell.bytes),
                    .number("IDLE", "idle_seconds", rank: 1, Cell.seconds),
                ]
            ),
        ]
        func rows(_ part: String) -> [JSONValue] {
            (drain[part]?.array ?? []).filter { $0.object != nil }
        }
        show(
            .object(
                (drain.object ?? []).filter { member in
                    !parts.contains { $0.name == member.name } || rows(member.name).isEmpty
                }))
        for part in parts {
            let items = rows(part.name)
            guard !items.isEmpty else { continue }
            let table = Table(part.columns, items, now: now, width: console.outputSize?.columns)
            console.print("\n" + table.header + table.rows(items))
        }
    }
}

// MARK: Drains

struct DrainsCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "drains", abstract: "Drains, past and under way.",
        subcommands: [ListDrains.self, ShowDrain.self])
    @OptionGroup var options: ServerOptions
}

struct ListDrains: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "drains list", abstract: "List the cluster's drains, the newest first.")
    @OptionGroup var list: ListOptions
    @Option(help: "Only of this node.", completion: .custom(Candidates.nodes)) var node: String?
    @OptionGroup var options: ServerOptions

    private static let columns: [Column] = [
        .key("NODE", "node_id"), .word("STATE", "state", rank: 0), .age("STARTED", "started_at", rank: 0),
        .age("ENDED", "ended_at", rank: 4),
        .number("DEVICES", "devices_total", rank: 2), .number("MOVED", "devices_moved", rank: 1),
        .number("CONNS LEFT", "conns_remaining", rank: 3), .number("CONNS CUT", "conns_cut", rank: 1),
        .text("ACTOR", "actor", rank: 4), .text("REASON", "reason", rank: 5),
        .identifier("DRAIN", "drain_id", rank: 6),
    ]

    func perform(_ session: ControlSession) throws {
        try session.list(["v1", "drains"], [("node_id", node)], list, Self.columns)
    }
}

struct ShowDrain: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "drains show", arguments: "<node>", abstract: "Show a node's drain, or follow it with --wait.")
    @OptionGroup var target: NodeArgument
    @OptionGroup var wait: WaitOptions
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let path = ["v1", "nodes", target.node, "drain"]
        guard wait.waits else { return session.showDrain(try session.get(path)) }
        try DrainFollower(session, node: target.node).follow(timeout: wait.timeout) { () throws(APIError) in
            try session.get(path)
        }
    }
}
