internal import ArgumentParser
internal import HTTP1
internal import JSON

struct DevicesCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "devices", abstract: "Devices, their sessions and their tokens.",
        subcommands: [
            ListDevices.self, ShowDevice.self, ShowDeviceLoad.self, DisconnectDevice.self,
            EnableDevice.self, DisableDevice.self, EnrollDevice.self, RevokeDevice.self,
        ])
    @OptionGroup var options: ServerOptions
}

// MARK: Reading

struct ListDevices: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices list", abstract: "List devices.",
        discussion: """
            EXAMPLES:
              popctl devices list --status online --tag mobile --tag 5g
              popctl devices list --sort active_conns --order desc --limit 10
            """)
    @OptionGroup var list: ListOptions
    @Option(help: "Only in this state.") var status: DeviceStatus?
    @Option(help: "Only of this node.", completion: .custom(Candidates.nodes)) var node: String?
    @Option(help: "Only of this location.") var location: String?
    @Option(help: "Only with this tag; may be repeated, then all must be there.") var tag: [String] = []
    @Option(help: "Only ids that begin so.") var prefix: String?
    @Option(help: "What the list is ordered by.") var sort: DeviceSort?
    @Option(help: "Rising or falling.") var order: SortOrder?
    @OptionGroup var options: ServerOptions

    static let columns: [Column] = [
        .key("DEVICE", "device_id"), .word("STATUS", "status", rank: 0), .word("HEALTH", "health", rank: 2),
        .word("ENABLED", "enabled", rank: 7), .identifier("NODE", "node_id", rank: 3),
        .text("LOCATION", "location", rank: 5), .text("TAGS", "tags", rank: 6),
        .number("CONNS", "active_conns", rank: 1), .number("RTT", "rtt_ms", rank: 5, Cell.milliseconds),
        .number("SENT", "bytes_sent", rank: 4, Cell.bytes),
        .number("RECEIVED", "bytes_received", rank: 4, Cell.bytes), .age("SINCE", "connected_at", rank: 3),
    ]

    func perform(_ session: ControlSession) throws {
        let query = [
            ("status", status?.rawValue), ("node_id", node), ("location", location), ("q", prefix),
            ("sort", sort?.rawValue), ("order", order?.rawValue),
        ]
        try session.list(["v1", "devices"], query + tag.map { ("tag", $0) }, list, Self.columns)
    }
}

struct ShowDevice: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices show", arguments: "<device>", abstract: "Show one device.")
    @OptionGroup var target: DeviceArgument
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        session.show(try session.get(["v1", "devices", target.device]))
    }
}

struct ShowDeviceLoad: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices load", arguments: "<device>", abstract: "Show a device's load over time.",
        discussion: """
            EXAMPLES:
              popctl devices load dev-1 --from 6h --step 5m
            """)
    @OptionGroup var target: DeviceArgument
    @OptionGroup var range: RangeOptions

    @Option(help: ArgumentHelp("One point for each such span (60s, 5m).", valueName: "span"))
    var step: TimeSpan?

    @Flag(name: .customLong("no-headers"), help: "Leave out the line of titles, for scripts.")
    var noHeaders = false
    @OptionGroup var options: ServerOptions

    private static let columns: [Column] = [
        .key("SAMPLED", "sampled_at"), .number("CONNS", "active_conns", rank: 0),
        .number("SENT", "bytes_sent", rank: 0, Cell.bytes),
        .number("RECEIVED", "bytes_received", rank: 0, Cell.bytes),
        .number("CPU", "cpu_utilization", rank: 1, Cell.percent),
        .number("MEMORY", "memory_used_bytes", rank: 2, Cell.bytes),
        .number("RTT", "rtt_ms", rank: 3, Cell.milliseconds),
    ]

    func perform(_ session: ControlSession) throws {
        let answer = try session.get(
            ["v1", "devices", target.device, "load"],
            range.parameters(session.now) + [("step_seconds", step.map { String($0.seconds) })])
        guard let points = answer["items"]?.array else { throw APIError.unexpected("no items") }
        guard session.output == .table else { return session.show(.array(points)) }
        let width = session.console.outputSize?.columns
        let table = Table(Self.columns, points, now: session.now, width: width)
        session.console.print((noHeaders ? "" : table.header) + table.rows(points))
    }
}

// MARK: Sessions

struct DisconnectDevice: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices disconnect", arguments: "<device>",
        abstract: "End a device's session; the device comes back by itself.")
    @OptionGroup var target: DeviceArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var wait: WaitOptions
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.call(
            .post, ["v1", "devices", target.device, "disconnect"], reason.parameters)
        let ended = Cell.text(answer["session_id"])
        if wait.waits {
            try session.waitUntilGone(device: target.device, session: ended, timeout: wait.timeout)
        }
        session.report(answer, "\(target.device): session \(ended) \(wait.waits ? "has ended" : "ends")")
    }
}

struct EnableDevice: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices enable", arguments: "<device>", abstract: "Let a device connect again.")
    @OptionGroup var target: DeviceArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.call(
            .patch, ["v1", "devices", target.device], reason.parameters, body: [("enabled", true)])
        session.report(answer, "\(target.device) may connect")
    }
}

struct DisableDevice: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices disable", arguments: "<device>", abstract: "Disconnect a device and keep it out.")
    @OptionGroup var target: DeviceArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var wait: WaitOptions
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.ending(target.device, wait) { () throws(APIError) in
            try session.call(
                .patch, ["v1", "devices", self.target.device], self.reason.parameters,
                body: [("enabled", false)])
        }
        session.report(answer, "\(target.device) is kept out")
    }
}

// MARK: Tokens

struct EnrollDevice: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices enroll", arguments: "<device>",
        abstract: "Make a device's token, and print it alone, this once.",
        discussion: """
            A token that the device had before is replaced. The token is shown by no other command.

            EXAMPLES:
              popctl devices enroll dev-1 > dev-1.token
            """)
    @OptionGroup var target: DeviceArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.call(
            .post, ["v1", "devices", target.device, "token"], reason.parameters)
        try session.printSecret("token", of: answer)
    }
}

struct RevokeDevice: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "devices revoke", arguments: "<device>",
        abstract: "Take a device's token away and disconnect it.")
    @OptionGroup var target: DeviceArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var wait: WaitOptions
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.ending(target.device, wait) { () throws(APIError) in
            try session.call(.delete, ["v1", "devices", self.target.device, "token"], self.reason.parameters)
        }
        session.report(answer, "the token of \(target.device) is void")
    }
}

extension ControlSession {
    /// Makes a call that ends the device's session, and waits for the end where that is wanted.
    fileprivate func ending(
        _ device: String, _ wait: WaitOptions, _ call: () throws(APIError) -> JSONValue
    ) throws -> JSONValue {
        guard wait.waits else { return try call() }
        let session: String?
        do {
            session = try get(["v1", "devices", device])["session_id"]?.string
        } catch .refused(let problem) where problem.status == 404 {
            session = nil
        }
        let answer = try call()
        if let session { try waitUntilGone(device: device, session: session, timeout: wait.timeout) }
        return answer
    }
}
