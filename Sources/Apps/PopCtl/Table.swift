internal import Domain
internal import JSON

/// A column of a table: its title, how an item fills it, and what happens to it on a narrow terminal.
struct Column: Sendable {
    enum Shape: Sendable {
        /// What the item is named by in other commands: cut only when nothing else is left to cut.
        case key
        /// A name that is cut in its middle, or behind its beginning where it is a UUID.
        case identifier
        /// Cut at its end.
        case text
        /// Never cut.
        case short
        /// Never cut, and at the right.
        case number
    }

    let title: String
    let shape: Shape
    /// Columns of a higher rank are left out first; those of rank 0 never.
    let rank: Int
    let text: @Sendable (JSONValue, WallTime) -> String

    static func key(_ title: String, _ member: String) -> Column {
        Column(title: title, shape: .key, rank: 0) { item, _ in Cell.text(item[member]) }
    }

    static func identifier(_ title: String, _ member: String, rank: Int) -> Column {
        Column(title: title, shape: .identifier, rank: rank) { item, _ in Cell.text(item[member]) }
    }

    static func text(_ title: String, _ member: String, rank: Int) -> Column {
        Column(title: title, shape: .text, rank: rank) { item, _ in Cell.text(item[member]) }
    }

    /// One of a few words.
    static func word(_ title: String, _ member: String, rank: Int) -> Column {
        Column(title: title, shape: .short, rank: rank) { item, _ in Cell.text(item[member]) }
    }

    static func age(_ title: String, _ member: String, rank: Int) -> Column {
        Column(title: title, shape: .short, rank: rank) { item, now in Cell.age(item[member], now) }
    }

    static func number(
        _ title: String, _ member: String, rank: Int,
        _ format: @escaping @Sendable (JSONValue?) -> String = { Cell.text($0) }
    ) -> Column {
        Column(title: title, shape: .number, rank: rank) { item, _ in format(item[member]) }
    }
}

/// Lays items out in columns, the widths of which the first items decide.
struct Table {
    private let columns: [Column]
    private let widths: [Int]
    /// Whether cells wider than their column are cut.
    private let isCut: Bool
    private let now: WallTime

    private static let gap = 2
    /// Most texts can be told apart in so many columns.
    private static let comfortable = 20
    /// A narrower text would show nothing of its values.
    private static let narrowest = 8

    /// - Parameter width: of the terminal; nil: as wide as it gets.
    init(_ columns: [Column], _ items: [JSONValue], now: WallTime, width: Int?) {
        let natural = columns.map { column in
            max(column.title.count, items.map { DisplayWidth.of(column.text($0, now)) }.max() ?? 0)
        }
        let fitted = Self.fit(columns, natural, width ?? .max)
        self.columns = fitted.map { columns[$0.index] }
        widths = fitted.map(\.width)
        isCut = width != nil
        self.now = now
    }

    var header: String { line(columns.map(\.title)) }

    func rows(_ items: [JSONValue]) -> String {
        items.map { row($0) }.joined()
    }

    func row(_ item: JSONValue) -> String {
        line(columns.map { $0.text(item, now) })
    }

    private func line(_ cells: [String]) -> String {
        var line = ""
        for (index, cell) in cells.enumerated() {
            if index > 0 { line += String(repeating: " ", count: Self.gap) }
            let shown = isCut ? Self.cut(cell, columns[index].shape, to: widths[index]) : cell
            let padding = String(repeating: " ", count: max(0, widths[index] - DisplayWidth.of(shown)))
            if case .number = columns[index].shape {
                line += padding + shown
            } else {
                line += shown + padding
            }
        }
        while line.last == " " { line.removeLast() }
        return line + "\n"
    }

    private static func cut(_ cell: String, _ shape: Column.Shape, to width: Int) -> String {
        switch shape {
        case .key, .identifier:
            isUUID(cell) ? DisplayWidth.cutEnd(cell, to: width) : DisplayWidth.cutMiddle(cell, to: width)
        case .text: DisplayWidth.cutEnd(cell, to: width)
        // Only an item of a later page can be too wide here, and half a number is a lie.
        case .short, .number: cell
        }
    }

    /// Random all over: its beginning tells as much as both ends, and can be searched for.
    private static func isUUID(_ text: String) -> Bool {
        text.utf8.count == 36 && text.utf8.allSatisfy { $0 == 0x2d || Hexadecimal.value(of: $0) != nil }
    }

    // MARK: Fitting

    /// How far texts may give before columns go, and down to which rank columns go then.
    private static let stages = [
        (narrowest: comfortable, lowestRank: 4), (narrowest: narrowest, lowestRank: 1),
    ]

    /// Texts and identifiers give, the widest first; then whole columns go by rank; last of all the keys.
    private static func fit(
        _ columns: [Column], _ natural: [Int], _ width: Int
    ) -> [(index: Int, width: Int)] {
        var shown = Array(columns.indices)
        var widths = natural
        for stage in stages {
            while true {
                widths = natural
                let mayGive = shown.filter { columns[$0].gives }
                if shrink(&widths, mayGive, shown, to: width, narrowest: stage.narrowest) {
                    return shown.map { ($0, widths[$0]) }
                }
                let mayGo = shown.filter { columns[$0].rank >= stage.lowestRank }
                guard let least = mayGo.max(by: { columns[$0].rank < columns[$1].rank }) else { break }
                shown.removeAll { $0 == least }
            }
        }
        _ = shrink(
            &widths, shown.filter { columns[$0].shape == .key }, shown, to: width, narrowest: narrowest)
        return shown.map { ($0, widths[$0]) }
    }

    /// Takes from the widest of `mayGive` until the line fits or none has anything left to give.
    private static func shrink(
        _ widths: inout [Int], _ mayGive: [Int], _ shown: [Int], to width: Int, narrowest: Int
    ) -> Bool {
        var excess = shown.reduce(gap * (shown.count - 1) - width) { $0 + widths[$1] }
        while excess > 0 {
            guard let widest = mayGive.max(by: { widths[$0] < widths[$1] }), widths[widest] > narrowest
            else { return false }
            widths[widest] -= 1
            excess -= 1
        }
        return true
    }

    // MARK: One item

    /// One item as lines of names and values; times with their age, bytes with a unit.
    static func fields(_ item: JSONValue, now: WallTime) -> String {
        let members = item.object ?? []
        let width = members.map { $0.name.count }.max() ?? 0
        return members.map { member in
            let padding = String(repeating: " ", count: width - member.name.count + gap)
            return member.name + padding + value(member, now) + "\n"
        }.joined()
    }

    private static func value(_ member: JSONMember, _ now: WallTime) -> String {
        let text = Cell.text(member.value)
        if member.name.hasSuffix("_at"), let time = member.value.string, WallTime(rfc3339: time) != nil {
            let age = Cell.age(member.value, now)
            return text + (age.hasPrefix("in ") ? " (\(age))" : " (\(age) ago)")
        }
        let isBytes = member.name.hasPrefix("bytes_") || member.name.hasSuffix("_bytes")
        if isBytes, let count = member.value.integer, count >= 1_024 {
            return text + " (\(Cell.bytes(member.value)))"
        }
        return text
    }
}

extension Column {
    /// Whether it can do with less than it would like.
    fileprivate var gives: Bool { shape == .text || shape == .identifier }
}
