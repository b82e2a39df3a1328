internal import JSON

/// A column of a table: its title and how an item fills it.
struct Column: Sendable {
    let title: String
    /// Numbers stand at the right.
    var isNumber = false
    let text: @Sendable (JSONValue) -> String

    init(_ title: String, isNumber: Bool = false, _ text: @escaping @Sendable (JSONValue) -> String) {
        self.title = title
        self.isNumber = isNumber
        self.text = text
    }

    /// A column that shows a member as it is.
    init(_ title: String, _ member: String, isNumber: Bool = false) {
        self.init(title, isNumber: isNumber) { Cell.text($0[member]) }
    }
}

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

    /// Bytes with a binary unit: `0 B`, `1.5 KiB`, `12 GiB`.
    static func bytes(_ value: JSONValue?) -> String {
        guard let bytes = value?.integer else { return "-" }
        var number = Double(bytes)
        var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][...]
        while number >= 1_024, units.count > 1 {
            number /= 1_024
            units.removeFirst()
        }
        let digits = bytes < 1_024 || number >= 100 ? 0 : 1
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
}

/// Lays items out in columns.
enum Table {
    private static let gap = 2
    /// A narrower column would show nothing of its values.
    private static let narrowest = 8

    /// - Parameter width: of the terminal; nil: as wide as it gets.
    static func render(_ items: [JSONValue], _ columns: [Column], width: Int?) -> String {
        let rows = [columns.map(\.title)] + items.map { item in columns.map { $0.text(item) } }
        var widths = columns.indices.map { index in rows.map { $0[index].count }.max() ?? 0 }
        if let width { shrink(&widths, to: width) }
        var text = ""
        for row in rows {
            var line = ""
            for (index, cell) in row.enumerated() {
                if index > 0 { line += String(repeating: " ", count: gap) }
                let shown = cell.count > widths[index] ? cell.prefix(widths[index] - 1) + "…" : cell[...]
                let padding = String(repeating: " ", count: max(0, widths[index] - shown.count))
                line += columns[index].isNumber ? padding + shown : shown + padding
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
    }

    /// Takes from the widest column until the line fits or no column has anything to give.
    private static func shrink(_ widths: inout [Int], to width: Int) {
        var excess = widths.reduce(0, +) + gap * (widths.count - 1) - width
        while excess > 0 {
            guard let widest = widths.indices.max(by: { widths[$0] < widths[$1] }), widths[widest] > narrowest
            else { return }
            widths[widest] -= 1
            excess -= 1
        }
    }

    /// One item as lines of names and values.
    static func renderFields(_ item: JSONValue) -> String {
        let members = item.object ?? []
        let width = members.map { $0.name.count }.max() ?? 0
        return members.map { member in
            member.name + String(repeating: " ", count: width - member.name.count + gap)
                + Cell.text(member.value)
                + "\n"
        }.joined()
    }
}
