internal import Domain
internal import EventLoop

/// A TCP socket that is looked at by hand: it reads and writes only when a test asks for it.
package final class TCPEnd {
    package let descriptor: Int32
    package private(set) var received: [UInt8] = []
    package private(set) var hasEnded = false
    /// The errno of reading or writing; 104 once the other end has sent RST.
    package private(set) var errorNumber: Int32?
    private var unsent: [UInt8] = []
    private var isFinishing = false
    private var isOpen = true

    package init(_ descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        close()
    }

    /// Two sockets connected over loopback: the one to look at, and the descriptor for who is tested.
    package static func pair() throws -> (end: TCPEnd, descriptor: Int32) {
        let any = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        let listener = try Sockets.listen(any)
        defer { Sockets.close(listener) }
        let (client, _) = try Sockets.connect(Sockets.localAddress(listener) ?? any)
        let end = TCPEnd(client)
        for _ in 0..<1_000_000 {
            if let (descriptor, _) = try Sockets.accept(listener) { return (end, descriptor) }
        }
        throw SystemError(call: "accept", errorNumber: Errno.timedOut)
    }

    package var wasReset: Bool { errorNumber == Errno.connectionReset || errorNumber == Errno.brokenPipe }

    /// Bytes the kernel has not taken yet.
    package var unsentCount: Int { unsent.count }

    package func send(_ bytes: [UInt8]) {
        unsent.append(contentsOf: bytes)
        push()
    }

    /// FIN after what was given to `send`.
    package func finish() {
        isFinishing = true
        push()
    }

    package func close() {
        guard isOpen else { return }
        isOpen = false
        Sockets.close(descriptor)
    }

    package func reset() {
        guard isOpen else { return }
        isOpen = false
        Sockets.closeWithReset(descriptor)
    }

    /// Writes what is left as far as the kernel takes it.
    package func push() {
        guard isOpen, errorNumber == nil else { return }
        while !unsent.isEmpty {
            let count = unsent.withUnsafeBytes { Sockets.send(descriptor, $0) }
            guard count > 0 else {
                if -count != Int(Errno.again) { errorNumber = Int32(-count) }
                return
            }
            unsent.removeFirst(count)
        }
        if isFinishing {
            isFinishing = false
            Sockets.shutdownWrite(descriptor)
        }
    }

    /// Reads all there is, then writes what is left.
    package func poll() {
        guard isOpen, errorNumber == nil else { return }
        withUnsafeTemporaryAllocation(byteCount: 256 << 10, alignment: 16) { buffer in
            while !hasEnded {
                let count = Sockets.read(descriptor, buffer)
                if count > 0 {
                    received.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                } else if count == 0 {
                    hasEnded = true
                } else {
                    if -count != Int(Errno.again) { errorNumber = Int32(-count) }
                    break
                }
            }
        }
        push()
    }
}
