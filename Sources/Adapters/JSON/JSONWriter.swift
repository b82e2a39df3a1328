package import Domain

/// Writes JSON straight into bytes, without a tree in between.
///
/// The caller keeps the order of calls right: a `name` before each member of an object, as many ends as
/// begins. Commas, escapes and layout are the writer's.
package struct JSONWriter {
    package private(set) var bytes: [UInt8] = []
    private let isPretty: Bool
    private var depth = 0
    /// Something stands before the next name or value in its object or array.
    private var needsComma = false
    private var isAfterName = false

    /// - Parameter isPretty: two spaces a level and one member a line.
    package init(isPretty: Bool = false) {
        self.isPretty = isPretty
    }

    package mutating func reserveCapacity(_ count: Int) {
        bytes.reserveCapacity(count)
    }

    /// What was written since the last call, for documents that go out in pieces.
    package mutating func takeBytes() -> [UInt8] {
        let taken = bytes
        bytes = []
        return taken
    }

    // MARK: Structure

    package mutating func beginObject() { begin(UInt8(ascii: "{")) }
    package mutating func endObject() { end(UInt8(ascii: "}")) }
    package mutating func beginArray() { begin(UInt8(ascii: "[")) }
    package mutating func endArray() { end(UInt8(ascii: "]")) }

    /// A name of this program's own, which has nothing in it to escape.
    package mutating func name(_ name: StaticString) {
        separate()
        let octets = UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        bytes.append(addingCapacity: octets.count + 4) { output in
            output.append(UInt8(ascii: "\""))
            for octet in octets { output.append(octet) }
            output.append(UInt8(ascii: "\""))
            output.append(UInt8(ascii: ":"))
            if isPretty { output.append(UInt8(ascii: " ")) }
        }
        isAfterName = true
    }

    /// Any name, e.g. one that came with the value.
    package mutating func name(anything name: String) {
        separate()
        quote(name)
        bytes.append(UInt8(ascii: ":"))
        if isPretty { bytes.append(UInt8(ascii: " ")) }
        isAfterName = true
    }

    // MARK: Values

    package mutating func null() {
        word("null")
    }

    package mutating func bool(_ value: Bool) {
        word(value ? "true" : "false")
    }

    package mutating func integer(_ value: some BinaryInteger) {
        guard let magnitude = UInt64(exactly: value.magnitude) else { return word(value.description) }
        separate()
        if value < 0 { bytes.append(UInt8(ascii: "-")) }
        bytes.append(digitsOf: magnitude)
        needsComma = true
    }

    /// The shortest text that reads back as the same number; null for what JSON has no number for.
    package mutating func double(_ value: Double) {
        word(value.isFinite ? value.description : "null")
    }

    package mutating func string(_ value: String) {
        separate()
        quote(value)
        needsComma = true
    }

    /// A string of what is ASCII without anything to escape: an id, an address.
    package mutating func string(_ value: some ASCIIText) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        value.append(to: &bytes)
        bytes.append(UInt8(ascii: "\""))
        needsComma = true
    }

    /// A string with the time in RFC 3339.
    package mutating func time(_ value: WallTime) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        value.append(rfc3339To: &bytes)
        bytes.append(UInt8(ascii: "\""))
        needsComma = true
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
                name(anything: member.name)
                self.value(member.value)
            }
            endObject()
        }
    }

    // MARK: Layout

    private mutating func begin(_ bracket: UInt8) {
        separate()
        bytes.append(bracket)
        depth += 1
        needsComma = false
    }

    private mutating func end(_ bracket: UInt8) {
        depth -= 1
        if needsComma { breakLine() }
        bytes.append(bracket)
        needsComma = true
    }

    private mutating func word(_ text: String) {
        separate()
        bytes.append(contentsOf: text.utf8)
        needsComma = true
    }

    private mutating func separate() {
        if isAfterName {
            isAfterName = false
            return
        }
        if needsComma { bytes.append(UInt8(ascii: ",")) }
        if depth > 0 { breakLine() }
    }

    private mutating func breakLine() {
        guard isPretty else { return }
        bytes.append(UInt8(ascii: "\n"))
        bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: 2 * depth))
    }

    private mutating func quote(_ text: String) {
        let octets = text.utf8.span
        // Nearly all text is taken as it is.
        guard octets.indices.allSatisfy({ !Self.isEscaped(octets[$0]) }) else { return quoteEscaped(text) }
        bytes.append(addingCapacity: octets.count + 2) { output in
            output.append(UInt8(ascii: "\""))
            for index in octets.indices { output.append(octets[index]) }
            output.append(UInt8(ascii: "\""))
        }
    }

    private mutating func quoteEscaped(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 { append(escaping: byte) }
        bytes.append(UInt8(ascii: "\""))
    }

    @inline(__always)
    private static func isEscaped(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte == 0x7f
    }

    private mutating func append(escaping byte: UInt8) {
        guard Self.isEscaped(byte) else { return bytes.append(byte) }
        bytes.append(UInt8(ascii: "\\"))
        switch byte {
        case 0x0a: bytes.append(UInt8(ascii: "n"))
        case 0x0d: bytes.append(UInt8(ascii: "r"))
        case 0x09: bytes.append(UInt8(ascii: "t"))
        case 0x00..<0x20, 0x7f:
            bytes.append(UInt8(ascii: "u"))
            bytes.append(hexadecimalDigits: 4, of: UInt64(byte))
        default: bytes.append(byte)
        }
    }
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
