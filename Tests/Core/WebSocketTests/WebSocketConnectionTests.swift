import TestKit
import Testing
import WebSocket

/// A client's frame with a fixed mask.
private func masked(_ opcode: WebSocketOpcode, isFinal: Bool = true, _ payload: [UInt8]) -> [UInt8] {
    WebSocketFrame.encode(opcode, isFinal: isFinal, payload, mask: 0x37fa_213d)
}

private let textLimits = WebSocketLimits(acceptsText: true)

/// What a fresh connection makes of `bytes`: whole, split at every byte, and byte by byte, all equal.
private func events(
    _ bytes: [UInt8], role: WebSocketRole = .server, limits: WebSocketLimits = textLimits,
    sourceLocation: SourceLocation = #_sourceLocation
) -> [WebSocketConnection.Event] {
    var connection = WebSocketConnection(role: role, limits: limits)
    let whole = connection.receive(bytes[...])
    // Long samples are split near their ends only: headers and last bytes are where splits matter.
    let splits = bytes.indices.filter { $0 < 200 || $0 >= bytes.count - 20 }
    for split in splits {
        var other = WebSocketConnection(role: role, limits: limits)
        let parts = other.receive(bytes[..<split]) + other.receive(bytes[split...])
        #expect(parts == whole, "split at \(split)", sourceLocation: sourceLocation)
    }
    var byByte = WebSocketConnection(role: role, limits: limits)
    var parts: [WebSocketConnection.Event] = []
    for index in bytes.indices { parts += byByte.receive(bytes[index...index]) }
    #expect(parts == whole, "byte by byte", sourceLocation: sourceLocation)
    return whole
}

@Suite struct WebSocketConnectionTests {
    // MARK: The examples of RFC 6455 section 5.7

