internal import Synchronization

/// A number that only grows. Any thread may add to it.
package final class Counter: Sendable {
    private let total = Atomic<UInt64>(0)

    package init() {}

    package var value: UInt64 { total.load(ordering: .relaxed) }

    package func add(_ amount: UInt64 = 1) {
        total.wrappingAdd(amount, ordering: .relaxed)
    }
}

/// A number that goes up and down. Any thread may change it.
package final class Gauge: Sendable {
    private let bits = Atomic<UInt64>(0)

    package init() {}

    package var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    package func set(_ value: Double) {
        bits.store(value.bitPattern, ordering: .relaxed)
    }

    package func set(_ value: some BinaryInteger) {
        set(Double(value))
    }

    package func add(_ amount: Double) {
        var old = bits.load(ordering: .relaxed)
        while true {
            let sum = (Double(bitPattern: old) + amount).bitPattern
            let (exchanged, original) = bits.weakCompareExchange(
                expected: old, desired: sum, ordering: .relaxed)
            if exchanged { return }
            old = original
        }
    }
}

/// Counts of observed values by size. Any thread may observe.
package final class Histogram: Sendable {
    /// The upper bounds of the buckets, rising; a last one without bound follows them.
    package let bounds: [Double]
    private let counts: [Counter]
    private let total = Gauge()

    package init(bounds: [Double]) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds must rise")
        self.bounds = bounds
        counts = (0...bounds.count).map { _ in Counter() }
    }

    /// From 1 ms to 10 s, for what people wait for.
    package static let secondsBounds = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ]

    package func observe(_ value: Double) {
        counts[bounds.firstIndex { value <= $0 } ?? bounds.count].add()
        total.add(value)
    }

    package var sum: Double { total.value }

    /// Observations in each bucket, not accumulated.
    package var bucketCounts: [UInt64] { counts.map(\.value) }
}

/// The metrics of a process, and their text for Prometheus (exposition format 0.0.4).
///
/// The registry belongs to one thread; the metrics that it hands out go anywhere. Asking again for the same
/// name and labels gives the same metric.
package final class MetricRegistry {
    private enum Metric {
        case counter(Counter)
        case gauge(Gauge)
        case histogram(Histogram)
    }

    private struct Family {
        let type: String
        let help: String
        var children: [(labels: String, metric: Metric)] = []
        var places: [String: Int] = [:]
    }

    private var families: [String: Family] = [:]
    private var collectors: [() -> Void] = []

    package init() {}

    /// - Parameters:
    ///   - name: `pop_*`, ending in `_total`.
    ///   - labels: their values may be anything; keep the number of different ones small.
    package func counter(_ name: String, _ help: String, labels: KeyValuePairs<String, String> = [:])
        -> Counter
    {
        let metric = child(name, help, "counter", labels) { .counter(Counter()) }
        guard case .counter(let counter) = metric else { preconditionFailure("\(name) is no counter") }
        return counter
    }

    package func gauge(_ name: String, _ help: String, labels: KeyValuePairs<String, String> = [:]) -> Gauge {
        let metric = child(name, help, "gauge", labels) { .gauge(Gauge()) }
        guard case .gauge(let gauge) = metric else { preconditionFailure("\(name) is no gauge") }
        return gauge
    }

    package func histogram(
        _ name: String, _ help: String, labels: KeyValuePairs<String, String> = [:],
        bounds: [Double] = Histogram.secondsBounds
    ) -> Histogram {
        let metric = child(name, help, "histogram", labels) { .histogram(Histogram(bounds: bounds)) }
        guard case .histogram(let histogram) = metric else { preconditionFailure("\(name) is no histogram") }
        return histogram
    }

    /// Runs `collect` before each exposition, to set gauges from what their owner knows.
    package func beforeExposition(_ collect: @escaping () -> Void) {
        collectors.append(collect)
    }

    private func child(
        _ name: String, _ help: String, _ type: String, _ labels: KeyValuePairs<String, String>,
        make: () -> Metric
    ) -> Metric {
        precondition(Self.isName(name) && labels.allSatisfy { Self.isName($0.key) }, "bad name in \(name)")
        let text = labels.map { "\($0.key)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
        var family = families[name] ?? Family(type: type, help: help)
        precondition(family.type == type, "\(name) is a \(family.type)")
        if let place = family.places[text] { return family.children[place].metric }
        let metric = make()
        family.places[text] = family.children.count
        family.children.append((text, metric))
        families[name] = family
        return metric
    }

    private static func isName(_ name: String) -> Bool {
        guard let first = name.utf8.first, !(0x30...0x39).contains(first) else { return false }
        return name.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x61...0x7a).contains(byte) || byte == UInt8(ascii: "_")
        }
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    // MARK: Exposition

    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// All families by name, each with its HELP and TYPE.
    package func exposition() -> [UInt8] {
        for collect in collectors { collect() }
        var text = ""
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            let help = family.help.split(separator: "\n").joined(separator: " ")
            text += "# HELP \(name) \(help)\n# TYPE \(name) \(family.type)\n"
            for child in family.children {
                switch child.metric {
                case .counter(let counter): Self.sample(&text, name, child.labels, "\(counter.value)")
                case .gauge(let gauge): Self.sample(&text, name, child.labels, Self.number(gauge.value))
                case .histogram(let histogram): Self.samples(&text, name, child.labels, histogram)
                }
            }
        }
        return Array(text.utf8)
    }

    private static func sample(_ text: inout String, _ name: String, _ labels: String, _ value: String) {
        text += labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
    }

    private static func samples(
        _ text: inout String, _ name: String, _ labels: String, _ histogram: Histogram
    ) {
        var count: UInt64 = 0
        let prefix = labels.isEmpty ? "" : labels + ","
        let bounds = histogram.bounds.map(number) + ["+Inf"]
        for (bound, inBucket) in zip(bounds, histogram.bucketCounts) {
            count &+= inBucket
            sample(&text, name + "_bucket", "\(prefix)le=\"\(bound)\"", "\(count)")
        }
        sample(&text, name + "_sum", labels, number(histogram.sum))
        sample(&text, name + "_count", labels, "\(count)")
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        guard value == value.rounded(), abs(value) < 1e15 else { return value.description }
        return String(Int64(value))
    }
}
