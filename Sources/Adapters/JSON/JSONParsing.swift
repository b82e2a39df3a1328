internal import CJansson

/// Why a text is not JSON that we take; the fault is always the text's author's.
package struct JSONError: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Problem: Sendable, Hashable {
        /// The text breaks the grammar of RFC 8259, or is not UTF-8; the words are the parser's.
        case malformed(String)
        /// The text ends inside a value.
        case incomplete
        /// An object names a member twice.
        case duplicateName(String)
        /// A number that neither Int64 nor Double holds.
        case numberOutOfRange
        /// A string holds U+0000, which PostgreSQL and C strings can't.
        case nullCharacter
        /// Arrays and objects inside each other deeper than the limit.
        case tooDeep(limit: Int)
        /// The text is longer than the limit, in bytes.
        case tooLong(limit: Int)
        case outOfMemory
    }

    package let problem: Problem
    /// Both count from 1; 0 when the place is not known.
    package let line: Int
    package let column: Int

    package var description: String {
        let place = line > 0 ? " at line \(line), column \(column)" : ""
        return "invalid JSON\(place): " + explanation
    }

    private var explanation: String {
        switch problem {
        case .malformed(let text): text
        case .incomplete: "the text ends too early"
        case .duplicateName(let name): "\"\(name)\" stands twice in one object"
        case .numberOutOfRange: "a number is too big"
        case .nullCharacter: "a string contains the character U+0000"
        case .tooDeep(let limit): "more than \(limit) levels of arrays and objects"
        case .tooLong(let limit): "longer than \(limit) bytes"
        case .outOfMemory: "out of memory"
        }
    }
}

/// What a parse may cost.
package struct JSONLimits: Sendable, Hashable {
    /// Longest text in bytes.
    package var bytes: Int
    /// Most arrays and objects inside each other.
    package var depth: Int

    package init(bytes: Int, depth: Int) {
        self.bytes = bytes
        self.depth = depth
    }

    /// 1 MiB as the admin API's bodies, and more levels than any document of ours has.
    package static let standard = JSONLimits(bytes: 1 << 20, depth: 64)
}

extension JSONValue {
    /// Parses one value, with nothing but white space around it.
    ///
    /// Refused: duplicate names, NaN and infinities, numbers beyond Int64 or Double, U+0000 in strings, a
    /// byte order mark, invalid UTF-8, and what is over `limits`.
    package init(parsing bytes: [UInt8], limits: JSONLimits = .standard) throws(JSONError) {
        guard bytes.count <= limits.bytes else {
            throw JSONError(problem: .tooLong(limit: limits.bytes), line: 0, column: 0)
        }
        var failure = json_error_t()
        let parsed = bytes.withUnsafeBufferPointer { buffer in
            buffer.withMemoryRebound(to: CChar.self) { cj_parse($0.baseAddress, $0.count, &failure) }
        }
        guard let parsed else { throw JSONError(failure) }
        defer { cj_release(parsed) }
        guard let value = JSONValue(copying: parsed, depthLeft: limits.depth) else {
            throw JSONError(problem: .tooDeep(limit: limits.depth), line: 0, column: 0)
        }
        self = value
    }

    /// Nil when the value is deeper than `depthLeft`.
    private init?(copying source: UnsafeMutablePointer<json_t>, depthLeft: Int) {
        switch cj_type(source) {
        case Int32(JSON_OBJECT.rawValue):
            guard depthLeft > 0 else { return nil }
            var members: [JSONMember] = []
            members.reserveCapacity(json_object_size(source))
            var position = json_object_iter(source)
            while let current = position {
                guard let name = json_object_iter_key(current), let item = json_object_iter_value(current)
                else { break }
                guard let value = JSONValue(copying: item, depthLeft: depthLeft - 1) else { return nil }
                members.append(JSONMember(String(cString: name), value))
                position = json_object_iter_next(source, current)
            }
            self = .object(members)
        case Int32(JSON_ARRAY.rawValue):
            guard depthLeft > 0 else { return nil }
            var elements: [JSONValue] = []
            elements.reserveCapacity(json_array_size(source))
            for index in 0..<json_array_size(source) {
                guard let item = json_array_get(source, index) else { break }
                guard let value = JSONValue(copying: item, depthLeft: depthLeft - 1) else { return nil }
                elements.append(value)
            }
            self = .array(elements)
        case Int32(JSON_STRING.rawValue):
            let text = UnsafeRawBufferPointer(
                start: json_string_value(source), count: json_string_length(source))
            self = .string(String(decoding: text, as: UTF8.self))
        case Int32(JSON_INTEGER.rawValue): self = .integer(Int64(json_integer_value(source)))
        case Int32(JSON_REAL.rawValue): self = .double(json_real_value(source))
        case Int32(JSON_TRUE.rawValue): self = .bool(true)
        case Int32(JSON_FALSE.rawValue): self = .bool(false)
        default: self = .null
        }
    }
}

extension JSONError {
    fileprivate init(_ failure: json_error_t) {
        var failure = failure
        line = max(0, Int(failure.line))
        column = max(0, Int(failure.column))
        let text = String(cString: cj_error_text(&failure))
        switch UInt32(bitPattern: cj_error_code(&failure)) {
        case json_error_out_of_memory.rawValue: problem = .outOfMemory
        case json_error_stack_overflow.rawValue: problem = .tooDeep(limit: Int(JSON_PARSER_MAX_DEPTH))
        case json_error_premature_end_of_input.rawValue: problem = .incomplete
        case json_error_null_character.rawValue, json_error_null_byte_in_key.rawValue:
            problem = .nullCharacter
        case json_error_duplicate_key.rawValue: problem = .duplicateName(Self.quoted(text))
        case json_error_numeric_overflow.rawValue: problem = .numberOutOfRange
        default: problem = .malformed(text)
        }
    }

    /// The name inside jansson's "duplicate object key near '"name"'".
    private static func quoted(_ text: String) -> String {
        let parts = text.split(separator: "\"", omittingEmptySubsequences: false)
        return parts.count >= 3 ? parts[1..<(parts.count - 1)].joined(separator: "\"") : text
    }
}
