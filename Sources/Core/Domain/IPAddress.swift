/// An IPv4 address as one big-endian number.
package struct IPv4Address: Sendable, Hashable, ASCIIText {
    package var value: UInt32

    package init(_ value: UInt32) {
        self.value = value
    }

    /// Parses four decimal parts without leading zeros.
    package init?(_ text: some StringProtocol) {
        var value: UInt32 = 0
        var dots = 0
        var number: UInt32 = 0
        var digits = 0
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "."):
                guard digits > 0, dots < 3 else { return nil }
                value = value << 8 | number
                dots += 1
                number = 0
                digits = 0
            case 0x30...0x39:
                guard digits == 0 || number > 0 else { return nil }
                number = number * 10 + UInt32(byte - 0x30)
                digits += 1
                guard number <= 255 else { return nil }
            default:
                return nil
            }
        }
        guard dots == 3, digits > 0 else { return nil }
        self.value = value << 8 | number
    }

    package func append(to bytes: inout [UInt8]) {
        bytes.append(addingCapacity: 15) { output in
            for index: UInt32 in 0..<4 {
                let part = UInt8(truncatingIfNeeded: value >> (24 - 8 * index))
                if index > 0 { output.append(UInt8(ascii: ".")) }
                if part >= 100 { output.append(0x30 + part / 100) }
                if part >= 10 { output.append(0x30 + part / 10 % 10) }
                output.append(0x30 + part % 10)
            }
        }
    }
}

/// An IPv6 address as two big-endian halves; no zone.
package struct IPv6Address: Sendable, Hashable, ASCIIText {
    package var high: UInt64
    package var low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Parses the forms of RFC 4291 section 2.2, the embedded IPv4 one included.
    package init?(_ text: some StringProtocol) {
        var groups: [UInt16] = []
        var gap: Int?
        let bytes = Array(text.utf8)
        guard bytes.count >= 2, bytes.count <= 45 else { return nil }
        var index = 0
        if bytes[0] == UInt8(ascii: ":") {
            guard bytes[1] == UInt8(ascii: ":") else { return nil }
            gap = 0
            index = 2
        }
        while index < bytes.count {
            let end = bytes[index...].firstIndex(of: UInt8(ascii: ":")) ?? bytes.count
            let part = bytes[index..<end]
            if end == bytes.count, part.contains(UInt8(ascii: ".")) {
                guard let v4 = IPv4Address(String(decoding: part, as: UTF8.self)) else { return nil }
                groups.append(UInt16(truncatingIfNeeded: v4.value >> 16))
                groups.append(UInt16(truncatingIfNeeded: v4.value))
                index = end
                break
            }
            guard (1...4).contains(part.count) else { return nil }
            var group: UInt16 = 0
            for byte in part {
                guard let nibble = Hexadecimal.value(of: byte) else { return nil }
                group = group << 4 | UInt16(nibble)
            }
            groups.append(group)
            guard groups.count <= 8 else { return nil }
            index = end
            guard index < bytes.count else { break }
            index += 1
            guard index < bytes.count else { return nil }
            if bytes[index] == UInt8(ascii: ":") {
                guard gap == nil else { return nil }
                gap = groups.count
                index += 1
            }
        }
        if let gap {
            guard groups.count < 8 else { return nil }
            groups.insert(contentsOf: Array(repeating: 0, count: 8 - groups.count), at: gap)
        }
        guard groups.count == 8 else { return nil }
        high = groups[..<4].reduce(0) { $0 << 16 | UInt64($1) }
        low = groups[4...].reduce(0) { $0 << 16 | UInt64($1) }
    }

    /// The IPv4 address inside `::ffff:0:0/96`, if this is one.
    package var mappedIPv4: IPv4Address? {
        guard high == 0, low >> 32 == 0xffff else { return nil }
        return IPv4Address(UInt32(truncatingIfNeeded: low))
    }

    private func group(_ index: Int) -> UInt16 {
        let word = index < 4 ? high : low
        return UInt16(truncatingIfNeeded: word >> UInt64(16 * (3 - index % 4)))
    }

    /// Appends the canonical text of RFC 5952.
    package func append(to bytes: inout [UInt8]) {
        if let mapped = mappedIPv4 {
            bytes.append(contentsOf: "::ffff:".utf8)
            return mapped.append(to: &bytes)
        }
        var longest = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, group(end) == 0 { end += 1 }
            if end - start > max(1, longest.count) { longest = start..<end }
            start = max(end, start + 1)
        }
        var index = 0
        while index < 8 {
            if !longest.isEmpty, index == longest.lowerBound {
                bytes.append(contentsOf: "::".utf8)
                index = longest.upperBound
                continue
            }
            if index > 0, longest.isEmpty || index != longest.upperBound { bytes.append(UInt8(ascii: ":")) }
            bytes.append(contentsOf: String(group(index), radix: 16).utf8)
            index += 1
        }
    }
}

