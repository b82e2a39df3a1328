package import Domain
package import Logging

/// How a log line is laid out.
package enum LogFormat: String, Sendable, CaseIterable {
    /// `2026-01-31T09:05:00.120Z info pop.device: registered device_id=dev7`
    case text
    /// One JSON object: `time`, `level`, `logger`, `message`, `error` if there is one, `fields`.
    case json
}

/// One event as one line of text.
///
/// Whatever peers put into messages and fields, the line stays one line: control characters, and the
/// Unicode characters that terminals take for line ends or reordering, are escaped.
package struct LogLine {
    /// Longest text of a message or field in bytes; more of it says nothing more.
    private static let longestText = 4_096

    private var bytes: [UInt8] = []

    package static func render(
        _ format: LogFormat, time: WallTime, level: Logger.Level, label: String, message: String,
        error: String? = nil, fields: Logger.Metadata
    ) -> [UInt8] {
        var line = LogLine()
        line.bytes.reserveCapacity(256)
        switch format {
        case .text: line.text(time, level, label, message, error, fields)
        case .json: line.json(time, level, label, message, error, fields)
        }
        line.bytes.append(UInt8(ascii: "\n"))
        return line.bytes
    }

    private mutating func text(
        _ time: WallTime, _ level: Logger.Level, _ label: String, _ message: String, _ error: String?,
        _ fields: Logger.Metadata
    ) {
        add("\(time.rfc3339) \(level.rawValue) \(label): ")
        escape(message, quotes: false)
        if let error {
            add(" error=")
            value(error)
        }
        for (name, field) in fields.sorted(by: { $0.key < $1.key }) {
            add(" ")
            escape(name, quotes: false)
            add("=")
            value(field.description)
        }
    }

    /// A field's value: bare when it is one plain word, quoted otherwise.
    private mutating func value(_ text: String) {
        let isPlain =
            !text.isEmpty
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != 0x22 && $0 != 0x3d && $0 != 0x5c }
        if isPlain, text.utf8.count <= Self.longestText {
            add(text)
        } else {
            quote(text)
        }
    }

    private mutating func json(
        _ time: WallTime, _ level: Logger.Level, _ label: String, _ message: String, _ error: String?,
        _ fields: Logger.Metadata
    ) {
        add("{\"time\":\"\(time.rfc3339)\",\"level\":\"\(level.rawValue)\",\"logger\":")
        quote(label)
        add(",\"message\":")
        quote(message)
        if let error {
            add(",\"error\":")
            quote(error)
        }
        if !fields.isEmpty {
            add(",\"fields\":")
            object(fields)
        }
        add("}")
    }

    private mutating func object(_ fields: Logger.Metadata) {
        add("{")
        for (index, field) in fields.sorted(by: { $0.key < $1.key }).enumerated() {
            if index > 0 { add(",") }
            quote(field.key)
            add(":")
            json(field.value)
        }
        add("}")
    }

    private mutating func json(_ value: Logger.MetadataValue) {
        switch value {
        case .string(let text): quote(text)
        case .stringConvertible(let number as any FixedWidthInteger): add(String(number))
        case .stringConvertible(let flag as Bool): add(flag ? "true" : "false")
        case .stringConvertible(let other): quote(other.description)
        case .dictionary(let fields): object(fields)
        case .array(let elements):
            add("[")
            for (index, element) in elements.enumerated() {
                if index > 0 { add(",") }
                json(element)
            }
            add("]")
        }
    }

    // MARK: Bytes

    private mutating func add(_ text: String) {
        bytes.append(contentsOf: text.utf8)
    }

    private mutating func quote(_ text: String) {
        add("\"")
        escape(text, quotes: true)
        add("\"")
    }

    /// Both formats escape like JSON, so that one reader understands both.
    private mutating func escape(_ text: String, quotes: Bool) {
        let limit = bytes.count + Self.longestText
        for scalar in text.unicodeScalars {
            guard bytes.count < limit else {
                add("…")
                return
            }
            switch scalar.value {
            case 0x22 where quotes: add("\\\"")
            case 0x5c where quotes: add("\\\\")
            case 0x0a: add("\\n")
            case 0x0d: add("\\r")
            case 0x09: add("\\t")
            case 0x00..<0x20, 0x7f...0x9f, 0x200e, 0x200f, 0x2028...0x202e, 0x2066...0x2069:
                let digits = String(scalar.value, radix: 16)
                add("\\u" + String(repeating: "0", count: 4 - digits.count) + digits)
            default: bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
            }
        }
    }
}
