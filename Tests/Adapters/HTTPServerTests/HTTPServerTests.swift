import Domain
import EventLoop
import HTTP1
import HTTPServer
import Testing

@Suite struct HTTPServerTests {
    @Test func aRequestIsAnsweredAndTheConnectionKept() throws {
        let bench = try Bench(answer: echoPath)
        let client = bench.connect()
        client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { client.text.hasSuffix("/a") })
        #expect(client.text.hasPrefix("HTTP/1.1 200 OK\r\nDate: "))
        #expect(client.text.contains("GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/a"))
        client.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { client.text.hasSuffix("/b") })
        #expect(!client.hasEnded)
        #expect(bench.server.statistics.requests == 2)
        #expect(bench.server.connectionCount == 1)
    }

    @Test func pipelinedRequestsAreAnsweredInOrderThoughTheFirstAnswerIsLate() throws {
        var late: HTTPResponder?
        let bench = try Bench { request, responder in
            if request.target.path == "/late" { late = responder } else { echoPath(request, responder) }
        }
        let client = bench.connect()
        client.send("GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
        client.send("GET /two HTTP/1.1\r\nHost: x\r\n\r\nGET /three HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { bench.handler.requests.count == 3 })
        bench.settle()
        #expect(client.text.isEmpty)
        late?.respond(.created, body: Array("one".utf8))
        #expect(bench.run { client.text.hasSuffix("/three") })
        #expect(client.statuses == [201, 200, 200])
        let text = client.text
        let order = ["one", "/two", "/three"].compactMap { text.firstRange(of: "\r\n\r\n\($0)")?.lowerBound }
        #expect(order == order.sorted() && order.count == 3)
    }

    @Test func answersToOneBatchOfRequestsGoOutTogether() throws {
        let bench = try Bench(answer: echoPath)
        let client = bench.connect()
        client.send(String(repeating: "GET /a HTTP/1.1\r\nHost: x\r\n\r\n", count: 40))
        #expect(bench.run { client.statuses.count == 40 })
        #expect(client.pieces == 1)
    }

    @Test func moreRequestsThanMayBeInFlightWaitAndAreAllAnswered() throws {
        var configuration = HTTPServer.Configuration()
        configuration.limits.requestsInFlight = 3
        var responders: [HTTPResponder] = []
        let bench = try Bench(configuration: configuration) { _, responder in responders.append(responder) }
        let client = bench.connect()
        for index in 0..<10 { client.send("GET /\(index) HTTP/1.1\r\nHost: x\r\n\r\n") }
        #expect(bench.run { responders.count == 3 })
        bench.settle()
        #expect(responders.count == 3)
        var answered = 0
        while answered < 10 {
            #expect(bench.run { responders.count > answered })
            guard responders.count > answered else { break }
            responders[answered].respond(.ok, body: Array("\(answered)".utf8))
            answered += 1
        }
        #expect(bench.run { client.statuses.count == 10 })
        #expect(bench.handler.requests.map(\.target.path) == (0..<10).map { "/\($0)" })
    }

    @Test func aHalfClosedClientStillGetsItsAnswers() throws {
        var held: [HTTPResponder] = []
        let bench = try Bench { _, responder in held.append(responder) }
        let client = bench.connect()
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        client.stream?.finishWriting()
        #expect(bench.run { held.count == 2 })
        bench.settle()
        for responder in held { responder.respond(.ok) }
        #expect(bench.run { client.hasEnded })
        #expect(client.statuses == [200, 200])
        #expect(bench.server.connectionCount == 0)
    }

    @Test func aClientThatIsGoneIsToldToTheResponder() throws {
        var held: HTTPResponder?
        let bench = try Bench { _, responder in held = responder }
        var cancelled = 0
        let client = bench.connect()
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { held != nil })
        held?.onCancel = { cancelled += 1 }
        client.stream?.abort()
        #expect(bench.run { cancelled == 1 })
        #expect(held?.isCancelled == true)
        held?.respond(.ok)
        held = nil
        #expect(bench.server.connectionCount == 0)
    }

    @Test func aDroppedResponderAnswers500() throws {
        let bench = try Bench { _, _ in }
        let client = bench.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n") { !$0.received.isEmpty }
        #expect(client.statuses == [500])
        #expect(client.text.contains("application/problem+json"))
    }

    @Test func aHeadResponseTellsTheLengthAndHasNoBody() throws {
        let bench = try Bench(answer: echoPath)
        let client = bench.exchange("HEAD /abc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        #expect(client.text.contains("Content-Length: 4\r\n"))
        #expect(client.text.hasSuffix("\r\n\r\n"))
    }

    @Test func aClientOf10IsClosedUnlessItAsksToBeKept() throws {
        let bench = try Bench(answer: echoPath)
        let closed = bench.exchange("GET /a HTTP/1.0\r\n\r\n")
        #expect(closed.text.contains("Connection: close\r\n"))
        #expect(closed.text.hasSuffix("/a"))
        let kept = bench.exchange("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") {
            $0.text.hasSuffix("/a")
        }
        #expect(kept.text.contains("Connection: keep-alive\r\n"))
        #expect(!kept.hasEnded)
    }

    @Test func expectContinueIsAnsweredBeforeTheContentAndItsLackIsNot() throws {
        let bench = try Bench { request, responder in responder.respond(.ok, body: request.body) }
        let client = bench.connect()
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        #expect(bench.run { client.text == "HTTP/1.1 100 Continue\r\n\r\n" })
        client.send("hello")
        #expect(bench.run { client.text.hasSuffix("hello") })
        let eager = bench.exchange(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
        ) { $0.text.hasSuffix("hello") }
        #expect(eager.statuses == [200])
    }

    @Test func contentOverTheBoundIsRefusedBeforeItIsSent() throws {
        let bench = try Bench(answer: echoPath)
        bench.handler.bound = 10
        let client = bench.exchange(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
        #expect(client.statuses == [413])
        let chunked = bench.exchange(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n3\r\n")
        #expect(chunked.statuses == [413])
        #expect(chunked.text.contains("Connection: close"))
    }

    @Test func aRequestWhoseContentIsLeftIsHandledAtOnceAndIsTheLast() throws {
        var held: HTTPResponder?
        let bench = try Bench { request, responder in
            if request.target.path == "/late" { return held = responder }
            #expect(request.isContentLeft && request.body.isEmpty)
            responder.respond(.unauthorized)
        }
        bench.handler.leaves = { $0.target.path == "/left" }
        let client = bench.connect()
        client.send(
            "GET /late HTTP/1.1\r\nHost: x\r\n\r\n"
                + "POST /left HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n"
                + "GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { bench.handler.requests.count == 2 })
        bench.settle()
        #expect(client.received.isEmpty)
        held?.respond(.ok)
        #expect(bench.run { client.hasEnded })
        #expect(client.statuses == [200, 401])
        #expect(client.text.contains("Connection: close\r\n"))
        #expect(bench.handler.requests.map(\.target.path) == ["/late", "/left"])
    }

    /// What the client still sends must not reset the connection under the answer.
    @Test func theAnswerOutlivesTheContentThatWasLeft() throws {
        let bench = try Bench { _, responder in responder.respond(.unauthorized) }
        bench.handler.leaves = { _ in true }
        let client = bench.connect()
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        client.send(String(repeating: "a", count: 1_000_000))
        #expect(bench.run { client.hasEnded })
        #expect(client.statuses == [401])
        #expect(client.error == nil)
    }

    @Test func anUpgradeWhoseContentIsLeftIsNone() throws {
        let bench = try Bench { _, responder in
            _ = responder.upgrade(HTTPResponseHead(.switchingProtocols, ["Upgrade": "test"]))
        }
        bench.handler.leaves = { _ in true }
        let client = bench.exchange(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\nContent-Length: 3\r\n\r\n")
        #expect(client.statuses == [400])
    }

    @Test(arguments: [
        ("GET /", 9_000, " HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: ", 40_000, "\r\n\r\n", 431),
        ("GET / HTTP/1.1", 0, "\r\n\r\n", 400), ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 0, "", 505),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip", 0, "\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: x\r\nExpect: miracle", 0, "\r\n\r\n", 417),
    ])
    func aFaultIsAnsweredWithItsStatusAndClose(
        _ start: String, _ filling: Int, _ end: String, _ status: Int
    ) throws {
        let bench = try Bench(answer: echoPath)
        let client = bench.exchange(start + String(repeating: "a", count: filling) + end)
        #expect(client.statuses == [status])
        #expect(client.text.contains("Connection: close\r\n"))
        #expect(client.text.contains(#""status":\#(status),"#))
        #expect(bench.run { bench.server.connectionCount == 0 })
        #expect(bench.handler.requests.isEmpty)
    }

    @Test func aFaultBehindGoodRequestsIsAnsweredAfterThem() throws {
        var held: HTTPResponder?
        let bench = try Bench { _, responder in held = responder }
        let client = bench.connect()
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        #expect(bench.run { held != nil })
        bench.settle()
        #expect(client.received.isEmpty)
        held?.respond(.ok)
        #expect(bench.run { client.hasEnded })
        #expect(client.statuses == [200, 400])
    }

    @Test func aSlowHeadIsAnswered408AndAnIdleConnectionClosedSilently() throws {
        var configuration = HTTPServer.Configuration()
        configuration.times.head = .milliseconds(60)
        configuration.times.keepAlive = .milliseconds(60)
        let bench = try Bench(configuration: configuration, answer: echoPath)
        let slow = bench.exchange("GET / HTTP/1.1\r\nHost")
        #expect(slow.statuses == [408])
        let silent = bench.exchange("")
        #expect(silent.received.isEmpty)
        let idle = bench.exchange("GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(idle.statuses == [200])
        #expect(idle.text.hasSuffix("/a"))
    }

    @Test func slowContentIsAnswered408() throws {
        var configuration = HTTPServer.Configuration()
        configuration.times.body = .milliseconds(60)
        let bench = try Bench(configuration: configuration, answer: echoPath)
        let client = bench.exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
        #expect(client.statuses == [408])
    }

    @Test func contentThatComesOctetByOctetIsAnswered408() throws {
        var configuration = HTTPServer.Configuration()
        configuration.times.wholeBody = .milliseconds(60)
        let bench = try Bench(configuration: configuration, answer: echoPath)
        let client = bench.connect()
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        #expect(
            bench.run {
                client.send("a")
                return client.hasEnded
            })
        #expect(client.statuses == [408])
    }

    /// The server stops to read because the client doesn't take its answers: that is no fault of the content.
    @Test func contentThatTheServerDoesNotReadIsNotTooSlow() throws {
        var configuration = HTTPServer.Configuration()
        configuration.times.body = .milliseconds(40)
        configuration.times.wholeBody = .milliseconds(40)
        let piece = [UInt8](repeating: 0x61, count: 262_144)
        var held: HTTPResponder?
        let bench = try Bench(configuration: configuration) { request, responder in
            if request.method == .get { held = responder } else { responder.respond(.ok, body: request.body) }
        }
        // When the head of the second request has been read, and nothing of its content.
        bench.handler.onHead = {
            held?.start(HTTPResponseHead(.ok))
            // More than the kernel takes.
            while let held, held.bufferedBytes < 4 * piece.count { held.write(piece) }
            held?.end()
        }
        let client = bench.connect()
        client.stream?.pauseReading()
        client.send(
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        #expect(bench.run { held != nil })
        bench.settle()
        let later = bench.loop.now + .milliseconds(120)
        #expect(bench.run { bench.loop.now > later })
        client.send("end")
        client.stream?.resumeReading()
        #expect(bench.run { client.hasEnded || client.received.suffix(3) == Array("end".utf8) })
        #expect(bench.handler.requests.count == 2)
        #expect(client.received.suffix(3) == Array("end".utf8))
    }

    @Test func nothingBehindAResponseThatSaysCloseIsDone() throws {
        var held: HTTPResponder?
        let bench = try Bench { request, responder in
            guard request.head.version == .http10 else { return responder.respond(.ok) }
            responder.start(HTTPResponseHead(.ok))
            held = responder
        }
        let client = bench.connect()
        // Its end is the connection's: nobody can tell how long it is.
        client.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        #expect(bench.run { client.text.contains("Connection: close\r\n") })
        client.send("DELETE /b HTTP/1.1\r\nHost: x\r\n\r\n")
        bench.settle()
        held?.end()
        #expect(bench.run { client.hasEnded })
        #expect(bench.handler.requests.map(\.target.path) == ["/a"])
        #expect(client.statuses == [200])
    }

    @Test func nothingBehindAnEarlyAnswerThatWillCloseIsDone() throws {
        var held: HTTPResponder?
        let bench = try Bench { request, responder in
            if request.target.path == "/late" { return held = responder }
            responder.start(HTTPResponseHead(.ok))
            responder.end()
        }
        let client = bench.connect()
        client.send(
            "GET /late HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                + "DELETE /b HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { bench.handler.requests.count == 2 })
        client.send("DELETE /c HTTP/1.1\r\nHost: x\r\n\r\n")
        bench.settle()
        held?.respond(.ok)
        #expect(bench.run { client.hasEnded })
        #expect(bench.handler.requests.map(\.target.path) == ["/late", "/a"])
        #expect(client.statuses == [200, 200])
    }

    @Test func aRequestThatAStoppingServerHasNotReadIsNotDone() throws {
        var held: HTTPResponder?
        let bench = try Bench { _, responder in held = responder }
        let client = bench.connect()
        client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nDELETE /b HT")
        #expect(bench.run { held != nil })
        var isStopped = false
        bench.server.stop { isStopped = true }
        held?.start(HTTPResponseHead(.ok))
        #expect(bench.run { client.text.contains("Connection: close\r\n") })
        client.send("TP/1.1\r\nHost: x\r\n\r\n")
        bench.settle()
        held?.end()
        #expect(bench.run { client.hasEnded && isStopped })
        #expect(bench.handler.requests.map(\.target.path) == ["/a"])
    }

    @Test func aClientThatDoesNotReadIsCutOffAndHoldsBoundedMemory() throws {
        var configuration = HTTPServer.Configuration()
        configuration.times.write = .milliseconds(100)
        let body = [UInt8](repeating: 0x61, count: 4_194_304)
        var cancelled = 0
        let bench = try Bench(configuration: configuration) { _, responder in
            responder.start(HTTPResponseHead(.ok))
            responder.onCancel = {
                cancelled += 1
                withExtendedLifetime(responder) {}
            }
            for _ in 0..<4 { responder.write(body) }
        }
        let client = bench.connect()
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.stream?.pauseReading()
        #expect(bench.run { cancelled == 1 })
        #expect(bench.server.connectionCount == 0)
    }

    @Test func aStreamedResponseIsChunkedAndEndsByCloseForAClientOf10() throws {
        let bench = try Bench { _, responder in
            responder.start(HTTPResponseHead(.ok, ["Content-Type": "text/event-stream"]))
            responder.write(Array("one".utf8))
            responder.write(Array("two".utf8))
            responder.end()
        }
        let client = bench.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n") { $0.text.hasSuffix("0\r\n\r\n") }
        #expect(client.text.contains("Transfer-Encoding: chunked\r\n"))
        #expect(client.text.hasSuffix("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"))
        let old = bench.exchange("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        #expect(old.text.contains("Connection: close\r\n"))
        #expect(old.text.hasSuffix("\r\n\r\nonetwo"))
    }

    @Test func upgradeHandsTheStreamOverWithWhatFollowed() throws {
        let taker = RawClient()
        var received: [UInt8] = []
        let bench = try Bench { request, responder in
            #expect(request.head.offersUpgrade)
            let head = HTTPResponseHead(.switchingProtocols, ["Upgrade": "test"])
            guard let upgraded = responder.upgrade(head) else { return }
            received = upgraded.received
            taker.stream = upgraded.stream
            upgraded.stream.handler = taker
        }
        let client = bench.connect()
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nraw bytes")
        #expect(bench.run { client.text.hasSuffix("\r\n\r\n") })
        #expect(client.text.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n"))
        #expect(client.text.contains("Upgrade: test\r\nConnection: Upgrade\r\n\r\n"))
        #expect(String(decoding: received, as: UTF8.self) == "raw bytes")
        #expect(bench.server.connectionCount == 0)
        client.send("more")
        #expect(bench.run { taker.text == "more" })
        taker.send("back")
        #expect(bench.run { client.text.hasSuffix("back") })
    }

    @Test func aDeclinedUpgradeGoesOnAsHTTP() throws {
        let bench = try Bench(answer: echoPath)
        let client = bench.exchange(
            "GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                + "GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
        ) { $0.text.hasSuffix("/b") }
        #expect(client.statuses == [200, 200])
    }

    @Test func anUpgradeBehindAnUnansweredRequestWaitsForItsAnswer() throws {
        var held: HTTPResponder?
        let bench = try Bench { request, responder in
            if request.head.offersUpgrade {
                _ = responder.upgrade(HTTPResponseHead(.switchingProtocols))
            } else {
                held = responder
            }
        }
        let client = bench.connect()
        client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        client.send("GET /b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
        #expect(bench.run { held != nil })
        bench.settle()
        #expect(bench.handler.requests.count == 1)
        held?.respond(.ok)
        #expect(bench.run { client.statuses == [200, 101] })
    }

    @Test func aRefusedConnectClosesAndATakenOneIsATunnel() throws {
        let refused = try Bench { _, responder in responder.respond(.methodNotAllowed) }
        let client = refused.exchange("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        #expect(client.statuses == [405])
        var tunnel: HTTPResponder.Upgraded?
        let taken = try Bench { _, responder in tunnel = responder.upgrade(HTTPResponseHead(.ok)) }
        let second = taken.exchange("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nabc") { !$0.received.isEmpty }
        #expect(second.text.hasSuffix("GMT\r\n\r\n"))
        #expect(tunnel?.received == Array("abc".utf8))
    }

    @Test func stoppingAnswersWhatIsInFlightAndClosesIdleConnections() throws {
        var held: [HTTPResponder] = []
        let bench = try Bench { _, responder in held.append(responder) }
        let idle = bench.connect()
        let busy = bench.connect()
        busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { held.count == 2 && bench.server.connectionCount == 2 })
        var isStopped = false
        bench.server.stop { isStopped = true }
        #expect(bench.run { idle.hasEnded })
        #expect(!isStopped)
        for responder in held { responder.respond(.ok) }
        #expect(bench.run { busy.hasEnded && isStopped })
        #expect(busy.statuses == [200, 200])
        #expect(busy.text.contains("Connection: close\r\n"))
    }

    /// Each piece of its body comes in time, and so does never the whole.
    @Test func aSlowClientDoesNotKeepTheServerFromStopping() throws {
        let bench = try Bench(answer: echoPath)
        let slow = bench.connect()
        slow.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
        #expect(bench.run { !slow.received.isEmpty })
        var isStopped = false
        bench.server.stop(patience: .milliseconds(30)) { isStopped = true }
        #expect(!isStopped)
        #expect(bench.run { isStopped && slow.hasEnded })
        #expect(slow.text == "HTTP/1.1 100 Continue\r\n\r\n")
    }

    @Test func oneConnectionMoreThanTheLimitIsClosed() throws {
        var configuration = HTTPServer.Configuration()
        configuration.connectionLimit = 1
        let bench = try Bench(configuration: configuration, answer: echoPath)
        let first = bench.exchange("GET /a HTTP/1.1\r\nHost: x\r\n\r\n") { !$0.received.isEmpty }
        let second = bench.exchange("GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(first.statuses == [200])
        #expect(second.received.isEmpty)
        #expect(bench.server.statistics.connectionsRefused == 1)
    }
}
