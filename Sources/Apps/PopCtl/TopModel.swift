internal import ArgumentParser
internal import Domain
internal import JSON

/// What is watched.
enum TopView: String, CaseIterable, ExpressibleByArgument {
    case nodes, devices, conns

    fileprivate var key: String {
        switch self {
        case .nodes: "node_id"
        case .devices: "device_id"
        case .conns: "conn_id"
        }
    }

    /// The counters begin anew where this has changed.
    fileprivate var incarnation: String { self == .devices ? "session_id" : key }

    var columns: [Column] {
        let rates: [Column] = [
            .number("SENT/S", TopModel.sentRate, rank: 1, Cell.bytes),
            .number("RECEIVED/S", TopModel.receivedRate, rank: 1, Cell.bytes),
        ]
        return switch self {
        case .nodes:
            [.key("NODE", "node_id"), .word("STATE", "state", rank: 2)] + rates + [
                .number("DEVICES", "devices_online", rank: 2), .number("CONNS", "conns_active", rank: 2),
                .number("CPU", "cpu_utilization", rank: 3, Cell.percent),
                .number("MEMORY", "memory_used_bytes", rank: 4, Cell.bytes),
                .number("SENT", "bytes_sent", rank: 5, Cell.bytes),
                .number("RECEIVED", "bytes_received", rank: 5, Cell.bytes),
            ]
        case .devices:
            [.key("DEVICE", "device_id")] + rates + [
                .number("CONNS", "active_conns", rank: 2),
                .number("RTT", "rtt_ms", rank: 4, Cell.milliseconds),
                .number("CPU", "cpu_utilization", rank: 6, Cell.percent), .word("HEALTH", "health", rank: 3),
                .identifier("NODE", "node_id", rank: 3), .text("LOCATION", "location", rank: 5),
                .number("SENT", "bytes_sent", rank: 7, Cell.bytes),
                .number("RECEIVED", "bytes_received", rank: 7, Cell.bytes),
            ]
        case .conns:
            [.key("CONN", "conn_id"), .identifier("DEVICE", "device_id", rank: 2)] + rates + [
                .text("TARGET", "target", rank: 1), .text("USER", "user", rank: 3),
                .age("OPEN", "opened_at", rank: 3), .identifier("NODE", "node_id", rank: 6),
                .number("SENT", "bytes_sent", rank: 5, Cell.bytes),
                .number("RECEIVED", "bytes_received", rank: 5, Cell.bytes),
            ]
        }
    }
}

/// What stands at the top.
enum TopSort: String, CaseIterable, ExpressibleByArgument {
    case traffic, sent, received, conns, name
}

/// Samples of counters, and the rates between them.
struct TopModel {
    static let sentRate = "sent_per_second"
    static let receivedRate = "received_per_second"

    private struct Sample {
        let incarnation: String
        let sent: Double
        let received: Double
    }

    let view: TopView
    private var samples: [String: Sample] = [:]
    private var sampledAt: Instant?
    /// As the API told them, with the rates added; null before there are two samples.
    private(set) var items: [JSONValue] = []

    init(_ view: TopView) {
        self.view = view
    }

    mutating func take(_ items: [JSONValue], at now: Instant) {
        let seconds = sampledAt.map { Double((now - $0).nanoseconds) / 1e9 }
        let before = samples
        samples = [:]
        self.items = items.map { item in
            let key = item[view.key]?.string ?? ""
            let sample = Sample(
                incarnation: item[view.incarnation]?.string ?? "", sent: item["bytes_sent"]?.number ?? 0,
                received: item["bytes_received"]?.number ?? 0)
            samples[key] = sample
            let rates = seconds.map { Self.rates(since: before[key], sample, seconds: $0) }
            let members = [
                JSONMember(Self.sentRate, rates.map { .double($0.sent) } ?? .null),
                JSONMember(Self.receivedRate, rates.map { .double($0.received) } ?? .null),
            ]
            return .object((item.object ?? []) + members)
        }
        sampledAt = now
    }

    /// What was not there before, or has begun anew, has moved all its bytes since.
    private static func rates(
        since before: Sample?, _ now: Sample, seconds: Double
    ) -> (sent: Double, received: Double) {
        guard seconds > 0 else { return (0, 0) }
        var base = Sample(incarnation: "", sent: 0, received: 0)
        if let before, before.incarnation == now.incarnation { base = before }
        return (
            max(0, now.sent - base.sent) / seconds, max(0, now.received - base.received) / seconds
        )
    }

    /// Both rates of everything together; nil before there are two samples.
    var totals: (sent: Double, received: Double)? {
        guard items.first?[Self.sentRate]?.number != nil else { return nil }
        return items.reduce((0, 0)) { sums, item in
            (sums.0 + (item[Self.sentRate]?.number ?? 0), sums.1 + (item[Self.receivedRate]?.number ?? 0))
        }
    }

    /// The items in order; equals in the order of their names, so that they don't jump about.
    func sorted(by sort: TopSort, isReversed: Bool) -> [JSONValue] {
        let ranked = items.map { item in
            (item: item, weights: weights(of: item, sort), name: item[view.key]?.string ?? "")
        }
        let ordered = ranked.sorted { one, other in
            for (first, second) in zip(one.weights, other.weights) where first != second {
                return first > second
            }
            return one.name < other.name
        }
        return (isReversed ? ordered.reversed() : ordered).map(\.item)
    }

    private func weights(of item: JSONValue, _ sort: TopSort) -> [Double] {
        func number(_ member: String) -> Double { item[member]?.number ?? 0 }
        return switch sort {
        case .traffic:
            [
                number(Self.sentRate) + number(Self.receivedRate),
                number("bytes_sent") + number("bytes_received"),
            ]
        case .sent: [number(Self.sentRate), number("bytes_sent")]
        case .received: [number(Self.receivedRate), number("bytes_received")]
        case .conns: [number(view == .nodes ? "conns_active" : "active_conns")]
        case .name: []
        }
    }
}
