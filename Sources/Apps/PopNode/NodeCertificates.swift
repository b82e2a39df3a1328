internal import Domain
internal import EventLoop
internal import TLS

/// The certificates of the devices' listeners and of the admin API, from files or made by the node.
final class NodeCertificates {
    private let configuration: NodeConfiguration
    private let files: NodeFiles
    /// For QUIC, and for WSS where TLS is on.
    private(set) var device: TLSIdentity
    /// Nil where the admin API is plain HTTP.
    private(set) var admin: TLSIdentity?

    init(_ configuration: NodeConfiguration, _ files: NodeFiles) throws {
        self.configuration = configuration
        self.files = files
        device = try Self.deviceIdentity(configuration, files)
        admin = try Self.adminIdentity(configuration, files)
    }

    /// - Throws: what is wrong with a file; nothing has changed then.
    func reload() throws {
        let newDevice = try Self.deviceIdentity(configuration, files)
        let newAdmin = try Self.adminIdentity(configuration, files)
        // A pair that doesn't fit together is found here and not by the first handshake.
        _ = try TLSContext.server(identity: newDevice)
        device = newDevice
        admin = newAdmin
    }

    /// SHA-256 of the DER of the leaf that devices may pin.
    func deviceSHA256() throws -> [UInt8] {
        try X509Certificate(pem: device.certificateChainPEM).sha256
    }

    private static func deviceIdentity(
        _ configuration: NodeConfiguration, _ files: NodeFiles
    ) throws -> TLSIdentity {
        let tls = configuration.device.tls
        if tls.isEnabled, let certificate = tls.certificateFile, let key = tls.keyFile {
            return try TLSIdentity(certificateFile: certificate, keyFile: key)
        }
        // QUIC always carries TLS 1.3 (contract section 1).
        return try files.selfSignedIdentity(hosts: hosts(configuration))
    }

    private static func adminIdentity(
        _ configuration: NodeConfiguration, _ files: NodeFiles
    ) throws -> TLSIdentity? {
        let tls = configuration.admin.tls
        guard tls.isEnabled else { return nil }
        if let certificate = tls.certificateFile, let key = tls.keyFile {
            return try TLSIdentity(certificateFile: certificate, keyFile: key)
        }
        return try files.selfSignedIdentity(hosts: hosts(configuration))
    }

    private static func hosts(_ configuration: NodeConfiguration) -> [String] {
        ([configuration.node.advertiseHost].compactMap { $0 }) + ["localhost", "127.0.0.1", "::1"]
    }
}
