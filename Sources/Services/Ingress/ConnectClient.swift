internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTP1
internal import HTTPConnect

/// A client that speaks HTTP/1.1: drives a ``ConnectHandshake``.
final class ConnectClient: ClientConversation {
    /// Which holds it until it has finished.
    private let client: IngressClient
    private let requiresPassword: Bool
    private var handshake = ConnectHandshake()
    private var grant = IngressGrant()
    private var isProceeding = false

    init(_ client: IngressClient, requiresPassword: Bool) {
        self.client = client
        self.requiresPassword = requiresPassword
    }

    func receive(_ bytes: UnsafeRawBufferPointer) {
        handshake.receive(bytes)
        proceed()
    }

    /// A client that has begun a request is told why it is left; one that waits for nothing is not.
    func timedOut() {
        guard handshake.isInRequest else { return client.drop() }
        client.close(
            after: ConnectAnswer(.malformed(.requestTooSlow)).encoded(ConnectAnswerForm(persists: false)))
    }

    private func proceed() {
        guard !isProceeding else { return }
        isProceeding = true
        defer { isProceeding = false }
        while client.isConnected {
            switch handshake.nextAction() {
            case .none:
                return
            case .authenticate(let credentials):
                authenticate(credentials)
            case .request(let target, let earlyBytes):
                serve(target, earlyBytes)
            case .reject(let fault, let form):
                client.failed(IngressHandshakeFault(fault), "\(fault)")
                answer(ConnectAnswer(fault), form)
            case .close:
                client.failed(.malformed, "too many requests, or too much ahead")
                client.close(after: [])
            }
        }
    }

    private func authenticate(_ credentials: ConnectCredentials?) {
        guard let credentials else {
            guard requiresPassword else { return admitted(IngressGrant()) }
            return refuse(.credentialsNeeded)
        }
        guard credentials.isReadable else {
            client.ingress?.figures.failedLogins += 1
            return refuse(.credentialsRefused)
        }
        client.authenticate(username: credentials.username, password: credentials.password) {
            [weak self] admission in
            guard let self else { return }
            client.resumeReading()
            switch admission {
            case .admitted(let grant): admitted(grant)
            case .turnedAway(let refusal): refuse(ConnectAnswer(refusal))
            case .refused: refuse(.credentialsRefused)
            }
            proceed()
        }
    }

    private func admitted(_ grant: IngressGrant) {
        self.grant = grant
        handshake.accept()
    }

    private func serve(_ target: Target, _ earlyBytes: [UInt8]) {
        client.pauseReading()
        let wish = ClientWish(
            clientProtocol: .http, target: target, grant: grant, earlyBytes: earlyBytes,
            successReply: ConnectAnswer.established,
            failureReply: { ConnectAnswer($0).encoded(ConnectAnswerForm(persists: false)) })
        client.open(wish) { [weak self] refusal in
            guard let self else { return }
            client.resumeReading()
            refuse(ConnectAnswer(refusal))
            proceed()
        }
    }

    private func refuse(_ answer: ConnectAnswer) {
        self.answer(answer, handshake.refuse())
    }

    private func answer(_ answer: ConnectAnswer, _ form: ConnectAnswerForm) {
        let bytes = answer.encoded(form)
        guard form.persists else { return client.close(after: bytes) }
        client.write(bytes)
        client.restartTime()
    }
}
