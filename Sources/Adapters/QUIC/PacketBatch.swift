internal import CLinux

/// Packets of one size and one way, next to each other, for one system call.
///
/// All but the last are equally long; a longer one never follows a shorter one.
final class PacketBatch {
    private let base: UnsafeMutablePointer<UInt8>
    private(set) var count = 0
    private(set) var segments = 0
    private(set) var segmentSize = 0
    private(set) var ecn: UInt8 = 0
    private(set) var isLastShorter = false
    private(set) var local = cl_address()
    private(set) var peer = cl_address()
    private let largestPacket: Int

    /// Room for a batch and for one packet behind it that turns out not to belong to it.
    init(largestPacket: Int) {
        self.largestPacket = largestPacket
        base = .allocate(capacity: 2 * 65_536)
    }

    deinit {
        base.deallocate()
    }

    var bytes: UnsafeMutableRawPointer { UnsafeMutableRawPointer(base) }
    /// Where the next packet is written.
    var end: UnsafeMutablePointer<UInt8> { base + count }
    /// How long it may be.
    var space: Int { largestPacket }

    var hasRoom: Bool {
        count + largestPacket <= QUICLimits.bytesPerSend && segments < QUICLimits.segmentsPerSend
    }
    var isComplete: Bool { isLastShorter || segments == QUICLimits.segmentsPerSend }

    func begin(local: cl_address, peer: cl_address) {
        self.local = local
        self.peer = peer
        clear()
    }

    func clear() {
        count = 0
        segments = 0
        segmentSize = 0
        isLastShorter = false
    }

    func fits(_ size: Int, ecn: UInt8) -> Bool {
        segments == 0 || (size <= segmentSize && ecn == self.ecn)
    }

    /// The packet written at `end` belongs to the batch.
    func append(_ size: Int, ecn: UInt8) {
        if segments == 0 {
            segmentSize = size
            self.ecn = ecn
        }
        isLastShorter = size < segmentSize
        segments += 1
        count += size
    }

    /// Starts the batch with a packet that was written behind the one before.
    func adopt(_ packet: UnsafeMutablePointer<UInt8>, _ size: Int, ecn: UInt8) {
        UnsafeMutableRawPointer(base).copyMemory(from: packet, byteCount: size)
        append(size, ecn: ecn)
    }
}
