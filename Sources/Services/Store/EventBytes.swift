internal import Domain

/// Values one after the other: integers as LEB128, texts and bytes with their length before them.
struct EventWriter {
    private(set) var bytes: [UInt8] = []

    mutating func put(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// Zigzag, so that small negative numbers are short, too.
    mutating func put(_ value: Int64) {
        put(UInt64(bitPattern: value << 1 ^ value >> 63))
    }

    mutating func put(_ value: Int) {
        put(Int64(value))
    }

    mutating func put(_ value: Double) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
        }
    }

    mutating func put(_ value: Bool) {
        bytes.append(value ? 1 : 0)
    }

    mutating func put(_ value: String) {
        put(UInt64(value.utf8.count))
        bytes.append(contentsOf: value.utf8)
    }

    mutating func put(_ values: [String]) {
        put(UInt64(values.count))
        for value in values { put(value) }
    }

    mutating func put(_ value: some UUIDIdentifier) {
        bytes.append(contentsOf: value.bytes)
    }

    mutating func put(_ value: WallTime) {
        put(value.microseconds)
    }

    mutating func put(_ value: SocketAddress) {
        put(value.description)
    }

    mutating func put(_ value: DeviceID) {
        put(value.description)
    }

    mutating func put<Value>(optional value: Value?, _ body: (inout EventWriter, Value) -> Void) {
        put(value != nil)
        if let value { body(&self, value) }
    }
}

/// Reads what an ``EventWriter`` wrote, and takes nothing for granted: a disk can give anything back.
struct EventReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: some Collection<UInt8>) {
        rest = ArraySlice(bytes)
    }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func byte() throws(UnreadableEvent) -> UInt8 {
        guard let byte = rest.popFirst() else { throw .truncated }
        return byte
    }

    mutating func unsigned() throws(UnreadableEvent) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            let byte = try byte()
            guard shift < 63 || byte <= 1 else { throw .outOfRange }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw .outOfRange
    }

    mutating func signed() throws(UnreadableEvent) -> Int64 {
        let value = try unsigned()
        return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }

    mutating func count() throws(UnreadableEvent) -> Int {
        Int(clamping: try signed())
    }

    mutating func double() throws(UnreadableEvent) -> Double {
        let bytes = try take(8)
        var pattern: UInt64 = 0
        for byte in bytes.reversed() { pattern = pattern << 8 | UInt64(byte) }
        return Double(bitPattern: pattern)
    }

    mutating func boolean() throws(UnreadableEvent) -> Bool {
        switch try byte() {
        case 0: false
        case 1: true
        default: throw .outOfRange
        }
    }

    mutating func text() throws(UnreadableEvent) -> String {
        let bytes = try take(unsigned())
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .outOfRange }
        return text
    }

    mutating func texts() throws(UnreadableEvent) -> [String] {
        let count = try unsigned()
        guard count <= UInt64(rest.count) else { throw .truncated }
        var texts: [String] = []
        for _ in 0..<count { texts.append(try text()) }
        return texts
    }

    mutating func identifier<ID: UUIDIdentifier>() throws(UnreadableEvent) -> ID {
        let bytes = try take(16)
        guard let id = ID(bytes: bytes.span) else { throw .truncated }
        return id
    }

    mutating func time() throws(UnreadableEvent) -> WallTime {
        WallTime(microseconds: try signed())
    }

    /// A text that stands for something else.
    mutating func value<Value>(_ parse: (String) -> Value?) throws(UnreadableEvent) -> Value {
        guard let value = parse(try text()) else { throw .outOfRange }
        return value
    }

    mutating func optional<Value>(
        _ body: (inout EventReader) throws(UnreadableEvent) -> Value
    ) throws(UnreadableEvent) -> Value? {
        try boolean() ? try body(&self) : nil
    }

    private mutating func take(_ count: UInt64) throws(UnreadableEvent) -> ArraySlice<UInt8> {
        guard count <= UInt64(rest.count) else { throw .truncated }
        let taken = rest.prefix(Int(count))
        rest = rest.dropFirst(Int(count))
        return taken
    }
}

/// Bytes that are no event, or not one that this version knows.
enum UnreadableEvent: Error, Sendable, Hashable, CustomStringConvertible {
    case truncated
    case outOfRange
    case unknownKind(UInt8)

    var description: String {
        switch self {
        case .truncated: "the event is cut short"
        case .outOfRange: "the event holds a value that can't be"
        case .unknownKind(let kind): "events of kind \(kind) are not known to this version"
        }
    }
}
