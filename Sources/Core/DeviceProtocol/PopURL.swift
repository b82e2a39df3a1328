package import Domain

/// Where a POP's control plane is: `wss://host[:port]`, or `ws://` for tests.
package struct PopURL: Sendable, Hashable, CustomStringConvertible {
    package let isSecure: Bool
    /// A host name or an address literal, without brackets.
    package let host: Target.Host
    package let port: UInt16

    package init(isSecure: Bool, host: Target.Host, port: UInt16) {
        self.isSecure = isSecure
        self.host = host
        self.port = port
    }

    /// Parses `wss://host[:port]` and `ws://host[:port]`; a path may only be `/` or `/v1/control`.
    ///
    /// The port defaults to 443, for `ws` to 80. User information, queries and fragments have no meaning here
    /// and are refused.
    package init?(_ text: String) {
        guard let (isSecure, rest) = Self.withoutScheme(text) else { return nil }
        var authority = rest
        if let slash = rest.firstIndex(of: "/") {
            guard ["/", "/v1/control"].contains(rest[slash...]) else { return nil }
            authority = rest[..<slash]
        }
        let hasPort =
            authority.hasPrefix("[") ? authority.contains("]:") : authority.contains(":")
        let complete = hasPort ? String(authority) : "\(authority):\(isSecure ? 443 : 80)"
        guard let target = Target(complete) else { return nil }
        self.init(isSecure: isSecure, host: target.host, port: target.port)
    }

    private static func withoutScheme(_ text: String) -> (isSecure: Bool, rest: Substring)? {
        // RFC 3986 section 3.1: schemes are case-insensitive.
        for (scheme, isSecure) in [("wss://", true), ("ws://", false)] {
            if text.prefix(scheme.count).lowercased() == scheme {
                return (isSecure, text.dropFirst(scheme.count))
            }
        }
        return nil
    }

    /// The host as it stands in a URL and before a port, a v6 literal in brackets.
    package var authority: String { Target(host: host, port: port).description }

    /// The host name or literal as a certificate names it.
    package var hostName: String {
        switch host {
        case .name(let name): name
        case .address(let address): address.description
        }
    }

    package var description: String { (isSecure ? "wss://" : "ws://") + authority }
}
