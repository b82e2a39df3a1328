internal import COpenSSL
package import Domain
internal import EventLoop

/// Makes certificates that sign themselves: for `--dev`, for QUIC when TLS is off, and for tests.
package enum SelfSignedCertificate {
    /// Ten years: nobody renews these, and clients pin them.
    package static let validity = Duration.seconds(3_650 * 86_400)
    /// Before now, for peers whose clocks are behind.
    private static let backdating = Duration.seconds(86_400)

    /// A fresh P-256 key and a certificate for `hosts`, each a name or an IP literal; the first one is also
    /// the common name. Valid for servers and clients.
    ///
    /// - Parameter begins: the start of its validity; nil for a day ago.
    /// - Throws: ``TLSError`` with reason `configuration` when there is no host or one is neither.
    package static func make(
        hosts: [String], validFor validity: Duration = validity, from begins: WallTime? = nil
    ) throws(TLSError) -> TLSIdentity {
        var names: [String] = []
        for host in hosts {
            if let address = IPAddress(host) {
                names.append("IP:\(address)")
            } else if Target.isHostName(host.hasPrefix("*.") ? String(host.dropFirst(2)) : host) {
                names.append("DNS:\(host)")
            } else {
                throw TLSError(.configuration, during: "make a certificate", stack: ["not a host: \(host)"])
            }
        }
        guard let first = hosts.first else {
            throw TLSError(.configuration, during: "make a certificate", stack: ["no host"])
        }
        // A common name has at most 64 characters (RFC 5280 appendix A.1); only the SANs are looked at.
        let commonName = first.utf8.count <= 64 ? first : "pop-node"
        let start =
            (begins?.milliseconds).map { $0 / 1_000 }
            ?? SystemClock.wall.milliseconds / 1_000 - backdating.milliseconds / 1_000
        return try make(
            commonName, names.joined(separator: ","), start, start + validity.milliseconds / 1_000)
    }

    private static func make(
        _ commonName: String, _ names: String, _ begins: Int64, _ ends: Int64
    ) throws(TLSError) -> TLSIdentity {
        var certificate = [UInt8](repeating: 0, count: 65_536)
        var key = [UInt8](repeating: 0, count: 4_096)
        var certificateCount = certificate.count
        var keyCount = key.count
        let result = certificate.withUnsafeMutableBytes { certificateBytes in
            key.withUnsafeMutableBytes { keyBytes in
                co_self_signed(
                    commonName, names, begins, ends, certificateBytes.baseAddress, &certificateCount,
                    keyBytes.baseAddress, &keyCount)
            }
        }
        guard result == 1 else { throw .takingStack(.configuration, during: "make a certificate") }
        return TLSIdentity(
            certificateChainPEM: Array(certificate[..<certificateCount]),
            privateKeyPEM: Array(key[..<keyCount]))
    }
}
