internal import Domain
internal import Fleet
internal import SOCKS5

/// A client that speaks SOCKS5: drives a ``SOCKS5Handshake``.
final class SOCKS5Client: ClientConversation {
    /// Which holds it until it has finished.
    private let client: IngressClient
    private var handshake: SOCKS5Handshake
    private var grant = IngressGrant()
    /// Why the request will be refused, whatever it is: RFC 1929 knows a wrong password and no other cause.
    private var refusal: IngressRefusal?

    init(_ client: IngressClient, requiresPassword: Bool) {
        self.client = client
        handshake = SOCKS5Handshake(requiresPassword: requiresPassword)
    }

    func receive(_ bytes: UnsafeRawBufferPointer) {
        handshake.receive([UInt8](bytes))
        proceed()
    }

    func timedOut() { client.drop() }

    private func proceed() {
        while client.isConnected {
            switch handshake.nextAction() {
            case .none:
                return
            case .send(let bytes):
                client.write(bytes)
            case .authenticate(let credentials):
                authenticate(credentials)
            case .request(let request, let earlyBytes):
                client.pauseReading()
                serve(request, earlyBytes)
            case .reject(let error, let reply):
                client.failed(IngressHandshakeFault(error), "\(error)")
                client.close(after: reply)
            }
        }
    }

    private func authenticate(_ credentials: SOCKS5Credentials) {
        client.authenticate(username: credentials.username, password: credentials.password) {
            [weak self] admission in
            guard let self else { return }
            switch admission {
            case .admitted(let grant):
                self.grant = grant
                handshake.acceptCredentials()
            case .turnedAway(let refusal):
                self.refusal = refusal
                handshake.acceptCredentials()
            case .refused:
                handshake.refuseCredentials()
            }
            client.resumeReading()
            proceed()
        }
    }

    private func serve(_ request: SOCKS5Request, _ earlyBytes: [UInt8]) {
        let wish = ClientWish(
            clientProtocol: .socks5, target: request.target, grant: grant, earlyBytes: earlyBytes,
            successReply: { _ in SOCKS5Reply(.succeeded).encoded },
            failureReply: { SOCKS5Reply($0.socksCode).encoded })
        let client = client
        let refused: (IngressRefusal) -> Void = { client.close(after: SOCKS5Reply($0.socksCode).encoded) }
        if let refusal { return client.refuse(.socks5, refusal, refused) }
        switch request.command {
        case .connect: client.open(wish, refused: refused)
        case .udpAssociate: client.associate(request, for: grant, refused: refused)
        case .bind: client.refuse(.socks5, .unsupportedCommand, refused)
        }
    }
}
