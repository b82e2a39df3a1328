package import Domain
package import EventLoop

/// Writes down what a stream tells, and what it should not have told (`faults`).
package final class StreamRecorder: ByteStreamHandler {
    package private(set) var isOpen = false
    package private(set) var received: [UInt8] = []
    package private(set) var receivedCount = 0
    package private(set) var hasPeerFinished = false
    package private(set) var drains = 0
    package private(set) var isEnded = false
    package private(set) var error: (any Error)?
    package private(set) var faults: [String] = []

    /// Whether `received` is kept, or only counted.
    package var keepsBytes = true
    package var onOpened: ((any ByteStream) -> Void)?
    package var onReceived: ((any ByteStream, UnsafeRawBufferPointer) -> Void)?
    package var onPeerFinished: ((any ByteStream) -> Void)?

    package init() {}

    package func streamOpened(_ stream: any ByteStream) {
        if isOpen || isEnded { faults.append("opened again or after the end") }
        isOpen = true
        onOpened?(stream)
    }

    package func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        if !isOpen || hasPeerFinished || isEnded || bytes.isEmpty { faults.append("received out of order") }
        receivedCount += bytes.count
        if keepsBytes { received.append(contentsOf: bytes) }
        onReceived?(stream, bytes)
    }

    package func streamPeerFinished(_ stream: any ByteStream) {
        if !isOpen || hasPeerFinished || isEnded { faults.append("peer finished out of order") }
        hasPeerFinished = true
        onPeerFinished?(stream)
    }

    package func streamDrained(_ stream: any ByteStream) {
        if !isOpen || isEnded { faults.append("drained out of order") }
        drains += 1
    }

    package func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        if isEnded { faults.append("ended twice") }
        isEnded = true
        self.error = error
    }
}

/// 127.0.0.1 with a port of the system's choice.
package let loopback = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)

extension EventLoop {
    /// Runs batches until `isDone`, for a bounded number of rounds; whether it came to that.
    @discardableResult
    package func run(rounds: Int = 12_000, until isDone: () -> Bool) -> Bool {
        for _ in 0..<rounds {
            if isDone() { return true }
            runOnce(waitingAtMost: .milliseconds(5))
        }
        return isDone()
    }
}

/// Bytes whose order can be checked.
package func pattern(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for index in 0..<count { buffer[index] = UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8) }
        filled = count
    }
}