/// An IP address of either family.
package enum IPAddress: Sendable, Hashable, ASCIIText {
    case v4(IPv4Address)
    case v6(IPv6Address)

    /// Parses a v4 or v6 literal without brackets or zone.
    package init?(_ text: some StringProtocol) {
        if let address = IPv4Address(text) {
            self = .v4(address)
        } else if let address = IPv6Address(text) {
            self = .v6(address)
        } else {
            return nil
        }
    }

    package func append(to bytes: inout [UInt8]) {
        switch self {
        case .v4(let address): address.append(to: &bytes)
        case .v6(let address): address.append(to: &bytes)
        }
    }

    /// The address a packet would really go to: a v4-mapped v6 address is its v4 address.
    package var unmapped: IPAddress {
        guard case .v6(let address) = self, let mapped = address.mappedIPv4 else { return self }
        return .v4(mapped)
    }

    /// 0.0.0.0 or ::, which a listener binds to for all addresses of the machine.
    package var isUnspecified: Bool {
        switch self {
        case .v4(let address): address.value == 0
        case .v6(let address): address.high == 0 && address.low == 0
        }
    }

    /// Whether the address is one that is not reachable over the public Internet: loopback, link-local,
    /// private, CGNAT, multicast, broadcast, unspecified, "this network", benchmarking and their IPv6
    /// counterparts, whether written as themselves, v4-mapped, NAT64 or 6to4.
    package var isPrivate: Bool {
        switch self {
        case .v4(let address):
            return Self.privateIPv4.contains { $0.contains(.v4(address)) }
        case .v6(let address):
            if let inner = address.embeddedIPv4 { return IPAddress.v4(inner).isPrivate }
            return Self.privateIPv6.contains { $0.contains(.v6(address)) }
        }
    }

    private static let privateIPv4 = networks(
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4")
    private static let privateIPv6 = networks(
        "::/128", "::1/128", "::/96", "64:ff9b:1::/48", "100::/64", "fc00::/7", "fe80::/10", "fec0::/10",
        "ff00::/8")

    private static func networks(_ texts: String...) -> [IPNetwork] {
        texts.compactMap { IPNetwork($0) }
    }
}

extension IPv6Address {
    /// The IPv4 address that a mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056) address leads to.
    var embeddedIPv4: IPv4Address? {
        if let mappedIPv4 { return mappedIPv4 }
        if high == 0x0064_ff9b_0000_0000, low >> 32 == 0 {
            return IPv4Address(UInt32(truncatingIfNeeded: low))
        }
        if high >> 48 == 0x2002 { return IPv4Address(UInt32(truncatingIfNeeded: high >> 16)) }
        return nil
    }
}

/// A block of addresses, `address/prefix`.
package struct IPNetwork: Sendable, Hashable, CustomStringConvertible {
    package let address: IPAddress
    package let prefixLength: Int

    /// Parses `address/prefix`, or an address alone as a block of one; host bits must be zero.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let address = IPAddress(first) else { return nil }
        let width = if case .v4 = address { 32 } else { 128 }
        var prefix = width
        if parts.count == 2 {
            guard (1...3).contains(parts[1].utf8.count),
                parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(parts[1]),
                number <= width
            else { return nil }
            prefix = number
        }
        guard address.masked(prefix) == address else { return nil }
        self.address = address
        self.prefixLength = prefix
    }

    package func contains(_ other: IPAddress) -> Bool {
        other.masked(prefixLength) == address
    }

    package var description: String { "\(address)/\(prefixLength)" }
}

extension IPAddress {
    /// The address with all but its first `prefix` bits cleared.
    func masked(_ prefix: Int) -> IPAddress {
        switch self {
        case .v4(let address):
            return .v4(IPv4Address(prefix == 0 ? 0 : address.value & (.max << UInt32(32 - min(prefix, 32)))))
        case .v6(let address):
            let high: UInt64 = prefix == 0 ? 0 : .max << UInt64(64 - min(prefix, 64))
            let low: UInt64 = prefix <= 64 ? 0 : .max << UInt64(128 - prefix)
            return .v6(IPv6Address(high: address.high & high, low: address.low & low))
        }
    }
}

/// An IP address and a port.
package struct SocketAddress: Sendable, Hashable, ASCIIText {
    package var ip: IPAddress
    package var port: UInt16

    package init(ip: IPAddress, port: UInt16) {
        self.ip = ip
        self.port = port
    }

    /// Parses `v4:port` and `[v6]:port`, port 0 included.
    package init?(_ text: String) {
        guard let (host, port) = splitHostPort(text), let ip = IPAddress(host) else { return nil }
        switch ip {
        case .v4: guard !text.hasPrefix("[") else { return nil }
        case .v6: guard text.hasPrefix("[") else { return nil }
        }
        self.init(ip: ip, port: port)
    }

    package func append(to bytes: inout [UInt8]) {
        switch ip {
        case .v4(let address):
            address.append(to: &bytes)
        case .v6(let address):
            bytes.append(UInt8(ascii: "["))
            address.append(to: &bytes)
            bytes.append(UInt8(ascii: "]"))
        }
        bytes.append(UInt8(ascii: ":"))
        bytes.append(digitsOf: UInt64(port))
    }
}
