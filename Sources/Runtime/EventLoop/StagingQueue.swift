internal import CLinux

/// The chunks that bytes on their way to sockets are staged in, shared by all relays of a loop.
///
/// A relay takes chunks while bytes wait and gives them back when they are sent, so an idle conn holds none.
package final class ChunkPool {
    /// As much as one large `send` takes at once without falling out of the processor's cache.
    static let chunkBytes = 256 << 10
    /// What begins a queue that begins with little: of those there are many at a time.
    static let smallChunkBytes = 4 << 10
    /// Chunks kept for the next batch; more are given back to the system.
    private static let keptChunks = 16
    private static let keptSmallChunks = 256

    private var free: [Chunk] = []
    private var freeSmall: [Chunk] = []

    package init() {}

    deinit {
        for chunk in free + freeSmall { chunk.deallocate() }
    }

    /// A chunk for `byteCount` bytes that wait, or for the first of them.
    func take(for byteCount: Int) -> Chunk {
        if byteCount <= Self.smallChunkBytes {
            return freeSmall.popLast() ?? .allocate(byteCount: Self.smallChunkBytes, alignment: 64)
        }
        return free.popLast() ?? .allocate(byteCount: Self.chunkBytes, alignment: 64)
    }

    func give(_ chunk: Chunk) {
        if chunk.count == Self.smallChunkBytes, freeSmall.count < Self.keptSmallChunks {
            freeSmall.append(chunk)
        } else if chunk.count == Self.chunkBytes, free.count < Self.keptChunks {
            free.append(chunk)
        } else {
            chunk.deallocate()
        }
    }

    typealias Chunk = UnsafeMutableRawBufferPointer
}

/// Bytes that wait to be sent on one socket, in order.
package struct StagingQueue: ~Copyable {
    private let pool: ChunkPool
    private var chunks: [ChunkPool.Chunk] = []
    /// Bytes of the first chunk already sent.
    private var head = 0
    /// Bytes of the last chunk filled.
    private var tail = 0

    package init(pool: ChunkPool) {
        self.pool = pool
    }

    deinit {
        for chunk in chunks { pool.give(chunk) }
    }

    package private(set) var count = 0

    package var isEmpty: Bool { count == 0 }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        while !rest.isEmpty {
            if chunks.isEmpty || tail == chunks[chunks.count - 1].count {
                // A queue that grows beyond a small chunk is one of many bytes.
                chunks.append(pool.take(for: chunks.isEmpty ? rest.count : ChunkPool.chunkBytes))
                tail = 0
            }
            let chunk = chunks[chunks.count - 1]
            let piece = min(rest.count, chunk.count - tail)
            UnsafeMutableRawBufferPointer(rebasing: chunk[tail..<tail + piece])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<piece]))
            tail += piece
            count += piece
            rest = UnsafeRawBufferPointer(rebasing: rest[piece...])
        }
    }

    /// Sends at most `most` bytes from the front until nothing is left of them or the socket takes no more.
    ///
    /// - Returns: bytes sent, and the errno that ended it (0: all were sent; EAGAIN: the socket is full).
    package mutating func send(
        to descriptor: Int32, atMost most: Int = .max
    ) -> (sent: Int, errorNumber: Int32) {
        var sent = 0
        while count > 0, sent < most {
            let result = sendOnce(descriptor, most - sent)
            if result == -Int(Errno.interrupted) { continue }
            guard result >= 0 else { return (sent, Int32(-result)) }
            sent += result
            drop(result)
        }
        return (sent, 0)
    }

    private func sendOnce(_ descriptor: Int32, _ most: Int) -> Int {
        withUnsafeTemporaryAllocation(of: cl_piece.self, capacity: Int(CL_MAX_PIECES)) { pieces in
            var used = 0
            var left = most
            while used < min(chunks.count, pieces.count), left > 0 {
                let start = used == 0 ? head : 0
                let chunk = chunks[used]
                let end = used == chunks.count - 1 ? tail : chunk.count
                let size = min(left, end - start)
                pieces[used] = cl_piece(bytes: chunk.baseAddress.map { $0 + start }, count: size)
                left -= size
                used += 1
            }
            return cl_send_pieces(descriptor, pieces.baseAddress, used)
        }
    }

    private mutating func drop(_ sent: Int) {
        count -= sent
        head += sent
        while let first = chunks.first, head >= first.count {
            pool.give(chunks.removeFirst())
            head -= first.count
        }
        if count == 0 { removeAll() }
    }

    package mutating func removeAll() {
        for chunk in chunks { pool.give(chunk) }
        chunks.removeAll(keepingCapacity: true)
        head = 0
        tail = 0
        count = 0
    }
}
