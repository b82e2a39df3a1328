package import Domain

/// The header of a datagram between client and ingress (RFC 1928 section 7):
///
///     RSV (2)  FRAG (1)  ATYP (1)  DST.ADDR  DST.PORT (2)  DATA
///
/// From the client it names the target, to the client it names the sender.
package struct SOCKS5DatagramHeader: Sendable, Hashable {
    package let target: Target
    /// How many bytes it takes; the payload follows.
    package let byteCount: Int

    /// Reads the header that `datagram` begins with.
    package init(_ datagram: Span<UInt8>) throws(SOCKS5DatagramFault) {
        guard datagram.count >= 4 else { throw .malformed }
        // RSV is reserved: what it holds is of no matter. Fragments are optional, and refused by nearly everyone.
        guard datagram[2] == 0 else { throw .fragment }
        guard let type = AddressType(rawValue: datagram[3]) else { throw .malformed }
        var start = 4
        let length: Int
        switch type {
        case .ipv4: length = 4
        case .ipv6: length = 16
        case .domainName:
            guard datagram.count > 4 else { throw .malformed }
            length = Int(datagram[4])
            start = 5
        }
        let end = start + length
        guard datagram.count >= end + 2 else { throw .malformed }
        let port = UInt16(datagram[end]) << 8 | UInt16(datagram[end + 1])
        var address: [UInt8] = []
        address.reserveCapacity(length)
        for index in start..<end { address.append(datagram[index]) }
        guard port > 0, let host = Target.Host(type, address[...]) else { throw .malformed }
        target = Target(host: host, port: port)
        byteCount = end + 2
    }

    /// The header of what `sender` has sent, for the client.
    package static func encode(_ sender: SocketAddress) -> [UInt8] {
        var bytes: [UInt8] = [0, 0, 0]
        bytes.append(socks5: sender)
        return bytes
    }
}

/// Why a client's datagram is dropped.
package enum SOCKS5DatagramFault: Error, Sendable, Hashable {
    /// FRAG is not 0.
    case fragment
    /// Too short for its header, an unknown address type, or a target that can't be one.
    case malformed
}
