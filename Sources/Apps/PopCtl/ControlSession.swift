internal import Domain
internal import EventLoop
internal import HTTP1
internal import JSON

/// What verbs have in common: calls, lists over pages, and printing.
final class ControlSession {
    let client: APIClient
    let console: any Console
    let output: OutputFormat
    /// Whether a terminal is there that can move its cursor.
    let canDraw: Bool
    private let clock: () -> WallTime

    /// The server's largest page.
    private static let largestPage = 1_000

    init(
        client: APIClient, console: any Console, output: OutputFormat, canDraw: Bool,
        clock: @escaping () -> WallTime
    ) {
        self.client = client
        self.console = console
        self.output = output
        self.canDraw = canDraw
        self.clock = clock
    }

    var now: WallTime { clock() }

    // MARK: Calling

    func get(_ path: [String], _ query: [(String, String?)] = []) throws(APIError) -> JSONValue {
        try client.call(.get, RequestPath.make(path, Self.given(query)))
    }

    /// Parameters are the reason of calls that have no body.
    func call(
        _ method: HTTPMethod, _ path: [String], _ parameters: [(String, String?)] = [],
        body: [(String, JSONValue?)]? = nil
    ) throws(APIError) -> JSONValue {
        try client.call(
            method, RequestPath.make(path, Self.given(parameters)),
            body: body.map { .object($0.compactMap { name, value in value.map { JSONMember(name, $0) } }) })
    }

    private static func given(_ parameters: [(String, String?)]) -> [(name: String, value: String)] {
        parameters.compactMap { name, value in value.map { (name, $0) } }
    }

    // MARK: Printing

    func show(_ item: JSONValue) {
        console.print(output == .json ? Self.json(item) : Table.fields(item, now: now))
    }

    /// The answer to a call that changed something: a sentence for people, for programs all of it, which
    /// may be nothing.
    func report(_ answer: JSONValue, _ sentence: String) {
        switch output {
        case .table: console.print(Cell.visible(sentence) + "\n")
        case .json: if !answer.isNull { console.print(Self.json(answer)) }
        }
    }

    /// A secret alone on standard output; with -o json the whole answer.
    func printSecret(_ member: String, of answer: JSONValue) throws(APIError) {
        guard let secret = answer[member]?.string, secret == Cell.visible(secret) else {
            throw .unexpected("no \(member)")
        }
        console.print(output == .json ? Self.json(answer) : secret + "\n")
    }

    /// A line on standard error, beside the result.
    func note(_ text: String) {
        console.complain("popctl: " + Cell.visibleLines(text) + "\n")
    }

    static func json(_ value: JSONValue) -> String {
        String(decoding: value.serialised(isPretty: true), as: UTF8.self)
    }

    // MARK: Lists

    /// Prints the items of a list page by page as they come: one table, or one array.
    func list(
        _ path: [String], _ query: [(String, String?)], _ options: ListOptions, _ columns: [Column]
    ) throws(APIError) {
        var writer = JSONWriter(isPretty: true)
        writer.beginArray()
        var table: Table?
        let isMore = try forEachPage(path, query, most: options.all ? .max : options.limit) { items in
            if output == .json {
                for item in items { writer.value(item) }
                return console.print(String(decoding: writer.takeBytes(), as: UTF8.self))
            }
            let laidOut = table ?? Table(columns, items, now: now, width: console.outputSize?.columns)
            if table == nil, !options.noHeaders { console.print(laidOut.header) }
            table = laidOut
            console.print(laidOut.rows(items))
        }
        if output == .json {
            writer.endArray()
            console.print(String(decoding: writer.takeBytes(), as: UTF8.self) + "\n")
        }
        if isMore { note("there are more; --all shows them") }
    }

    /// Hands over the pages of a list until there were `most` items or it is at its end.
    ///
    /// - Returns: whether there are more.
    func forEachPage(
        _ path: [String], _ query: [(String, String?)], most: Int, _ use: ([JSONValue]) -> Void
    ) throws(APIError) -> Bool {
        var cursor: String?
        var left = most
        repeat {
            let page = query + [("limit", String(min(left, Self.largestPage))), ("cursor", cursor)]
            let answer = try get(path, page)
            guard let items = answer["items"]?.array else { throw .unexpected("no items") }
            use(items.count > left ? Array(items.prefix(left)) : items)
            let next = answer["next_cursor"]?.string
            guard next == nil || next != cursor else { throw .unexpected("the list does not go on") }
            cursor = next
            left -= items.count
        } while cursor != nil && left > 0
        return cursor != nil || left < 0
    }
}
