package import Domain

/// A value for `$1`, `$2` ... in PostgreSQL's text form; the statement casts it where the type matters.
package struct PostgresParameter: Sendable, Hashable {
    /// UTF-8 without NUL; nil is SQL's NULL.
    let bytes: [UInt8]?

    fileprivate init(bytes: [UInt8]?) {
        self.bytes = bytes
    }

    package static let null = PostgresParameter(bytes: nil)

    /// PostgreSQL's text can't hold U+0000: it is replaced by U+FFFD.
    package static func text(_ value: String?) -> PostgresParameter {
        PostgresParameter(bytes: value.map { withoutNUL(Array($0.utf8)) })
    }

    package static func integer(_ value: Int64?) -> PostgresParameter {
        PostgresParameter(bytes: value.map { Array(String($0).utf8) })
    }

    /// Saturated to what `bigint` holds.
    package static func integer(_ value: UInt64) -> PostgresParameter {
        integer(Int64(clamping: value))
    }

    package static func double(_ value: Double?) -> PostgresParameter {
        PostgresParameter(bytes: value.map { Array(doubleText($0).utf8) })
    }

    package static func boolean(_ value: Bool?) -> PostgresParameter {
        PostgresParameter(bytes: value.map { [UInt8(ascii: $0 ? "t" : "f")] })
    }

    package static func uuid(_ value: (some UUIDIdentifier)?) -> PostgresParameter {
        PostgresParameter(bytes: value.map { Array($0.description.utf8) })
    }

    /// To the microsecond; saturated to the years 1 to 9999.
    package static func time(_ value: WallTime?) -> PostgresParameter {
        PostgresParameter(bytes: value.map { Array(timeText($0).utf8) })
    }

    // MARK: Arrays

    package static func texts(_ values: [String?]) -> PostgresParameter {
        array(values) { withoutNUL(Array($0.utf8)) }
    }

    package static func integers(_ values: [Int64?]) -> PostgresParameter {
        array(values) { Array(String($0).utf8) }
    }

    /// Saturated to what `bigint` holds.
    package static func integers(_ values: [UInt64]) -> PostgresParameter {
        integers(values.map { Int64(clamping: $0) })
    }

    package static func doubles(_ values: [Double?]) -> PostgresParameter {
        array(values) { Array(doubleText($0).utf8) }
    }

    package static func booleans(_ values: [Bool?]) -> PostgresParameter {
        array(values) { [UInt8(ascii: $0 ? "t" : "f")] }
    }

    package static func uuids(_ values: [(some UUIDIdentifier)?]) -> PostgresParameter {
        array(values) { Array($0.description.utf8) }
    }

    package static func times(_ values: [WallTime?]) -> PostgresParameter {
        array(values) { Array(timeText($0).utf8) }
    }

    /// Texts that are array literals themselves: `unnest` flattens arrays of arrays, so a column of arrays
    /// travels as `text[]` and is cast row by row (`column::text[]`).
    package static func textArrays(_ values: [[String]]) -> PostgresParameter {
        array(values) { (elements: [String]) in texts(elements).bytes ?? [] }
    }

    /// An array literal (PostgreSQL manual, 8.15.6): every element in quotes, `"` and `\` escaped.
    private static func array<Element>(
        _ values: [Element?], _ text: (Element) -> [UInt8]
    ) -> PostgresParameter {
        var literal: [UInt8] = [UInt8(ascii: "{")]
        for value in values {
            if literal.count > 1 { literal.append(UInt8(ascii: ",")) }
            guard let value else {
                literal.append(contentsOf: "NULL".utf8)
                continue
            }
            literal.append(UInt8(ascii: "\""))
            for byte in text(value) {
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
                    literal.append(UInt8(ascii: "\\"))
                }
                literal.append(byte)
            }
            literal.append(UInt8(ascii: "\""))
        }
        literal.append(UInt8(ascii: "}"))
        return PostgresParameter(bytes: literal)
    }

    private static func withoutNUL(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.contains(0) else { return bytes }
        return bytes.flatMap { $0 == 0 ? [0xef, 0xbf, 0xbd] : [$0] }
    }

    private static func doubleText(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
        return String(value)
    }

    private static let earliest = WallTime(microseconds: -62_135_596_800_000_000)
    private static let latest = WallTime(microseconds: 253_402_300_799_999_999)

    private static func timeText(_ value: WallTime) -> String {
        let time = min(max(value, earliest), latest)
        let digits = String(time.microseconds - time.milliseconds * 1_000)
        let padding = String(repeating: "0", count: max(0, 3 - digits.utf8.count))
        return time.rfc3339.dropLast() + padding + digits + "Z"
    }
}

/// A statement with its parameters.
package struct PostgresStatement: Sendable, Hashable {
    package let sql: String
    package let parameters: [PostgresParameter]

    package init(_ sql: String, _ parameters: [PostgresParameter] = []) {
        self.sql = sql
        self.parameters = parameters
    }
}
