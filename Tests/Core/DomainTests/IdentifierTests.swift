import Domain
import TestKit
import Testing

@Suite struct IdentifierTests {
    @Test func `a UUID goes through text and bytes`() throws {
        let text = "01234567-89ab-4def-8123-456789abcdef"
        let id = try #require(ConnID(text))
        #expect(id.high == 0x0123_4567_89ab_4def && id.low == 0x8123_4567_89ab_cdef)
        #expect(id.description == text && ConnID(text.uppercased()) == id)
        #expect(id.bytes.count == 16 && ConnID(bytes: id.bytes) == id)
        #expect(id.bytes.first == 0x01 && id.bytes.last == 0xef)
    }

    @Test(arguments: [
        "", "0123456789ab4def8123456789abcdef", "01234567-89ab-4def-8123-456789abcde",
        "01234567-89ab-4def-8123-456789abcdeg", "01234567-89ab-4def-8123-456789abcdef0",
        "0123456-789ab-4def-8123-456789abcdef", "{1234567-89ab-4def-8123-456789abcde}",
        "01234567–89ab-4def-8123-456789abcd",
    ])
    func `what is no UUID`(text: String) {
        #expect(SessionID(text) == nil)
    }

    @Test(arguments: [
        (0, 1, "0"), (9, 1, "9"), (10, 1, "10"), (123, 1, "123"), (7, 3, "007"), (1_000, 2, "1000"),
        (UInt64.max, 1, "18446744073709551615"), (0, 4, "0000"),
    ])
    func `numbers are appended in decimal`(value: UInt64, width: Int, text: String) {
        var bytes = Array("x".utf8)
        bytes.append(digitsOf: value, width: width)
        #expect(String(decoding: bytes, as: UTF8.self) == "x" + text)
    }

    @Test func `only 16 bytes make a UUID`() {
        for count in [0, 1, 15, 17, 32] {
            #expect(SessionID(bytes: [UInt8](repeating: 1, count: count)) == nil)
        }
    }

    @Test func `drawn UUIDs are of version 4 and differ`() {
        var random = SeededRandom.ofEnvironment()
        var seen: Set<ConnID> = []
        for _ in 0..<1_000 {
            let id = ConnID(using: &random)
            let text = Array(id.description)
            #expect(text[14] == "4" && "89ab".contains(text[19]), "seed \(random.seed)")
            #expect(ConnID(id.description) == id)
            seen.insert(id)
        }
        #expect(seen.count == 1_000)
    }

    @Test func `device and node names`() {
        for name in ["a", "dev-1", "A.b_c:D-9", String(repeating: "x", count: 128)] {
            #expect(DeviceID(name)?.description == name && NodeID(name)?.description == name)
        }
        for name in ["", " ", "a b", "a/b", "ä", "a\u{0}", String(repeating: "x", count: 129), "a\n"] {
            #expect(DeviceID(name) == nil && NodeID(name) == nil)
        }
    }

    @Test func `hexadecimal both ways`() {
        #expect(Hexadecimal.encode([0, 1, 0xab, 0xff]) == "0001abff")
        #expect(Hexadecimal.decode("0001aBFf") == [0, 1, 0xab, 0xff] && Hexadecimal.decode("") == [])
        for text in ["0", "abc", "0g", "0x00", " 00", "٠٠"] { #expect(Hexadecimal.decode(text) == nil) }
    }

    /// RFC 4648 section 10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func `the vectors of Base64`(plain: String, encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.decode(encoded) == Array(plain.utf8))
    }

    @Test(arguments: [
        "Z", "Zg", "Zg=", "Zg===", "=", "====", "Z===", "Zh==", "Zm9=", "Zm9v\n", "Zm9v ", "Zm-v", "Zm_v",
        "Zg==Zg==", "Zm9v====", "Zm=v", "é===",
    ])
    func `what is no Base64`(text: String) {
        #expect(Base64.decode(text) == nil)
    }

    @Test func `any bytes go through Base64`() {
        var random = SeededRandom.ofEnvironment()
        for count in 0..<300 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(Base64.decode(Base64.encode(bytes)) == bytes, "seed \(random.seed)")
        }
    }
}
