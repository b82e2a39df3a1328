import EventLoop
import HTTP1
import HTTPServer
import JSON
import Testing

/// A client of `/v1/events` on a bench.
final class EventStream {
    struct Event {
        var id: String?
        var type: String?
        var text = ""
        var data: JSONValue { (try? JSONValue(parsing: Array(text.utf8))) ?? .null }
    }

    private(set) var head: HTTPResponseHead?
    private(set) var events: [Event] = []
    private(set) var ids: [String] = []
    private(set) var hasEnded = false
    /// The lines of an event that is not complete, and what is behind them.
    private var block: [UInt8] = []
    private var rest: [UInt8] = []
    private var client: HTTPClient?

    init(_ bench: AdminBench, _ target: String = "/v1/events", fields: HTTPFields = [:]) {
        var fields = fields
        fields.append("Authorization", "Bearer read-token")
        var configuration = HTTPClient.Configuration()
        configuration.bodyBytes = .max
        configuration.streamTimeout = nil
        configuration.onHead = { [weak self] in self?.head = $0 }
        configuration.onBody = { [weak self] in self?.received($0) }
        client = HTTPClient.send(
            HTTPClientRequest(target: target, host: "localhost", fields: fields), on: bench.loop,
            configuration: configuration,
            over: { TCPStream.connect(on: bench.loop, to: bench.address, timeout: .seconds(5), handler: $0) },
            completion: { [weak self] _ in self?.hasEnded = true })
    }

    /// The types of the events so far.
    var types: [String] { events.compactMap(\.type) }

    func pause() { client?.pauseReading() }
    func resume() { client?.resumeReading() }
    func leave() { client?.cancel() }

    private func received(_ bytes: [UInt8]) {
        rest += bytes
        var start = 0
        while let end = rest[start...].firstIndex(of: 10), end + 1 < rest.count {
            if rest[end + 1] == 10 {
                take(String(decoding: block + rest[start..<end], as: UTF8.self))
                block = []
                start = end + 2
            } else {
                block += rest[start...end]
                start = end + 1
            }
        }
        rest.removeFirst(start)
    }

    private func take(_ block: String) {
        var event = Event()
        for line in block.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let value = parts.count > 1 ? String(parts[1].drop { $0 == " " }) : ""
            switch parts[0] {
            case "id": event.id = value
            case "event": event.type = value
            case "data": event.text = value
            default: break
            }
        }
        if let id = event.id { ids.append(id) }
        if event.type != nil { events.append(event) }
    }
}
