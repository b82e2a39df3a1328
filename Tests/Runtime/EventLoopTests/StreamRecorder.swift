import Domain
import EventLoop
import Testing

/// Writes down what a stream tells.
final class StreamRecorder: ByteStreamHandler {
    var isOpen = false
    var received: [UInt8] = []
    var receivedCount = 0
    var keepsBytes = true
    var hasPeerFinished = false
    var drains = 0
    var isEnded = false
    var error: (any Error)?
    var onReceived: ((any ByteStream, UnsafeRawBufferPointer) -> Void)?
    var onOpened: ((any ByteStream) -> Void)?
    var onPeerFinished: ((any ByteStream) -> Void)?

    func streamOpened(_ stream: any ByteStream) {
        #expect(!isOpen && !isEnded)
        isOpen = true
        onOpened?(stream)
    }

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        #expect(isOpen && !hasPeerFinished && !isEnded && !bytes.isEmpty)
        receivedCount += bytes.count
        if keepsBytes { received.append(contentsOf: bytes) }
        onReceived?(stream, bytes)
    }

    func streamPeerFinished(_ stream: any ByteStream) {
        #expect(isOpen && !hasPeerFinished && !isEnded)
        hasPeerFinished = true
        onPeerFinished?(stream)
    }

    func streamDrained(_ stream: any ByteStream) {
        #expect(isOpen && !isEnded)
        drains += 1
    }

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        #expect(!isEnded)
        isEnded = true
        self.error = error
    }
}

let loopback = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)

extension EventLoop {
    /// Runs batches until `isDone`, for a bounded number of rounds; whether it came to that.
    @discardableResult
    func run(rounds: Int = 20_000, until isDone: () -> Bool) -> Bool {
        for _ in 0..<rounds {
            if isDone() { return true }
            runOnce(waitingAtMost: .milliseconds(5))
        }
        return isDone()
    }
}

/// Two streams of one loop that are connected over loopback TCP.
struct StreamPair {
    let loop: EventLoop
    let client: TCPStream
    let server: TCPStream
    let clientEvents = StreamRecorder()
    let serverEvents = StreamRecorder()

    init() throws {
        let loop = try EventLoop()
        var accepted: TCPStream?
        let serverEvents = serverEvents
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            accepted = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: serverEvents)
        }
        let clientEvents = clientEvents
        let client = TCPStream.connect(
            on: loop, to: listener.address, timeout: .seconds(5), handler: clientEvents)
        loop.run { clientEvents.isOpen && serverEvents.isOpen }
        listener.close()
        self.loop = loop
        self.client = client
        server = try #require(accepted)
    }
}

/// Bytes whose order can be checked.
func pattern(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}
