import HTTP1
import Testing

@Suite struct ResponseParserTests {
    @Test func theCorpusIsFound() {
        #expect(CorpusCase.read("responses.md").count > 30)
    }

    @Test(arguments: CorpusCase.read("responses.md"))
    func octetsMeanTheSameHoweverTheyArrive(_ sample: CorpusCase) {
        let word = sample.name.split(separator: " ").first.map(String.init) ?? ""
        let offersUpgrade = word == "UPGRADE"
        let method = offersUpgrade ? HTTPMethod.get : HTTPMethod(word)
        for pieces in arrivals(sample.octets) {
            let transcript = responseTranscript(pieces, method: method, offersUpgrade: offersUpgrade)
            guard transcript != sample.events else { continue }
            Issue.record("\(transcript) instead of \(sample.events), cut at \(pieces.map(\.count).prefix(3))")
            return
        }
    }

    @Test func aCloseEndsOnlyWhatLastsUntilThen() throws {
        for (text, isWhole) in [
            ("HTTP/1.1 200 OK\r\n\r\nabc", true), ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
            ("HTTP/1.1 20", false),
            ("", false),
        ] {
            var parser = ResponseParser(limits: HTTPLimits(), method: .get)
            let octets = Array(text.utf8)
            var position = 0
            while position < octets.count {
                if case .needMore = try parser.next(octets.span, &position) { break }
            }
            #expect(parser.endsWithClose == isWhole, "\(text)")
            if isWhole {
                try parser.finish()
            } else {
                #expect(throws: HTTPFault.truncated) { try parser.finish() }
            }
        }
    }

    @Test(arguments: [
        "Content-Length: 6\r\n\r\n", "\r\nabcdef", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\n",
    ])
    func contentAboveTheBoundIsRefused(_ rest: String) {
        let octets = Array("HTTP/1.1 200 OK\r\n\(rest)".utf8)
        let transcript = responseTranscript([octets], method: .get, bodyBound: 5)
        #expect(transcript.last == "fault contentTooLarge")
    }
}
