import Domain
import EventLoop
import HTTP1
import HTTPServer
import PopConformance
import TestKit
import Testing
import WebSocket

/// A server with one of the program's handlers, driven by the test.
private struct Bench {
    let loop: EventLoop
    let address: SocketAddress
    private let server: HTTPServer

    init(_ handler: (EventLoop) -> any HTTPHandler) throws {
        loop = try EventLoop()
        server = HTTPServer(on: loop, handler: handler(loop))
        address = try server.listen(loopback)
    }

    /// What the server answers to `request` until it closes.
    func answer(to request: String) -> String {
        let events = StreamRecorder()
        let stream = TCPStream.connect(on: loop, to: address, timeout: .seconds(5), handler: events)
        stream.write(Array(request.utf8))
        loop.run { events.hasPeerFinished || events.isEnded }
        stream.abort()
        return String(decoding: events.received, as: UTF8.self)
    }

    func answer(_ line: String, _ fields: String = "", _ content: String = "") -> String {
        let length = content.isEmpty ? "" : "Content-Length: \(content.utf8.count)\r\n"
        return answer(
            to: "\(line) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(fields)\(length)\r\n\(content)")
    }
}

struct SampleResourcesTests {
    private let bench: Bench

    init() throws {
        bench = try Bench { _ in SampleResources() }
    }

    @Test func `the root answers OK, and its length to HEAD`() {
        let get = bench.answer("GET /")
        #expect(get.hasPrefix("HTTP/1.1 200 OK\r\n"))
        #expect(get.contains("\r\nContent-Length: 2\r\n") && get.hasSuffix("\r\n\r\nOK"))
        let head = bench.answer("HEAD /")
        #expect(head.contains("\r\nContent-Length: 2\r\n") && head.hasSuffix("\r\n\r\n"))
        #expect(bench.answer(to: "GET http://x/ HTTP/1.0\r\n\r\n").hasSuffix("\r\n\r\nOK"))
    }

    @Test func `POST is answered with its content`() {
        let answer = bench.answer("POST /", "", "hello")
        #expect(answer.hasSuffix("\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"))
        let chunked = bench.answer(
            "POST /", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n")
        #expect(chunked.hasSuffix("\r\n\r\nabcde"))
    }

    @Test(arguments: ["OPTIONS /", "OPTIONS *"])
    func `OPTIONS names the methods and has no content`(line: String) {
        let answer = bench.answer(line)
        #expect(answer.hasPrefix("HTTP/1.1 204 No Content\r\n"))
        #expect(answer.contains("\r\nAllow: GET, HEAD, POST, OPTIONS\r\n"))
        #expect(!answer.contains("Content-Length") && !answer.contains("Transfer-Encoding"))
    }

    @Test func `header lines are told in their order`() {
        let answer = bench.answer("GET /echo", "X-One: 1\r\nx-two:2\r\nX-One: 3\r\n")
        #expect(answer.hasSuffix("\r\n\r\nHost: x\nConnection: close\nX-One: 1\nx-two: 2\nX-One: 3\n"))
        #expect(bench.answer("POST /echo", "", "abc").contains("\nContent-Length: 3\n"))
    }

    @Test func `cookies are told one a line`() {
        let answer = bench.answer("GET /cookie", "Cookie: a=1; b=two=2;c=\r\nCookie: ===; d; e=5\r\n")
        #expect(answer.hasSuffix("\r\n\r\na=1\nb=two=2\nc=\ne=5\n"))
    }

    @Test(arguments: [
        ("GET /nothing", "404 Not Found"), ("GET /a%00b", "400 Bad Request"),
        ("DELETE /", "405 Method Not Allowed"),
        ("TRACE /", "405 Method Not Allowed"), ("CONNECT a:1", "405 Method Not Allowed"),
        ("BREW /", "501 Not Implemented"), ("get /", "501 Not Implemented"),
    ])
    func `the rest is refused`(line: String, status: String) {
        let answer = bench.answer(line)
        #expect(answer.hasPrefix("HTTP/1.1 \(status)\r\n"))
        if status.hasPrefix("405") { #expect(answer.contains("\r\nAllow: ")) }
    }
}

struct WebSocketEchoTests {
    private final class Client: WebSocketStreamDelegate {
        var messages: [[UInt8]] = []
        var texts: [String] = []
        var end: WebSocketEnd?

        func webSocket(_ socket: WebSocketStream, received message: [UInt8]) { messages.append(message) }
        func webSocket(_ socket: WebSocketStream, receivedText text: String) { texts.append(text) }
        func webSocketEnded(_ socket: WebSocketStream, _ end: WebSocketEnd) { self.end = end }
    }

    private func open(_ bench: Bench, _ client: Client, _ target: String = "/") -> WebSocketStream? {
        var configuration = WebSocketStream.Configuration()
        configuration.limits = WebSocketLimits(
            messageBytes: 1 << 25, frameBytes: 1 << 25, acceptsText: true)
        configuration.sendBufferBytes = 1 << 26
        var opened: WebSocketStream?
        WebSocketClient.connect(
            WebSocketRequest(
                address: bench.address, host: "127.0.0.1", target: target, tls: nil,
                configuration: configuration),
            on: bench.loop, delegate: client
        ) { opened = try? $0.get() }
        bench.loop.run { opened != nil }
        return opened
    }

    @Test(arguments: ["/", "/any/path?x=1"])
    func `text and binary come back as they went, on any path`(target: String) throws {
        let bench = try Bench { WebSocketEcho(on: $0) }
        let client = Client()
        let socket = try #require(open(bench, client, target))
        socket.send(text: "hällo")
        socket.send(binary: [])
        let large = pattern(16_777_216)
        socket.send(binary: large)
        #expect(bench.loop.run { client.messages.count == 2 })
        #expect(client.texts == ["hällo"] && client.messages == [[], large])
        socket.close()
        #expect(bench.loop.run { client.end != nil })
    }

    @Test func `a stop closes with 1001`() throws {
        var echo: WebSocketEcho?
        let bench = try Bench { loop in
            let made = WebSocketEcho(on: loop)
            echo = made
            return made
        }
        let client = Client()
        _ = try #require(open(bench, client))
        var isFinished = false
        echo?.close { isFinished = true }
        #expect(bench.loop.run { isFinished && client.end != nil })
        guard case .closedByPeer(let status) = client.end else {
            Issue.record("not closed by the server")
            return
        }
        #expect(status?.code == 1_001)
    }

    @Test func `what is no handshake gets the status of RFC 6455`() throws {
        let bench = try Bench { WebSocketEcho(on: $0) }
        let plain = bench.answer("GET /")
        #expect(plain.hasPrefix("HTTP/1.1 426 ") && plain.contains("\r\nUpgrade: websocket\r\n"))
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        let old = bench.answer("GET /", upgrade + "Sec-WebSocket-Version: 8\r\n")
        #expect(old.hasPrefix("HTTP/1.1 426 ") && old.contains("\r\nSec-WebSocket-Version: 13\r\n"))
        let keyless = bench.answer("GET /", upgrade + "Sec-WebSocket-Version: 13\r\n")
        #expect(keyless.hasPrefix("HTTP/1.1 400 "))
        let post = bench.answer("POST /", upgrade)
        #expect(post.hasPrefix("HTTP/1.1 405 ") && post.contains("\r\nAllow: GET\r\n"))
    }
}
