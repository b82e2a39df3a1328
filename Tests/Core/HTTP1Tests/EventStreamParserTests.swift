import HTTP1
import Testing

struct EventStreamParserTests {
    private typealias Event = EventStreamParser.Event

    private static let samples: [(stream: String, events: [EventStreamParser.Event])] = [
        ("data: one\n\n", [.init(name: "message", data: "one")]),
        (
            "data:one\r\rdata: two\r\n\r\n",
            [.init(name: "message", data: "one"), .init(name: "message", data: "two")]
        ),
        (
            "event: conn.closed\nid: 7\ndata: {\"a\":1}\n\n",
            [.init(name: "conn.closed", data: "{\"a\":1}", id: "7")]
        ),
        ("data: a\ndata:  b\ndata\ndata: c\n\n", [.init(name: "message", data: "a\n b\n\nc")]),
        (": comment\n\n\nevent: x\n\ndata: y\n\n", [.init(name: "message", data: "y")]),
        (
            "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
            [
                .init(name: "message", data: "a", id: "1"), .init(name: "message", data: "b", id: "1"),
                .init(name: "message", data: "c"),
            ]
        ),
        ("id: a\u{0}b\nid: 2\nid: c\u{0}\ndata: x\n\n", [.init(name: "message", data: "x", id: "2")]),
        ("\u{feff}data: mark\n\n\u{feff}data: lost\n\n", [.init(name: "message", data: "mark")]),
        ("data: cut off\n", []),
        ("data\n\ndata: \n\n", []),
        ("unknown: x\nDATA: x\ndata : x\n\n", []),
        ("data: zwölf 東京\n\n", [.init(name: "message", data: "zwölf 東京")]),
        ("data: a:b: c\nevent:: e\n\n", [.init(name: ": e", data: "a:b: c")]),
    ]

    @Test(arguments: samples.indices)
    func samplesAreReadWholeAndSplitAtEveryByte(index: Int) throws {
        let sample = Self.samples[index]
        let bytes = Array(sample.stream.utf8)
        for split in 0...bytes.count {
            var parser = EventStreamParser()
            let events = try parser.receive(bytes[..<split]) + parser.receive(bytes[split...])
            #expect(events == sample.events, "split at \(split)")
        }
        var parser = EventStreamParser()
        var events: [Event] = []
        for byte in bytes { events += try parser.receive([byte]) }
        #expect(events == sample.events)
    }

    @Test func theLastIDOutlivesItsEvent() throws {
        var parser = EventStreamParser(lastEventID: "40")
        #expect(try parser.receive("data: a\n\n".utf8) == [Event(name: "message", data: "a", id: "40")])
        _ = try parser.receive("id: 41\n: no event\n\n".utf8)
        #expect(parser.lastEventID == "41")
        _ = try parser.receive("id: 42\ndata: not complete\n".utf8)
        #expect(parser.lastEventID == "41")
    }

    @Test(arguments: [
        ("retry: 1500\n", 1_500), ("retry: 1s\n", nil), ("retry: -1\n", nil),
        ("retry: 99999999999999999999\n", nil),
    ])
    func retryIsANumberOfMilliseconds(line: String, expected: Int?) throws {
        var parser = EventStreamParser()
        _ = try parser.receive(line.utf8)
        #expect(parser.retryMilliseconds == expected)
    }

    @Test func eventsAndLinesHaveALimit() throws {
        let line = "data: " + String(repeating: "x", count: 58) + "\n"
        var parser = EventStreamParser(longestEvent: 64)
        #expect(try parser.receive((line + "\n").utf8).count == 1)
        #expect(throws: EventStreamParser.TooLong.self) { try parser.receive((line + line).utf8) }
        var endless = EventStreamParser(longestEvent: 64)
        #expect(throws: EventStreamParser.TooLong.self) {
            try endless.receive(repeatElement(UInt8(ascii: ":"), count: 65))
        }
    }
}
