import Domain
import EventLoop
import HTTP1
import HTTPServer

/// A server on loopback and the raw clients that talk to it, all on one loop driven by the test.
final class Bench {
    let loop: EventLoop
    let server: HTTPServer
    let handler: TestHandler
    let address: SocketAddress

    init(
        configuration: HTTPServer.Configuration = HTTPServer.Configuration(),
        answer: @escaping (HTTPRequest, HTTPResponder) -> Void
    ) throws {
        loop = try EventLoop()
        handler = TestHandler(answer)
        server = HTTPServer(on: loop, configuration: configuration, handler: handler)
        address = try server.listen(SocketAddress(ip: .v4(IPv4Address(0x7F00_0001)), port: 0))
    }

    func connect() -> RawClient {
        let client = RawClient()
        client.stream = TCPStream.connect(
            on: loop, to: address, timeout: .seconds(5), handler: client)
        return client
    }

    /// Connects, sends `text` and runs until the server has closed or `isComplete` says so.
    func exchange(_ text: String, until isComplete: (RawClient) -> Bool = { _ in false }) -> RawClient {
        let client = connect()
        client.send(text)
        run { client.hasEnded || isComplete(client) }
        return client
    }

    /// Runs the loop until `condition` holds, or a bounded time is over.
    @discardableResult
    func run(until condition: () -> Bool) -> Bool {
        let deadline = loop.now + .seconds(60)
        while !condition() {
            if loop.now > deadline { return false }
            loop.runOnce(waitingAtMost: .milliseconds(20))
        }
        return true
    }

    /// Runs what is ready, and what that makes ready.
    func settle() {
        for _ in 0..<10 { loop.runOnce(waitingAtMost: .milliseconds(1)) }
    }
}

final class TestHandler: HTTPHandler {
    var answer: (HTTPRequest, HTTPResponder) -> Void
    var bound: Int?
    /// Called when the head of a request with content has come.
    var onHead = {}
    var leaves: (HTTPRequestHead) -> Bool = { _ in false }
    var requests: [HTTPRequest] = []

    init(_ answer: @escaping (HTTPRequest, HTTPResponder) -> Void) {
        self.answer = answer
    }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        requests.append(request)
        answer(request, responder)
    }

    func plan(forContentOf head: HTTPRequestHead, from peer: SocketAddress) -> HTTPContentPlan {
        onHead()
        return leaves(head) ? .leave : .read(atMost: bound)
    }
}

/// Collects what the server sends, as it is.
final class RawClient: ByteStreamHandler {
    var stream: (any ByteStream)?
    private(set) var received: [UInt8] = []
    /// How many reads it took.
    private(set) var pieces = 0
    private(set) var peerFinished = false
    private(set) var ended = false
    private(set) var error: (any Error)?

    var text: String { String(decoding: received, as: UTF8.self) }
    var hasEnded: Bool { ended || peerFinished }

    /// The codes of the status lines received.
    var statuses: [Int] {
        var statuses: [Int] = []
        var rest = text[...]
        while let start = rest.firstRange(of: "HTTP/1.1 ")?.upperBound {
            rest = rest[start...]
            if let status = Int(rest.prefix(3)) { statuses.append(status) }
        }
        return statuses
    }

    func send(_ text: String) {
        stream?.write(Array(text.utf8))
    }

    func streamOpened(_ stream: any ByteStream) {}

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        received.append(contentsOf: bytes.bindMemory(to: UInt8.self))
        pieces += 1
    }

    func streamPeerFinished(_ stream: any ByteStream) {
        peerFinished = true
    }

    func streamDrained(_ stream: any ByteStream) {}

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        ended = true
        self.error = error
    }
}

/// Answers 200 with the path as the body.
func echoPath(_ request: HTTPRequest, _ responder: HTTPResponder) {
    responder.respond(.ok, ["Content-Type": "text/plain"], body: Array(request.target.path.utf8))
}
