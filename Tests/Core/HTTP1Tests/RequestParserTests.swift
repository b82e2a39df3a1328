import Foundation
import HTTP1
import Testing

@Suite struct RequestParserTests {
    static let files = ["requests.md", "request-lines.md", "fields.md", "framing.md", "chunks.md"]
    static let tail = Array("GET /tail HTTP/1.1\r\nHost: tail\r\n\r\n".utf8)

    @Test func theCorporaAreFound() {
        for file in Self.files { #expect(CorpusCase.read(file).count > 30, "\(file)") }
    }

    @Test(arguments: files.flatMap(CorpusCase.read))
    func octetsMeanTheSameHoweverTheyArrive(_ sample: CorpusCase) {
        for pieces in arrivals(sample.octets) {
            let transcript = requestTranscript(pieces)
            guard transcript != sample.events else { continue }
            let cuts = pieces.map(\.count).prefix(3)
            Issue.record("\(transcript) instead of \(sample.events), cut at \(cuts)")
            return
        }
    }

    @Test(arguments: files.flatMap(CorpusCase.read))
    func aRequestBehindThemChangesNothing(_ sample: CorpusCase) {
        let transcript = requestTranscript([sample.octets + Self.tail])
        switch sample.events.last {
        case "more":
            break
        case let last where last?.hasPrefix("fault") == true:
            #expect(transcript == sample.events)
        default:
            #expect(transcript == sample.events + ["head GET /tail 1.1 keep none", "end"])
        }
    }

    @Test func aFaultIsThrownForEver() throws {
        var parser = RequestParser(limits: HTTPLimits())
        var position = 0
        let bad = Array("GET / HTTP/3.0\r\n".utf8)
        #expect(throws: HTTPFault.unsupportedVersion) { _ = try parser.next(bad.span, &position) }
        position = 0
        #expect(throws: HTTPFault.unsupportedVersion) { _ = try parser.next(Self.tail.span, &position) }
    }

    @Test func theBoundOfContentIsTheHandlers() throws {
        var parser = RequestParser(limits: HTTPLimits())
        let octets = Array("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".utf8)
        var position = 0
        guard case .head = try parser.next(octets.span, &position) else {
            Issue.record("no head")
            return
        }
        parser.bodyBound = 4
        #expect(throws: HTTPFault.contentTooLarge) { _ = try parser.next(octets.span, &position) }
    }

    @Test func manyTinyChunksAreBounded() {
        var limits = HTTPLimits()
        limits.chunkOverheadBytes = 1_000
        let chunks = String(repeating: "1\r\na\r\n", count: 1_000)
        let octets = Array(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(chunks)".utf8)
        #expect(requestTranscript([octets], limits: limits).last == "fault contentTooLarge 413")
    }

    // MARK: Properties

    /// Random mutations of the corpora never crash, mean the same in any pieces, and never give more than
    /// came in.
    @Test func anyOctetsAreReadTheSameHoweverTheyArrive() {
        let seed =
            ProcessInfo.processInfo.environment["POP_TEST_SEED"].flatMap(UInt64.init)
            ?? .random(in: 0...(.max))
        var random = SeededRandom(seed)
        let samples = Self.files.flatMap(CorpusCase.read).filter { $0.octets.count < 2_000 }
        for round in 0..<4_000 {
            guard var octets = samples.randomElement(using: &random)?.octets else { return }
            if Bool.random(using: &random) {
                octets += samples.randomElement(using: &random)?.octets ?? []
            }
            for _ in 0..<Int.random(in: 0...4, using: &random) { mutate(&octets, &random) }
            let whole = requestTranscript([octets])
            let pieces = cut(octets, &random)
            let cutUp = requestTranscript(pieces)
            #expect(whole == cutUp, "round \(round) of POP_TEST_SEED=\(seed): \(escaped(octets))")
            let content = whole.filter { $0.hasPrefix("body ") }.reduce(0) { $0 + $1.utf8.count / 4 - 5 }
            #expect(content <= octets.count, "round \(round) of POP_TEST_SEED=\(seed)")
            if whole != cutUp { return }
        }
    }

    private static let interesting: [UInt8] = [
        0, 9, 10, 13, 32, 34, 44, 48, 49, 58, 59, 61, 91, 92, 95, 127, 128, 255,
    ]

    private func mutate(_ octets: inout [UInt8], _ random: inout SeededRandom) {
        guard !octets.isEmpty else { return }
        let index = Int.random(in: 0..<octets.count, using: &random)
        let octet =
            Bool.random(using: &random)
            ? Self.interesting.randomElement(using: &random) ?? 0 : UInt8.random(in: 0...255, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: octets[index] = octet
        case 1: octets.insert(octet, at: index)
        case 2: octets.remove(at: index)
        default:
            let end = Int.random(in: index...min(octets.count, index + 20), using: &random)
            octets.insert(contentsOf: octets[index..<end], at: index)
        }
    }

    private func cut(_ octets: [UInt8], _ random: inout SeededRandom) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var start = 0
        while start < octets.count {
            let end = min(octets.count, start + Int.random(in: 0...17, using: &random))
            pieces.append(Array(octets[start..<end]))
            start = end
        }
        return pieces
    }
}
