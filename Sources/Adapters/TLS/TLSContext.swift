internal import COpenSSL

/// What the sessions of one listener, or one kind of client, have in common: certificate, trust, protocols.
///
/// TLS 1.2 and 1.3. It never changes: to use renewed certificates make a new one, which new connections then
/// take; those that are open live on with theirs.
package final class TLSContext: Sendable {
    // SSL_CTX is counted atomically, and nothing here changes it after `init`.
    nonisolated(unsafe) let pointer: OpaquePointer
    let isServer: Bool
    let verifiesPeer: Bool

    /// Whom a client believes.
    package enum Trust: Sendable {
        /// The certificate authorities of the system.
        case system
        /// The certificates of a PEM text, authorities or single self-signed ones.
        case certificates(pem: [UInt8])
        /// Anybody: the connection is encrypted to an unknown peer.
        case nobodyVerified
    }

    /// - Parameters:
    ///   - clientAuthoritiesPEM: when given, clients must show a certificate that these vouch for (mTLS).
    ///   - applicationProtocols: ALPN names, best first; a client that offers only others is refused.
    /// - Throws: ``TLSError`` with reason `configuration`.
    package static func server(
        identity: TLSIdentity, clientAuthoritiesPEM: [UInt8]? = nil, applicationProtocols: [String] = []
    ) throws(TLSError) -> TLSContext {
        let context = try TLSContext(isServer: true, verifiesPeer: clientAuthoritiesPEM != nil)
        try context.use(identity)
        if let pem = clientAuthoritiesPEM {
            try context.trust(pem, nameToClients: true)
            co_context_verify_peer(context.pointer)
        }
        try context.offer(applicationProtocols)
        return context
    }

    /// - Parameters:
    ///   - identity: the certificate to show to a server that asks for one.
    ///   - applicationProtocols: ALPN names, best first.
    /// - Throws: ``TLSError`` with reason `configuration`.
    package static func client(
        trust: Trust = .system, identity: TLSIdentity? = nil, applicationProtocols: [String] = []
    ) throws(TLSError) -> TLSContext {
        var verifies = true
        if case .nobodyVerified = trust { verifies = false }
        let context = try TLSContext(isServer: false, verifiesPeer: verifies)
        switch trust {
        case .system:
            guard co_context_trust_system(context.pointer) == 1 else {
                throw .takingStack(.configuration, during: "load the system's trusted certificates")
            }
        case .certificates(let pem):
            try context.trust(pem, nameToClients: false)
        case .nobodyVerified:
            break
        }
        if verifies { co_context_verify_peer(context.pointer) }
        if let identity { try context.use(identity) }
        try context.offer(applicationProtocols)
        return context
    }

    private init(isServer: Bool, verifiesPeer: Bool) throws(TLSError) {
        co_ignore_sigpipe()
        guard let pointer = co_context_new(isServer) else {
            throw .takingStack(.configuration, during: "make a TLS context")
        }
        self.pointer = pointer
        self.isServer = isServer
        self.verifiesPeer = verifiesPeer
    }

    deinit {
        co_context_free(pointer)
    }

    private func use(_ identity: TLSIdentity) throws(TLSError) {
        let result = identity.certificateChainPEM.withUnsafeBytes { chain in
            identity.privateKeyPEM.withUnsafeBytes { key in
                co_context_use_identity(pointer, chain.baseAddress, chain.count, key.baseAddress, key.count)
            }
        }
        guard result == 1 else { throw .takingStack(.configuration, during: "use certificate and key") }
    }

    private func trust(_ pem: [UInt8], nameToClients: Bool) throws(TLSError) {
        let result = pem.withUnsafeBytes {
            co_context_trust(pointer, $0.baseAddress, $0.count, nameToClients)
        }
        guard result == 1 else { throw .takingStack(.configuration, during: "load trusted certificates") }
    }

    private func offer(_ protocols: [String]) throws(TLSError) {
        guard !protocols.isEmpty else { return }
        var wire: [UInt8] = []
        for name in protocols {
            guard let length = UInt8(exactly: name.utf8.count), length > 0 else {
                throw TLSError(.configuration, during: "offer protocol \"\(name)\"")
            }
            wire.append(length)
            wire += name.utf8
        }
        guard co_context_set_protocols(pointer, isServer, wire, wire.count) == 1 else {
            throw .takingStack(.configuration, during: "offer protocols")
        }
    }
}
