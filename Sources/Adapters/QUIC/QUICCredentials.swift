internal import CQUIC

/// A server's certificate chain and key. An endpoint can be given new ones at any time; handshakes that have
/// begun keep theirs.
package final class QUICServerCredentials {
    let library: OpaquePointer

    /// - Parameters:
    ///   - certificatePEM: the chain, leaf first.
    ///   - keyPEM: the leaf's private key.
    package init(certificatePEM: [UInt8], keyPEM: [UInt8]) throws(QUICError) {
        library = try loadCredentials { error, capacity in
            cq_server_credentials_new(
                certificatePEM, certificatePEM.count, keyPEM, keyPEM.count, error, capacity)
        }
    }

    deinit {
        cq_credentials_free(library)
    }

    /// SHA-256 of the leaf's DER in a PEM chain: what a pinning peer compares. Nil when there is none.
    package static func pin(certificatePEM: [UInt8]) -> [UInt8]? {
        var digest = [UInt8](repeating: 0, count: 32)
        return cq_certificate_sha256(certificatePEM, certificatePEM.count, &digest) ? digest : nil
    }
}

/// The authorities that a client trusts. Loading the system's takes milliseconds: make it once.
package final class QUICTrust {
    package enum Authorities {
        /// None: only a pin, or no verification at all, lets a peer pass.
        case none
        case system
        case pem([UInt8])
    }

    let library: OpaquePointer

    package init(_ authorities: Authorities) throws(QUICError) {
        library = try loadCredentials { error, capacity in
            switch authorities {
            case .none:
                cq_client_credentials_new(Int32(CQ_TRUST_NONE), nil, 0, error, capacity)
            case .system:
                cq_client_credentials_new(Int32(CQ_TRUST_SYSTEM), nil, 0, error, capacity)
            case .pem(let bytes):
                cq_client_credentials_new(Int32(CQ_TRUST_PEM), bytes, bytes.count, error, capacity)
            }
        }
    }

    deinit {
        cq_credentials_free(library)
    }
}

private func loadCredentials(
    _ load: (UnsafeMutablePointer<CChar>?, Int) -> OpaquePointer?
) throws(QUICError) -> OpaquePointer {
    var text = [CChar](repeating: 0, count: 256)
    if let credentials = text.withUnsafeMutableBufferPointer({ load($0.baseAddress, $0.count) }) {
        return credentials
    }
    let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    throw .credentials(String(decoding: bytes, as: UTF8.self))
}

/// What a client accepts as its peer: a certificate that verifies for `hostName` against `trust`, or one
/// whose leaf has the pinned digest.
package struct QUICPeerVerification {
    package var trust: QUICTrust
    /// A DNS name or an address literal; sent as the server name when it is a DNS name.
    package var hostName: String?
    /// SHA-256 of the leaf's DER; 32 bytes.
    package var pinnedSHA256: [UInt8]?
    /// Accepts any certificate.
    package var skip: Bool

    package init(
        trust: QUICTrust, hostName: String?, pinnedSHA256: [UInt8]? = nil, skip: Bool = false
    ) {
        self.trust = trust
        self.hostName = hostName
        self.pinnedSHA256 = pinnedSHA256
        self.skip = skip
    }
}
