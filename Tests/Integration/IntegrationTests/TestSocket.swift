import Foundation
import Glibc

/// A blocking TCP socket for tests: each call has a time limit, after which it fails instead of hanging.
final class TestSocket: @unchecked Sendable {
    struct Failure: Error, CustomStringConvertible {
        let call: String
        let number: Int32

        var description: String { "\(call): \(String(cString: strerror(number)))" }
        var isReset: Bool { number == ECONNRESET || number == EPIPE }
        var isTimeout: Bool { number == EAGAIN }
    }

    let descriptor: Int32
    private static let timeLimitSeconds = 60

    init(descriptor: Int32) {
        self.descriptor = descriptor
        var limit = timeval(tv_sec: Self.timeLimitSeconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }

    deinit {
        Glibc.close(descriptor)
    }

    /// Connects to a port of the loopback interface, from another address of it if one is given.
    convenience init(port: UInt16, host: String = "127.0.0.1", from source: String? = nil) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(call: "socket", number: errno) }
        self.init(descriptor: descriptor)
        if let source {
            guard withSocketAddress(source, 0, { Glibc.bind(descriptor, $0, $1) }) == 0 else {
                throw Failure(call: "bind", number: errno)
            }
        }
        let result = withSocketAddress(host, port) { Glibc.connect(descriptor, $0, $1) }
        guard result == 0 else { throw Failure(call: "connect", number: errno) }
    }

    func write(_ bytes: some Collection<UInt8>) throws {
        let contiguous = Array(bytes)
        var sent = 0
        while sent < contiguous.count {
            let count = contiguous[sent...].withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure(call: "send", number: errno) }
            sent += count
        }
    }

    func write(_ text: String) throws { try write(Array(text.utf8)) }

    /// The next bytes, at most `limit`; empty at the peer's FIN.
    func read(_ limit: Int = 65_536) throws -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, filled in
            let count = Glibc.recv(descriptor, buffer.baseAddress, limit, 0)
            if count < 0 { failure = errno }
            filled = max(0, count)
        }
        guard failure == 0 else { throw Failure(call: "recv", number: failure) }
        return bytes
    }

    func read(exactly count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let piece = try read(count - bytes.count)
            guard !piece.isEmpty else { break }
            bytes += piece
        }
        return bytes
    }

    func readToEnd() throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let piece = try read(1 << 20)
            if piece.isEmpty { return bytes }
            bytes += piece
        }
    }

    func finishWriting() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Makes the close at the end of this object's life an RST.
    func resetOnClose() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
    }

    func shutdownBoth() { shutdown(descriptor, Int32(SHUT_RDWR)) }
}

func withSocketAddress<Result>(
    _ host: String, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    inet_pton(AF_INET, host, &address.sin_addr)
    let length = socklen_t(MemoryLayout<sockaddr_in>.size)
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
    }
}

/// A listener on loopback that gives each connection to `serve` on a thread of its own.
final class TestServer: Sendable {
    let port: UInt16
    private let descriptor: Int32

    init(host: String = "127.0.0.1", port: UInt16 = 0, serve: @escaping @Sendable (TestSocket) throws -> Void)
        throws
    {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        guard withSocketAddress(host, port, { Glibc.bind(descriptor, $0, $1) }) == 0,
            Glibc.listen(descriptor, 4_096) == 0
        else { throw TestSocket.Failure(call: "bind", number: errno) }
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        self.port = UInt16(bigEndian: address.sin_port)
        self.descriptor = descriptor
        let accept = Thread {
            while true {
                let connection = Glibc.accept(descriptor, nil, nil)
                if connection < 0 { return }
                let socket = TestSocket(descriptor: connection)
                let worker = Thread { try? serve(socket) }
                worker.stackSize = 256 << 10
                worker.start()
            }
        }
        accept.start()
    }

    deinit { stop() }

    /// No more connections; those there live on.
    func stop() {
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    /// Sends back what it receives, and FIN after FIN.
    static func echo() throws -> TestServer {
        try TestServer { socket in
            while true {
                let bytes = try socket.read(1 << 18)
                if bytes.isEmpty { break }
                try socket.write(bytes)
            }
            socket.finishWriting()
        }
    }
}
