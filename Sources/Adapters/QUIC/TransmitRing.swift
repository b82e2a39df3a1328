/// The bytes of one stream that are not acknowledged yet, in memory that does not move.
///
/// ```
///   base            start        start+sent     start+count        capacity    reserved
///    |................|== in flight ==|== unsent ==|................|..............|
/// ```
/// The library keeps pointers into the part in flight until it is acknowledged. The ring starts small and
/// grows in place, up to the size reserved for it: pages that were never used cost nothing.
struct TransmitRing {
    private let base: UnsafeMutableRawPointer
    private let reserved: Int
    private var capacity: Int
    private var start = 0
    private(set) var count = 0
    private(set) var sent = 0

    /// A stream that moves little touches only this much.
    static let initialCapacity = 64 << 10
    /// As much as a fast stream has in flight on a short path, and still in the processor's cache.
    static let shortPathCapacity = 1 << 20

    init(base: UnsafeMutableRawPointer, reserved: Int) {
        self.base = base
        self.reserved = reserved
        capacity = min(Self.initialCapacity, reserved)
    }

    var memory: UnsafeMutableRawPointer { base }
    var free: Int { capacity - count }
    var unsent: Int { count - sent }
    var isAtLeastHalfFree: Bool { 2 * count <= capacity }

    /// Makes the ring larger when it is more than half full and its bytes lie in one piece.
    ///
    /// Beyond what a short path takes only bytes in flight count: they are what a long path needs room for. Bytes
    /// that a slow peer does not take are better left where they come from.
    mutating func growIfUseful(onLongPath isLong: Bool) {
        guard capacity < reserved, start + count <= capacity else { return }
        if capacity < Self.shortPathCapacity {
            guard 2 * count > capacity else { return }
            capacity = min(reserved, capacity * 4, Self.shortPathCapacity)
        } else if isLong, 3 * sent > capacity {
            capacity = min(reserved, capacity * 2)
        }
    }

    /// Whether it has touched no more than a stream that moves little does.
    var isUngrown: Bool { capacity == Self.initialCapacity }
    /// Whether it has touched no more than a stream on a short path does.
    var isSmall: Bool { capacity <= Self.shortPathCapacity }

    /// The free room, in the order in which to fill it.
    var space: (UnsafeMutableRawBufferPointer, UnsafeMutableRawBufferPointer) {
        let end = start + count
        if end < capacity {
            return (
                UnsafeMutableRawBufferPointer(start: base + end, count: capacity - end),
                UnsafeMutableRawBufferPointer(start: base, count: start)
            )
        }
        return (
            UnsafeMutableRawBufferPointer(start: base + (end - capacity), count: capacity - count),
            UnsafeMutableRawBufferPointer(start: base, count: 0)
        )
    }

    /// `added` bytes were put into `space`.
    mutating func put(_ added: Int) {
        precondition(added >= 0 && added <= free, "more bytes put than there was room")
        count += added
    }

    /// The unsent bytes as at most two pieces.
    var pieces: (first: UnsafeRawPointer, firstCount: Int, second: UnsafeRawPointer, secondCount: Int) {
        var from = start + sent
        if from >= capacity { from -= capacity }
        let first = min(unsent, capacity - from)
        return (UnsafeRawPointer(base + from), first, UnsafeRawPointer(base), unsent - first)
    }

    mutating func markSent(_ bytes: Int) {
        sent += bytes
    }

    /// The first `bytes` bytes are acknowledged.
    mutating func acknowledge(_ bytes: Int) {
        precondition(bytes >= 0 && bytes <= sent, "more bytes acknowledged than sent")
        start += bytes
        if start >= capacity { start -= capacity }
        count -= bytes
        sent -= bytes
        if count == 0 { start = 0 }
    }
}

/// Rings of streams that have ended, kept for the next ones.
final class RingPool {
    let ringBytes: Int
    private var free: [UnsafeMutableRawPointer] = []
    /// The same, of rings that have never grown: there is room for more of them.
    private var ungrown: [UnsafeMutableRawPointer] = []

    init(ringBytes: Int) {
        self.ringBytes = ringBytes
    }

    deinit {
        for memory in free + ungrown { memory.deallocate() }
    }

    func take() -> TransmitRing {
        let memory =
            free.popLast() ?? ungrown.popLast() ?? .allocate(byteCount: ringBytes, alignment: 64)
        return TransmitRing(base: memory, reserved: ringBytes)
    }

    func giveBack(_ ring: TransmitRing) {
        if ring.isSmall, free.count < QUICLimits.pooledRings {
            free.append(ring.memory)
        } else if ring.isUngrown, ungrown.count < QUICLimits.pooledUngrownRings {
            ungrown.append(ring.memory)
        } else {
            ring.memory.deallocate()
        }
    }
}
