internal import ArgumentParser
internal import Domain
internal import EventLoop
internal import HTTP1
internal import JSON

struct EventsCommand: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "events", abstract: "Show what happens in the cluster as it happens.",
        discussion: """
            One line an event: time, type, node, and what it is about; with -o json one object a line, \
            {"id", "type", "data"}. A stream that breaks off is taken up where it broke; an event gap \
            says that some can't be told any more. Ctrl-C ends it, with exit code 0.

            TYPES:
              device.online, device.offline, conn.opened, conn.closed, node.state, drain.progress

            EXAMPLES:
              popctl events --types device.online,device.offline
              popctl events --types conn.closed -o json | jq -r '.data.target'
            """)

    @Option(
        help: ArgumentHelp("Only these types; commas between them, or repeated.", valueName: "types"),
        completion: .list(EventLine.types))
    var types: [String] = []

    @Option(
        help: ArgumentHelp("Begin behind the event of this id, as far as it is remembered.", valueName: "id"))
    var after: String?

    @Option(help: ArgumentHelp("End after so many events.", valueName: "count"))
    var limit: Int?

    @OptionGroup var options: ServerOptions

    mutating func validate() throws {
        guard limit ?? 1 >= 1 else { throw ValidationError("--limit must be at least 1") }
        if let unknown = wanted.first(where: { !EventLine.types.contains($0) }) {
            throw ValidationError("there is no type \(unknown): " + EventLine.types.joined(separator: ", "))
        }
        guard after?.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) ?? true else {
            throw ValidationError("--after must be the id of an event")
        }
    }

    private var wanted: [String] { types.flatMap { $0.split(separator: ",") }.map(String.init) }

    func perform(_ session: ControlSession) throws {
        let follower = EventFollower(session, types: wanted, after: after, limit: limit)
        do {
            try session.interruptibly { () throws(APIError) in try follower.follow() }
        } catch APIError.interrupted {
            return
        }
    }
}

/// Prints events as they come, over as many streams as that takes.
private final class EventFollower {
    private let session: ControlSession
    private let types: [String]
    private var lastID: String
    private var left: Int
    private var hasBeenOpen = false
    private var isInTrouble = false
    /// Streams in a row that brought nothing.
    private var failures = 0
    private var parser = EventStreamParser()
    private var isTooLong = false

    /// The server says something at least every 15 s; more silence than this is a dead connection.
    private static let longestSilence = Duration.seconds(60)
    private static let shortestPause = Duration.seconds(1)
    private static let longestPause = Duration.seconds(15)

    init(_ session: ControlSession, types: [String], after: String?, limit: Int?) {
        self.session = session
        self.types = types
        lastID = after ?? ""
        left = limit ?? .max
    }

    /// - Throws: `interrupted`, or why there is no stream: what has never worked is not tried again.
    func follow() throws(APIError) {
        while true {
            do throws(APIError) {
                try read()
                guard left > 0 else { return }
                guard !isTooLong else { throw APIError.unexpected("an event is too long") }
                tell("the server ended the stream")
            } catch {
                guard hasBeenOpen, error.isTransient else { throw error }
                tell("\(error)")
            }
            try session.client.wait(pause())
        }
    }

    private func read() throws(APIError) {
        parser = EventStreamParser(lastEventID: lastID)
        let query: [(name: String, value: String)] =
            types.isEmpty ? [] : [("types", types.joined(separator: ","))]
        try session.client.stream(
            RequestPath.make(["v1", "events"], query),
            fields: lastID.isEmpty ? [] : [("Last-Event-ID", lastID)], silence: Self.longestSilence,
            opened: { [self] in open() }, received: { [self] in receive($0) })
    }

    private func open() {
        hasBeenOpen = true
        if isInTrouble { session.note("connected again") }
        isInTrouble = false
    }

    private func receive(_ bytes: [UInt8]) -> Bool {
        failures = 0
        do {
            for event in try parser.receive(bytes) {
                session.console.print(EventLine.text(event, session.output))
                left -= 1
                guard left > 0 else { return false }
            }
            lastID = parser.lastEventID
            return true
        } catch {
            isTooLong = true
            return false
        }
    }

    /// Once a trouble, not once a try.
    private func tell(_ why: String) {
        if !isInTrouble { session.note("\(why); trying again") }
        isInTrouble = true
    }

    private func pause() -> Duration {
        let first = parser.retryMilliseconds.map { Duration.milliseconds($0) } ?? Self.shortestPause
        let pause = min(max(first, Self.shortestPause) * (1 << min(failures, 4)), Self.longestPause)
        failures += 1
        return pause
    }
}

/// An event on one line.
enum EventLine {
    static let types = [
        "device.online", "device.offline", "conn.opened", "conn.closed", "node.state", "drain.progress",
    ]

    static func text(_ event: EventStreamParser.Event, _ format: OutputFormat) -> String {
        let data = try? JSONValue(parsing: Array(event.data.utf8))
        switch format {
        case .json:
            let line: JSONValue = [
                "id": event.id.isEmpty ? .null : .string(event.id), "type": .string(event.name),
                "data": data ?? .string(event.data),
            ]
            return line.text + "\n"
        case .table:
            guard let data, data.object != nil else {
                return Cell.visible("\(event.name)  \(event.data)") + "\n"
            }
            let head = [
                padded(Cell.text(data["at"]), 24), padded(Cell.visible(event.name), 14),
                Cell.text(data["node_id"]),
            ]
            return (head + details(event.name, data)).joined(separator: "  ") + "\n"
        }
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    /// What an event of a type is about; of a type that is not known here, everything.
    private static let members: [String: [String]] = [
        "device.online": ["device_id", "session_id", "remote_address", "location"],
        "device.offline": ["device_id", "session_id", "end_reason"],
        "conn.opened": ["conn_id", "device_id", "user", "protocol", "target"],
        "conn.closed": [
            "conn_id", "device_id", "user", "protocol", "target", "end_reason", "bytes_sent",
            "bytes_received",
        ],
        "node.state": ["state", "reason"],
        "drain.progress": [
            "state", "devices_total", "devices_moved", "devices_remaining", "conns_remaining", "conns_cut",
        ],
    ]

    private static func details(_ type: String, _ data: JSONValue) -> [String] {
        let known = members[type]
        return (data.object ?? []).compactMap { member in
            guard known?.contains(member.name) ?? !["at", "node_id", "type"].contains(member.name),
                !member.value.isNull
            else { return nil }
            let isBytes = member.name.hasPrefix("bytes_")
            return member.name + "=" + (isBytes ? Cell.bytes(member.value) : Cell.text(member.value))
        }
    }
}
