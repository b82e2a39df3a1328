/// Reads server-sent events from pieces of any size (WHATWG HTML, section 9.2 "Server-sent events").
///
/// A stream is lines, ended by LF, CR or CRLF: `data: text` adds a line to the event that is being read, `event`
/// names it, `id` sets what a new stream is asked for from (`Last-Event-ID`), `retry` the pause before it. A blank
/// line ends the event, a line that begins with a colon says nothing. What the end of the stream cuts off is no
/// event.
package struct EventStreamParser: Sendable {
    package struct Event: Sendable, Hashable {
        /// `message` where the server gave none.
        package let name: String
        /// Its lines with LF between them; never empty.
        package let data: String
        /// The stream's last id when the event was complete; empty when there was none.
        package let id: String

        package init(name: String, data: String, id: String = "") {
            self.name = name
            self.data = data
            self.id = id
        }
    }

    /// An event is longer than the limit: the server's fault.
    package struct TooLong: Error, Sendable, Hashable {
        package init() {}
    }

    /// What a stream that goes on from here is asked with; empty when there was none.
    package private(set) var lastEventID: String
    /// The server's wish for the pause before the next stream.
    package private(set) var retryMilliseconds: Int?

    private let longestEvent: Int
    private var line: [UInt8] = []
    private var data: [UInt8] = []
    private var hasData = false
    private var name: [UInt8] = []
    /// What `id` has said; it counts when the event that it stands in is complete.
    private var nextEventID: String
    /// After CR: an LF belongs to it.
    private var isAfterReturn = false
    private var isFirstLine = true

    private static let lineFeed = UInt8(ascii: "\n")
    private static let carriageReturn = UInt8(ascii: "\r")
    private static let colon = UInt8(ascii: ":")
    private static let byteOrderMark: [UInt8] = [0xef, 0xbb, 0xbf]
    /// More digits than any pause has; `retry` of more is ignored.
    private static let mostRetryDigits = 9

    /// - Parameters:
    ///   - lastEventID: where the stream was asked to go on from.
    ///   - longestEvent: most bytes of one event, and of one line.
    package init(lastEventID: String = "", longestEvent: Int = 1 << 20) {
        self.lastEventID = lastEventID
        nextEventID = lastEventID
        self.longestEvent = longestEvent
    }

    /// The events that `bytes` complete, in order.
    package mutating func receive(_ bytes: some Sequence<UInt8>) throws(TooLong) -> [Event] {
        var events: [Event] = []
        for byte in bytes {
            if isAfterReturn {
                isAfterReturn = false
                if byte == Self.lineFeed { continue }
            }
            switch byte {
            case Self.lineFeed, Self.carriageReturn:
                isAfterReturn = byte == Self.carriageReturn
                if let event = endLine() { events.append(event) }
            default:
                line.append(byte)
            }
            guard line.count + data.count <= longestEvent else { throw TooLong() }
        }
        return events
    }

    private mutating func endLine() -> Event? {
        var text = line[...]
        if isFirstLine, text.starts(with: Self.byteOrderMark) {
            text = text.dropFirst(Self.byteOrderMark.count)
        }
        isFirstLine = false
        defer { line.removeAll(keepingCapacity: true) }
        guard !text.isEmpty else { return endEvent() }
        let field = text.prefix { $0 != Self.colon }
        var value = text.dropFirst(field.count + 1)
        if value.first == UInt8(ascii: " ") { value.removeFirst() }
        take(String(decoding: field, as: UTF8.self), value)
        return nil
    }

    private mutating func take(_ field: String, _ value: ArraySlice<UInt8>) {
        switch field {
        case "data":
            if hasData { data.append(Self.lineFeed) }
            data += value
            hasData = true
        case "event":
            name = Array(value)
        case "id":
            if !value.contains(0) { nextEventID = String(decoding: value, as: UTF8.self) }
        case "retry":
            guard value.allSatisfy({ (0x30...0x39).contains($0) }), value.count <= Self.mostRetryDigits,
                let pause = Int(String(decoding: value, as: UTF8.self))
            else { return }
            retryMilliseconds = pause
        default:
            break
        }
    }

    private mutating func endEvent() -> Event? {
        defer {
            data.removeAll(keepingCapacity: true)
            hasData = false
            name = []
        }
        lastEventID = nextEventID
        guard !data.isEmpty else { return nil }
        return Event(
            name: name.isEmpty ? "message" : String(decoding: name, as: UTF8.self),
            data: String(decoding: data, as: UTF8.self), id: lastEventID)
    }
}
