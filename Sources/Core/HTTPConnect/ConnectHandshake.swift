package import Domain
package import HTTP1

// The server's side of HTTP/1.1 CONNECT (RFC 9110 section 9.3.6), until a tunnel stands.
//
//   client                                        server
//   CONNECT host:port HTTP/1.1 ...        ->
//                                         <-      407, 4xx, 5xx: the client may ask again
//   CONNECT host:port HTTP/1.1 ...        ->
//                                         <-      200, then bytes both ways      by the shell
//
//   head --CONNECT--> verdict --accept--> decided
//     ^ \--anything else: answer            |
//     +----------refuse, the connection persists
//   Every state may go to `finished`, which nothing leaves.
//
// Bytes behind a CONNECT are meant for its target. When it is refused they can't be read as the next request:
// whoever chose them would speak to the proxy with the client's voice. So a refusal ends the connection when the
// client sent anything ahead, and leaves it open for another try otherwise.

/// What the shell does next.
package enum ConnectAction: Sendable, Hashable {
    /// Nothing before more bytes or a verdict come.
    case none
    /// Check these, nil for none, and answer with ``ConnectHandshake/accept()`` or
    /// ``ConnectHandshake/refuse()``; read nothing meanwhile.
    case authenticate(ConnectCredentials?)
    /// The client may have this target: `earlyBytes` are its first bytes for it. The request can still be
    /// refused.
    case request(Target, earlyBytes: [UInt8])
    /// Answer a request that is none for a tunnel, in this form.
    case reject(ConnectFault, ConnectAnswerForm)
    /// The client has had its tries: close without a word.
    case close
}

/// What is wrong with a request; always the client's doing.
package enum ConnectFault: Error, Sendable, Hashable {
    case malformed(HTTPFault)
    /// A plain request: this is no proxy for those.
    case otherMethod
    /// A target that is not `host:port`.
    case badTarget
}

/// How an answer has to look.
package struct ConnectAnswerForm: Sendable, Hashable {
    package let request: ResponseEncoder.Request
    /// Whether another request may follow.
    package let persists: Bool

    package init(request: ResponseEncoder.Request = ResponseEncoder.Request(), persists: Bool) {
        self.request = request
        self.persists = persists
    }
}

package enum ConnectLimits {
    /// What is kept of bytes sent ahead: two reads of a stream, since the shell stops reading after one.
    package static let bufferedBytes = 128 * 1_024
    /// Requests of one connection: a client asks once, once more with credentials, and a few times for targets
    /// that could not be reached.
    package static let requests = 100

    static var http: HTTPLimits {
        var limits = HTTPLimits()
        // Nothing has content here; what a plain request brings ends its connection.
        limits.bodyBytes = 0
        return limits
    }
}

/// The server machine of one client: bytes in by `receive`, actions out by `nextAction` until `none`.
package struct ConnectHandshake: ~Copyable {
    private enum State: Hashable {
        case head
        case verdict
        case decided
        case finished
    }

    private var state = State.head
    private var parser = RequestParser(limits: ConnectLimits.http)
    private var input: [UInt8] = []
    private var requests = 0
    private var target: Target?
    private var form = ConnectAnswerForm(persists: false)
    private var output: ConnectAction?

    package init() {}

    /// Whether a request has begun and is not complete: a client that goes silent then is late.
    package var isInRequest: Bool { state == .head && !parser.isIdle }

    /// Takes what the client sent next.
    package mutating func receive(_ bytes: some Collection<UInt8>) {
        guard state != .finished else { return }
        guard bytes.count <= ConnectLimits.bufferedBytes - input.count else {
            return finish(.close)
        }
        input.append(contentsOf: bytes)
    }

    /// The credentials of the last `authenticate` are good, or not needed.
    package mutating func accept() {
        guard state == .verdict, let target else { return }
        state = .decided
        output = .request(target, earlyBytes: input)
    }

    /// The credentials of the last `authenticate` are not good, or the last `request` can't be had.
    ///
    /// - Returns: how the answer has to look, which is the shell's to write.
    package mutating func refuse() -> ConnectAnswerForm {
        guard state == .verdict || state == .decided else { return ConnectAnswerForm(persists: false) }
        let form = ConnectAnswerForm(request: form.request, persists: form.persists && input.isEmpty)
        output = nil
        goOn(form)
        return form
    }

    package mutating func nextAction() -> ConnectAction {
        if output == nil, state == .head { read() }
        guard let action = output else { return .none }
        output = nil
        return action
    }

    // MARK: Requests

    private mutating func read() {
        guard !input.isEmpty else { return }
        var position = 0
        do throws(HTTPFault) {
            let bytes = input
            let event = try parser.next(bytes.span, &position)
            input.removeFirst(position)
            guard case .head(let head) = event else { return }
            requests += 1
            guard requests <= ConnectLimits.requests else { return finish(.close) }
            try read(head)
        } catch {
            state = .finished
            input = []
            let fault: ConnectFault = error == .malformedTarget ? .badTarget : .malformed(error)
            output = .reject(fault, ConnectAnswerForm(persists: false))
        }
    }

    private mutating func read(_ head: HTTPRequestHead) throws(HTTPFault) {
        form = ConnectAnswerForm(
            request: ResponseEncoder.Request(head),
            persists: head.keepsAlive && requests < ConnectLimits.requests)
        guard head.framing == .none else {
            // The content is not read, so nothing can follow it.
            return reject(.otherMethod, ConnectAnswerForm(request: form.request, persists: false))
        }
        // A head without content has nothing but its end behind it.
        var position = 0
        let nothing: [UInt8] = []
        _ = try parser.next(nothing.span, &position)
        guard head.method == .connect else { return reject(.otherMethod, form) }
        guard let text = head.target.authority, let target = Target(text) else {
            return reject(
                .badTarget, ConnectAnswerForm(request: form.request, persists: form.persists && input.isEmpty)
            )
        }
        self.target = target
        state = .verdict
        output = .authenticate(ConnectCredentials(head.fields))
    }

    private mutating func reject(_ fault: ConnectFault, _ form: ConnectAnswerForm) {
        goOn(form)
        output = .reject(fault, form)
    }

    private mutating func goOn(_ form: ConnectAnswerForm) {
        target = nil
        state = form.persists ? .head : .finished
        if !form.persists { input = [] }
    }

    private mutating func finish(_ action: ConnectAction) {
        state = .finished
        input = []
        output = action
    }
}
