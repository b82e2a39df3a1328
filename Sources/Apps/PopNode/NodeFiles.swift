internal import Domain
internal import EventLoop
internal import Glibc
internal import TLS

/// What a node keeps in its data directory besides its database: who it is, its token, its certificate.
struct NodeFiles {
    let directory: String

    /// - Throws: `SystemError` when the directory can't be made.
    init(directory: String) throws(SystemError) {
        self.directory = directory
        var path = ""
        for part in directory.split(separator: "/", omittingEmptySubsequences: false) {
            path += part + "/"
            guard mkdir(path, 0o755) != 0, errno != EEXIST, errno != EROFS else { continue }
            // A parent that exists may refuse mkdir for other reasons; only the whole path counts.
            if access(path, F_OK) != 0 { throw SystemError(call: "mkdir \(path)", errorNumber: errno) }
        }
    }

    private func path(_ name: String) -> String { directory + "/" + name }

    /// The first line of a file; nil when there is no such file.
    private func line(_ name: String) throws(SystemError) -> String? {
        guard access(path(name), F_OK) == 0 else { return nil }
        let text = String(decoding: try Files.read(path(name)), as: UTF8.self)
        return text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    }

    /// The id that this node made at its first start.
    func nodeID() throws -> NodeID {
        if let text = try line("node.id") {
            guard let id = NodeID(text) else {
                throw NodeError("\(path("node.id")) does not hold a node id; repair or remove it")
            }
            return id
        }
        let text = "node-" + Hexadecimal.encode(SystemRandom.bytes(6))
        try Files.write(Array("\(text)\n".utf8), to: path("node.id"), mode: 0o644)
        guard let id = NodeID(text) else { throw NodeError("no node id could be made") }
        return id
    }

    /// The admin bootstrap token, made at the first start (mode 0600).
    func adminToken() throws -> String {
        if let text = try line("admin.token"), !text.isEmpty { return text }
        let token = Hexadecimal.encode(SystemRandom.bytes(32))
        try Files.write(Array("\(token)\n".utf8), to: path("admin.token"))
        return token
    }

    /// A self-signed certificate for `hosts`, made at the first start and kept: devices may pin it.
    func selfSignedIdentity(hosts: [String]) throws -> TLSIdentity {
        let certificate = path("tls-cert.pem")
        let key = path("tls-key.pem")
        if access(certificate, F_OK) == 0, access(key, F_OK) == 0 {
            return try TLSIdentity(certificateFile: certificate, keyFile: key)
        }
        let identity = try SelfSignedCertificate.make(hosts: hosts)
        try Files.write(identity.privateKeyPEM, to: key)
        try Files.write(identity.certificateChainPEM, to: certificate, mode: 0o644)
        return identity
    }

    /// Where what the database can't take yet waits for it.
    var outboxPath: String { path("outbox.sqlite") }

    /// Where it is kept that the node is cordoned or drained.
    var standingPath: String { path("standing.json") }

    /// Where the private database is, for `psql`.
    func writeDatabaseURL(_ url: String) throws(SystemError) {
        try Files.write(Array("\(url)\n".utf8), to: path("database.url"))
    }
}
