internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Logging
internal import SOCKS5

/// One client until its conn is a data loop's: drives a ``SOCKS5Handshake`` over its socket.
final class IngressClient: ByteStreamHandler {
    weak var ingress: Ingress?
    let peer: SocketAddress
    private var handshake: SOCKS5Handshake
    private(set) var stream: TCPStream?
    private var timer: LoopTimer?
    private(set) var user: String?

    init(_ ingress: Ingress, peer: SocketAddress) {
        self.ingress = ingress
        self.peer = peer
        handshake = SOCKS5Handshake(requiresPassword: ingress.authenticator.requiresPassword)
    }

    func start(_ descriptor: Int32) throws(SystemError) {
        guard let ingress else { return Sockets.close(descriptor) }
        stream = try TCPStream(on: ingress.loop, adopting: descriptor, peer: peer, handler: self)
        timer = ingress.loop.makeTimer { [weak self] in self?.timedOut() }
        timer?.arm(at: ingress.loop.now + IngressLimits.handshakeTimeout)
    }

    /// Closes at once.
    func drop() {
        stream?.abort()
        finish()
    }

    // MARK: Stream

    func streamOpened(_ stream: any ByteStream) {}

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        handshake.receive(bytes)
        proceed()
    }

    func streamPeerFinished(_ stream: any ByteStream) {
        // A client that ends before its request wants nothing.
        ingress?.figures.failedHandshakes.note(.closed)
        stream.closeWhenFlushed()
        finish()
    }

    func streamDrained(_ stream: any ByteStream) {}

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        ingress?.figures.failedHandshakes.note(.lost)
        finish()
    }

    private func timedOut() {
        ingress?.figures.failedHandshakes.note(.timedOut)
        drop()
    }

    func finish() {
        timer?.cancel()
        timer = nil
        stream = nil
        ingress?.finished(self)
    }

    // MARK: Handshake

    private func proceed() {
        while stream != nil {
            switch handshake.nextAction() {
            case .none:
                return
            case .send(let bytes):
                stream?.write(bytes)
            case .authenticate(let credentials):
                authenticate(credentials)
            case .request(let request, let earlyBytes):
                stream?.pauseReading()
                serve(request, earlyBytes)
            case .reject(let error, let reply):
                ingress?.figures.failedHandshakes.note(IngressHandshakeFault(error))
                ingress?.logger.debug(
                    "handshake rejected", metadata: ["client": "\(peer)", "error": "\(error)"])
                close(after: reply)
            }
        }
    }

    private func authenticate(_ credentials: SOCKS5Credentials) {
        guard let ingress else { return drop() }
        stream?.pauseReading()
        let credential = IngressCredential(
            username: credentials.username, password: credentials.password, clientAddress: peer)
        ingress.authenticator.authenticate(credential) { [weak self] admission in
            guard let self, stream != nil else { return }
            switch admission {
            case .admitted(let user):
                self.user = user
                handshake.acceptCredentials()
            case .refused:
                self.ingress?.figures.failedLogins += 1
                handshake.refuseCredentials()
            }
            stream?.resumeReading()
            proceed()
        }
    }

    private func close(after reply: [UInt8]) {
        if !reply.isEmpty { stream?.write(reply) }
        stream?.closeWhenFlushed()
        finish()
    }

    func refuse(
        _ code: SOCKS5ReplyCode, _ outcome: IngressOutcome, of clientProtocol: ConnProtocol = .socks5
    ) {
        ingress?.figures.settled(clientProtocol, outcome, after: .zero)
        close(after: SOCKS5Reply(code).encoded)
    }

    // MARK: Request

    private func serve(_ request: SOCKS5Request, _ earlyBytes: [UInt8]) {
        guard let ingress else { return drop() }
        switch request.command {
        case .connect: break
        case .udpAssociate: return associate(request)
        case .bind: return refuse(.commandNotSupported, .unsupported)
        }
        guard ingress.configuration.permits(request.target) else { return refuse(.notAllowed, .denied) }
        let asked = ingress.loop.now
        let opening = ConnOpening(
            request: ConnRequest(
                user: user, clientProtocol: .socks5, clientAddress: peer, target: request.target,
                connectTimeout: ingress.configuration.connectTimeout),
            earlyBytes: earlyBytes, idleTimeout: ingress.configuration.idleTimeout,
            successReply: { _ in SOCKS5Reply(.succeeded).encoded },
            failureReply: { SOCKS5Reply(SOCKS5ReplyCode($0)).encoded },
            settled: { [weak ingress] outcome in
                guard let ingress else { return }
                ingress.figures.settled(.socks5, IngressOutcome(outcome), after: ingress.loop.now - asked)
            })
        switch ingress.plane.openConn(opening, handOver: { stream?.detach() }) {
        case .placed:
            ingress.figures.placed += 1
            finish()
        case .noDevice:
            ingress.figures.withoutDevice += 1
            refuse(.generalFailure, .noDevice)
        case .abandoned:
            ingress.figures.settled(.socks5, .abandoned, after: .zero)
            drop()
        }
    }
}
