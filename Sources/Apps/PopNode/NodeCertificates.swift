internal import TLS

/// One reading of all certificate files, which are usable together: what can't be used makes no such value.
struct NodeCertificates {
    /// ALPN of both listeners: a client that wants only something else is refused by the handshake.
    private static let protocols = ["http/1.1"]

    /// Of the devices' listeners; QUIC shows it also where WSS has no TLS (contract section 1).
    let device: TLSIdentity
    /// SHA-256 of the DER of its leaf, which devices may pin.
    let deviceSHA256: [UInt8]
    /// Nil where WSS is plain.
    let deviceContext: TLSContext?
    /// Nil where the admin API is plain.
    let adminContext: TLSContext?

    /// - Throws: what is wrong with a file.
    init(_ configuration: NodeConfiguration, _ files: NodeFiles) throws {
        let hosts =
            ([configuration.node.advertiseHost].compactMap { $0 }) + ["localhost", "127.0.0.1", "::1"]
        device = try Self.identity(configuration.device.tls, files, hosts)
        deviceSHA256 = try X509Certificate(pem: device.certificateChainPEM).sha256
        // A pair that doesn't fit together is found here, also where only QUIC shows it.
        let context = try Self.context(configuration.device.tls, device)
        deviceContext = configuration.device.tls.isEnabled ? context : nil
        let admin = configuration.admin.tls
        adminContext =
            admin.isEnabled ? try Self.context(admin, try Self.identity(admin, files, hosts)) : nil
    }

    private static func identity(
        _ tls: TLSConfiguration, _ files: NodeFiles, _ hosts: [String]
    ) throws -> TLSIdentity {
        guard tls.isEnabled, let certificate = tls.certificateFile, let key = tls.keyFile else {
            return try files.selfSignedIdentity(hosts: hosts)
        }
        return try TLSIdentity(certificateFile: certificate, keyFile: key)
    }

    private static func context(_ tls: TLSConfiguration, _ identity: TLSIdentity) throws -> TLSContext {
        let authorities = tls.isEnabled ? try tls.clientCAFile.map { try PEMFile.read($0) } : nil
        return try TLSContext.server(
            identity: identity, clientAuthoritiesPEM: authorities, applicationProtocols: protocols)
    }
}
