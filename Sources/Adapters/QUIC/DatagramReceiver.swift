internal import CLinux
internal import CQUIC

/// The memory that one endpoint reads UDP datagrams into, and the path they came by.
///
/// Pages of slots that never fill are never touched, so an idle endpoint takes a page or two.
final class DatagramReceiver {
    let slots: UnsafeMutableBufferPointer<cl_datagram_slot>
    let path: OpaquePointer
    private let slab: UnsafeMutableRawPointer
    private(set) var local = cl_address()
    private var peer = cl_address()

    init(slots count: Int) {
        let count = min(max(1, count), CL_MAX_DATAGRAM_BATCH)
        slab = .allocate(byteCount: count * QUICLimits.bytesPerSlot, alignment: 4_096)
        slots = .allocate(capacity: count)
        for index in 0..<count {
            var slot = cl_datagram_slot()
            slot.bytes = slab + index * QUICLimits.bytesPerSlot
            slot.capacity = UInt32(QUICLimits.bytesPerSlot)
            slots.initializeElement(at: index, to: slot)
        }
        guard let path = cq_path_new() else { preconditionFailure("out of memory") }
        self.path = path
    }

    deinit {
        cq_path_free(path)
        slots.deallocate()
        slab.deallocate()
    }

    var capacity: Int { slots.count }

    /// The number of slots filled; 0 when nothing waits or the system refuses.
    func receive(_ descriptor: Int32) -> Int {
        max(0, Int(cl_udp_receive(descriptor, slots.baseAddress, UInt32(slots.count))))
    }

    /// Makes `path` say where a datagram came from.
    func setPath(local: cl_address, peer: cl_address) {
        if Self.areEqual(local, self.local), Self.areEqual(peer, self.peer) { return }
        self.local = local
        self.peer = peer
        cq_path_set(path, &self.local, &self.peer)
    }

    /// `path` was used for something else.
    func forgetPath() {
        local = cl_address()
        peer = cl_address()
    }

    private static func areEqual(_ first: cl_address, _ second: cl_address) -> Bool {
        guard first.family == second.family, first.port == second.port else { return false }
        return withUnsafeBytes(of: first.ip) { left in
            withUnsafeBytes(of: second.ip) { right in
                left.loadUnaligned(as: UInt64.self) == right.loadUnaligned(as: UInt64.self)
                    && left.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                        == right.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            }
        }
    }
}
