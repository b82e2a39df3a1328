internal import Domain
internal import EventLoop
internal import Glibc

/// A TCP socket whose calls wait, at most 30 s each; for threads that have nothing else to do.
final class WaitingSocket: @unchecked Sendable {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let descriptor: Int32
    static let patience = Duration.seconds(30)

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        Sockets.close(descriptor)
    }

    convenience init(connectingTo address: SocketAddress) throws {
        let (descriptor, inProgress) = try Sockets.connect(address)
        self.init(descriptor)
        if inProgress { try wait(Int16(POLLOUT)) }
        if let error = Sockets.pendingError(descriptor, "connect") { throw error }
    }

    /// Connects through a SOCKS5 ingress without authentication.
    convenience init(through ingress: SocketAddress, to target: SocketAddress) throws {
        try self.init(connectingTo: ingress)
        _ = try request(1, target)
    }

    /// The address in the answer to a SOCKS5 request.
    func request(_ command: UInt8, _ target: SocketAddress) throws -> SocketAddress {
        let request = try Self.requestBytes(command, target)
        try write(Self.greeting)
        guard try read(exactly: Self.method.count) == Self.method else {
            throw Failure(description: "the ingress wants a login")
        }
        try write(request)
        let reply = try read(exactly: Self.replyBytes)
        guard reply[1] == 0 else { throw Failure(description: "the ingress answers \(reply[1])") }
        let bound = reply[4..<8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        return SocketAddress(ip: .v4(IPv4Address(bound)), port: UInt16(reply[8]) << 8 | UInt16(reply[9]))
    }

    /// What a SOCKS5 client without a login says first, the answer that suits it, and the bytes of a reply.
    static let greeting: [UInt8] = [5, 1, 0]
    static let method: [UInt8] = [5, 0]
    static let replyBytes = 10

    static func requestBytes(_ command: UInt8, _ target: SocketAddress) throws -> [UInt8] {
        guard case .v4(let ip) = target.ip else { throw Failure(description: "the bench speaks IPv4 only") }
        let address = (0..<4).map { UInt8(truncatingIfNeeded: ip.value >> UInt32(24 - 8 * $0)) }
        return [5, command, 0, 1] + address
            + [UInt8(target.port >> 8), UInt8(truncatingIfNeeded: target.port)]
    }

    func write(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Sockets.send(descriptor, UnsafeRawBufferPointer(rebasing: $0[sent...]))
            }
            if count == -Int(Errno.again) {
                try wait(Int16(POLLOUT))
            } else {
                sent += try check(count, "send")
            }
        }
    }

    /// Fills as much of `buffer` as has come; 0 at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            let count = Sockets.read(descriptor, buffer)
            if count != -Int(Errno.again) { return try check(count, "read") }
            try wait(Int16(POLLIN))
        }
    }

    func read(exactly count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let more = try bytes.withUnsafeMutableBytes {
                try read(into: UnsafeMutableRawBufferPointer(rebasing: $0[filled...]))
            }
            guard more > 0 else { throw Failure(description: "the connection ended early") }
            filled += more
        }
        return bytes
    }

    func finishWriting() { Sockets.shutdownWrite(descriptor) }

    func wait(_ events: Int16) throws {
        try Self.wait(descriptor, events)
    }

    static func wait(_ descriptor: Int32, _ events: Int16) throws {
        var entry = pollfd(fd: descriptor, events: events, revents: 0)
        guard poll(&entry, 1, Int32(patience.milliseconds)) > 0 else {
            throw Failure(description: "nothing for 30 s")
        }
    }

    private func check(_ count: Int, _ call: String) throws -> Int {
        guard count >= 0 else { throw SystemError(call: call, errorNumber: Int32(-count)) }
        return count
    }
}
