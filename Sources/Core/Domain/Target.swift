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
            if case .v6 = address, !text.hasPrefix("[") { return nil }
            if case .v4 = address, text.hasPrefix("[") { return nil }
            self.init(host: .address(address), port: port)
        } else {
            guard !text.hasPrefix("["), Target.isHostName(host) else { return nil }
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
    let host: Substring
    let portText: Substring
    if text.hasPrefix("[") {
        guard let close = text.firstIndex(of: "]") else { return nil }
        host = text[text.index(after: text.startIndex)..<close]
        let rest = text[text.index(after: close)...]
        guard rest.hasPrefix(":") else { return nil }
        portText = rest.dropFirst()
    } else {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        host = text[..<colon]
        portText = text[text.index(after: colon)...]
    }
    guard !host.isEmpty, !portText.isEmpty, portText.utf8.count <= 5,
        portText.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(portText)
    else { return nil }
    return (String(host), port)
}
