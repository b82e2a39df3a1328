package import Domain
internal import Synchronization

/// The answer to one statement: its rows as values, independent of libpq.
package struct PostgresResult: Sendable, Hashable {
    /// Rows a command has changed, or rows given back.
    package let affectedRows: Int
    private let cells: [String?]
    private let names: ColumnNames

    package init(columns: [String], cells: [String?], affectedRows: Int) {
        names = ColumnNames(columns)
        self.cells = cells
        self.affectedRows = affectedRows
    }

    package var columns: [String] { names.all }

    package var rowCount: Int { columns.isEmpty ? 0 : cells.count / columns.count }

    package var rows: [PostgresRow] {
        (0..<rowCount).map { index in
            PostgresRow(names: names, cells: cells[index * columns.count..<(index + 1) * columns.count])
        }
    }
}

/// Where the columns of an answer are, by name.
private final class ColumnNames: Sendable, Hashable {
    let all: [String]
    private let places: [String: Int]
    private let areUnique: Bool
    /// Behind the one that was asked for last: rows are mostly read in the order of their columns.
    private let next = Atomic(0)

    init(_ all: [String]) {
        self.all = all
        places = Dictionary(all.enumerated().map { ($1, $0) }) { first, _ in first }
        areUnique = places.count == all.count
    }

    func place(of name: String) -> Int? {
        let likely = next.load(ordering: .relaxed)
        if areUnique, likely < all.count, all[likely] == name {
            next.store(likely + 1, ordering: .relaxed)
            return likely
        }
        guard let place = places[name] else { return nil }
        next.store(place + 1, ordering: .relaxed)
        return place
    }

    static func == (one: ColumnNames, other: ColumnNames) -> Bool { one.all == other.all }

    func hash(into hasher: inout Hasher) { hasher.combine(all) }
}

/// One row. Accessors ask for a column by name, say what type it must have, and throw when it is absent,
/// NULL where that is not allowed, or something else.
package struct PostgresRow: Sendable, Hashable {
    private let names: ColumnNames
    private let cells: ArraySlice<String?>

    fileprivate init(names: ColumnNames, cells: ArraySlice<String?>) {
        self.names = names
        self.cells = cells
    }

    private func cell(_ column: String) throws(PostgresError) -> String? {
        guard let index = names.place(of: column) else {
            throw PostgresError(.unexpectedAnswer, "no column \(column) in the answer")
        }
        return cells[cells.startIndex + index]
    }

    /// The column read by `parse`; nil for NULL.
    package func optional<Value>(
        _ column: String, _ parse: (String) -> Value?
    ) throws(PostgresError) -> Value? {
        guard let text = try cell(column) else { return nil }
        guard let value = parse(text) else {
            throw PostgresError(.unexpectedAnswer, "column \(column) is not a \(Value.self)")
        }
        return value
    }

    /// The column read by `parse`; NULL is an error.
    package func value<Value>(_ column: String, _ parse: (String) -> Value?) throws(PostgresError) -> Value {
        guard let value = try optional(column, parse) else {
            throw PostgresError(.unexpectedAnswer, "column \(column) is NULL")
        }
        return value
    }

    package func string(_ column: String) throws(PostgresError) -> String {
        try value(column) { $0 }
    }

    package func optionalString(_ column: String) throws(PostgresError) -> String? {
        try cell(column)
    }

    package func integer<Value: FixedWidthInteger>(
        _ column: String, as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value {
        try value(column) { Value($0) }
    }

    package func optionalInteger<Value: FixedWidthInteger>(
        _ column: String, as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value? {
        try optional(column) { Value($0) }
    }

    package func double(_ column: String) throws(PostgresError) -> Double {
        try value(column) { Double($0) }
    }

    package func optionalDouble(_ column: String) throws(PostgresError) -> Double? {
        try optional(column) { Double($0) }
    }

    package func boolean(_ column: String) throws(PostgresError) -> Bool {
        try value(column) { $0 == "t" ? true : $0 == "f" ? false : nil }
    }

    /// A `timestamptz`, with the session's time zone being UTC as the connection sets it.
    package func time(_ column: String) throws(PostgresError) -> WallTime {
        try value(column, Self.parseTime)
    }

    package func optionalTime(_ column: String) throws(PostgresError) -> WallTime? {
        try optional(column, Self.parseTime)
    }

    /// A `text[]` of one dimension; NULL elements are not expected and refused.
    package func strings(_ column: String) throws(PostgresError) -> [String] {
        try value(column, Self.parseArray)
    }

    private static func parseTime(_ text: String) -> WallTime? {
        WallTime(sqlUTC: text)
    }

    /// An array literal as PostgreSQL writes it: elements in quotes only where they need it.
    static func parseArray(_ text: String) -> [String]? {
        var bytes = text.utf8[...]
        guard bytes.popFirst() == UInt8(ascii: "{"), bytes.popLast() == UInt8(ascii: "}") else { return nil }
        var elements: [String] = []
        guard !bytes.isEmpty else { return elements }
        while true {
            var element: [UInt8] = []
            if bytes.first == UInt8(ascii: "\"") {
                bytes.removeFirst()
                while let byte = bytes.popFirst(), byte != UInt8(ascii: "\"") {
                    guard byte == UInt8(ascii: "\\") else {
                        element.append(byte)
                        continue
                    }
                    guard let escaped = bytes.popFirst() else { return nil }
                    element.append(escaped)
                }
            } else {
                while let byte = bytes.first, byte != UInt8(ascii: ",") {
                    element.append(byte)
                    bytes.removeFirst()
                }
                guard !element.isEmpty, element != Array("NULL".utf8) else { return nil }
            }
            elements.append(String(decoding: element, as: UTF8.self))
            guard let separator = bytes.popFirst() else { return elements }
            guard separator == UInt8(ascii: ",") else { return nil }
        }
    }
}
