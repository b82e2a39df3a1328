internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Logging

/// What is said to a client in its protocol until its conn is a data loop's.
protocol ClientConversation: AnyObject {
    func receive(_ bytes: UnsafeRawBufferPointer)
    /// The client's time is over.
    func timedOut()
}

/// One client until its conn is a data loop's: its socket, its time, and the protocol that its first byte chose.
///
///     first byte 0x05            ``SOCKS5Client``
///     first byte a letter        ``ConnectClient``
///     anything else              closed
final class IngressClient: ByteStreamHandler {
    /// Until it has finished.
    private(set) var ingress: Ingress?
    let peer: SocketAddress
    private var conversation: (any ClientConversation)?
    private(set) var stream: TCPStream?
    private var timer: LoopTimer?

    init(_ ingress: Ingress, peer: SocketAddress) {
        self.ingress = ingress
        self.peer = peer
    }

    func start(_ descriptor: Int32) throws(SystemError) {
        guard let ingress else { return Sockets.close(descriptor) }
        stream = try TCPStream(on: ingress.loop, adopting: descriptor, peer: peer, handler: self)
        // A weak reference would make each retain and release of the client take the slow path for good; the timer
        // is cancelled before the client goes.
        timer = ingress.loop.makeTimer { [unowned self] in timedOut() }
        restartTime()
    }

    /// Whether there is still somebody to answer.
    var isConnected: Bool { stream != nil }

    /// The client has asked, and has been answered, and may ask again.
    func restartTime() {
        guard let ingress else { return }
        timer?.arm(at: ingress.loop.now + ingress.configuration.handshakeTimeout)
    }

    // MARK: What conversations do

    func write(_ bytes: [UInt8]) { stream?.write(bytes) }
    func pauseReading() { stream?.pauseReading() }
    func resumeReading() { stream?.resumeReading() }

    func close(after reply: [UInt8]) {
        if !reply.isEmpty { stream?.write(reply) }
        stream?.closeWhenFlushed()
        finish()
    }

    /// Closes at once.
    func drop() {
        stream?.abort()
        finish()
    }

    func failed(_ fault: IngressHandshakeFault, _ cause: String) {
        ingress?.figures.failedHandshakes.note(fault)
        ingress?.logger.debug("handshake rejected", metadata: ["client": "\(peer)", "error": "\(cause)"])
    }

    /// What a client shows, or that it shows nothing.
    func authenticate(
        username: String, password: [UInt8], _ answer: @escaping (IngressAdmission) -> Void
    ) {
        guard let ingress else { return drop() }
        pauseReading()
        let credential = IngressCredential(username: username, password: password, clientAddress: peer)
        ingress.authenticator.authenticate(credential) { [weak self] admission in
            guard let self, isConnected else { return }
            if case .refused = admission { self.ingress?.figures.failedLogins += 1 }
            answer(admission)
        }
    }

    /// Has a device reach `wish.target`; a client that can't have that is still the conversation's.
    func open(_ wish: ClientWish, refused: @escaping (IngressRefusal) -> Void) {
        guard let ingress else { return drop() }
        guard ingress.configuration.permits(wish.target) else {
            return refuse(wish.clientProtocol, .denied, refused)
        }
        guard wish.grant.wish.sticky != nil else { return open(wish, wish.grant.wish, refused) }
        place(wish.grant, as: wish.clientProtocol, refused: refused) { [weak self] devices in
            self?.open(wish, devices, refused)
        }
    }

    /// Finds out which devices will do, which may take a question to the database.
    func place(
        _ grant: IngressGrant, as clientProtocol: ConnProtocol, refused: @escaping (IngressRefusal) -> Void,
        _ use: @escaping (DeviceWish) -> Void
    ) {
        guard let ingress else { return drop() }
        guard grant.wish.sticky != nil, let sessions = ingress.sessions else { return use(grant.wish) }
        sessions.place(grant) { [weak self] result in
            guard let self, isConnected else { return }
            switch result {
            case .success(let devices): use(devices)
            case .failure(let refusal): refuse(clientProtocol, refusal, refused)
            }
        }
    }

    private func open(
        _ wish: ClientWish, _ devices: DeviceWish, _ refused: (IngressRefusal) -> Void
    ) {
        guard let ingress else { return drop() }
        // Now, so that what waited for the database is counted.
        if let refusal = ingress.authenticator.refusal(of: wish.grant.user) {
            return refuse(wish.clientProtocol, refusal, refused)
        }
        let asked = ingress.loop.now
        let opening = ConnOpening(
            request: ConnRequest(
                user: wish.grant.user, clientProtocol: wish.clientProtocol, clientAddress: peer,
                target: wish.target, connectTimeout: ingress.configuration.connectTimeout, wish: devices),
            earlyBytes: wish.earlyBytes, idleTimeout: ingress.configuration.idleTimeout,
            rate: wish.grant.rate, successReply: wish.successReply,
            failureReply: { [reply = wish.failureReply] in reply(.device($0)) },
            settled: { [ingress, clientProtocol = wish.clientProtocol] outcome in
                ingress.figures.settled(
                    clientProtocol, IngressOutcome(outcome), after: ingress.loop.now - asked)
            })
        switch ingress.plane.openConn(opening, handOver: { stream?.detach() }) {
        case .placed:
            ingress.figures.placed += 1
            finish()
        case .noDevice:
            ingress.figures.withoutDevice += 1
            refuse(wish.clientProtocol, .noDevice, refused)
        case .abandoned:
            ingress.figures.settled(wish.clientProtocol, .abandoned, after: .zero)
            drop()
        }
    }

    /// Counts a request that is refused before any device was asked.
    func refuse(
        _ clientProtocol: ConnProtocol, _ refusal: IngressRefusal, _ refused: (IngressRefusal) -> Void
    ) {
        ingress?.figures.settled(clientProtocol, refusal.outcome, after: .zero)
        refused(refusal)
    }

    // MARK: Stream

    func streamOpened(_ stream: any ByteStream) {}

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        if conversation == nil {
            guard let first = bytes.first else { return }
            guard let chosen = conversation(startedBy: first) else {
                failed(.unknownProtocol, "a first byte of \(first)")
                return close(after: [])
            }
            conversation = chosen
        }
        conversation?.receive(bytes)
    }

    private func conversation(startedBy first: UInt8) -> (any ClientConversation)? {
        guard let ingress else { return nil }
        switch first {
        case 5: return SOCKS5Client(self, requiresPassword: ingress.authenticator.requiresPassword)
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"):
            return ConnectClient(self, requiresPassword: ingress.authenticator.requiresPassword)
        default: return nil
        }
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
        if let conversation { conversation.timedOut() } else { drop() }
    }

    func finish() {
        timer?.cancel()
        timer = nil
        stream = nil
        conversation = nil
        ingress?.finished(self)
        ingress = nil
    }
}

/// A conn that a client asks for, with what its protocol says in either case.
struct ClientWish {
    let clientProtocol: ConnProtocol
    let target: Target
    let grant: IngressGrant
    /// What the client sent after its request.
    let earlyBytes: [UInt8]
    let successReply: (Placement) -> [UInt8]
    let failureReply: (IngressRefusal) -> [UInt8]
}
