/// Bytes that wait to be taken from the front; owns no memory while it is empty.
package struct ByteQueue {
    private var storage: [UInt8] = []
    private var head = 0

    package init() {}

    package var count: Int { storage.count - head }
    package var isEmpty: Bool { storage.count == head }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        storage.append(contentsOf: bytes)
    }

    /// The bytes in order, valid during the call.
    package func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        storage.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[head...])) }
    }

    /// Drops the first `count` bytes, which must be there.
    package mutating func removeFirst(_ count: Int) {
        precondition(count <= self.count, "more bytes dropped than queued")
        head += count
        if head == storage.count {
            storage = []
            head = 0
        } else if head >= storage.count / 2 {
            // Moving less than was taken keeps the cost of each byte constant.
            storage.removeFirst(head)
            head = 0
        }
    }

    package mutating func removeAll() {
        storage = []
        head = 0
    }
}
