import Domain
import EventLoop
import HTTP1
import HTTPServer
import TLS
import TestKit
import Testing
import WebSocket

@Suite struct WebSocketClientTests {
    @Test(arguments: [false, true])
    func `messages go both ways after the handshake, and a close is answered`(secure: Bool) throws {
        let server = try WebSocketServer(secure: secure)
        let client = WebSocketRecorder()
        let socket = try server.connect(client).get()
        server.handler.recorder.onMessage = { socket, message in socket.send(binary: message) }
        let messages = [[], [1], pattern(200), pattern(100_000), pattern(1_048_576)]
        for message in messages { #expect(socket.send(binary: message)) }
        #expect(server.loop.run { client.messages.count == messages.count })
        #expect(client.messages == messages)
        #expect(socket.ping([7]))
        #expect(server.loop.run { client.pongs == [[7]] })
        socket.close(WebSocketCloseStatus(code: 1_001, reason: "moving"))
        #expect(!socket.isOpen && !socket.send(binary: [1]) && !socket.ping())
        #expect(server.loop.run { client.isEnded && server.handler.recorder.isEnded })
        #expect(client.end == "closeAnswered 1001")
        #expect(server.handler.recorder.end == "closedByPeer 1001 moving")
        #expect(server.loop.run { server.server.connectionCount == 0 })
        server.server.stopAccepting()
    }

    @Test(arguments: [false, true]) func `the server closes`(secure: Bool) throws {
        let server = try WebSocketServer(secure: secure)
        let client = WebSocketRecorder()
        _ = try server.connect(client).get()
        #expect(server.loop.run { server.handler.socket != nil })
        server.handler.socket?.send(binary: [1, 2])
        server.handler.socket?.close(WebSocketCloseStatus(code: 4_009, reason: "replaced"))
        #expect(server.loop.run { client.isEnded && server.handler.recorder.isEnded })
        #expect(client.messages == [[1, 2]])
        #expect(client.end == "closedByPeer 4009 replaced")
        #expect(server.handler.recorder.end == "closeAnswered 4009")
        server.server.stopAccepting()
    }

    @Test func `what the server sends right behind its 101 is delivered`() throws {
        let loop = try EventLoop()
        let raw = StreamRecorder()
        raw.onReceived = { stream, bytes in
            let request = String(decoding: bytes, as: UTF8.self)
            guard
                let line = request.split(separator: "\r\n").first(where: {
                    $0.hasPrefix("Sec-WebSocket-Key: ")
                })
            else { return }
            let accept = WebSocketHandshake.acceptValue(forKey: String(line.dropFirst(19)))
            let head =
                "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Accept: \(accept)\r\n\r\n"
            stream.write(Array(head.utf8) + [0x82, 1, 42, 0x82, 1])
            stream.write([43])
        }
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            _ = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: raw)
        }
        let client = WebSocketRecorder()
        var socket: WebSocketStream?
        WebSocketClient.connect(
            WebSocketRequest(address: listener.address, host: "127.0.0.1", tls: nil), on: loop,
            delegate: client
        ) { socket = try? $0.get() }
        #expect(loop.run { client.messages.count == 2 })
        #expect(client.messages == [[42], [43]])
        socket?.abort()
        listener.close()
    }

    @Test func `a refusal is told with its status and fields`() throws {
        var server = try WebSocketServer(secure: false)
        server.request.fields = [:]
        guard case .failure(.refused(let response)) = try server.connect(WebSocketRecorder()) else {
            Issue.record("was not refused")
            return
        }
        #expect(response.status == .unauthorized && response.body == Array("no".utf8))
        #expect(response.head.fields["www-authenticate"] == "Bearer")
        server.request.target = "/elsewhere"
        guard case .failure(.refused(let other)) = try server.connect(WebSocketRecorder()) else {
            Issue.record("was not refused")
            return
        }
        #expect(other.status == .notFound)
        server.server.stopAccepting()
    }

    @Test func `a server that chooses no subprotocol, or another one, is not accepted`() throws {
        let server = try WebSocketServer(secure: false)
        server.handler.subprotocol = nil
        guard case .failure(.noProtocol) = try server.connect(WebSocketRecorder()) else {
            Issue.record("was accepted")
            return
        }
        server.handler.subprotocol = "third"
        guard case .failure(.malformed("Sec-WebSocket-Protocol")) = try server.connect(WebSocketRecorder())
        else {
            Issue.record("was accepted")
            return
        }
        server.server.stopAccepting()
    }

    @Test func `a host that the certificate doesn't name is an error of TLS`() throws {
        var server = try WebSocketServer(secure: true)
        server.request.host = "other.test"
        guard case .failure(.http(.connection(let error))) = try server.connect(WebSocketRecorder()) else {
            Issue.record("was accepted")
            return
        }
        guard case .certificateRefused = (error as? TLSError)?.reason else {
            Issue.record("\(error)")
            return
        }
        server.server.stopAccepting()
    }

    @Test func `a server that says nothing is given up after the time`() throws {
        let loop = try EventLoop()
        let silent = StreamRecorder()
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            _ = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: silent)
        }
        // One octet now and then must not keep the attempt alive.
        var drip: LoopTimer?
        silent.onReceived = { stream, _ in
            let timer = loop.makeTimer {
                stream.write([0x48])
                drip?.arm(at: loop.now + .milliseconds(10))
            }
            drip = timer
            timer.arm(at: loop.now + .milliseconds(10))
        }
        var request = WebSocketRequest(address: listener.address, host: "127.0.0.1", tls: nil)
        request.timeout = .milliseconds(60)
        var outcome: Result<WebSocketStream, WebSocketClientError>?
        WebSocketClient.connect(request, on: loop, delegate: WebSocketRecorder()) { outcome = $0 }
        #expect(loop.run { outcome != nil })
        switch outcome {
        case .failure(.timedOut), .failure(.http(.malformed)): break
        default: Issue.record("\(String(describing: outcome))")
        }
        drip?.cancel()
        drip = nil
        listener.close()
    }

    @Test func `an attempt can be cancelled`() throws {
        let server = try WebSocketServer(secure: false)
        var outcomes: [Result<WebSocketStream, WebSocketClientError>] = []
        let attempt = WebSocketClient.connect(
            server.request, on: server.loop, delegate: WebSocketRecorder()
        ) { outcomes.append($0) }
        attempt.cancel()
        attempt.cancel()
        guard outcomes.count == 1, case .failure(.cancelled) = outcomes[0] else {
            Issue.record("\(outcomes)")
            return
        }
        for _ in 0..<10 { server.loop.runOnce(waitingAtMost: .milliseconds(1)) }
        #expect(outcomes.count == 1 && server.handler.socket == nil)
        server.server.stopAccepting()
    }

    @Test func `requests that are no handshake are answered as the RFC says`() throws {
        let server = try WebSocketServer(secure: false)
        func answer(_ text: String) -> String {
            let client = StreamRecorder()
            let stream = TCPStream.connect(
                on: server.loop, to: server.request.address, timeout: .seconds(5), handler: client)
            let rest = "Host: a\r\nAuthorization: Bearer t\r\nConnection: close, Upgrade\r\n\r\n"
            stream.write(Array((text + rest).utf8))
            server.loop.run { client.hasPeerFinished || client.isEnded }
            stream.abort()
            return String(decoding: client.received, as: UTF8.self)
        }
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        #expect(answer("POST /v1/control HTTP/1.1\r\nContent-Length: 0\r\n").contains("Allow: GET"))
        #expect(answer("GET /v1/control HTTP/1.1\r\n").hasPrefix("HTTP/1.1 426"))
        let old = answer(
            "GET /v1/control HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n" + key)
        #expect(old.hasPrefix("HTTP/1.1 426") && old.contains("Sec-WebSocket-Version: 13"))
        let keyless = answer(
            "GET /v1/control HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        #expect(keyless.hasPrefix("HTTP/1.1 400"))
        server.server.stopAccepting()
    }
}
