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
    /// How long packets are at most, but for probes of the path MTU: those are longer than what the batch has room
    /// for by itself, and start the next one.
    private(set) var usualPacket = 0

    /// Room for a batch and for one packet behind it that turns out not to belong to it.
    init() {
        base = .allocate(capacity: 2 * 65_536)
    }

    deinit {
        base.deallocate()
    }

    var bytes: UnsafeMutableRawPointer { UnsafeMutableRawPointer(base) }
    /// Where the next packet is written.
    var end: UnsafeMutablePointer<UInt8> { base + count }

    var hasRoom: Bool {
        count + usualPacket <= QUICLimits.bytesPerSend && segments < QUICLimits.segmentsPerSend
    }
    var isComplete: Bool { isLastShorter || segments == QUICLimits.segmentsPerSend }

    /// - Parameter payload: how long packets of this way may be at most.
    func begin(local: cl_address, peer: cl_address, payload: Int) {
        usualPacket = payload
        begin(local: local, peer: peer)
    }

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
