package import Domain

/// What a client asks for (RFC 1928 section 4).
package struct SOCKS5Request: Sendable, Hashable {
    package enum Command: UInt8, Sendable, Hashable {
        case connect = 1
        case bind = 2
        case udpAssociate = 3
    }

    package let command: Command
    /// DST.ADDR and DST.PORT. A domain name that is an address literal is that address. The port is 0 only
    /// for UDP ASSOCIATE of a client that doesn't know it yet.
    package let target: Target

    package init(command: Command, target: Target) {
        self.command = command
        self.target = target
    }
}

/// A user name and password (RFC 1929 section 2); the password never shows in descriptions.
package struct SOCKS5Credentials: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible {
    package let username: String
    package let password: [UInt8]

    package init(username: String, password: [UInt8]) {
        self.username = username
        self.password = password
    }

    package var description: String { "credentials of \(username)" }
    package var debugDescription: String { description }
}

/// The REP field of a reply (RFC 1928 section 6).
package enum SOCKS5ReplyCode: UInt8, Sendable, Hashable, CaseIterable {
    case succeeded = 0
    case generalFailure = 1
    case notAllowed = 2
    case networkUnreachable = 3
    case hostUnreachable = 4
    case connectionRefused = 5
    /// The RFC's "TTL expired", which clients read as a timeout.
    case timedOut = 6
    case commandNotSupported = 7
    case addressTypeNotSupported = 8
}

extension SOCKS5ReplyCode {
    /// The code for a device's answer (contract section 4).
    package init(_ error: OpenError) {
        self =
            switch error {
            case .dnsFailure, .hostUnreachable: .hostUnreachable
            case .connectionRefused: .connectionRefused
            case .networkUnreachable: .networkUnreachable
            case .timeout: .timedOut
            case .deniedByPolicy: .notAllowed
            case .unsupported: .commandNotSupported
            case .unspecified, .capacity, .internal: .generalFailure
            }
    }
}

/// A reply to a request (RFC 1928 section 6).
package struct SOCKS5Reply: Sendable, Hashable {
    package let code: SOCKS5ReplyCode
    /// BND.ADDR and BND.PORT. All zeros where the address has no meaning to the client, as it is with a
    /// socket that a device opened behind its NAT.
    package let bound: SocketAddress

    package init(
        _ code: SOCKS5ReplyCode, bound: SocketAddress = SocketAddress(ip: .v4(IPv4Address(0)), port: 0)
    ) {
        self.code = code
        self.bound = bound
    }

    package var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(22)
        bytes.append(5)
        bytes.append(code.rawValue)
        bytes.append(0)
        bytes.append(socks5: bound)
        return bytes
    }
}

/// ATYP (RFC 1928 section 5).
enum AddressType: UInt8 {
    case ipv4 = 1
    case domainName = 3
    case ipv6 = 4
}

extension [UInt8] {
    /// Appends ATYP, address and port.
    mutating func append(socks5 address: SocketAddress) {
        switch address.ip {
        case .v4(let ip):
            append(AddressType.ipv4.rawValue)
            append(UInt64(ip.value), byteCount: 4)
        case .v6(let ip):
            append(AddressType.ipv6.rawValue)
            append(ip.high, byteCount: 8)
            append(ip.low, byteCount: 8)
        }
        append(UInt64(address.port), byteCount: 2)
    }

    private mutating func append(_ value: UInt64, byteCount: Int) {
        for index in stride(from: byteCount - 1, through: 0, by: -1) {
            append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index)))
        }
    }
}

extension Target.Host {
    /// The host that an address field of `type` names; nil for a name that is none. A name that is an address
    /// literal is that address.
    init?(_ type: AddressType, _ bytes: ArraySlice<UInt8>) {
        switch type {
        case .ipv4:
            self = .address(.v4(IPv4Address(UInt32(truncatingIfNeeded: Self.number(bytes)))))
        case .ipv6:
            self = .address(
                .v6(IPv6Address(high: Self.number(bytes.prefix(8)), low: Self.number(bytes.suffix(8)))))
        case .domainName:
            guard let name = String(validating: bytes, as: UTF8.self) else { return nil }
            if let address = IPAddress(name) {
                self = .address(address)
            } else if Target.isHostName(name) {
                self = .name(name)
            } else {
                return nil
            }
        }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }
}
