internal import Domain
internal import EventLoop

/// New connections with an echo of 64 bytes each, so many at a time, by clients that share one loop: a client
/// with a thread of its own would cost as much as what it measures.
final class ChurnLoad {
    fileprivate let loop: EventLoop
    fileprivate let ingress: SocketAddress
    fileprivate let patience: Duration
    fileprivate let request: [UInt8]
    /// What the target echoes, behind its head.
    fileprivate let message = LoadTarget.head("E") + [UInt8](repeating: 1, count: ChurnLoad.echoBytes)
    private var left: Int
    private var atWork: Int
    /// How long each connection took that was made.
    fileprivate(set) var microseconds: [Double] = []

    fileprivate static let echoBytes = 64

    /// - Parameter patience: how long a client waits for each answer.
    init(
        _ count: Int, parallel: Int, to target: SocketAddress, through ingress: SocketAddress,
        patience: Duration = WaitingSocket.patience
    ) throws {
        loop = try EventLoop()
        self.ingress = ingress
        self.patience = patience
        request = try WaitingSocket.requestBytes(1, target)
        left = count
        atWork = parallel
        microseconds.reserveCapacity(count)
    }

    /// Returns when all connections have been made, or every client has given up.
    func run() {
        let clients = (0..<atWork).map { _ in ChurnClient(self) }
        withExtendedLifetime(clients) {
            for client in clients { client.begin() }
            while atWork > 0 { loop.runOnce() }
        }
    }

    /// Whether there is one more connection to make, which is the caller's then.
    fileprivate func takeOne() -> Bool {
        guard left > 0 else { return false }
        left -= 1
        return true
    }

    fileprivate func clientEnded() {
        atWork -= 1
    }
}

/// A client that makes one connection after the other and waits for each answer before it says more.
private final class ChurnClient: ReadinessHandler {
    private enum Phase {
        case connecting, greeting, request, echo
    }

    private unowned let load: ChurnLoad
    private var phase = Phase.connecting
    private var descriptor: Int32 = -1
    private var registration: Registration?
    private var start = Instant.distantFuture
    private var timer: LoopTimer?
    private var failures = 0
    /// Larger than any answer that is right, so that one read takes all that there is.
    private let answer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 16)
    private var filled = 0

    /// A client that fails so often finds nobody there.
    private static let mostFailures = 10

    init(_ load: ChurnLoad) {
        self.load = load
        timer = load.loop.makeTimer { [unowned self] in fail() }
    }

    deinit {
        answer.deallocate()
    }

    /// Makes the next connection, if there is one to make.
    func begin() {
        while failures < Self.mostFailures, load.takeOne() {
            if connect() { return }
            failures += 1
        }
        load.clientEnded()
    }

    private func connect() -> Bool {
        start = SystemClock.now
        guard let (descriptor, _) = try? Sockets.connect(load.ingress) else { return false }
        self.descriptor = descriptor
        phase = .connecting
        registration = try? load.loop.register(descriptor, self)
        // Over loopback the connection is there already, as it is for a client that waits in connect(2).
        guard registration != nil, say(WaitingSocket.greeting, .greeting) else {
            close()
            return false
        }
        return true
    }

    func ready(_ readiness: Readiness) {
        if phase == .connecting {
            guard !readiness.isDisjoint(with: [.writable, .failed]) else { return }
            guard say(WaitingSocket.greeting, .greeting) else { return fail() }
        }
        guard phase != .connecting, !readiness.isDisjoint(with: [.readable, .peerClosed, .failed])
        else { return }
        hear(untilEnd: !readiness.isDisjoint(with: [.peerClosed, .failed]))
    }

    /// - Parameter untilEnd: the end is known to be in the kernel's queue, and is not told again.
    private func hear(untilEnd: Bool) {
        repeat {
            let count = Sockets.read(descriptor, UnsafeMutableRawBufferPointer(rebasing: answer[filled...]))
            if count == -Int(Errno.again) { return }
            guard count > 0 else { return fail() }
            filled += count
            guard filled >= expected else { continue }
            if phase == .echo, filled == expected { return finish() }
            guard filled == expected, goOn() else { return fail() }
        } while untilEnd
    }

    /// The bytes of the answer that is waited for.
    private var expected: Int {
        switch phase {
        case .connecting: 0
        case .greeting: WaitingSocket.method.count
        case .request: WaitingSocket.replyBytes
        case .echo: ChurnLoad.echoBytes
        }
    }

    /// Whether the answer allows to say what comes next, and that was said.
    private func goOn() -> Bool {
        switch phase {
        case .greeting:
            answer[..<filled].elementsEqual(WaitingSocket.method) && say(load.request, .request)
        case .request:
            answer[1] == 0 && say(load.message, .echo)
        case .connecting, .echo:
            false
        }
    }

    /// Sends `bytes` and waits for the answer in the phase `next`, or to be connected; whether there is hope.
    private func say(_ bytes: [UInt8], _ next: Phase) -> Bool {
        timer?.arm(at: load.loop.now + load.patience)
        let sent = bytes.withUnsafeBytes { Sockets.send(descriptor, $0) }
        if phase == .connecting, sent == -Int(Errno.again) { return true }
        // The buffer of a new socket takes more than this at once.
        guard sent == bytes.count else { return false }
        phase = next
        filled = 0
        return true
    }

    private func finish() {
        load.microseconds.append(Double((SystemClock.now - start).nanoseconds) / 1_000)
        close()
        begin()
    }

    private func fail() {
        failures += 1
        close()
        begin()
    }

    private func close() {
        timer?.cancel()
        if let registration { load.loop.forget(registration) }
        registration = nil
        Sockets.close(descriptor)
    }
}
