/// Where a client wants to go: a host name or address literal, and a port.
package struct Target: Sendable, Hashable, ASCIIText {
    package enum Host: Sendable, Hashable {
        case name(String)
        case address(IPAddress)
    }

    package let host: Host
    package let port: UInt16

    package init(host: Host, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Parses `host:port` and `[v6]:port`; nil for anything else, a port of 0 included.
    package init?(_ text: String) {
        guard let (host, port) = splitHostPort(text), port > 0 else { return nil }
        if let address = IPAddress(host) {
            // A bare v6 literal has colons of its own, so it must stand in brackets.
            let hasBrackets = text.utf8.first == UInt8(ascii: "[")
            if case .v6 = address, !hasBrackets { return nil }
            if case .v4 = address, hasBrackets { return nil }
            self.init(host: .address(address), port: port)
        } else {
            guard text.utf8.first != UInt8(ascii: "["), Target.isHostName(host) else { return nil }
            self.init(host: .name(host), port: port)
        }
    }

    /// Whether `text` can stand as a host name: 1 to 255 visible ASCII characters that are no delimiters.
    ///
    /// Looser than RFC 1123 on purpose: names with `_` resolve, and the device's resolver is the judge.
    package static func isHostName(_ text: String) -> Bool {
        let bytes = text.utf8
        guard !bytes.isEmpty, bytes.count <= 255 else { return false }
        return bytes.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
            case UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"): true
            default: false
            }
        }
    }

    package func append(to bytes: inout [UInt8]) {
        switch host {
        case .name(let name):
            bytes.append(contentsOf: name.utf8)
            bytes.append(UInt8(ascii: ":"))
            bytes.append(digitsOf: UInt64(port))
        case .address(let ip):
            SocketAddress(ip: ip, port: port).append(to: &bytes)
        }
    }
}

/// Splits `host:port` or `[host]:port`; the host is not checked beyond not being empty.
package func splitHostPort(_ text: String) -> (host: String, port: UInt16)? {
    let bytes = text.utf8
    let host: Substring.UTF8View
    let digits: Substring.UTF8View
    if bytes.first == UInt8(ascii: "[") {
        guard let close = bytes.firstIndex(of: UInt8(ascii: "]")) else { return nil }
        host = bytes[bytes.index(after: bytes.startIndex)..<close]
        let rest = bytes[bytes.index(after: close)...]
        guard rest.first == UInt8(ascii: ":") else { return nil }
        digits = rest.dropFirst()
    } else {
        guard let colon = bytes.lastIndex(of: UInt8(ascii: ":")) else { return nil }
        host = bytes[..<colon]
        digits = bytes[bytes.index(after: colon)...]
    }
    guard !host.isEmpty, (1...5).contains(digits.count) else { return nil }
    var number: UInt32 = 0
    for digit in digits {
        guard (0x30...0x39).contains(digit) else { return nil }
        number = number * 10 + UInt32(digit - 0x30)
    }
    guard let port = UInt16(exactly: number) else { return nil }
    return (String(Substring(host)), port)
}
