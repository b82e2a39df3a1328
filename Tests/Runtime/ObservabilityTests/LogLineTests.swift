import Domain
import Glibc
import Logging
import Observability
import Testing

private let time = WallTime(milliseconds: 1_769_850_300_120)

private func line(
    _ format: LogFormat, _ message: String, error: String? = nil, _ fields: Logger.Metadata = [:]
) -> String {
    String(
        decoding: LogLine.render(
            format, time: time, level: .warning, label: "pop.test", message: message, error: error,
            fields: fields),
        as: UTF8.self)
}

struct LogLineTests {
    @Test func textLineHasTimeLevelLabelMessageAndSortedFields() {
        #expect(
            line(.text, "it happened", ["b": "two words", "a": "1", "empty": "", "q": "a\"=b"])
                == "2026-01-31T09:05:00.120Z warning pop.test: it happened a=1 b=\"two words\" empty=\"\" "
                + "q=\"a\\\"=b\"\n")
    }

    @Test func jsonLineIsOneObject() {
        #expect(
            line(
                .json, "say \"hi\"", error: "no\tway",
                ["n": .stringConvertible(7), "s": "7", "list": ["x"], "map": ["k": "v"]])
                == #"{"time":"2026-01-31T09:05:00.120Z","level":"warning","logger":"pop.test","#
                + #""message":"say \"hi\"","error":"no\tway","#
                + #""fields":{"list":["x"],"map":{"k":"v"},"n":7,"s":"7"}}"# + "\n")
    }

    @Test(arguments: LogFormat.allCases)
    func whatPeersSendStaysOnOneLine(format: LogFormat) {
        let evil = "a\nb\r\u{1b}[31m\u{85}\u{2028}\u{202e}\0c"
        let text = line(format, evil, error: evil, ["k\ney": .string(evil)])
        #expect(text.unicodeScalars.filter { $0.value < 0x20 } == ["\n"])
        #expect(text.hasSuffix("\n"))
        #expect(!text.unicodeScalars.contains { [0x85, 0x2028, 0x202e].contains($0.value) })
        #expect(text.contains(#"a\nb\r\u001b[31m\u0085\u2028\u202e\u0000c"#))
    }

    @Test func longTextIsCut() {
        #expect(line(.text, String(repeating: "x", count: 100_000)).utf8.count < 5_000)
    }

    @Test func handlerWritesEventsAtItsLevelWithAllFields() throws {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let descriptor = ends[1]
        var logger = Logger(label: "pop.pipe") { label in
            LineLogHandler(label: label, level: .info, format: .text, descriptor: descriptor)
        }
        logger[metadataKey: "own"] = "1"
        logger.debug("not this")
        logger.info("this", metadata: ["extra": "2"])
        var buffer = [UInt8](repeating: 0, count: 1_000)
        let count = read(ends[0], &buffer, buffer.count)
        let text = String(decoding: buffer[..<max(0, count)], as: UTF8.self)
        #expect(text.hasSuffix(" info pop.pipe: this extra=2 own=1\n"))
        #expect(text.split(separator: "\n").count == 1)
    }
}
