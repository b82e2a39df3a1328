import HTTP1
import Testing

@Suite struct EncoderTests {
    private let date = Array("Sun, 06 Nov 1994 08:49:37 GMT".utf8)

    private func encode(
        _ head: HTTPResponseHead, length: Int?, isHead: Bool = false, version: HTTPVersion = .http11,
        keepsAlive: Bool = true
    ) -> (lines: [String], content: ResponseEncoder.Content, keepsAlive: Bool) {
        var output: [UInt8] = []
        var keeps = keepsAlive
        let content = ResponseEncoder.encode(
            head, to: ResponseEncoder.Request(isHead: isHead, version: version), length: length,
            keepsAlive: &keeps, date: date, into: &output)
        let text = String(decoding: output, as: UTF8.self)
        #expect(text.hasSuffix("\r\n\r\n"))
        return (text.split(separator: "\r\n").map(String.init), content, keeps)
    }

    @Test func aWholeResponseHasDateAndLength() {
        let (lines, content, keeps) = encode(HTTPResponseHead(.notFound, ["X": "y"]), length: 12)
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT"
        #expect(lines == ["HTTP/1.1 404 Not Found", date, "X: y", "Content-Length: 12"])
        #expect(content == .plain && keeps)
    }

    @Test func responsesWithoutContentSayNoLength() {
        for status in [HTTPStatus.noContent, .notModified] {
            let (lines, content, _) = encode(HTTPResponseHead(status), length: 0)
            #expect(lines.count == 2)
            #expect(content == .none)
        }
        let (lines, content, _) = encode(HTTPResponseHead(.ok), length: 7, isHead: true)
        #expect(lines.contains("Content-Length: 7"))
        #expect(content == .none)
        #expect(encode(HTTPResponseHead(.ok), length: nil, isHead: true).lines.count == 2)
    }

    @Test func unknownLengthIsChunkedOrEndsWithTheConnection() {
        let (lines, content, keeps) = encode(HTTPResponseHead(.ok), length: nil)
        #expect(lines.last == "Transfer-Encoding: chunked")
        #expect(content == .chunked && keeps)
        let old = encode(HTTPResponseHead(.ok), length: nil, version: .http10)
        #expect(old.lines.last == "Connection: close")
        #expect(old.content == .plain && !old.keepsAlive)
    }

    @Test func connectionSaysWhatTheReaderCouldNotAssume() {
        #expect(encode(HTTPResponseHead(.ok), length: 0, keepsAlive: false).lines.last == "Connection: close")
        #expect(
            encode(HTTPResponseHead(.ok), length: 0, version: .http10).lines.last == "Connection: keep-alive")
        let upgrade = HTTPResponseHead(.upgradeRequired, ["Upgrade": "websocket"])
        #expect(encode(upgrade, length: 0).lines.last == "Connection: Upgrade")
        #expect(encode(upgrade, length: 0, keepsAlive: false).lines.last == "Connection: close, Upgrade")
    }

    @Test func framingFieldsOfTheHandlerAreLeftOut() {
        let fields: HTTPFields = [
            "content-length": "99", "Transfer-Encoding": "gzip", "Connection": "close", "Date": "x",
            "Keep-Alive": "y",
        ]
        #expect(encode(HTTPResponseHead(.ok, fields), length: 1).lines.count == 3)
    }

    @Test(arguments: [1, 15, 16, 255, 4_096, 1_048_576, Int.max])
    func aChunkSizeIsHexadecimal(_ size: Int) {
        var output: [UInt8] = []
        ResponseEncoder.encodeChunkHead(size, into: &output)
        #expect(String(decoding: output, as: UTF8.self) == String(size, radix: 16) + "\r\n")
    }

    @Test func whatIsWrittenIsReadBackAsItWas() throws {
        var output: [UInt8] = []
        var keeps = true
        let head = HTTPResponseHead(.accepted, ["A": "b", "C": ""])
        _ = ResponseEncoder.encode(
            head, to: ResponseEncoder.Request(), length: nil, keepsAlive: &keeps, date: date, into: &output)
        ResponseEncoder.encodeChunkHead(5, into: &output)
        output += Array("hello".utf8) + ResponseEncoder.chunkEnd
        ResponseEncoder.encodeLastChunk(["T": "u"], into: &output)
        #expect(
            responseTranscript([output], method: .get) == ["head 202 chunked", "body hello", "end keep T: u"])

        var request: [UInt8] = []
        try RequestEncoder.encode(
            method: .put, target: "/a?b", host: "x:1",
            fields: ["Host": "evil", "Content-Length": "7", "B": "c"],
            length: 2, into: &request)
        request += Array("ok".utf8)
        #expect(
            requestTranscript([request]) == ["head PUT /a?b 1.1 keep length 2", "body ok", "end"])
        #expect(
            String(decoding: request, as: UTF8.self).hasPrefix("PUT /a?b HTTP/1.1\r\nHost: x:1\r\nB: c\r\n"))
    }

    @Test func aRequestThatWouldBeReadOtherwiseIsNotWritten() {
        var output: [UInt8] = []
        for (method, target, host, failure) in [
            ("G T", "/", "x", RequestEncoder.Failure.malformedMethod),
            ("GET", "/ HTTP/1.1\r\nX: y", "x", .malformedTarget), ("GET", "", "x", .malformedTarget),
            ("GET", "/", "x\r\nX: y", .malformedHost), ("GET", "/", "", .malformedHost),
        ] {
            #expect(throws: failure) {
                try RequestEncoder.encode(
                    method: HTTPMethod(method), target: target, host: host, fields: [:], length: 0,
                    into: &output)
            }
        }
        #expect(output.isEmpty)
    }
}
