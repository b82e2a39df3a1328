package import Domain

/// One exposition in the making: families of samples in the text format of Prometheus (0.0.4).
///
/// Whoever keeps figures writes them down here, each time with its family's name and help. A family's samples
/// stand together, whoever wrote them, in the order of writing.
package struct MetricPage {
    package typealias Labels = KeyValuePairs<String, String>

    private struct Family {
        let type: String
        let help: String
        var samples: [UInt8] = []
    }

    private var families: [String: Family] = [:]

    package init() {}

    // MARK: Samples

    /// - Parameters:
    ///   - name: `pop_*`, ending in `_total`.
    ///   - labels: their values may be any text; how many different ones there are is bounded by who writes.
    package mutating func counter(_ name: String, _ help: String, _ value: UInt64, _ labels: Labels = [:]) {
        counter(name, help, labels, number: String(value))
    }

    /// A time that only grows, told in seconds: `pop_*_seconds_total`.
    package mutating func counter(
        _ name: String, _ help: String, nanoseconds: UInt64, _ labels: Labels = [:]
    ) {
        counter(name, help, labels, number: Self.number(Double(nanoseconds) / 1e9))
    }

    private mutating func counter(_ name: String, _ help: String, _ labels: Labels, number: String) {
        precondition(name.hasSuffix("_total"), "the counter \(name) doesn't end in _total")
        let labels = Self.text(of: labels)
        add(to: name, help, "counter") { Self.sample(&$0, name, labels, number) }
    }

    /// One counter for each value of one label. The family stands on the page without any of them, too.
    ///
    /// - Parameter constant: a label that all of them have, before that one.
    package mutating func counters(
        _ name: String, _ help: String, by label: String, _ values: some Sequence<(String, UInt64)>,
        _ constant: (name: String, value: String)? = nil
    ) {
        add(to: name, help, "counter") { _ in }
        for (text, value) in values {
            if let constant {
                counter(name, help, value, [constant.name: constant.value, label: text])
            } else {
                counter(name, help, value, [label: text])
            }
        }
    }

    /// One counter for each case.
    package mutating func counters<Kind: RawRepresentable<String>>(
        _ name: String, _ help: String, by label: String, _ tally: Tally<Kind>
    ) {
        counters(name, help, by: label, tally.all.map { ($0.kind.rawValue, $0.count) })
    }

    package mutating func gauge(_ name: String, _ help: String, _ value: Double, _ labels: Labels = [:]) {
        let labels = Self.text(of: labels)
        add(to: name, help, "gauge") { Self.sample(&$0, name, labels, Self.number(value)) }
    }

    package mutating func gauge(
        _ name: String, _ help: String, _ value: some BinaryInteger, _ labels: Labels = [:]
    ) {
        gauge(name, help, Double(value), labels)
    }

    /// One gauge for each value of one label.
    package mutating func gauges(
        _ name: String, _ help: String, by label: String, _ values: some Sequence<(String, Int)>
    ) {
        add(to: name, help, "gauge") { _ in }
        for (text, value) in values { gauge(name, help, value, [label: text]) }
    }

    /// In the unit that the scale of the distribution tells.
    package mutating func histogram(
        _ name: String, _ help: String, _ distribution: Distribution, _ labels: Labels = [:]
    ) {
        let labels = Self.text(of: labels)
        let prefix = labels.isEmpty ? "" : labels + ","
        let unit = Double(distribution.scale.valuesPerUnit)
        let bounds = distribution.scale.bounds.map { Self.number(Double($0) / unit) } + ["+Inf"]
        add(to: name, help, "histogram") { samples in
            var count: UInt64 = 0
            for (bound, inBucket) in zip(bounds, distribution.counts) {
                count &+= inBucket
                Self.sample(&samples, name + "_bucket", "\(prefix)le=\"\(bound)\"", String(count))
            }
            Self.sample(&samples, name + "_sum", labels, Self.number(Double(distribution.sum) / unit))
            Self.sample(&samples, name + "_count", labels, String(count))
        }
    }

    /// One histogram for each value of one label. The family stands on the page without any of them, too.
    package mutating func histograms(
        _ name: String, _ help: String, by label: String, _ values: some Sequence<(String, Distribution)>
    ) {
        add(to: name, help, "histogram") { _ in }
        for (text, value) in values { histogram(name, help, value, [label: text]) }
    }

    private mutating func add(
        to name: String, _ help: String, _ type: String, _ write: (inout [UInt8]) -> Void
    ) {
        precondition(Self.isName(name), "\(name) is no name of a metric")
        var family = families.removeValue(forKey: name) ?? Family(type: type, help: help)
        precondition(family.type == type, "\(name) is a \(family.type)")
        write(&family.samples)
        families[name] = family
    }

    // MARK: Text

    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// All families by name, each behind its HELP and TYPE.
    package var text: [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(families.values.reduce(0) { $0 + $1.samples.count + 160 })
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            let help = Self.escaped(family.help, quotes: false)
            text += "# HELP \(name) \(help)\n# TYPE \(name) \(family.type)\n".utf8
            text += family.samples
        }
        return text
    }

    private static func sample(
        _ samples: inout [UInt8], _ name: String, _ labels: String, _ number: String
    ) {
        samples += name.utf8
        if !labels.isEmpty {
            samples.append(UInt8(ascii: "{"))
            samples += labels.utf8
            samples.append(UInt8(ascii: "}"))
        }
        samples.append(UInt8(ascii: " "))
        samples += number.utf8
        samples.append(UInt8(ascii: "\n"))
    }

    private static func text(of labels: Labels) -> String {
        var text = ""
        for (name, value) in labels {
            precondition(isName(name) && name != "le", "\(name) is no name of a label")
            if !text.isEmpty { text += "," }
            text += "\(name)=\"\(escaped(value, quotes: true))\""
        }
        return text
    }

    /// The names that we give: small letters, digits and underscores.
    private static func isName(_ name: String) -> Bool {
        guard let first = name.utf8.first, !(0x30...0x39).contains(first) else { return false }
        return name.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x61...0x7a).contains(byte) || byte == UInt8(ascii: "_")
        }
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        guard text.utf8.contains(where: { $0 == 0x5c || $0 == 0x0a || $0 == 0x22 }) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        guard value == value.rounded(), abs(value) < 1e15 else { return value.description }
        return String(Int64(value))
    }
}
