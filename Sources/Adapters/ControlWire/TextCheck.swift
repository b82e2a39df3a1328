internal import CControlProto

/// A walk over the encoding before the library decodes it, for what the library doesn't look at.
///
/// protobuf-c hands out strings as they came: it neither checks UTF-8 nor keeps the length, so that a NUL
/// would silently cut a text. The walk allocates nothing and goes as deep as the descriptors nest.
struct TextCheck {
    private var bytes: UnsafeRawBufferPointer
    private let descriptor: UnsafePointer<ProtobufCMessageDescriptor>

    /// Checks all known text fields of a message and of its known submessages.
    static func run(
        _ bytes: UnsafeRawBufferPointer, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>
    ) throws(WireError) {
        var check = TextCheck(bytes: bytes, descriptor: descriptor)
        try check.walk()
    }

    private var malformed: WireError { .malformed(message: String(cString: descriptor.pointee.short_name)) }

    private mutating func walk() throws(WireError) {
        while !bytes.isEmpty {
            let tag = try varint()
            // Field numbers have 29 bits (protobuf encoding, "message structure").
            guard let number = UInt32(exactly: tag >> 3), number > 0, number < 1 << 29 else {
                throw malformed
            }
            switch tag & 7 {
            case 0: _ = try varint()
            case 1: _ = try take(8)
            case 2: try check(try take(try varint()), number: number)
            case 5: _ = try take(4)
            // 3 and 4 are groups, which proto3 doesn't have; 6 and 7 are nothing.
            default: throw malformed
            }
        }
    }

    private func check(_ content: UnsafeRawBufferPointer, number: UInt32) throws(WireError) {
        guard let field = protobuf_c_message_descriptor_get_field(descriptor, number) else { return }
        switch field.pointee.type {
        case PROTOBUF_C_TYPE_STRING:
            guard !content.contains(0), String(validating: content, as: UTF8.self) != nil else {
                throw .invalidText(field: String(cString: field.pointee.name))
            }
        case PROTOBUF_C_TYPE_MESSAGE:
            guard let nested = field.pointee.descriptor else { return }
            try TextCheck.run(content, nested.assumingMemoryBound(to: ProtobufCMessageDescriptor.self))
        default:
            break
        }
    }

    private mutating func take(_ count: UInt64) throws(WireError) -> UnsafeRawBufferPointer {
        guard let count = Int(exactly: count), count <= bytes.count else { throw malformed }
        let taken = UnsafeRawBufferPointer(rebasing: bytes[..<count])
        bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
        return taken
    }

    private mutating func varint() throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        for (index, byte) in bytes.prefix(10).enumerated() {
            value |= UInt64(byte & 0x7f) << UInt64(7 * index)
            if byte < 0x80 {
                bytes = UnsafeRawBufferPointer(rebasing: bytes[(index + 1)...])
                return value
            }
        }
        throw malformed
    }
}
