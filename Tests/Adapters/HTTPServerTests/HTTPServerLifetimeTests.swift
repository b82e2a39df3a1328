import Domain
import EventLoop
import HTTP1
import HTTPServer
import Testing

/// Who holds whom: a server and its connections are gone with their last client.
@Suite struct HTTPServerLifetimeTests {
    private static let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    /// Serves until `serve` is done with the bench, which is dropped then; whether the server went with it.
    private func serverIsFreed(
        _ answer: @escaping (HTTPRequest, HTTPResponder) -> Void, after serve: (Bench) -> Void
    ) throws -> Bool {
        weak var server: HTTPServer?
        func run() throws {
            let bench = try Bench(answer: answer)
            server = bench.server
            serve(bench)
            bench.server.stopAccepting()
            bench.run { bench.server.connectionCount == 0 }
            bench.settle()
        }
        try run()
        return server == nil
    }

    @Test func answeredAndClosedConnectionsHoldNothing() throws {
        let isFreed = try serverIsFreed(echoPath) { bench in
            let client = bench.exchange(Self.request + Self.request) { $0.statuses.count == 2 }
            client.stream?.abort()
        }
        #expect(isFreed)
    }

    @Test func aResponderThatIsKeptHoldsNothingOfAClientThatIsGone() throws {
        var kept: [HTTPResponder] = []
        let isFreed = try serverIsFreed({ _, responder in kept.append(responder) }) { bench in
            let client = bench.connect()
            client.send(Self.request + Self.request)
            bench.run { kept.count == 2 }
            client.stream?.abort()
        }
        #expect(isFreed && kept.count == 2)
        #expect(kept.allSatisfy { $0.isCancelled && $0.stream == nil })
        for responder in kept { responder.respond(.ok) }
    }

    @Test func aResponseThatNeverEndsIsLetGoOfWithItsClient() throws {
        var kept: HTTPResponder?
        let answer = { (_: HTTPRequest, responder: HTTPResponder) in
            responder.start(HTTPResponseHead(.ok))
            responder.write([1])
            kept = responder
        }
        let isFreed = try serverIsFreed(answer) { bench in
            let client = bench.exchange(Self.request) { $0.text.contains("\r\n\r\n1") }
            client.stream?.abort()
        }
        #expect(isFreed && kept?.isCancelled == true)
    }

    @Test func aStreamThatWasHandedOverLeavesTheServer() throws {
        var taken: HTTPResponder.Upgraded?
        let isFreed = try serverIsFreed({ _, responder in taken = responder.upgrade(HTTPResponseHead(.ok)) })
        {
            _ = $0.exchange("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n") { !$0.received.isEmpty }
        }
        #expect(isFreed && taken != nil)
        taken?.stream.abort()
    }
}
