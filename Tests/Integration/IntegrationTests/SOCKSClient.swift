import Foundation

/// The client side of a SOCKS5 CONNECT without authentication (RFC 1928), as plain as it gets.
enum SOCKSClient {
    struct Refused: Error, Equatable {
        let reply: UInt8
    }

    /// Connects through the ingress to `port` of 127.0.0.1 at the device.
    static func connect(
        _ ingress: UInt16, to port: UInt16, host: String = "127.0.0.1", from source: String? = nil
    ) throws -> TestSocket {
        let socket = try TestSocket(port: ingress, from: source)
        try socket.write([5, 1, 0])
        guard try socket.read(exactly: 2) == [5, 0] else { throw Refused(reply: 0xff) }
        let name = Array(host.utf8)
        try socket.write(
            [5, 1, 0, 3, UInt8(name.count)] + name + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)])
        let reply = try socket.read(exactly: 10)
        guard reply.count == 10, reply[0] == 5 else { throw Refused(reply: 0xfe) }
        guard reply[1] == 0 else { throw Refused(reply: reply[1]) }
        return socket
    }
}
