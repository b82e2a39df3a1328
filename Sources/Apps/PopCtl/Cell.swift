internal import Domain
internal import JSON

/// How values look to people.
enum Cell {
    static func text(_ value: JSONValue?) -> String {
        switch value {
        case nil, .null: "-"
        case .string(let text): text.isEmpty ? "-" : visible(text)
        case .bool(let flag): flag ? "yes" : "no"
        case .array(let elements): elements.isEmpty ? "-" : elements.map { text($0) }.joined(separator: ",")
        case .double(let number): fixed(number, 2)
        case .some(let other): visible(other.text)
        }
    }

    /// What servers and devices say may hold anything; a terminal must not obey it.
    static func visible(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0..<0x20, 0x7f...0x9f, 0x200e, 0x200f, 0x2028...0x202e, 0x2066...0x2069: result += "?"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// Several lines, each of them safe for a terminal.
    static func visibleLines(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { visible(String($0)) }
            .joined(separator: "\n")
    }

    // MARK: Numbers

    /// Bytes with a binary unit: `0 B`, `1.5 KiB`, `12 GiB`.
    static func bytes(_ value: JSONValue?) -> String {
        value?.number.map { bytes($0) } ?? "-"
    }

    static func bytes(_ count: Double) -> String {
        var number = count
        var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][...]
        while number >= 1_024, units.count > 1 {
            number /= 1_024
            units.removeFirst()
        }
        let digits = count < 1_024 || number >= 100 ? 0 : 1
        return "\(fixed(number, digits)) \(units.first ?? "B")"
    }

    /// A share of 0 to 1 in percent.
    static func percent(_ value: JSONValue?) -> String {
        value?.number.map { fixed($0 * 100, 0) + "%" } ?? "-"
    }

    static func milliseconds(_ value: JSONValue?) -> String {
        value?.number.map { fixed($0, 1) + " ms" } ?? "-"
    }

    static func fixed(_ number: Double, _ digits: Int) -> String {
        guard number.isFinite, abs(number) < 1e15 else { return "\(number)" }
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let scaled = Int64((abs(number) * scale).rounded())
        let sign = number < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return sign + String(scaled) }
        let fraction = String(scaled % Int64(scale))
        return sign + String(scaled / Int64(scale)) + "."
            + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    // MARK: Time

    /// How long ago a time of RFC 3339 is: `45s`, `3m10s`, `2h5m`, `6d2h`, `40d`; `in 5m` for the future.
    static func age(_ value: JSONValue?, _ now: WallTime) -> String {
        guard let text = value?.string, let time = WallTime(rfc3339: text) else { return Cell.text(value) }
        let seconds = (now.microseconds - time.microseconds) / 1_000_000
        return seconds < 0 ? "in " + span(-seconds) : span(seconds)
    }

    /// A number of seconds, as ages are shown.
    static func seconds(_ value: JSONValue?) -> String {
        guard let seconds = value?.number, seconds >= 0, seconds < 1e15 else { return text(value) }
        return span(Int64(seconds))
    }

    /// Two units where the smaller one still matters.
    static func span(_ seconds: Int64) -> String {
        func two(_ larger: Int64, _ unit: String, _ smaller: Int64, _ smallUnit: String) -> String {
            smaller == 0 ? "\(larger)\(unit)" : "\(larger)\(unit)\(smaller)\(smallUnit)"
        }
        return switch seconds {
        case ..<120: "\(seconds)s"
        case ..<600: two(seconds / 60, "m", seconds % 60, "s")
        case ..<7_200: "\(seconds / 60)m"
        case ..<172_800: two(seconds / 3_600, "h", seconds / 60 % 60, "m")
        case ..<864_000: two(seconds / 86_400, "d", seconds / 3_600 % 24, "h")
        default: "\(seconds / 86_400)d"
        }
    }
}
