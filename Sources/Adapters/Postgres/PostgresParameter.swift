package import Domain

/// A value for `$1`, `$2` ...: single ones in PostgreSQL's text form, which the statement casts where the type
/// matters; arrays in its binary form, which must be of the very type that the statement gives the parameter.
///
/// A set of rows travels as one array a column, so arrays are what is large: in binary form neither side writes,
/// quotes or parses digits.
package struct PostgresParameter: Sendable, Hashable {
    /// UTF-8 without NUL, or the binary form; nil is SQL's NULL.
    let bytes: [UInt8]?
    let isBinary: Bool

    fileprivate init(bytes: [UInt8]?, isBinary: Bool = false) {
        self.bytes = bytes
        self.isBinary = isBinary
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

    /// `text[]`
    package static func texts(_ values: [String?]) -> PostgresParameter {
        binaryArray(of: .text, values, elementBytes: 16) { text, bytes in append(text, to: &bytes) }
    }

    /// `bigint[]`
    package static func integers(_ values: [Int64?]) -> PostgresParameter {
        binaryArray(of: .bigint, values, elementBytes: 8) { value, bytes in
            bytes.append(bigEndian: UInt64(bitPattern: value))
        }
    }

    /// `bigint[]`; saturated to what it holds.
    package static func integers(_ values: [UInt64]) -> PostgresParameter {
        binaryArray(of: .bigint, values, elementBytes: 8) { value, bytes in
            bytes.append(bigEndian: UInt64(bitPattern: Int64(clamping: value)))
        }
    }

    /// `double precision[]`
    package static func doubles(_ values: [Double?]) -> PostgresParameter {
        binaryArray(of: .double, values, elementBytes: 8) { value, bytes in
            bytes.append(bigEndian: value.bitPattern)
        }
    }

    /// `boolean[]`
    package static func booleans(_ values: [Bool?]) -> PostgresParameter {
        binaryArray(of: .boolean, values, elementBytes: 1) { value, bytes in bytes.append(value ? 1 : 0) }
    }

    /// `uuid[]`
    package static func uuids<ID: UUIDIdentifier>(_ values: [ID?]) -> PostgresParameter {
        binaryArray(of: .uuid, values, elementBytes: 16) { value, bytes in
            bytes.append(bigEndian: value.high)
            bytes.append(bigEndian: value.low)
        }
    }

    /// `timestamptz[]`, saturated to the years 1 to 9999.
    package static func times(_ values: [WallTime?]) -> PostgresParameter {
        binaryArray(of: .time, values, elementBytes: 8) { value, bytes in
            let time = min(max(value, earliest), latest)
            bytes.append(bigEndian: UInt64(bitPattern: time.microseconds - epochMicroseconds))
        }
    }

    /// `text[]` of array literals: `unnest` flattens arrays of arrays, so a column of arrays travels as texts and
    /// is cast row by row (`column::text[]`).
    package static func textArrays(_ values: [[String]]) -> PostgresParameter {
        binaryArray(of: .text, values, elementBytes: 32) { elements, bytes in
            append(literal(elements), to: &bytes)
        }
    }

    /// Types by their numbers in `pg_type`, which never change.
    private enum ElementType: UInt32 {
        case boolean = 16
        case bigint = 20
        case text = 25
        case double = 701
        case time = 1_184
        case uuid = 2_950
    }

    /// The binary form of an array of one dimension (`array_recv` in PostgreSQL's `arrayfuncs.c`): dimensions,
    /// whether there are NULLs, the elements' type, length, lower bound; then each element behind its length,
    /// which is -1 for NULL.
    private static func binaryArray<Element>(
        of type: ElementType, _ values: [Element?], elementBytes: Int,
        _ append: (Element, inout [UInt8]) -> Void
    ) -> PostgresParameter {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(20 + values.count * (4 + elementBytes))
        bytes.append(bigEndian: values.isEmpty ? 0 : 1 as UInt32)
        bytes.append(bigEndian: values.contains { $0 == nil } ? 1 : 0 as UInt32)
        bytes.append(bigEndian: type.rawValue)
        guard !values.isEmpty else { return PostgresParameter(bytes: bytes, isBinary: true) }
        bytes.append(bigEndian: UInt32(truncatingIfNeeded: values.count))
        bytes.append(bigEndian: 1 as UInt32)
        for value in values {
            guard let value else {
                bytes.append(bigEndian: UInt32.max)
                continue
            }
            let place = bytes.count
            bytes.append(bigEndian: 0 as UInt32)
            append(value, &bytes)
            bytes.overwrite(bigEndian: UInt32(truncatingIfNeeded: bytes.count - place - 4), at: place)
        }
        return PostgresParameter(bytes: bytes, isBinary: true)
    }

    /// An array literal (PostgreSQL manual, 8.15.6): every element in quotes, `"` and `\` escaped.
    private static func literal(_ elements: [String]) -> String {
        var literal = "{"
        for element in elements {
            if literal.utf8.count > 1 { literal.append(",") }
            literal.append("\"")
            for scalar in element.unicodeScalars {
                if scalar == "\"" || scalar == "\\" { literal.append("\\") }
                literal.unicodeScalars.append(scalar)
            }
            literal.append("\"")
        }
        return literal + "}"
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        let start = bytes.count
        bytes.append(contentsOf: text.utf8)
        guard bytes[start...].contains(0) else { return }
        bytes.replaceSubrange(start..., with: withoutNUL(Array(bytes[start...])))
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

    /// PostgreSQL counts from 2000-01-01.
    private static let epochMicroseconds: Int64 = 946_684_800_000_000
    private static let earliest = WallTime(microseconds: -62_135_596_800_000_000)
    private static let latest = WallTime(microseconds: 253_402_300_799_999_999)

    private static func timeText(_ value: WallTime) -> String {
        let time = min(max(value, earliest), latest)
        let digits = String(time.microseconds - time.milliseconds * 1_000)
        let padding = String(repeating: "0", count: max(0, 3 - digits.utf8.count))
        return time.rfc3339.dropLast() + padding + digits + "Z"
    }
}

extension [UInt8] {
    fileprivate mutating func append(bigEndian value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    fileprivate mutating func overwrite(bigEndian value: UInt32, at place: Int) {
        for index in 0..<4 {
            self[place + index] = UInt8(truncatingIfNeeded: value >> UInt32(24 - 8 * index))
        }
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
