internal import Domain
internal import EventLoop

/// A TCP server for loads, on one thread of its own. A connection begins with 16 bytes, the first of which
/// says what is wanted: `E` echo, `D` as many bytes as the next eight say, `U` take until FIN and answer a byte.
///
/// It runs on the processors that are measured, so it is made to cost little: a connection neither starts a
/// thread nor takes memory that one before it has not had.
struct LoadTarget: Sendable {
    let address: SocketAddress

    fileprivate static let headBytes = 16

    init() throws {
        let loop = try EventLoop()
        let server = TargetServer(on: loop)
        let any = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        let listener = try Listener(on: loop, any) { descriptor, _ in server.serve(descriptor) }
        address = listener.address
        // They belong to the thread from its start on. It lives as long as the program.
        nonisolated(unsafe) let own = (loop: loop, listener: listener, server: server)
        _ = try LoopThread(name: "target") { withExtendedLifetime(own) { own.loop.run() } }
    }

    static func head(_ kind: Character, _ count: Int = 0) -> [UInt8] {
        [kind.asciiValue ?? 0] + (0..<8).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
            + [UInt8](repeating: 0, count: 7)
    }
}

/// What the connections of a target share.
private final class TargetServer {
    let loop: EventLoop
    /// Where all of them read to, one at a time.
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
    /// What `D` sends.
    let block: UnsafeMutableRawBufferPointer
    private var unused: [TargetConnection] = []

    init(on loop: EventLoop) {
        self.loop = loop
        block = .allocate(byteCount: 256 << 10, alignment: 64)
        block.initializeMemory(as: UInt8.self, repeating: 0x5a)
    }

    deinit {
        buffer.deallocate()
        block.deallocate()
    }

    func serve(_ descriptor: Int32) {
        (unused.popLast() ?? TargetConnection(self)).start(descriptor)
    }

    func takeBack(_ connection: TargetConnection) {
        unused.append(connection)
    }
}

/// One connection of a target, and after its end another one.
private final class TargetConnection: ReadinessHandler {
    private unowned let server: TargetServer
    private var descriptor: Int32 = -1
    private var registration: Registration?
    private var head: [UInt8] = []
    /// Bytes that `D` has still to send.
    private var left = 0
    /// What of an echo the peer has not taken; nothing is read meanwhile.
    private var unsent = ByteQueue()
    /// Whether the end is known to be in the kernel's queue: then a short read is not the last one.
    private var isEndQueued = false
    private var isContinuationDue = false

    /// Most calls in one batch, so that one fast peer doesn't starve the others.
    private static let callsPerBatch = 8

    init(_ server: TargetServer) {
        self.server = server
        head.reserveCapacity(LoadTarget.headBytes)
    }

    func start(_ descriptor: Int32) {
        self.descriptor = descriptor
        registration = try? server.loop.register(descriptor, self)
        if registration == nil { close() }
    }

    func ready(_ readiness: Readiness) {
        if !readiness.isDisjoint(with: [.peerClosed, .failed]) { isEndQueued = true }
        proceed()
    }

    private func proceed() {
        for _ in 0..<Self.callsPerBatch {
            guard step() else { return }
        }
        guard !isContinuationDue else { return }
        isContinuationDue = true
        server.loop.atEndOfBatch { [self] in
            isContinuationDue = false
            if registration != nil { proceed() }
        }
    }

    /// One call on the socket; whether another one may do more.
    private func step() -> Bool {
        guard unsent.isEmpty else {
            guard let sent = unsent.withUnsafeBytes({ send($0) }) else { return false }
            unsent.removeFirst(sent)
            return true
        }
        guard left == 0 else {
            let piece = UnsafeRawBufferPointer(rebasing: server.block[..<min(left, server.block.count)])
            guard let sent = send(piece) else { return false }
            left -= sent
            if left == 0 { Sockets.shutdownWrite(descriptor) }
            return true
        }
        return read()
    }

    private func read() -> Bool {
        let count = Sockets.read(descriptor, server.buffer)
        if count == -Int(Errno.again) { return false }
        guard count > 0 else {
            if count == 0, head.first == UInt8(ascii: "U") {
                withUnsafeBytes(of: UInt8(1)) { _ = Sockets.send(descriptor, $0) }
            }
            close()
            return false
        }
        received(UnsafeRawBufferPointer(rebasing: server.buffer[..<count]))
        return registration != nil && (count == server.buffer.count || isEndQueued || left > 0)
    }

    private func received(_ bytes: UnsafeRawBufferPointer) {
        let missing = min(LoadTarget.headBytes - head.count, bytes.count)
        head.append(contentsOf: bytes[..<missing])
        guard head.count == LoadTarget.headBytes else { return }
        switch head[0] {
        case UInt8(ascii: "D"):
            guard missing > 0 else { return }
            left = max(0, (0..<8).reduce(0) { $0 | Int(head[1 + $1]) << (8 * $1) })
            if left == 0 { Sockets.shutdownWrite(descriptor) }
        case UInt8(ascii: "U"):
            return
        default:
            echo(UnsafeRawBufferPointer(rebasing: bytes[missing...]))
        }
    }

    private func echo(_ bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty else { return }
        let sent = Sockets.send(descriptor, bytes)
        guard sent >= 0 || sent == -Int(Errno.again) else { return close() }
        if sent < bytes.count { unsent.append(UnsafeRawBufferPointer(rebasing: bytes[max(0, sent)...])) }
    }

    /// How many bytes the kernel took; nil when it takes none now, or never again.
    private func send(_ bytes: UnsafeRawBufferPointer) -> Int? {
        let sent = Sockets.send(descriptor, bytes)
        if sent >= 0 { return sent }
        if sent != -Int(Errno.again) { close() }
        return nil
    }

    private func close() {
        if let registration { server.loop.forget(registration) }
        registration = nil
        Sockets.close(descriptor)
        head.removeAll(keepingCapacity: true)
        left = 0
        unsent.removeAll()
        isEndQueued = false
        server.takeBack(self)
    }
}
