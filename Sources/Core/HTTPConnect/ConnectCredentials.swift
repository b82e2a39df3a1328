internal import Domain
package import HTTP1

/// A user name and password of `Proxy-Authorization: Basic` (RFC 7617); the password never shows in
/// descriptions.
package struct ConnectCredentials: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible {
    /// Empty for credentials that can't be read, which are nobody's.
    package let username: String
    package let password: [UInt8]
    /// False: another scheme, no base64, no colon, or a user name that is no text.
    package let isReadable: Bool

    package init(username: String, password: [UInt8]) {
        self.init(username: username, password: password, isReadable: true)
    }

    private init(username: String, password: [UInt8], isReadable: Bool) {
        self.username = username
        self.password = password
        self.isReadable = isReadable
    }

    /// Nil when the head has none.
    package init?(_ fields: HTTPFields) {
        guard let value = fields.octets(of: "proxy-authorization") else { return nil }
        guard let parsed = Self.parse(value) else {
            self.init(username: "", password: [], isReadable: false)
            return
        }
        self.init(username: parsed.username, password: parsed.password)
    }

    private static let scheme = Array("basic".utf8)

    private static func parse(_ value: ArraySlice<UInt8>) -> (username: String, password: [UInt8])? {
        let name = value.prefix(scheme.count)
        guard name.map({ $0 | 0x20 }) == scheme else { return nil }
        let rest = value.dropFirst(scheme.count)
        let token = rest.drop { $0 == UInt8(ascii: " ") }
        guard token.count < rest.count,
            let bytes = Base64.decode(String(decoding: token, as: UTF8.self)),
            let colon = bytes.firstIndex(of: UInt8(ascii: ":")),
            let username = String(validating: bytes[..<colon], as: UTF8.self)
        else { return nil }
        // A control character would let a client forge lines wherever its name is shown.
        guard username.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f }) else { return nil }
        return (username, Array(bytes[(colon + 1)...]))
    }

    package var description: String { "credentials of \(username)" }
    package var debugDescription: String { description }
}
