/// Datagrams that wait for the congestion window: bounded, the oldest gives way.
///
/// Each datagram lies in one piece behind its length, so that the library can read it in place; one that does
/// not fit before the end of the memory starts at its beginning.
final class DatagramQueue {
    private let memory: UnsafeMutableRawPointer
    let capacity: Int
    private var head = 0
    private var tail = 0
    /// Where the bytes at the end of the memory stop when `tail` is before `head`.
    private var wrap = 0
    private(set) var count = 0
    /// Memory that waiting datagrams take, their lengths and the rests of lines included.
    private(set) var usedBytes = 0
    /// What was added since its connection last had a turn of writing because of it.
    var bytesSinceTurn = 0

    init(capacity: Int) {
        self.capacity = capacity
        memory = .allocate(byteCount: capacity, alignment: 8)
    }

    deinit {
        memory.deallocate()
    }

    var isEmpty: Bool { count == 0 }

    /// The oldest datagram.
    var first: UnsafeRawBufferPointer? {
        guard count > 0 else { return nil }
        let length = Int(memory.load(fromByteOffset: head, as: UInt32.self))
        return UnsafeRawBufferPointer(start: memory + head + Self.prefix, count: length)
    }

    func removeFirst() {
        guard let first else { return }
        let space = Self.space(first.count)
        head += space
        usedBytes -= space
        count -= 1
        if count == 0 {
            head = 0
            tail = 0
        } else if head == wrap, tail <= head {
            head = 0
        }
    }

    /// The number of older ones dropped for it; nil when it is larger than the whole queue.
    func append(_ bytes: UnsafeRawBufferPointer) -> Int? {
        let space = Self.space(bytes.count)
        guard space < capacity else { return nil }
        var dropped = 0
        while true {
            if count == 0 {
                head = 0
                tail = 0
                break
            }
            if tail > head {
                if capacity - tail >= space { break }
                if head > space {
                    wrap = tail
                    tail = 0
                    break
                }
            } else if head - tail > space {
                break
            }
            removeFirst()
            dropped += 1
        }
        memory.storeBytes(of: UInt32(bytes.count), toByteOffset: tail, as: UInt32.self)
        if let base = bytes.baseAddress {
            (memory + tail + Self.prefix).copyMemory(from: base, byteCount: bytes.count)
        }
        tail += space
        count += 1
        usedBytes += space
        bytesSinceTurn += bytes.count
        return dropped
    }

    private static let prefix = 8

    private static func space(_ count: Int) -> Int {
        prefix + (count + 7) & ~7
    }
}
