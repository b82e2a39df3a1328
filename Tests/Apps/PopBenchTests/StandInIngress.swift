import Domain
import EventLoop
import Synchronization
import TestKit

/// A SOCKS5 ingress on a thread of its own that dials the targets itself, or does with a connection what the
/// test says.
final class StandInIngress: Sendable {
    enum Manner {
        case relays
        /// Each byte of an answer is sent apart.
        case stutters
        case wantsLogin
        case refuses
        /// Goes on behind its answer with what nobody asked for.
        case saysTooMuch
        case endsAtOnce
        case endsAfterGreeting
        case endsAfterRequest
        /// The end of the connection comes with the answer.
        case endsAfterAnswer
        case isSilent
    }

    let address: SocketAddress
    private let counter = Counter()
    private let stopping: Mailbox<Bool>
    private let thread: LoopThread

    /// - Parameter manner: what to do with a connection, by the number of connections before it.
    init(_ manner: @escaping @Sendable (Int) -> Manner) throws {
        let loop = try EventLoop()
        let counter = counter
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            let client = StandInClient(on: loop, manner(counter.next()))
            client.near = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: client)
        }
        address = listener.address
        stopping = try Mailbox()
        try loop.attach(stopping) { _ in
            listener.close()
            loop.stop()
        }
        // It belongs to the thread from its start on.
        nonisolated(unsafe) let own = loop
        thread = try LoopThread(name: "stand-in") { own.run() }
    }

    deinit {
        stopping.send(true)
        thread.join()
    }

    var connections: Int { counter.count }

    private final class Counter: Sendable {
        private let value = Mutex(0)
        var count: Int { value.withLock { $0 } }

        func next() -> Int {
            value.withLock { count in
                count += 1
                return count - 1
            }
        }
    }
}

/// A client's connection to a stand-in ingress.
private final class StandInClient: ByteStreamHandler {
    private let loop: EventLoop
    private let manner: StandInIngress.Manner
    private var heard: [UInt8] = []
    private var isGreeted = false
    var near: TCPStream?
    private var far: TCPStream?

    init(on loop: EventLoop, _ manner: StandInIngress.Manner) {
        self.loop = loop
        self.manner = manner
    }

    func streamOpened(_ stream: any ByteStream) {
        if stream === near, manner == .endsAtOnce { near?.closeWhenFlushed() }
        if stream === far { answer([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]) }
    }

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        if let far { return (stream === near ? far : near)?.write(bytes) ?? () }
        heard += bytes
        if !isGreeted, heard.count >= 3 {
            heard.removeFirst(3)
            isGreeted = true
            greet()
        } else if isGreeted, heard.count >= 10 {
            obey()
        }
    }

    private func greet() {
        switch manner {
        case .isSilent: break
        case .wantsLogin: answer([5, 0xff])
        case .endsAfterGreeting: near?.closeWhenFlushed()
        default: answer([5, 0])
        }
    }

    private func obey() {
        switch manner {
        case .refuses:
            answer([5, 5, 0, 1, 0, 0, 0, 0, 0, 0])
        case .saysTooMuch:
            answer([5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7])
        case .endsAfterRequest:
            near?.closeWhenFlushed()
        case .endsAfterAnswer:
            answer([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
            near?.closeWhenFlushed()
        default:
            let ip = heard[4..<8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let target = SocketAddress(
                ip: .v4(IPv4Address(ip)), port: UInt16(heard[8]) << 8 | UInt16(heard[9]))
            far = TCPStream.connect(on: loop, to: target, timeout: .seconds(30), handler: self)
        }
    }

    private func answer(_ bytes: [UInt8]) {
        guard manner == .stutters else { near?.write(bytes) ?? (); return }
        for byte in bytes { near?.write([byte]) }
    }

    func streamPeerFinished(_ stream: any ByteStream) {
        (stream === near ? far : near)?.finishWriting()
        if far == nil { near?.closeWhenFlushed() }
    }

    func streamDrained(_ stream: any ByteStream) {}

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        (stream === near ? far : near)?.closeWhenFlushed()
    }
}
