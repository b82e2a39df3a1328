import Foundation
import Glibc

/// A blocking UDP socket of loopback for tests.
final class TestDatagrams: @unchecked Sendable {
    let descriptor: Int32
    let port: UInt16

    init(host: String = "127.0.0.1", port: UInt16 = 0, seconds: Int = 60) throws {
        let isIPv6 = host.contains(":")
        descriptor = socket(isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var buffer: Int32 = 4 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &buffer, 4)
        let descriptor = descriptor
        guard withDatagramAddress(host, port, { Glibc.bind(descriptor, $0, $1) }) == 0 else {
            throw TestSocket.Failure(call: "bind", number: errno)
        }
        // The port stands at the same place in both families.
        var storage = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        withUnsafeMutablePointer(to: &storage) {
            _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        self.port = UInt16(bigEndian: storage.sin6_port)
    }

    deinit {
        Glibc.close(descriptor)
    }

    func send(_ bytes: [UInt8], to port: UInt16, host: String = "127.0.0.1") throws {
        let sent = withDatagramAddress(host, port) { address, length in
            bytes.withUnsafeBytes { sendto(descriptor, $0.baseAddress, $0.count, 0, address, length) }
        }
        guard sent == bytes.count else { throw TestSocket.Failure(call: "sendto", number: errno) }
    }

    /// The next datagram, and a way to answer it.
    func receive() throws -> (bytes: [UInt8], answer: ([UInt8]) -> Void) {
        let descriptor = descriptor
        var peer = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = withUnsafeMutablePointer(to: &peer) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, &buffer, buffer.count, 0, $0, &length)
            }
        }
        guard count >= 0 else { throw TestSocket.Failure(call: "recvfrom", number: errno) }
        return (
            Array(buffer[..<count]),
            { bytes in
                var peer = peer
                _ = withUnsafePointer(to: &peer) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        sendto(descriptor, bytes, bytes.count, 0, $0, length)
                    }
                }
            }
        )
    }

    /// Whether a datagram waits, or comes within the time given.
    func hasOne(withinMilliseconds time: Int32) -> Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, time) > 0
    }
}

/// Answers each datagram with "<prefix><the datagram>", on a thread of its own, for as long as the tests run.
final class EchoDatagrams: Sendable {
    let port: UInt16

    init(host: String = "127.0.0.1", port: UInt16 = 0, prefix: [UInt8] = []) throws {
        let socket = try TestDatagrams(host: host, port: port, seconds: 3_600)
        self.port = socket.port
        Thread {
            while let (bytes, answer) = try? socket.receive() { answer(prefix + bytes) }
        }.start()
    }
}

/// A SOCKS5 client with a UDP association (RFC 1928 section 7).
final class UDPAssociation {
    let control: TestSocket
    let datagrams: TestDatagrams
    let relayPort: UInt16

    init(
        _ ingress: UInt16, statingPort: Bool = false, login: (user: String, password: String)? = nil
    ) throws {
        control = try TestSocket(port: ingress)
        datagrams = try TestDatagrams()
        let method: UInt8 = login == nil ? 0 : 2
        try control.write([5, 1, method])
        guard try control.read(exactly: 2) == [5, method] else { throw SOCKSClient.Refused(reply: 0xff) }
        if let login {
            let (name, secret) = (Array(login.user.utf8), Array(login.password.utf8))
            try control.write([1, UInt8(name.count)] + name + [UInt8(secret.count)] + secret)
            guard try control.read(exactly: 2) == [1, 0] else { throw SOCKSClient.Refused(reply: 0xff) }
        }
        let port = statingPort ? datagrams.port : 0
        let host: [UInt8] = statingPort ? [127, 0, 0, 1] : [0, 0, 0, 0]
        try control.write([5, 3, 0, 1] + host + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)])
        let reply = try control.read(exactly: 10)
        guard reply.count == 10 else { throw SOCKSClient.Refused(reply: 0xfe) }
        guard reply[1] == 0 else { throw SOCKSClient.Refused(reply: reply[1]) }
        relayPort = UInt16(reply[8]) << 8 | UInt16(reply[9])
    }

    static func header(_ port: UInt16, fragment: UInt8 = 0) -> [UInt8] {
        [0, 0, fragment, 1, 127, 0, 0, 1, UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
    }

    static func header(name: String, _ port: UInt16) -> [UInt8] {
        let name = Array(name.utf8)
        return [0, 0, 0, 3, UInt8(name.count)] + name + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
    }

    static func headerIPv6Loopback(_ port: UInt16) -> [UInt8] {
        [0, 0, 0, 4] + [UInt8](repeating: 0, count: 15)
            + [1, UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
    }

    func send(_ payload: [UInt8], _ header: [UInt8]) throws {
        try datagrams.send(header + payload, to: relayPort)
    }

    func send(_ text: String, to port: UInt16) throws { try send(Array(text.utf8), Self.header(port)) }

    func receive() throws -> [UInt8] { try datagrams.receive().bytes }

    /// The next datagram without its header, which must name `port` of 127.0.0.1.
    func text(from port: UInt16) throws -> String? {
        let bytes = try receive()
        guard bytes.starts(with: Self.header(port)) else { return nil }
        return String(decoding: bytes.dropFirst(10), as: UTF8.self)
    }
}

func withDatagramAddress<Result>(
    _ host: String, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    guard host.contains(":") else { return withSocketAddress(host, port, body) }
    var address = sockaddr_in6()
    address.sin6_family = sa_family_t(AF_INET6)
    address.sin6_port = port.bigEndian
    inet_pton(AF_INET6, host, &address.sin6_addr)
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
    }
}
