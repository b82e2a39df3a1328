internal import HTTP1

/// One request's place in its connection's queue, and what has been said in answer to it.
///
/// The responder and the connection share it: the responder may be dropped, and the connection may end,
/// before the other.
final class HTTPExchange {
    enum State {
        case waiting
        /// The head is out; `remaining` is what is left of a length that was told.
        case streaming(content: ResponseEncoder.Content, remaining: Int?)
        case ended
    }

    let request: ResponseEncoder.Request
    let maySwitch: Bool
    let keepsAlive: Bool
    /// Held until the response is complete or the client gone: the two hold each other until then.
    private(set) var connection: HTTPServerConnection?
    var state = State.waiting
    /// Whether the connection goes on after the response.
    var persists = true
    /// Output that waits for the responses before it.
    var pending: [UInt8] = []
    private(set) var isCancelled = false
    var onCancel: (() -> Void)?
    var onDrained: (() -> Void)?

    init(
        request: ResponseEncoder.Request, maySwitch: Bool, keepsAlive: Bool, connection: HTTPServerConnection
    ) {
        self.request = request
        self.maySwitch = maySwitch
        self.keepsAlive = keepsAlive
        self.connection = connection
    }

    var hasEnded: Bool {
        if case .ended = state { return true }
        return false
    }

    /// The response is complete; connection and closures are let go of, so that nothing they hold outlives it.
    func end() {
        state = .ended
        connection = nil
        onCancel = nil
        onDrained = nil
    }

    /// The client is gone, or will never read this response.
    func cancel() {
        guard !hasEnded else { return }
        isCancelled = true
        pending = []
        let told = onCancel
        end()
        told?()
    }
}
