import DeviceProtocol
import Testing

@Suite struct DatagramFramingTests {
    private func decode(_ bytes: [UInt8]) -> (flowID: UInt64, byteCount: Int)? {
        DatagramFraming.decode(bytes.span)
    }

    @Test(
        arguments: [
            (0, [0]), (63, [0x3f]), (64, [0x40, 0x40]), (16_383, [0x7f, 0xff]),
            (16_384, [0x80, 0, 0x40, 0]), (1 << 30 - 1, [0xbf, 0xff, 0xff, 0xff]),
            (1 << 30, [0xc0, 0, 0, 0, 0x40, 0, 0, 0]),
            (DatagramFraming.largestFlowID, [UInt8](repeating: 0xff, count: 8)),
        ] as [(UInt64, [UInt8])])
    func flowIDsTakeAsManyBytesAsTheyNeed(flowID: UInt64, bytes: [UInt8]) throws {
        #expect(DatagramFraming.encode(flowID) == bytes)
        let framed = bytes + [1, 2]
        let (decoded, start) = try #require(decode(framed))
        #expect(decoded == flowID)
        #expect(start == bytes.count)
        for count in 0..<bytes.count { #expect(decode(Array(bytes.prefix(count))) == nil) }
    }

    /// RFC 9000 section A.1: the same number in more bytes than it needs.
    @Test func longerFormsAreReadToo() throws {
        let (flowID, start) = try #require(decode([0x40, 0x25]))
        #expect(flowID == 37)
        #expect(start == 2)
    }
}
