import EventLoop
import Testing

@Suite struct StagingQueueTests {
    /// The first chunk is a small one, the others are not.
    @Test func `bytes come out in order, whatever the pieces in which they came in`() throws {
        let (sender, receiver) = try Sockets.pair()
        defer {
            Sockets.close(sender)
            Sockets.close(receiver)
        }
        let pool = ChunkPool()
        for sizes in [
            [10], [4_096, 1], [1, 4_095, 1], [10, 300_000], [300_000, 10], [5_000, 600_000, 7],
        ] {
            var queue = StagingQueue(pool: pool)
            let bytes = (0..<sizes.reduce(0, +)).map { UInt8(truncatingIfNeeded: $0 * 31 + $0 >> 8) }
            var start = 0
            for size in sizes {
                bytes[start..<start + size].withUnsafeBytes { queue.append($0) }
                start += size
            }
            let waiting = queue.count
            #expect(waiting == bytes.count)
            let received = try received(from: &queue, sender, receiver)
            #expect(received == bytes)
        }
    }

    /// Sends a little at a time, so that sends end within chunks, and reads it.
    private func received(
        from queue: inout StagingQueue, _ sender: Int32, _ receiver: Int32
    ) throws -> [UInt8] {
        var received: [UInt8] = []
        while !queue.isEmpty {
            let (sent, errorNumber) = queue.send(to: sender, atMost: 3_000)
            try #require(sent > 0 && errorNumber == 0)
            let piece = [UInt8](unsafeUninitializedCapacity: sent) { buffer, filled in
                filled = max(0, Sockets.read(receiver, UnsafeMutableRawBufferPointer(buffer)))
            }
            try #require(piece.count == sent)
            received += piece
        }
        return received
    }
}
