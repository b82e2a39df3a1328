/// Why a SOCKS5 handshake ended without a request; always the client's doing.
package enum SOCKS5Error: Error, Sendable, Hashable {
    /// The first byte is no SOCKS5 version: another protocol, or none.
    case notSOCKS5(UInt8)
    /// The client offered no method that this ingress accepts (RFC 1928 section 3).
    case noAcceptableMethod
    /// The sub-negotiation's version is not 1 (RFC 1929 section 2).
    case authenticationVersion(UInt8)
    /// The user name is not text, or it and the password were refused.
    case authenticationFailed
    /// The request's version is not 5 (RFC 1928 section 4).
    case requestVersion(UInt8)
    case unsupportedCommand(UInt8)
    case unsupportedAddressType(UInt8)
    /// The domain name is empty or holds what no host name can.
    case invalidHostName
    /// CONNECT and BIND need a port other than 0.
    case invalidPort
    /// The client sent more than ``SOCKS5Limits/bufferedBytes`` ahead of our answers.
    case tooMuchAhead
}

package enum SOCKS5Limits {
    /// What is kept of bytes sent ahead: two reads of a stream, since the shell stops reading after one.
    /// A whole handshake takes at most 1,032 bytes.
    package static let bufferedBytes = 128 * 1_024
}