    @Test func `the RFC's unmasked and masked Hello`() {
        #expect(events([0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], role: .client) == [.text("Hello")])
        #expect(
            events([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]) == [.text("Hello")])
        #expect(
            WebSocketFrame.encode(.text, Array("Hello".utf8), mask: 0x37fa_213d)
                == [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])
    }

    @Test func `the RFC's fragmented Hello, ping and pong`() {
        #expect(
            events([0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f], role: .client) == [.text("Hello")])
        let hello = Array("Hello".utf8)
        #expect(events([0x89, 0x05] + hello, role: .client) == [.ping(hello)])
        #expect(
            events([0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]) == [.pong(hello)])
    }

    @Test(arguments: [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
    func `lengths around the borders of the encodings`(count: Int) {
        let payload = pattern(count)
        #expect(events(masked(.binary, payload)) == [.binary(payload)])
        let plain = WebSocketFrame.encode(.binary, payload, mask: nil)
        #expect(plain.count == count + (count < 126 ? 2 : count < 65_536 ? 4 : 10))
        #expect(events(plain, role: .client) == [.binary(payload)])
    }

    // MARK: Fragments

    @Test func `control frames may stand between the fragments of a message`() {
        let bytes =
            masked(.binary, isFinal: false, [1]) + masked(.ping, [9])
            + masked(.continuation, isFinal: false, [])
            + masked(.pong, []) + masked(.continuation, [2]) + masked(.binary, [3])
        #expect(events(bytes) == [.ping([9]), .pong([]), .binary([1, 2]), .binary([3])])
    }

    @Test func `a continuation of nothing and a message inside another are faults`() {
        #expect(events(masked(.continuation, [1])) == [.failed(.unexpectedContinuation)])
        #expect(
            events(masked(.binary, [1]) + masked(.continuation, [1]))
                == [.binary([1]), .failed(.unexpectedContinuation)])
        #expect(
            events(masked(.binary, isFinal: false, [1]) + masked(.binary, [2]))
                == [.failed(.interleavedMessage)])
        #expect(
            events(masked(.text, isFinal: false, []) + masked(.text, [])) == [.failed(.interleavedMessage)])
    }

    // MARK: Headers

    @Test func `reserved bits and opcodes are faults`() {
        for bit in [UInt8(0x40), 0x20, 0x10, 0x70] {
            #expect(events([0x82 | bit, 0x80, 0, 0, 0, 0]) == [.failed(.reservedBits)])
        }
        for opcode in [UInt8(3), 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            #expect(events([0x80 | opcode, 0x80, 0, 0, 0, 0]) == [.failed(.reservedOpcode(opcode))])
        }
    }

    @Test func `the mask must be there from a client and not from a server`() {
        #expect(events([0x82, 0x01, 0x00]) == [.failed(.wrongMasking)])
        #expect(events(masked(.binary, [0]), role: .client) == [.failed(.wrongMasking)])
    }

    @Test func `control frames are whole and short`() {
        for opcode in [UInt8(8), 9, 10] {
            #expect(events([opcode, 0x80, 0, 0, 0, 0]) == [.failed(.fragmentedControlFrame)])
            #expect(events([0x80 | opcode, 0x80 | 126, 0, 126]) == [.failed(.oversizedControlFrame)])
            #expect(events([0x80 | opcode, 0x80 | 127]) == [.failed(.oversizedControlFrame)])
        }
        #expect(events(masked(.ping, pattern(125))) == [.ping(pattern(125))])
    }

    @Test func `lengths are written in as few bytes as possible and in 63 bits`() {
        #expect(events([0x82, 126, 0, 125], role: .client) == [.failed(.lengthNotMinimal)])
        #expect(
            events([0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], role: .client) == [.failed(.lengthNotMinimal)])
        #expect(events([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], role: .client) == [.failed(.lengthTooLarge)])
    }

    // MARK: Limits

    @Test func `a frame or message above its limit fails at its header`() {
        let limits = WebSocketLimits(messageBytes: 10, frameBytes: 6)
        #expect(events(masked(.binary, pattern(6)), limits: limits) == [.binary(pattern(6))])
        #expect(events(Array(masked(.binary, pattern(7))[..<6]), limits: limits) == [.failed(.frameTooBig)])
        let pieces =
            masked(.binary, isFinal: false, pattern(6)) + masked(.continuation, isFinal: false, pattern(4))
        #expect(events(pieces + masked(.continuation, []), limits: limits).count == 1)
        #expect(events(pieces + masked(.continuation, [1]), limits: limits) == [.failed(.messageTooBig)])
        #expect(
            events([0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255], role: .client) == [
                .failed(.frameTooBig)
            ])
        #expect(
            WebSocketFault.frameTooBig.closeCode == 1_009 && WebSocketFault.messageTooBig.closeCode == 1_009)
    }

    // MARK: Text

    @Test func `text is refused where only binary is spoken`() {
        #expect(events(masked(.text, [0x41]), limits: WebSocketLimits()) == [.failed(.textNotAccepted)])
        #expect(WebSocketFault.textNotAccepted.closeCode == 1_003)
    }

    @Test func `characters may be split over fragments`() {
        let bytes = Array("κόσμε 𝄞".utf8)
        for split in bytes.indices {
            let frames =
                masked(.text, isFinal: false, Array(bytes[..<split]))
                + masked(.continuation, Array(bytes[split...]))
            #expect(events(frames) == [.text("κόσμε 𝄞")])
        }
    }

    @Test(
        arguments: [
            [0x80], [0xc0, 0x80], [0xc1, 0xbf], [0xe0, 0x9f, 0xbf], [0xed, 0xa0, 0x80],
            [0xf0, 0x8f, 0xbf, 0xbf],
            [0xf4, 0x90, 0x80, 0x80], [0xf5], [0xff], [0xce, 0xce], [0xe2, 0x82, 0x41],
        ] as [[UInt8]])
    func `text that is no UTF-8 fails before its message is complete`(bad: [UInt8]) {
        let frames = masked(.text, isFinal: false, [0x41] + bad)
        #expect(events(frames) == [.failed(.invalidUTF8)])
        #expect(WebSocketFault.invalidUTF8.closeCode == 1_007)
    }

    @Test func `text that ends inside a character fails at its end`() {
        #expect(events(masked(.text, [0x41, 0xe2, 0x82])) == [.failed(.invalidUTF8)])
        #expect(
            events(masked(.text, isFinal: false, [0xe2, 0x82]) + masked(.continuation, []))
                == [.failed(.invalidUTF8)])
    }

    // MARK: Closing

    @Test func `a close with and without a code, after which nothing is heard`() {
        #expect(events(masked(.close, []) + masked(.binary, [1])) == [.close(nil)])
        let payload: [UInt8] = [0x03, 0xe8] + Array("bye".utf8)
        #expect(
            events(masked(.close, payload) + [0xff, 0xff])
                == [.close(WebSocketCloseStatus(code: 1_000, reason: "bye"))])
    }

    @Test func `a close inside a message is heard`() {
        #expect(events(masked(.binary, isFinal: false, [1]) + masked(.close, [])) == [.close(nil)])
    }

    @Test func `a close of one byte, a code that must not be sent, a reason that is no UTF-8`() {
        #expect(events(masked(.close, [3])) == [.failed(.malformedClose)])
        #expect(events(masked(.close, [3, 0xe8, 0xff])) == [.failed(.invalidUTF8)])
        #expect(events(masked(.close, [3, 0xe8, 0xe2, 0x82])) == [.failed(.invalidUTF8)])
        for code in [0, 999, 1_004, 1_005, 1_006, 1_015, 1_016, 1_100, 2_000, 2_999, 5_000, 65_535]
            as [UInt16]
        {
            let payload = [UInt8(code >> 8), UInt8(code & 255)]
            #expect(events(masked(.close, payload)) == [.failed(.invalidCloseCode(code))])
        }
        for code in [1_000, 1_001, 1_002, 1_003, 1_007, 1_011, 1_012, 1_013, 1_014, 3_000, 4_999] as [UInt16]
        {
            let payload = [UInt8(code >> 8), UInt8(code & 255)]
            #expect(events(masked(.close, payload)) == [.close(WebSocketCloseStatus(code: code))])
        }
    }

    @Test func `after our close nothing is sent but the peer is still heard`() {
        var random = SeededRandom(seed: 1)
        var connection = WebSocketConnection(role: .server, limits: textLimits)
        #expect(connection.binary([1], using: &random) == [0x82, 1, 1])
        let frame = connection.close(WebSocketCloseStatus(code: 1_001, reason: "on"), using: &random)
        #expect(frame == [0x88, 4, 0x03, 0xe9, 0x6f, 0x6e])
        #expect(connection.close(nil, using: &random) == nil)
        #expect(connection.binary([1], using: &random) == nil)
        #expect(connection.text("a", using: &random) == nil)
        #expect(connection.ping(using: &random) == nil && connection.pong([], using: &random) == nil)
        #expect(connection.receive(masked(.binary, [5])[...]) == [.binary([5])])
        #expect(connection.receive(masked(.close, [])[...]) == [.close(nil)])
        #expect(connection.hasReceivedEnd && connection.hasSentClose)
    }

    @Test func `a long reason is cut at the end of a character`() throws {
        var random = SeededRandom(seed: 1)
        var connection = WebSocketConnection(role: .server)
        let reason = String(repeating: "€", count: 60)
        let frame = try #require(
            connection.close(WebSocketCloseStatus(code: 1_000, reason: reason), using: &random))
        #expect(frame.count == 2 + 2 + 123)
        var client = WebSocketConnection(role: .client)
        let cut = WebSocketCloseStatus(code: 1_000, reason: String(repeating: "€", count: 41))
        #expect(client.receive(frame[...]) == [.close(cut)])
    }

    // MARK: Properties

    @Test func `whatever a client sends comes out at the server, however it is cut`() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<200 {
            let client = WebSocketConnection(role: .client, limits: textLimits)
            var server = WebSocketConnection(role: .server, limits: textLimits)
            var wire: [UInt8] = []
            var expected: [WebSocketConnection.Event] = []
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                let payload = pattern(Int.random(in: 0...300, using: &random))
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    wire += client.binary(payload, using: &random) ?? []
                    expected.append(.binary(payload))
                case 1:
                    let text = String(repeating: "ß", count: payload.count)
                    wire += client.text(text, using: &random) ?? []
                    expected.append(.text(text))
                case 2:
                    let short = Array(payload.prefix(125))
                    wire += client.ping(short, using: &random) ?? []
                    expected.append(.ping(short))
                default:
                    let cut = Int.random(in: 0...payload.count, using: &random)
                    let mask = UInt32.random(in: .min ... .max, using: &random)
                    wire += WebSocketFrame.encode(.binary, isFinal: false, payload[..<cut], mask: mask)
                    wire += WebSocketFrame.encode(.continuation, payload[cut...], mask: ~mask)
                    expected.append(.binary(payload))
                }
            }
            var received: [WebSocketConnection.Event] = []
            var rest = wire[...]
            while !rest.isEmpty {
                let count = Int.random(in: 1...rest.count, using: &random)
                received += server.receive(rest.prefix(count))
                rest = rest.dropFirst(count)
            }
            #expect(received == expected, "seed \(random.seed)")
        }
    }

    @Test func `random bytes end in events and at most one fault`() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<2_000 {
            var connection = WebSocketConnection(role: Bool.random(using: &random) ? .server : .client)
            var bytes = (0..<Int.random(in: 1...80, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            // Most random first bytes are faults at once; these lead deeper.
            bytes[0] = [0x82, 0x02, 0x80, 0x88, 0x89][Int.random(in: 0..<5, using: &random)]
            let events = connection.receive(bytes[...])
            let faults = events.dropLast().filter { if case .failed = $0 { true } else { false } }
            #expect(faults.isEmpty, "seed \(random.seed)")
            if connection.hasReceivedEnd { #expect(connection.receive([0x89, 0]) == []) }
        }
    }
}
