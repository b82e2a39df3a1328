import AdminAPI
import Domain
import EventLoop
import HTTP1
import Store
import TestKit
import Testing

/// What is done with content, as the head of its request says.
struct AdminContentTests {
    private let bench: AdminBench

    init() throws {
        bench = try AdminBench()
        bench.backend.nodes = []
    }

    /// What the node answers to `text`, until it closes or has answered so much.
    private func answer(_ text: String, until isEnough: (String) -> Bool = { _ in false }) -> String {
        let recorder = StreamRecorder()
        func received() -> String { String(decoding: recorder.received, as: UTF8.self) }
        let stream = TCPStream.connect(
            on: bench.loop, to: bench.address, timeout: .seconds(5), handler: recorder)
        stream.write(Array(text.utf8))
        #expect(
            bench.run { recorder.hasPeerFinished || recorder.isEnded || isEnough(received()) },
            "no end of the answer to \(text)")
        stream.abort()
        return received()
    }

    private func head(_ line: String, _ token: String? = nil, _ fields: String...) -> String {
        let authorization = token.map { ["Authorization: Bearer \($0)"] } ?? []
        return (["\(line) HTTP/1.1", "Host: x"] + authorization + fields + ["", ""])
            .joined(separator: "\r\n")
    }

    private func status(_ answer: String) -> Int? {
        Int(answer.dropFirst("HTTP/1.1 ".count).prefix(3))
    }

    /// Nothing of the content has come, and nothing of it ever does.
    @Test(arguments: [
        ("POST /v1/conns/close", nil, 401), ("POST /v1/conns/close", "nobody", 401),
        ("POST /v1/nothing", nil, 404), ("PATCH /v1/conns/close", "nobody", 405),
        ("POST /v1/%ff", nil, 400), ("GET /livez", nil, 200), ("OPTIONS /livez", nil, 204),
        ("GET /v1/conns", nil, 401), ("POST /internal/events", nil, 404),
    ])
    func contentOfStrangersIsNotWaitedFor(line: String, token: String?, expected: Int) {
        for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
            for expectation in ["Accept: */*", "Expect: 100-continue"] {
                let text = answer(head(line, token, framing, expectation))
                #expect(status(text) == expected, "\(framing) \(expectation)")
                #expect(text.contains("Connection: close\r\n"))
                #expect(!text.contains("100 Continue"))
            }
        }
        #expect(bench.backend.questions.isEmpty)
    }

    @Test(arguments: [
        ("POST /v1/conns/close", "read-token", "Expect: 100-continue", 403),
        ("POST /v1/nothing", "read-token", "Expect: 100-continue", 404),
        ("PUT /v1/conns/close", "read-token", "Expect: 100-continue", 405),
        ("POST /v1/conns/close", "operate-token", "Content-Type: text/plain", 415),
        ("POST /v1/nodes/self/drain", "operate-token", "Content-Encoding: gzip", 415),
        ("DELETE /v1/nodes/self/drain", "operate-token", "Content-Type: text/plain", 415),
    ])
    func whatTheHeadRefusesIsAnsweredAtOnce(line: String, token: String, field: String, expected: Int) {
        let text = answer(head(line, token, "Content-Length: 100", field))
        #expect(status(text) == expected)
        #expect(text.contains("Connection: close\r\n"))
        #expect(!text.contains("100 Continue"))
        #expect(bench.backend.drainRequests.isEmpty && bench.backend.state == .active)
    }

    @Test func contentThatIsTooLargeForAReasonIsNotWaitedFor() {
        for (line, token, count, expected) in [
            ("POST /v1/conns/close", "read-token", 65_537, 403),
            ("POST /v1/nothing", "read-token", 65_537, 404),
            ("POST /v1/conns/close", "operate-token", 1_048_577, 413),
        ] {
            let text = answer(head(line, token, "Content-Length: \(count)"))
            #expect(status(text) == expected)
            #expect(text.contains("Connection: close\r\n"))
        }
    }

    @Test func contentOfACallThatIsLetInIsWaitedFor() {
        let body = #"{"user":"x"}"#
        let first = head(
            "POST /v1/conns/close", "operate-token", "Content-Length: \(body.utf8.count)",
            "Expect: 100-continue")
        let waiting = answer(first) { $0.hasSuffix("\r\n\r\n") }
        #expect(waiting == "HTTP/1.1 100 Continue\r\n\r\n")
        let text = answer(first + body) { $0.contains("closed") }
        #expect(status(text) == 200)
        #expect(!text.contains("Connection: close"))
    }

    @Test(arguments: [
        (HTTPMethod.post, "/v1/nodes/self/drain", "read-token", 403),
        (.post, "/v1/nothing", "read-token", 404), (.patch, "/v1/nodes/self/drain", "read-token", 405),
    ])
    func theReasonOfWhatIsRefusedIsOnRecord(
        method: HTTPMethod, path: String, token: String, status: UInt16
    ) throws {
        let body = #"{"deadline_seconds":5,"reason":"upgrade"}"#
        #expect(try bench.send(method, path, body: body, token: token).status == status)
        #expect(bench.backend.audit.last?.reason == "upgrade")
        #expect(bench.backend.audit.last?.actor == "read")
        // The body's counts, as it does for what is done.
        _ = try bench.send(method, path + "?reason=other", body: body, token: token)
        #expect(bench.backend.audit.last?.reason == "upgrade")
        for body in [#"{"reason":7}"#, "[]", "{", #""reason""#] {
            #expect(
                try bench.send(method, path + "?reason=other", body: body, token: token).status == status)
            #expect(bench.backend.audit.last?.reason == "other")
        }
        #expect(bench.backend.drainRequests.isEmpty)
    }

    @Test func theReasonOfACallWhoseAnswerNobodyTakesIsOnRecord() throws {
        let answer = try bench.send(
            .post, "/v1/nodes/self/drain", body: #"{"reason":"upgrade"}"#, fields: ["Accept": "text/html"])
        #expect(answer.status == 406)
        #expect(bench.backend.audit.last?.reason == "upgrade")
    }

    /// Else a client could ask for nothing, as often as it likes, and see by its content who is known.
    @Test func aWrongTokenCountsAlsoWhereThereIsNothing() throws {
        for _ in 0..<60 { _ = try bench.send(.post, "/v1/nothing", body: "{}", token: "wrong") }
        #expect(try bench.get("/v1/conns", token: "wrong").status == 429)
    }
}
