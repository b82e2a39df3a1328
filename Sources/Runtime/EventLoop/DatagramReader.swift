internal import CLinux
package import Domain

/// The memory that one loop reads UDP datagrams into, many at a time; shared by all sockets of the loop.
///
/// Slots that never fill are never touched, so one that is seldom used takes a page or two.
package final class DatagramReader {
    /// Bytes before each datagram that its reader may write to, e.g. to put another header in front of it.
    package static let headroom = 16
    /// Datagrams of one system call, each of which may be an aggregate of equal ones (UDP_GRO).
    private static let slotCount = 16
    /// The largest aggregate.
    package static let slotBytes = 65_536
    /// How long a socket waits whose datagrams there is no room for: some round trips of a short path, and short
    /// enough for the kernel's buffer to hold what a fast sender sends meanwhile.
    package static let pauseForRoom = Duration.microseconds(500)
    /// Rounds before other descriptors of the loop have their turn.
    package static let roundsPerTurn = 4

    private let slots: UnsafeMutableBufferPointer<cl_datagram_slot>
    private let memory: UnsafeMutableRawPointer
    /// Bytes of the largest aggregate of the last round.
    private var largest = DatagramReader.slotBytes

    package init() {
        let stride = Self.slotBytes + Self.headroom
        memory = .allocate(byteCount: Self.slotCount * stride, alignment: 4_096)
        slots = .allocate(capacity: Self.slotCount)
        for index in 0..<Self.slotCount {
            var slot = cl_datagram_slot()
            slot.bytes = memory + index * stride + Self.headroom
            slot.capacity = UInt32(Self.slotBytes)
            slots.initializeElement(at: index, to: slot)
        }
    }

    deinit {
        slots.deallocate()
        memory.deallocate()
    }

    /// What a round of reading has found.
    package enum Outcome: Sendable, Hashable {
        /// There may be more.
        case more
        case empty
        /// The socket's pending error, e.g. of an ICMP message; datagrams may wait behind it.
        case failed(errorNumber: Int32)
    }

    /// Gives what waits on `descriptor` to `receive`, one datagram after the other, with its sender.
    ///
    /// `receive` may overwrite the datagram and ``headroom`` bytes before it.
    ///
    /// - Parameter room: what there is place for where they go to. At least one aggregate is read, and no more
    ///   than fit if they are as large as those read last.
    package func receive(
        _ descriptor: Int32, room: Int = .max,
        _ receive: (UnsafeMutableRawBufferPointer, SocketAddress) -> Void
    ) -> Outcome {
        let wanted = max(1, min(slots.count, room / largest))
        let filled = Int(cl_udp_receive(descriptor, slots.baseAddress, UInt32(wanted)))
        if filled < 0 {
            return filled == -Int(Errno.again) || filled == -Int(Errno.interrupted)
                ? .empty : .failed(errorNumber: Int32(-filled))
        }
        largest = slots[..<filled].reduce(1) { max($0, Int($1.count)) }
        for index in 0..<filled {
            let slot = slots[index]
            guard let bytes = slot.bytes, let peer = slot.peer.socketAddress else { continue }
            let total = Int(slot.count)
            let segment = max(1, Int(slot.segment_size))
            var offset = 0
            repeat {
                let count = min(segment, total - offset)
                receive(UnsafeMutableRawBufferPointer(start: bytes + offset, count: count), peer)
                offset += segment
            } while offset < total
        }
        return filled < wanted ? .empty : .more
    }
}
