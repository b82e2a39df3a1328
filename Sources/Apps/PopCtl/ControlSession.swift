internal import HTTP1
internal import JSON

/// What verbs have in common: calls, lists over pages, and printing.
final class ControlSession {
    let client: APIClient
    let output: OutputFormat
    let width: Int?
    let print: (String) -> Void
    let complain: (String) -> Void

    /// The server's largest page.
    private static let largestPage = 1_000
    /// How often a drain is looked at.
    private static let pollInterval = Duration.milliseconds(500)
    /// Looks in a row that may fail before the waiting is given up: a restart of the API takes a moment.
    private static let mostFailedPolls = 10

    init(
        client: APIClient, output: OutputFormat, width: Int?, print: @escaping (String) -> Void,
        complain: @escaping (String) -> Void
    ) {
        self.client = client
        self.output = output
        self.width = width
        self.print = print
        self.complain = complain
    }

    /// The parameters that have a value.
    static func given(_ parameters: [(String, String?)]) -> [(name: String, value: String)] {
        parameters.compactMap { name, value in value.map { (name, $0) } }
    }

    /// An object of the members that have a value; nil when none has.
    static func body(_ members: [(String, String?)]) -> JSONValue? {
        let members = given(members).map { JSONMember($0.name, .string($0.value)) }
        return members.isEmpty ? nil : .object(members)
    }

    // MARK: Printing

    func show(_ path: [String]) throws {
        let item = try client.call(.get, RequestPath.make(path))
        print(output == .json ? json(item) : Table.renderFields(item))
    }

    func report(_ answer: JSONValue, _ sentence: String) {
        print(output == .json ? json(answer) : Cell.visible(sentence) + "\n")
    }

    private func json(_ value: JSONValue) -> String {
        String(decoding: value.serialised(isPretty: true), as: UTF8.self)
    }

    /// Prints the items of a list, following its pages as far as they are wanted.
    func list(
        _ path: [String], _ query: [(name: String, value: String)], _ options: ListOptions,
        _ columns: [Column]
    ) throws {
        var items: [JSONValue] = []
        var cursor: String?
        let wanted = options.all ? Int.max : options.limit
        repeat {
            var page = query + [("limit", String(min(wanted - items.count, Self.largestPage)))]
            if let cursor { page.append(("cursor", cursor)) }
            let answer = try client.call(.get, RequestPath.make(path, page))
            guard let found = answer["items"]?.array else { throw APIError.unexpected("no items") }
            items += found
            let next = answer["next_cursor"]?.string
            guard next == nil || next != cursor else { throw APIError.unexpected("the list does not go on") }
            cursor = next
        } while cursor != nil && items.count < wanted
        print(output == .json ? json(.array(items)) : Table.render(items, columns, width: width))
        if cursor != nil { complain("popctl: there are more; --all shows them") }
    }

    // MARK: Drain

    func drain(_ command: DrainNode) throws {
        var members: [JSONMember] = []
        if let seconds = command.deadlineSeconds {
            members.append(JSONMember("deadline_seconds", .integer(Int64(seconds))))
        }
        if let pace = command.devicesPerSecond {
            members.append(JSONMember("devices_per_second", .integer(Int64(pace))))
        }
        if !command.redirectTo.isEmpty {
            members.append(JSONMember("redirect_to", .array(command.redirectTo.map { .string($0) })))
        }
        if let reason = command.reason { members.append(JSONMember("reason", .string(reason))) }
        let path = RequestPath.make(["v1", "nodes", command.node, "drain"])
        var drain = try client.call(.post, path, body: .object(members))
        guard command.waits else { return report(drain, progress(command.node, drain)) }
        var lastLine = ""
        var failures = 0
        while !Self.isOver(drain) {
            let line = progress(command.node, drain)
            if line != lastLine { complain(line) }
            lastLine = line
            client.wait(Self.pollInterval)
            do {
                drain = try client.call(.get, path)
                failures = 0
            } catch {
                failures += 1
                guard case .unreachable = error, failures < Self.mostFailedPolls else { throw error }
            }
        }
        report(drain, progress(command.node, drain))
        let state = drain["state"]?.string ?? ""
        guard state == "drained" else {
            throw APIError.unexpected("the drain ended as \(Cell.visible(state))")
        }
    }

    private static func isOver(_ drain: JSONValue) -> Bool {
        ["drained", "held", "canceled", "none"].contains(drain["state"]?.string ?? "none")
    }

    private func progress(_ node: String, _ drain: JSONValue) -> String {
        Cell.visible(node) + ": " + Cell.text(drain["state"]) + ", " + Cell.text(drain["devices_moved"])
            + " of "
            + Cell.text(drain["devices_total"]) + " devices moved, " + Cell.text(drain["conns_remaining"])
            + " conns left"
    }

    // MARK: Columns

    static let nodeColumns = [
        Column("NODE", "node_id"), Column("STATE", "state"), Column("LOCATION", "location"),
        Column("VERSION", "version"), Column("DEVICES", "devices_online", isNumber: true),
        Column("CONNS", "conns_active", isNumber: true),
        Column("SENT", isNumber: true) { Cell.bytes($0["bytes_sent"]) },
        Column("RECEIVED", isNumber: true) { Cell.bytes($0["bytes_received"]) },
        Column("CPU", isNumber: true) { Cell.percent($0["cpu_utilization"]) },
        Column("MEMORY", isNumber: true) { Cell.bytes($0["memory_used_bytes"]) },
        Column("LAST SEEN", "last_seen_at"),
    ]

    static let deviceColumns = [
        Column("DEVICE", "device_id"), Column("STATUS", "status"), Column("HEALTH", "health"),
        Column("NODE", "node_id"), Column("LOCATION", "location"), Column("TAGS", "tags"),
        Column("CONNS", "active_conns", isNumber: true),
        Column("RTT", isNumber: true) { Cell.milliseconds($0["rtt_ms"]) },
        Column("SENT", isNumber: true) { Cell.bytes($0["bytes_sent"]) },
        Column("RECEIVED", isNumber: true) { Cell.bytes($0["bytes_received"]) },
    ]

    static let connColumns = [
        Column("CONN", "conn_id"), Column("DEVICE", "device_id"), Column("USER", "user"),
        Column("PROTOCOL", "protocol"), Column("CLIENT", "client_address"), Column("TARGET", "target"),
        Column("STATE", "state"), Column("SENT", isNumber: true) { Cell.bytes($0["bytes_sent"]) },
        Column("RECEIVED", isNumber: true) { Cell.bytes($0["bytes_received"]) },
        Column("IDLE", isNumber: true) { Cell.text($0["idle_seconds"]) + " s" },
    ]
}
