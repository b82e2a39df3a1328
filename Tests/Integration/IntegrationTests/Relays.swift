import Foundation
import Glibc

/// Passes TCP connections on to a port of loopback, until they are cut.
final class TCPRelay: @unchecked Sendable {
    private let server: TestServer
    private let live: LiveSockets

    var port: UInt16 { server.port }

    init(to target: UInt16) throws {
        let live = LiveSockets()
        self.live = live
        server = try TestServer { client in
            let onward = try TestSocket(port: target)
            live.add(client, onward)
            let back = Thread { pump(onward, client) }
            back.stackSize = 512 << 10
            back.start()
            pump(client, onward)
        }
    }

    /// Ends every connection; new ones are still taken.
    func cut() {
        live.cutAll()
    }
}

private func pump(_ source: TestSocket, _ sink: TestSocket) {
    while let bytes = try? source.read(), !bytes.isEmpty {
        if (try? sink.write(bytes)) == nil { break }
    }
    source.shutdownBoth()
    sink.shutdownBoth()
}

private final class LiveSockets: @unchecked Sendable {
    private let lock = NSLock()
    private var sockets: [TestSocket] = []

    func add(_ first: TestSocket, _ second: TestSocket) {
        lock.withLock { sockets += [first, second] }
    }

    func cutAll() {
        let cut = lock.withLock {
            defer { sockets = [] }
            return sockets
        }
        for socket in cut { socket.shutdownBoth() }
    }
}

/// Passes datagrams between one device and a port of 127.0.0.1, as a NAT would.
///
/// The source port that the node sees can be changed, which is what a NAT does that has forgotten its entry.
final class UDPRelay: @unchecked Sendable {
    private let lock = NSLock()
    private let front: Int32
    private var back: Int32
    private var device: sockaddr_in?
    private var isDropping = false
    private let target: UInt16

    var drops: Bool {
        get { lock.withLock { isDropping } }
        set { lock.withLock { isDropping = newValue } }
    }

    /// Listens on `host:port` and sends to `127.0.0.1:port`.
    init(host: String, port: UInt16) throws {
        target = port
        front = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        back = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        guard withSocketAddress(host, port, { Glibc.bind(front, $0, $1) }) == 0 else {
            throw TestSocket.Failure(call: "bind", number: errno)
        }
        let thread = Thread { [weak self, front] in
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                var peer = sockaddr_in()
                let count = receive(front, &buffer, &peer)
                guard count >= 0, let self else { return }
                forward(buffer[..<count], from: peer)
            }
        }
        thread.start()
        startBackward()
    }

    deinit {
        // Wakes the threads; the descriptors are few and end with the process.
        shutdown(front, Int32(SHUT_RDWR))
        shutdown(back, Int32(SHUT_RDWR))
    }

    func changeSourcePort() {
        lock.withLock {
            shutdown(back, Int32(SHUT_RDWR))
            back = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        }
        startBackward()
    }

    private func forward(_ bytes: ArraySlice<UInt8>, from peer: sockaddr_in) {
        let (descriptor, dropping) = lock.withLock {
            device = peer
            return (back, isDropping)
        }
        guard !dropping else { return }
        _ = bytes.withUnsafeBytes { buffer in
            withSocketAddress("127.0.0.1", target) {
                sendto(descriptor, buffer.baseAddress, buffer.count, 0, $0, $1)
            }
        }
    }

    private func startBackward() {
        let descriptor = lock.withLock { back }
        // A socket that has not sent yet has no port to receive on; binding gives it one.
        _ = withSocketAddress("127.0.0.1", 0) { Glibc.bind(descriptor, $0, $1) }
        let thread = Thread { [weak self] in
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                var peer = sockaddr_in()
                let count = receive(descriptor, &buffer, &peer)
                guard count > 0, let self else { return }
                backward(buffer[..<count])
            }
        }
        thread.start()
    }

    private func backward(_ bytes: ArraySlice<UInt8>) {
        let (peer, dropping) = lock.withLock { (device, isDropping) }
        guard var peer, !dropping else { return }
        _ = bytes.withUnsafeBytes { buffer in
            withUnsafePointer(to: &peer) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    sendto(
                        front, buffer.baseAddress, buffer.count, 0, $0,
                        socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
    }
}

private func receive(_ descriptor: Int32, _ buffer: inout [UInt8], _ peer: inout sockaddr_in) -> Int {
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let capacity = buffer.count
    return buffer.withUnsafeMutableBytes { bytes in
        withUnsafeMutablePointer(to: &peer) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, bytes.baseAddress, capacity, 0, $0, &length)
            }
        }
    }
}
