internal import CControlProto
package import DeviceProtocol
internal import Domain

/// The messages at the beginning of QUIC streams to protobuf bytes and back (contract section 3).
///
/// The bytes are those of one frame of ``DataFraming``, without its length prefix. Every failure is a
/// `WireError`, answered with the application error 0x104.
package enum DataCodec {
    package static func decodeDataHello(_ bytes: [UInt8]) throws(WireError) -> DataHello {
        let message = try unpacked(
            bytes, pop__data__v1__data_hello__descriptor_pointer(), "DataHello",
            pop__data__v1__data_hello__unpack)
        defer { pop__data__v1__data_hello__free_unpacked(message, nil) }
        return DataHello(
            sessionID: array(message.pointee.session_id), dataToken: array(message.pointee.data_token))
    }

    package static func decodeDataHelloAck(_ bytes: [UInt8]) throws(WireError) -> Bool {
        let message = try unpacked(
            bytes, pop__data__v1__data_hello_ack__descriptor_pointer(), "DataHelloAck",
            pop__data__v1__data_hello_ack__unpack)
        defer { pop__data__v1__data_hello_ack__free_unpacked(message, nil) }
        return message.pointee.ok != 0
    }

    package static func decodeStreamHeader(_ bytes: [UInt8]) throws(WireError) -> StreamHeader {
        let message = try unpacked(
            bytes, pop__data__v1__stream_header__descriptor_pointer(), "StreamHeader",
            pop__data__v1__stream_header__unpack)
        defer { pop__data__v1__stream_header__free_unpacked(message, nil) }
        return StreamHeader(
            connID: try connID(message.pointee.conn_id),
            resolvedAddress: string(message.pointee.resolved_address))
    }

    /// The encoding without the length prefix.
    package static func encode(_ hello: DataHello) -> [UInt8] {
        var arena = PackArena()
        defer { arena.free() }
        var message = Pop__Data__V1__DataHello()
        pop__data__v1__data_hello__init(&message)
        message.session_id = arena.data(hello.sessionID)
        message.data_token = arena.data(hello.dataToken)
        return [UInt8](
            unsafeUninitializedCapacity: pop__data__v1__data_hello__get_packed_size(&message)
        ) { buffer, filled in
            filled = pop__data__v1__data_hello__pack(&message, buffer.baseAddress)
        }
    }

    /// The encoding of a DataHelloAck, without the length prefix.
    package static func encodeDataHelloAck(ok: Bool) -> [UInt8] {
        var message = Pop__Data__V1__DataHelloAck()
        pop__data__v1__data_hello_ack__init(&message)
        message.ok = ok ? 1 : 0
        return [UInt8](
            unsafeUninitializedCapacity: pop__data__v1__data_hello_ack__get_packed_size(&message)
        ) { buffer, filled in
            filled = pop__data__v1__data_hello_ack__pack(&message, buffer.baseAddress)
        }
    }

    /// The encoding without the length prefix.
    package static func encode(_ header: StreamHeader) -> [UInt8] {
        var arena = PackArena()
        defer { arena.free() }
        var message = Pop__Data__V1__StreamHeader()
        pop__data__v1__stream_header__init(&message)
        message.conn_id = arena.data(header.connID)
        message.resolved_address = arena.text(header.resolvedAddress)
        return [UInt8](
            unsafeUninitializedCapacity: pop__data__v1__stream_header__get_packed_size(&message)
        ) { buffer, filled in
            filled = pop__data__v1__stream_header__pack(&message, buffer.baseAddress)
        }
    }

    private static func unpacked<Message>(
        _ bytes: [UInt8], _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, _ name: String,
        _ unpack: (
            UnsafeMutablePointer<ProtobufCAllocator>?, Int, UnsafePointer<UInt8>?
        ) -> UnsafeMutablePointer<Message>?
    ) throws(WireError) -> UnsafeMutablePointer<Message> {
        guard bytes.count <= DataFraming.maximumMessageBytes else {
            throw .tooBig(count: bytes.count, limit: DataFraming.maximumMessageBytes)
        }
        try bytes.withUnsafeBytes { buffer in
            Result { () throws(WireError) in try TextCheck.run(buffer, descriptor) }
        }.get()
        guard let message = bytes.withUnsafeBufferPointer({ unpack(nil, $0.count, $0.baseAddress) }) else {
            throw .malformed(message: name)
        }
        return message
    }
}
