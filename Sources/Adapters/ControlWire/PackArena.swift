internal import CControlProto
internal import Domain

/// The memory that a message to be packed points to; all of it is freed with the arena.
///
/// The library's structures hold bare pointers, so what they point to must outlive the packing: keep the
/// arena in a `defer { arena.free() }` around it.
struct PackArena {
    /// As much as nearly all messages need.
    private static let blockBytes = 512
    private static let alignment = 16
    /// The last block. Each begins with the address of the one before it.
    private var block: UnsafeMutableRawPointer?
    /// What is left of it.
    private var rest: UnsafeMutableRawPointer?
    private var restBytes = 0

    func free() {
        var next = block
        while let block = next {
            next = block.load(as: UnsafeMutableRawPointer?.self)
            block.deallocate()
        }
    }

    private mutating func take(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let size = (byteCount + Self.alignment - 1) / Self.alignment * Self.alignment
        let start: UnsafeMutableRawPointer
        if let rest, size <= restBytes {
            start = rest
        } else {
            restBytes = max(size, Self.blockBytes)
            let added = UnsafeMutableRawPointer.allocate(
                byteCount: Self.alignment + restBytes, alignment: Self.alignment)
            added.storeBytes(of: block, as: UnsafeMutableRawPointer?.self)
            block = added
            start = added + Self.alignment
        }
        rest = start + size
        restBytes -= size
        return start
    }

    /// A NUL-terminated copy; the library's own empty string for an empty one, which it then leaves out.
    mutating func text(_ value: String) -> UnsafeMutablePointer<CChar>? {
        var value = value
        return value.withUTF8 { bytes in
            let block = take(bytes.count + 1)
            UnsafeMutableRawBufferPointer(start: block, count: bytes.count)
                .copyMemory(from: UnsafeRawBufferPointer(bytes))
            block.storeBytes(of: 0, toByteOffset: bytes.count, as: UInt8.self)
            return block.bindMemory(to: CChar.self, capacity: bytes.count + 1)
        }
    }

    mutating func data(_ id: ConnID) -> ProtobufCBinaryData {
        let block = take(16)
        block.storeBytes(of: id.high.bigEndian, as: UInt64.self)
        block.storeBytes(of: id.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        return ProtobufCBinaryData(len: 16, data: block.bindMemory(to: UInt8.self, capacity: 16))
    }

    mutating func data(_ value: [UInt8]) -> ProtobufCBinaryData {
        guard !value.isEmpty else { return ProtobufCBinaryData(len: 0, data: nil) }
        let block = take(value.count).bindMemory(to: UInt8.self, capacity: value.count)
        block.initialize(from: value, count: value.count)
        return ProtobufCBinaryData(len: value.count, data: block)
    }

    mutating func texts(
        _ values: [String]
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
        guard !values.isEmpty else { return nil }
        let block = take(values.count * MemoryLayout<UnsafeMutablePointer<CChar>?>.stride)
            .bindMemory(to: UnsafeMutablePointer<CChar>?.self, capacity: values.count)
        for (index, value) in values.enumerated() {
            (block + index).initialize(to: text(value))
        }
        return block
    }

    mutating func place<Message>(_ value: Message) -> UnsafeMutablePointer<Message> {
        let block = take(MemoryLayout<Message>.stride).bindMemory(to: Message.self, capacity: 1)
        block.initialize(to: value)
        return block
    }
}

/// A list of strings that the library has decoded, cut at `limit` before anything is copied.
func strings(
    _ count: Int, _ items: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, limit: Int
) -> [String] {
    guard let items else { return [] }
    return (0..<min(count, limit)).map { string(items[$0]) }
}

/// A string that the library has decoded; `TextCheck` has seen to it that it is UTF-8.
func string(_ text: UnsafeMutablePointer<CChar>?) -> String {
    guard let text else { return "" }
    return String(cString: text)
}

func array(_ data: ProtobufCBinaryData) -> [UInt8] {
    guard let start = data.data else { return [] }
    return Array(UnsafeBufferPointer(start: start, count: data.len))
}
