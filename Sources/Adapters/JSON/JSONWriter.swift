/// Writes JSON straight into bytes, without a tree in between.
///
/// The caller keeps the order of calls right: a `name` before each member of an object, as many ends as
/// begins. Commas, escapes and layout are the writer's.
package struct JSONWriter {
    package private(set) var bytes: [UInt8] = []
    private let isPretty: Bool
    /// For each open array or object: whether something stands in it already.
    private var hasContent: [Bool] = []
    private var isAfterName = false

    /// - Parameter isPretty: two spaces a level and one member a line.
    package init(isPretty: Bool = false) {
        self.isPretty = isPretty
    }

    package mutating func reserveCapacity(_ count: Int) {
        bytes.reserveCapacity(count)
    }

    // MARK: Structure

    package mutating func beginObject() { begin(UInt8(ascii: "{")) }
    package mutating func endObject() { end(UInt8(ascii: "}")) }
    package mutating func beginArray() { begin(UInt8(ascii: "[")) }
    package mutating func endArray() { end(UInt8(ascii: "]")) }

    package mutating func name(_ name: String) {
        separate()
        quote(name)
        bytes.append(UInt8(ascii: ":"))
        if isPretty { bytes.append(UInt8(ascii: " ")) }
        isAfterName = true
    }

    // MARK: Values

    package mutating func null() {
        separate()
        bytes.append(contentsOf: "null".utf8)
    }

    package mutating func bool(_ value: Bool) {
        separate()
        bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    package mutating func integer(_ value: some BinaryInteger) {
        separate()
        bytes.append(contentsOf: value.description.utf8)
    }

    /// The shortest text that reads back as the same number; null for what JSON has no number for.
    package mutating func double(_ value: Double) {
        separate()
        bytes.append(contentsOf: (value.isFinite ? value.description : "null").utf8)
    }

    package mutating func string(_ value: String) {
        separate()
        quote(value)
    }

    package mutating func value(_ value: JSONValue) {
        switch value {
        case .null: null()
        case .bool(let value): bool(value)
        case .integer(let value): integer(value)
        case .double(let value): double(value)
        case .string(let value): string(value)
        case .array(let elements):
            beginArray()
            for element in elements { self.value(element) }
            endArray()
        case .object(let members):
            beginObject()
            for member in members {
                name(member.name)
                self.value(member.value)
            }
            endObject()
        }
    }

    // MARK: Layout

    private mutating func begin(_ bracket: UInt8) {
        separate()
        bytes.append(bracket)
        hasContent.append(false)
    }

    private mutating func end(_ bracket: UInt8) {
        if hasContent.popLast() == true { breakLine() }
        bytes.append(bracket)
    }

    private mutating func separate() {
        if isAfterName {
            isAfterName = false
            return
        }
        guard let last = hasContent.indices.last else { return }
        if hasContent[last] { bytes.append(UInt8(ascii: ",")) }
        hasContent[last] = true
        breakLine()
    }

    private mutating func breakLine() {
        guard isPretty else { return }
        bytes.append(UInt8(ascii: "\n"))
        bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: 2 * hasContent.count))
    }

    private mutating func quote(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): bytes.append(contentsOf: [UInt8(ascii: "\\"), byte])
            case UInt8(ascii: "\\"): bytes.append(contentsOf: [UInt8(ascii: "\\"), byte])
            case 0x0a: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "n")])
            case 0x0d: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "r")])
            case 0x09: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "t")])
            case 0x00..<0x20, 0x7f:
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(Self.digits[Int(byte >> 4)])
                bytes.append(Self.digits[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private static let digits = Array("0123456789abcdef".utf8)
}

extension JSONValue {
    /// The text in UTF-8, without white space, or laid out for people with a line feed at its end.
    package func serialised(isPretty: Bool = false) -> [UInt8] {
        var writer = JSONWriter(isPretty: isPretty)
        writer.value(self)
        return isPretty ? writer.bytes + [UInt8(ascii: "\n")] : writer.bytes
    }

    /// The same text as a string.
    package var text: String { String(decoding: serialised(), as: UTF8.self) }
}
