internal import Domain

/// Where the admin API is: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
package struct ServerAddress: Sendable, Hashable {
    package let isSecure: Bool
    /// A name or an address, without brackets.
    package let host: String
    package let port: UInt16

    /// Nil for another scheme, user information, a path or a query.
    package init?(_ text: String) {
        let rest: Substring
        if text.hasPrefix("http://") {
            isSecure = false
            rest = text.dropFirst("http://".count)
        } else if text.hasPrefix("https://") {
            isSecure = true
            rest = text.dropFirst("https://".count)
        } else {
            return nil
        }
        let authority = String(rest.hasSuffix("/") ? rest.dropLast() : rest)
        if let (host, port) = splitHostPort(authority) {
            self.host = host
            self.port = port
        } else {
            let isBracketed = authority.hasPrefix("[") && authority.hasSuffix("]")
            host = isBracketed ? String(authority.dropFirst().dropLast()) : authority
            port = isSecure ? 443 : 80
        }
        guard port != 0, IPAddress(host) != nil || Target.isHostName(host) else { return nil }
    }

    /// The value of Host.
    package var authority: String {
        let isIPv6 = if case .v6? = IPAddress(host) { true } else { false }
        let isDefault = port == (isSecure ? 443 : 80)
        return (isIPv6 ? "[\(host)]" : host) + (isDefault ? "" : ":\(port)")
    }

    package var description: String { "\(isSecure ? "https" : "http")://\(authority)" }
}

/// The pieces of a request target, encoded.
enum RequestPath {
    /// A path of the given segments with the parameters as its query.
    static func make(_ segments: [String], _ query: [(name: String, value: String)] = []) -> String {
        let path = segments.map { "/" + encode($0) }.joined()
        guard !query.isEmpty else { return path }
        return path + "?" + query.map { encode($0.name) + "=" + encode($0.value) }.joined(separator: "&")
    }

    /// Everything but the unreserved characters of RFC 3986 as `%XX`.
    private static func encode(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e:
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "%" + Hexadecimal.encode([byte]).uppercased()
            }
        }
        return result
    }
}
