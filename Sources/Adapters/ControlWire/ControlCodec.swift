internal import CControlProto
package import DeviceProtocol
internal import Domain

/// `ControlMessage` to protobuf bytes and back.
///
/// Unknown fields are ignored, an unknown member of a oneof is `.unknown`, an unknown value of an enum is
/// its `unspecified`. What a field may hold is the sessions' business; here only types and fixed sizes are
/// checked.
package enum ControlCodec {
    /// A ControlMessage is at most 64 KiB (contract section 2), which also bounds what decoding one may cost.
    package static let maximumMessageBytes = ControlFraming.maximumMessageBytes
    /// Most items of a repeated field that are copied: well above what the protocol allows (32 tags), so
    /// that the sessions still see that there are too many.
    package static let maximumRepeatedItems = 256

    /// Decodes one message, without its length prefix.
    ///
    /// - Throws: `WireError`, whose `closeCode` is the answer to the peer.
    package static func decode(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> ControlMessage {
        guard bytes.count <= maximumMessageBytes else {
            throw .tooBig(count: bytes.count, limit: maximumMessageBytes)
        }
        try TextCheck.run(bytes, pop__control__v1__control_message__descriptor_pointer())
        let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
        guard let message = pop__control__v1__control_message__unpack(nil, bytes.count, start) else {
            throw .malformed(message: "ControlMessage")
        }
        defer { pop__control__v1__control_message__free_unpacked(message, nil) }
        return try ControlMessage(message.pointee)
    }

    /// Decodes one message, without its length prefix.
    package static func decode(_ bytes: ArraySlice<UInt8>) throws(WireError) -> ControlMessage {
        try bytes.withUnsafeBytes { buffer in
            Result { () throws(WireError) in try decode(buffer) }
        }.get()
    }

    /// Decodes one message, without its length prefix.
    package static func decode(_ bytes: [UInt8]) throws(WireError) -> ControlMessage {
        try decode(bytes[...])
    }

    /// The encoding of one message, without its length prefix; `.unknown` is the empty message.
    ///
    /// A text is cut at a NUL, which no field of the protocol allows.
    package static func encode(_ message: ControlMessage) -> [UInt8] {
        var arena = PackArena()
        defer { arena.free() }
        var packed = Pop__Control__V1__ControlMessage(message, &arena)
        return [UInt8](
            unsafeUninitializedCapacity: pop__control__v1__control_message__get_packed_size(&packed)
        ) { buffer, filled in
            filled = pop__control__v1__control_message__pack(&packed, buffer.baseAddress)
        }
    }
}
