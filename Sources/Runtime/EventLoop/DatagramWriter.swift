internal import CLinux
package import Domain

/// Whose datagrams a ``DatagramWriter`` sends.
package protocol DatagramSource: AnyObject {
    /// The system has not taken `count` datagrams: its buffer is full, or the socket has an error. The writer is
    /// at work: its source may not go within this call.
    func datagramsNotSent(_ count: Int, errorNumber: Int32)
}

/// Collects UDP datagrams of one loop and sends those of one size and one way by one system call (GSO).
///
/// A datagram that does not fit to those before it sends them first; `flush` sends what is left and is due at the
/// end of the batch of events.
package final class DatagramWriter {
    /// The kernel cuts at most this many segments from one buffer (UDP_MAX_SEGMENTS before Linux 6.9).
    private static let segments = 64
    /// The largest UDP payload over IPv4.
    package static let largestDatagram = 65_507

    /// What is larger than the path can only be sent alone, in fragments; an interface without checksum offload
    /// takes no segments at all.
    private static let cannotCut = [Errno.messageTooLong, Errno.invalidArgument, Errno.inputOutput]

    private let memory: UnsafeMutableRawPointer
    private var count = 0
    private var pieces = 0
    private var pieceBytes = 0
    private var isLastShorter = false
    private var descriptor: Int32 = -1
    private var peer: SocketAddress?
    private unowned(unsafe) var source: (any DatagramSource)?

    package init() {
        memory = .allocate(byteCount: 65_536, alignment: 64)
    }

    deinit {
        memory.deallocate()
    }

    package var isEmpty: Bool { pieces == 0 }

    /// Adds `header` and `payload` as one datagram of `source`, which flushes before it goes.
    ///
    /// - Parameter peer: nil for a connected socket.
    package func append(
        _ header: [UInt8], _ payload: UnsafeRawBufferPointer, to peer: SocketAddress?, of descriptor: Int32,
        _ source: any DatagramSource
    ) {
        let size = header.count + payload.count
        guard size <= Self.largestDatagram else {
            source.datagramsNotSent(1, errorNumber: Errno.messageTooLong)
            return
        }
        let fits =
            pieces > 0 && descriptor == self.descriptor && peer == self.peer && !isLastShorter
            && size <= pieceBytes && size > 0 && pieces < Self.segments
            && count + size <= Self.largestDatagram
        if !fits {
            flush()
            self.descriptor = descriptor
            self.peer = peer
            self.source = source
            pieceBytes = size
        }
        header.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress {
                (memory + count).copyMemory(from: base, byteCount: bytes.count)
            }
        }
        if let base = payload.baseAddress {
            (memory + count + header.count).copyMemory(from: base, byteCount: payload.count)
        }
        count += size
        pieces += 1
        isLastShorter = size < pieceBytes
    }

    /// Sends what was added.
    package func flush() {
        guard pieces > 0, let source else { return }
        let (pieces, count, pieceBytes) = (pieces, count, pieceBytes)
        self.pieces = 0
        self.count = 0
        isLastShorter = false
        self.source = nil
        var errorNumber = send(memory, count, pieceBytes)
        guard errorNumber != 0 else { return }
        guard pieces > 1, Self.cannotCut.contains(errorNumber) else {
            source.datagramsNotSent(pieces, errorNumber: errorNumber)
            return
        }
        var offset = 0
        while offset < count {
            let size = min(pieceBytes, count - offset)
            errorNumber = send(memory + offset, size, size)
            if errorNumber != 0 { source.datagramsNotSent(1, errorNumber: errorNumber) }
            offset += size
        }
    }

    private func send(_ bytes: UnsafeRawPointer, _ count: Int, _ segment: Int) -> Int32 {
        let size = UInt16(clamping: segment)
        let result: Int
        if let peer {
            var system = cl_address(peer)
            result = cl_udp_send(descriptor, bytes, count, size, 0, &system, nil)
        } else {
            result = cl_udp_send(descriptor, bytes, count, size, 0, nil, nil)
        }
        return result < 0 ? Int32(-result) : 0
    }
}
