/// The field lines of a message in their order (RFC 9110 section 5); names compare without case.
///
/// All names and values lie in one array of octets, which a parsed head shares with its target, and a
/// line is five numbers: reading a head costs two allocations however many lines it has. Values are
/// octets; as text they are read as UTF-8, with what isn't UTF-8 replaced.
package struct HTTPFields: Sendable {
    struct Line: Sendable {
        var nameStart: UInt32
        var nameCount: UInt32
        var valueStart: UInt32
        var valueCount: UInt32

        var name: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }
        var value: Range<Int> { Int(valueStart)..<Int(valueStart) + Int(valueCount) }
    }

    private(set) var octets: [UInt8]
    private(set) var lines: [Line]

    package init() {
        octets = []
        lines = []
    }

    init(octets: [UInt8], lines: [Line]) {
        self.octets = octets
        self.lines = lines
    }

    package var count: Int { lines.count }
    package var isEmpty: Bool { lines.isEmpty }

    // MARK: Reading

    /// The value of the first line with this name.
    package subscript(_ name: String) -> String? {
        guard let index = index(of: name, from: 0) else { return nil }
        return value(at: index)
    }

    /// The octets of the first line with this name.
    package func octets(of name: String) -> ArraySlice<UInt8>? {
        guard let index = index(of: name, from: 0) else { return nil }
        return octets[lines[index].value]
    }

    /// The values of all lines with this name, in order.
    package func values(of name: String) -> [String] {
        var values: [String] = []
        var next = 0
        while let index = index(of: name, from: next) {
            values.append(value(at: index))
            next = index + 1
        }
        return values
    }

    package func contains(_ name: String) -> Bool {
        index(of: name, from: 0) != nil
    }

    /// How many lines have this name.
    package func count(of name: String) -> Int {
        var count = 0
        var next = 0
        while let index = index(of: name, from: next) {
            count += 1
            next = index + 1
        }
        return count
    }

    /// Whether a comma-separated list field holds `token`, compared without case (RFC 9110 section 5.6.1).
    package func listContains(_ name: String, token: String) -> Bool {
        var next = 0
        while let index = index(of: name, from: next) {
            if listContains(lines[index].value, token.utf8.span) { return true }
            next = index + 1
        }
        return false
    }

    /// The elements of a comma-separated list field over all its lines; empty ones are left out.
    package func list(_ name: String) -> [String] {
        var elements: [String] = []
        for value in values(of: name) {
            for part in value.split(separator: ",") {
                let trimmed = part.drop { $0 == " " || $0 == "\t" }
                guard let last = trimmed.lastIndex(where: { $0 != " " && $0 != "\t" }) else { continue }
                elements.append(String(trimmed[...last]))
            }
        }
        return elements
    }

    /// The name of line `index` as it was written.
    package func name(at index: Int) -> String {
        String(decoding: octets[lines[index].name], as: UTF8.self)
    }

    package func value(at index: Int) -> String {
        String(decoding: octets[lines[index].value], as: UTF8.self)
    }

    // MARK: Writing

    /// Adds a line at the end.
    ///
    /// A name that is not a token is a mistake of this program and is dropped; octets that a value may
    /// not hold (CR, LF, NUL and other controls) become spaces, so that text taken from a peer can't end
    /// the line.
    package mutating func append(_ name: String, _ value: String) {
        let nameCount = name.utf8.count
        guard nameCount > 0, name.utf8.allSatisfy(Octets.isToken) else {
            assertionFailure("\(name) is not a field name")
            return
        }
        let start = octets.count
        octets.append(contentsOf: name.utf8)
        for octet in value.utf8 {
            octets.append(Octets.isFieldValue(octet) ? octet : Octets.space)
        }
        lines.append(
            Line(
                nameStart: UInt32(truncatingIfNeeded: start),
                nameCount: UInt32(truncatingIfNeeded: nameCount),
                valueStart: UInt32(truncatingIfNeeded: start + nameCount),
                valueCount: UInt32(truncatingIfNeeded: octets.count - start - nameCount)))
    }

    /// Adds all lines of `other` behind these.
    package mutating func append(contentsOf other: HTTPFields) {
        let start = UInt32(truncatingIfNeeded: octets.count)
        octets += other.octets
        for line in other.lines {
            lines.append(
                Line(
                    nameStart: line.nameStart + start, nameCount: line.nameCount,
                    valueStart: line.valueStart + start, valueCount: line.valueCount))
        }
    }

    /// Replaces all lines with this name by one.
    package mutating func set(_ name: String, _ value: String) {
        remove(name)
        append(name, value)
    }

    /// Removes all lines with this name.
    package mutating func remove(_ name: String) {
        while let index = index(of: name, from: 0) { lines.remove(at: index) }
    }

    // MARK: Matching

    func index(of name: String, from start: Int) -> Int? {
        let wanted = name.utf8.span
        var index = start
        while index < lines.count {
            if lines[index].nameCount == wanted.count, matches(Int(lines[index].nameStart), wanted) {
                return index
            }
            index += 1
        }
        return nil
    }

    /// Whether the octets from `start` are `wanted`, without case.
    func matches(_ start: Int, _ wanted: Span<UInt8>) -> Bool {
        let text = octets.span
        guard start + wanted.count <= text.count else { return false }
        for offset in wanted.indices
        where Octets.lowercased(text[start + offset]) != Octets.lowercased(wanted[offset]) {
            return false
        }
        return true
    }

    private func listContains(_ value: Range<Int>, _ token: Span<UInt8>) -> Bool {
        let text = octets.span
        var start = value.lowerBound
        while start < value.upperBound {
            var end = start
            while end < value.upperBound, text[end] != Octets.comma { end += 1 }
            let element = trimmed(start..<end)
            if !element.isEmpty, element.count == token.count, matches(element.lowerBound, token) {
                return true
            }
            start = end + 1
        }
        return false
    }

    /// `range` without spaces and tabs at its ends.
    func trimmed(_ range: Range<Int>) -> Range<Int> {
        var lower = range.lowerBound
        var upper = range.upperBound
        while lower < upper, octets[lower] == Octets.space || octets[lower] == Octets.tab { lower += 1 }
        while upper > lower, octets[upper - 1] == Octets.space || octets[upper - 1] == Octets.tab {
            upper -= 1
        }
        return lower..<upper
    }
}

extension HTTPFields: ExpressibleByDictionaryLiteral {
    package init(dictionaryLiteral elements: (String, String)...) {
        self.init()
        for (name, value) in elements { append(name, value) }
    }
}

extension HTTPFields: Sequence {
    package struct Iterator: IteratorProtocol {
        let fields: HTTPFields
        var index = 0

        package mutating func next() -> (name: String, value: String)? {
            guard index < fields.count else { return nil }
            defer { index += 1 }
            return (fields.name(at: index), fields.value(at: index))
        }
    }

    package func makeIterator() -> Iterator {
        Iterator(fields: self)
    }
}

extension HTTPFields: Equatable {
    /// Same names (without case) and values in the same order.
    package static func == (lhs: HTTPFields, rhs: HTTPFields) -> Bool {
        lhs.count == rhs.count
            && zip(lhs, rhs).allSatisfy {
                $0.value == $1.value && $0.name.lowercased() == $1.name.lowercased()
            }
    }
}
