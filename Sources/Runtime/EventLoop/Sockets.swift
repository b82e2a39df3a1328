package import CLinux
package import Domain

extension cl_address {
    package init(_ address: SocketAddress) {
        self.init()
        port = address.port
        withUnsafeMutableBytes(of: &ip) { target in
            switch address.ip {
            case .v4(let v4):
                target.storeBytes(of: v4.value.bigEndian, as: UInt32.self)
            case .v6(let v6):
                target.storeBytes(of: v6.high.bigEndian, as: UInt64.self)
                target.storeBytes(of: v6.low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
        }
        family = if case .v4 = address.ip { 4 } else { 6 }
    }

    /// Nil for an address of another family (e.g. a Unix socket's).
    package var socketAddress: SocketAddress? {
        withUnsafeBytes(of: ip) { source in
            switch family {
            case 4:
                let value = UInt32(bigEndian: source.loadUnaligned(as: UInt32.self))
                return SocketAddress(ip: .v4(IPv4Address(value)), port: port)
            case 6:
                let high = UInt64(bigEndian: source.loadUnaligned(as: UInt64.self))
                let low = UInt64(bigEndian: source.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                return SocketAddress(ip: .v6(IPv6Address(high: high, low: low)), port: port)
            default:
                return nil
            }
        }
    }
}

/// Calls on socket descriptors.
package enum Sockets {
    /// A non-blocking TCP listener.
    package static func listen(
        _ address: SocketAddress, backlog: Int32 = 4_096, reusePort: Bool = false
    ) throws(SystemError) -> Int32 {
        var system = cl_address(address)
        return try check(cl_tcp_listen(&system, backlog, reusePort), "listen on \(address)")
    }

    /// The next waiting connection with its peer; nil when none waits.
    package static func accept(_ listener: Int32) throws(SystemError) -> (Int32, SocketAddress)? {
        while true {
            var peer = cl_address()
            let result = cl_tcp_accept(listener, &peer)
            if result >= 0 {
                let unknown = SocketAddress(ip: .v4(IPv4Address(0)), port: 0)
                return (result, peer.socketAddress ?? unknown)
            }
            switch -result {
            case Errno.again: return nil
            // The connection died in the queue: the next one may be alive.
            case Errno.connectionAborted, Errno.interrupted, Errno.protocolError: continue
            default: throw SystemError(call: "accept", errorNumber: -result)
            }
        }
    }

    /// Starts a connection; it is complete at once or when the socket turns writable.
    package static func connect(
        _ address: SocketAddress
    ) throws(SystemError) -> (descriptor: Int32, inProgress: Bool) {
        var system = cl_address(address)
        var inProgress = false
        let descriptor = try check(cl_tcp_connect(&system, &inProgress), "connect to \(address)")
        return (descriptor, inProgress)
    }

    /// A UDP socket for datagrams that are passed on, bound to `address`.
    package static func bindDatagrams(_ address: SocketAddress) throws(SystemError) -> Int32 {
        var system = cl_address(address)
        return try check(cl_udp_relay_socket(&system, false), "bind \(address)/udp")
    }

    /// A UDP socket for datagrams that are passed on to and from `address` alone.
    package static func connectDatagrams(_ address: SocketAddress) throws(SystemError) -> Int32 {
        var system = cl_address(address)
        return try check(cl_udp_relay_socket(&system, true), "connect to \(address)/udp")
    }

    /// The pending error of a socket; nil when there is none.
    package static func pendingError(_ descriptor: Int32, _ call: String) -> SystemError? {
        let number = cl_socket_error(descriptor)
        return number == 0 ? nil : SystemError(call: call, errorNumber: number)
    }

    /// Datagrams, or aggregates of them, that were dropped because the socket's receive buffer was full.
    package static func drops(_ descriptor: Int32) -> UInt32 { cl_socket_drops(descriptor) }

    package static func localAddress(_ descriptor: Int32) -> SocketAddress? {
        var address = cl_address()
        return cl_local_address(descriptor, &address) < 0 ? nil : address.socketAddress
    }

    package static func peerAddress(_ descriptor: Int32) -> SocketAddress? {
        var address = cl_address()
        return cl_peer_address(descriptor, &address) < 0 ? nil : address.socketAddress
    }

    package static func close(_ descriptor: Int32) {
        _ = cl_close(descriptor)
    }

    /// Closes with RST, so that the peer sees that the transfer was cut.
    package static func closeWithReset(_ descriptor: Int32) {
        _ = cl_close_with_reset(descriptor)
    }

    /// Has a peer that is silent for a minute asked whether it is still there: the connection of one that is not
    /// ends within two.
    package static func keepAlive(_ descriptor: Int32) {
        cl_keep_alive(descriptor, 60, 15)
    }

    /// Sends FIN; reading goes on.
    package static func shutdownWrite(_ descriptor: Int32) {
        _ = cl_shutdown_write(descriptor)
    }

    /// Reads into two pieces of memory, one after the other.
    ///
    /// - Returns: bytes read, 0 at the end of the stream, or `-errno`.
    package static func read(
        _ descriptor: Int32, _ first: UnsafeMutableRawBufferPointer, _ second: UnsafeMutableRawBufferPointer
    ) -> Int {
        cl_read2(descriptor, first.baseAddress, first.count, second.baseAddress, second.count)
    }

    /// Reads into `bytes`: bytes read, 0 at the end of the stream, or `-errno`.
    package static func read(_ descriptor: Int32, _ bytes: UnsafeMutableRawBufferPointer) -> Int {
        cl_read(descriptor, bytes.baseAddress, bytes.count)
    }

    /// Sends `bytes`: bytes taken, or `-errno`.
    package static func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
        cl_send(descriptor, bytes.baseAddress, bytes.count)
    }

    /// A pair of connected, non-blocking stream sockets.
    package static func pair() throws(SystemError) -> (Int32, Int32) {
        var descriptors: [Int32] = [0, 0]
        _ = try check(cl_socket_pair(&descriptors), "socketpair")
        return (descriptors[0], descriptors[1])
    }
}

/// The errno values that code decides on.
package enum Errno {
    package static let interrupted: Int32 = 4
    package static let inputOutput: Int32 = 5
    package static let again: Int32 = 11
    package static let outOfMemory: Int32 = 12
    package static let invalidArgument: Int32 = 22
    package static let tooManyFilesInSystem: Int32 = 23
    package static let tooManyFiles: Int32 = 24
    package static let noSpace: Int32 = 28
    package static let brokenPipe: Int32 = 32
    package static let protocolError: Int32 = 71
    package static let messageTooLong: Int32 = 90
    package static let addressInUse: Int32 = 98
    package static let addressNotAvailable: Int32 = 99
    package static let networkUnreachable: Int32 = 101
    package static let connectionAborted: Int32 = 103
    package static let connectionReset: Int32 = 104
    package static let noBufferSpace: Int32 = 105
    package static let timedOut: Int32 = 110
    package static let connectionRefused: Int32 = 111
    package static let hostUnreachable: Int32 = 113
}
