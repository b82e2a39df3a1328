package import Domain

/// A target, or many: `CIDR`, `host[:port]` or `ip[:port]`, a v6 address with a port in brackets.
package struct TargetRule: Sendable, Hashable, CustomStringConvertible {
    private enum Subject: Sendable, Hashable {
        case network(IPNetwork)
        /// In lower case, without the dot of a fully qualified name.
        case name(String)
    }

    private let subject: Subject
    /// Nil for every port.
    private let port: UInt16?
    package let description: String

    /// Nil for what is none of the three forms.
    package init?(_ text: String) {
        description = text
        if let network = IPNetwork(text) {
            subject = .network(network)
            port = nil
        } else if let target = Target(text) {
            switch target.host {
            case .address(let address):
                guard let network = IPNetwork(address.description) else { return nil }
                subject = .network(network)
            case .name(let name):
                subject = .name(Self.canonical(name))
            }
            port = target.port
        } else if Target.isHostName(text), !Self.looksLikeAddress(text) {
            subject = .name(Self.canonical(text))
            port = nil
        } else {
            return nil
        }
    }

    /// A wrong address must not become the name of a host that doesn't exist, and so a rule without effect.
    private static func looksLikeAddress(_ text: String) -> Bool {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") }
    }

    fileprivate static func canonical(_ name: String) -> String {
        let lower = name.lowercased()
        return lower.hasSuffix(".") ? String(lower.dropLast()) : lower
    }

    func covers(name: String, port: UInt16) -> Bool {
        guard case .name(let ours) = subject else { return false }
        return ours == Self.canonical(name) && (self.port ?? port) == port
    }

    func covers(address: IPAddress, port: UInt16) -> Bool {
        guard case .network(let network) = subject, (self.port ?? port) == port else { return false }
        return network.contains(address) || network.contains(address.unmapped)
    }
}

/// Which targets a device dials, decided on the resolved address it is about to dial (contract section 1).
///
/// A denied target is refused always. Otherwise a public address is dialled, and a private one (loopback,
/// link-local, private, CGNAT, multicast, unspecified; v4, v6 and v4 inside v6) only if it is allowed by its
/// address or by the name it was reached by.
package struct TargetPolicy: Sendable, Hashable {
    package let allowed: [TargetRule]
    package let denied: [TargetRule]

    package init(allowed: [TargetRule] = [], denied: [TargetRule] = []) {
        self.allowed = allowed
        self.denied = denied
    }

    /// Whether a name is refused whatever it resolves to, so that it isn't even looked up.
    package func refuses(name: String, port: UInt16) -> Bool {
        denied.contains { $0.covers(name: name, port: port) }
    }

    /// - Parameter name: what was asked for, when that was not an address.
    package func permits(_ address: IPAddress, port: UInt16, name: String?) -> Bool {
        if let name, refuses(name: name, port: port) { return false }
        if denied.contains(where: { $0.covers(address: address, port: port) }) { return false }
        guard address.isPrivate else { return true }
        if allowed.contains(where: { $0.covers(address: address, port: port) }) { return true }
        guard let name else { return false }
        return allowed.contains { $0.covers(name: name, port: port) }
    }
}
