internal import JSON

/// What a benchmark of a running node has found: named figures with their units, in order.
struct Figures {
    struct Figure {
        let name: String
        let value: Double
        let unit: String
    }

    let title: String
    private(set) var all: [Figure] = []
    /// Things that failed or were lost although they should not have.
    var failures = 0

    init(_ title: String) {
        self.title = title
    }

    mutating func add(_ name: String, _ value: Double, _ unit: String) {
        all.append(Figure(name: name, value: value, unit: unit))
    }

    /// Median and 99th percentile of durations, which are sorted here.
    mutating func add(_ name: String, microseconds samples: [Double]) {
        guard !samples.isEmpty else { return }
        let sorted = samples.sorted()
        add("\(name)_p50", sorted[sorted.count / 2], "us")
        add("\(name)_p99", sorted[min(sorted.count - 1, sorted.count * 99 / 100)], "us")
    }

    var json: JSONValue {
        .object(
            [JSONMember("bench", .string(title)), JSONMember("failures", .integer(Int64(failures)))]
                + all.map { figure in
                    JSONMember(
                        figure.unit.isEmpty ? figure.name : "\(figure.name)_\(figure.unit)",
                        .double(figure.value))
                })
    }

    var table: String {
        let rows =
            all.map { ($0.name, "\(Self.rounded($0.value)) \($0.unit)") } + [("failures", "\(failures)")]
        return rows.map { $0 + String(repeating: " ", count: max(1, 28 - $0.count)) + $1 }.joined(
            separator: "\n")
    }

    private static func rounded(_ value: Double) -> String {
        guard value.isFinite, abs(value) < 1e12 else { return "\(value)" }
        guard abs(value) < 1_000 else { return "\(Int(value.rounded()))" }
        return "\((value * 1_000).rounded() / 1_000)"
    }
}
