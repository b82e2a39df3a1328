import Domain
import EventLoop
import HTTP1
import HTTPServer
import Testing

@Suite struct HTTPClientTests {
    private func send(
        _ request: HTTPClientRequest, to bench: Bench,
        configuration: HTTPClient.Configuration = HTTPClient.Configuration()
    ) -> Result<HTTPClient.Outcome, HTTPClientError>? {
        var result: Result<HTTPClient.Outcome, HTTPClientError>?
        let client = HTTPClient.send(
            request, on: bench.loop, configuration: configuration,
            over: { TCPStream.connect(on: bench.loop, to: bench.address, timeout: .seconds(5), handler: $0) },
            completion: { result = $0 })
        bench.run { result != nil }
        withExtendedLifetime(client) {}
        return result
    }

    @Test func aRequestWithContentGetsItsResponse() throws {
        let bench = try Bench { request, responder in
            responder.respond(.created, ["Location": "/x"], body: request.body)
        }
        let request = HTTPClientRequest(
            method: .post, target: "/things?a=b", host: "localhost:1", fields: ["Accept": "*/*"],
            body: Array("content".utf8))
        guard case .success(.response(let response)) = send(request, to: bench) else {
            Issue.record("no response")
            return
        }
        #expect(response.status == .created)
        #expect(response.head.fields["location"] == "/x")
        #expect(response.body == Array("content".utf8))
        #expect(bench.handler.requests.first?.head.authority == "localhost:1")
        #expect(bench.handler.requests.first?.fields["accept"] == "*/*")
    }

    @Test func contentIsStreamedPieceByPiece() throws {
        let bench = try Bench { _, responder in
            responder.start(HTTPResponseHead(.ok))
            for index in 0..<5 { responder.write(Array("event \(index);".utf8)) }
            responder.end()
        }
        var configuration = HTTPClient.Configuration()
        var body: [UInt8] = []
        var status: HTTPStatus?
        configuration.onHead = { status = $0.status }
        configuration.onBody = { body += $0 }
        let result = send(
            HTTPClientRequest(target: "/", host: "x"), to: bench, configuration: configuration)
        guard case .success(.response(let response)) = result else {
            Issue.record("no response")
            return
        }
        #expect(status == .ok)
        #expect(response.body.isEmpty)
        #expect(String(decoding: body, as: UTF8.self) == "event 0;event 1;event 2;event 3;event 4;")
    }

    @Test func anUpgradeHandsTheStreamOver() throws {
        let taker = RawClient()
        let bench = try Bench { _, responder in
            guard let upgraded = responder.upgrade(HTTPResponseHead(.switchingProtocols, ["Upgrade": "t"]))
            else { return }
            upgraded.stream.write(Array("hello".utf8))
            upgraded.stream.handler = taker
        }
        let request = HTTPClientRequest(
            target: "/", host: "x", fields: ["Connection": "Upgrade", "Upgrade": "t"])
        guard case .success(.switched(let head, let stream, let received)) = send(request, to: bench) else {
            Issue.record("not switched")
            return
        }
        #expect(head.status == .switchingProtocols)
        let client = RawClient()
        stream.handler = client
        #expect(bench.run { String(decoding: received, as: UTF8.self) + client.text == "hello" })
        stream.write(Array("back".utf8))
        #expect(bench.run { taker.text == "back" })
    }

    @Test func aCutOffResponseIsAnError() throws {
        let bench = try Bench { _, responder in
            responder.start(HTTPResponseHead(.ok), contentLength: 10)
            responder.write(Array("short".utf8))
        }
        let result = send(HTTPClientRequest(target: "/", host: "x"), to: bench)
        guard case .failure = result else {
            Issue.record("a short response was taken")
            return
        }
    }

    @Test func aSilentServerIsGivenUp() throws {
        var held: [HTTPResponder] = []
        let bench = try Bench { _, responder in held.append(responder) }
        var configuration = HTTPClient.Configuration()
        configuration.responseTimeout = .milliseconds(60)
        let result = send(
            HTTPClientRequest(target: "/", host: "x"), to: bench, configuration: configuration)
        guard case .failure(.timedOut) = result else {
            Issue.record("not timed out")
            return
        }
        #expect(bench.run { held.first?.isCancelled == true })
    }

    @Test func aSilentStreamOfEventsIsNotGivenUpButOtherContentIs() throws {
        var held: [HTTPResponder] = []
        let bench = try Bench { _, responder in
            responder.start(HTTPResponseHead(.ok))
            held.append(responder)
        }
        var configuration = HTTPClient.Configuration()
        configuration.responseTimeout = .milliseconds(100)
        configuration.streamTimeout = nil
        var wasSilent = false
        let timer = bench.loop.makeTimer {
            wasSilent = true
            held.first?.end()
        }
        configuration.onHead = { _ in timer.arm(at: bench.loop.now + .milliseconds(200)) }
        let request = HTTPClientRequest(target: "/", host: "x")
        guard case .success = send(request, to: bench, configuration: configuration) else {
            Issue.record("given up")
            return
        }
        #expect(wasSilent)
        configuration.onHead = nil
        configuration.responseTimeout = .seconds(60)
        configuration.streamTimeout = .milliseconds(60)
        guard case .failure(.timedOut) = send(request, to: bench, configuration: configuration) else {
            Issue.record("not given up")
            return
        }
    }

    @Test func nobodyListeningIsAConnectionError() throws {
        let bench = try Bench(answer: echoPath)
        bench.server.stopAccepting()
        let result = send(HTTPClientRequest(target: "/", host: "x"), to: bench)
        guard case .failure(.connection) = result else {
            Issue.record("connected to nobody")
            return
        }
    }

    @Test func contentOverTheBoundIsRefused() throws {
        let bench = try Bench { _, responder in
            responder.respond(.ok, body: [UInt8](repeating: 0x61, count: 100))
        }
        var configuration = HTTPClient.Configuration()
        configuration.bodyBytes = 99
        let result = send(
            HTTPClientRequest(target: "/", host: "x"), to: bench, configuration: configuration)
        guard case .failure(.malformed(.contentTooLarge)) = result else {
            Issue.record("too large and taken")
            return
        }
    }
}
