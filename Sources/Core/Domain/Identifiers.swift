/// A 16-byte identifier, written as a UUID (RFC 9562).
package protocol UUIDIdentifier: Sendable, Hashable, ASCIIText {
    var high: UInt64 { get }
    var low: UInt64 { get }
    init(high: UInt64, low: UInt64)
}

extension UUIDIdentifier {
    /// A version 4 UUID drawn from `generator`.
    package init(using generator: inout some RandomNumberGenerator) {
        let high = generator.next() & 0xffff_ffff_ffff_0fff | 0x0000_0000_0000_4000
        let low = generator.next() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
        self.init(high: high, low: low)
    }

    /// Half of it tells ids apart as well: of all of them it is the random half.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(low)
    }

    /// Reads 16 bytes, most significant first; nil for any other length.
    package init?(bytes: Span<UInt8>) {
        guard bytes.count == 16 else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for index in 0..<8 { high = high << 8 | UInt64(bytes[index]) }
        for index in 8..<16 { low = low << 8 | UInt64(bytes[index]) }
        self.init(high: high, low: low)
    }

    package init?(bytes: [UInt8]) {
        self.init(bytes: bytes.span)
    }

    /// Parses the canonical 36-character form, either case.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 36 else { return nil }
        var nibbles: [UInt8] = []
        nibbles.reserveCapacity(32)
        for (index, byte) in bytes.enumerated() {
            if index == 8 || index == 13 || index == 18 || index == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let nibble = Hexadecimal.value(of: byte) else { return nil }
            nibbles.append(nibble)
        }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for index in 0..<16 { high = high << 4 | UInt64(nibbles[index]) }
        for index in 16..<32 { low = low << 4 | UInt64(nibbles[index]) }
        self.init(high: high, low: low)
    }

    package var bytes: [UInt8] {
        [UInt8](capacity: 16) { output in
            for index: UInt64 in 0..<16 {
                let word = index < 8 ? high : low
                output.append(UInt8(truncatingIfNeeded: word >> (56 - 8 * (index & 7))))
            }
        }
    }

    /// Appends the canonical form of 36 characters.
    package func append(to bytes: inout [UInt8]) {
        bytes.append(hexadecimalDigits: 8, of: high >> 32)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(hexadecimalDigits: 4, of: high >> 16)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(hexadecimalDigits: 4, of: high)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(hexadecimalDigits: 4, of: low >> 48)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(hexadecimalDigits: 12, of: low)
    }
}

/// One proxied connection, from the client's request to its end.
///
/// Its id tells the node that holds it. It is a UUID of version 8 (RFC 9562 section 5.8):
///
///     digest of the node's id   random    ver random   var random
///     xxxxxxxx              -   xxxx   -  8   xxx   -  [89ab]xxx-xxxxxxxxxxxx
///     32 bits                   16            12              62
package struct ConnID: UUIDIdentifier {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// An id for a conn of `node`: its 90 random bits come from `generator`.
    package init(of node: NodeID, using generator: inout some RandomNumberGenerator) {
        high = UInt64(node.digest) << 32 | generator.next() & 0xffff_0fff | 0x8000
        low = generator.next() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
    }

    /// Whether a node of ours can have made the id.
    package var tellsItsNode: Bool { high >> 12 & 0xf == 8 }

    /// Whether the conn may be one of `node`: certain if not, and wrong for one of 2^32 others if so.
    package func isOf(_ node: NodeID) -> Bool {
        tellsItsNode && high >> 32 == UInt64(node.digest)
    }
}

/// One registration of a device, over all reconnects of its planes.
package struct SessionID: UUIDIdentifier {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// A token of the admin API; not the secret, its name.
package struct TokenID: UUIDIdentifier {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// One line of the audit trail.
package struct AuditID: UUIDIdentifier {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// One drain of a node, from its start to its end.
package struct DrainID: UUIDIdentifier {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// A device's name: 1 to 128 of `A-Z a-z 0-9 . _ : -`.
package struct DeviceID: Sendable, Hashable, Comparable, CustomStringConvertible {
    package let description: String

    package init?(_ text: String) {
        guard isName(text, maximumLength: 128) else { return nil }
        description = text
    }

    package static func < (lhs: DeviceID, rhs: DeviceID) -> Bool {
        lhs.description < rhs.description
    }
}

/// A node's name, under the same rule as a device's.
package struct NodeID: Sendable, Hashable, Comparable, CustomStringConvertible {
    package let description: String
    /// FNV-1a of 64 bits, folded: every node and version makes the same of the same name.
    package let digest: UInt32

    package init?(_ text: String) {
        guard isName(text, maximumLength: 128) else { return nil }
        description = text
        digest = Self.digest(of: text)
    }

    package static func < (lhs: NodeID, rhs: NodeID) -> Bool {
        lhs.description < rhs.description
    }

    private static func digest(of text: String) -> UInt32 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
        }
        return UInt32(truncatingIfNeeded: hash ^ hash >> 32)
    }
}

private func isName(_ text: String, maximumLength: Int) -> Bool {
    let bytes = text.utf8
    guard !bytes.isEmpty, bytes.count <= maximumLength else { return false }
    return bytes.allSatisfy { byte in
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "-"): true
        default: false
        }
    }
}
