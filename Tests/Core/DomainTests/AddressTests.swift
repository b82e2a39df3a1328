import Domain
import Testing

@Suite struct AddressTests {
    @Test(arguments: [
        ("0.0.0.0", UInt32(0)), ("255.255.255.255", .max), ("127.0.0.1", 0x7f00_0001),
        ("10.20.30.40", 0x0a14_1e28),
    ])
    func `IPv4 literals`(text: String, value: UInt32) {
        #expect(IPv4Address(text)?.value == value)
        #expect(IPv4Address(value).description == text)
    }

    @Test(arguments: [
        "", "1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.4 ",
        "a.b.c.d", "0x7f.0.0.1", "1.2.3.-4", "1.2.3.1000",
    ])
    func `what is no IPv4 literal`(text: String) {
        #expect(IPv4Address(text) == nil)
    }

    /// Any spelling of RFC 4291, and the one of RFC 5952.
    @Test(arguments: [
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:0DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"), ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("::ffff:c000:201", "::ffff:192.0.2.1"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
        ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"), ("fe80::1", "fe80::1"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ])
    func `IPv6 literals and their canonical text`(text: String, canonical: String) throws {
        let address = try #require(IPv6Address(text))
        #expect(address.description == canonical)
        #expect(IPv6Address(canonical) == address)
    }

    @Test(arguments: [
        "", ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::g",
        "1:2:3:4:5:6:7:", ":1:2:3:4:5:6:7", "::1.2.3", "1.2.3.4::", "::1.2.3.4:5", "fe80::1%eth0", "[::1]",
        "1:2:3:4:5:6:7:1.2.3.4", "::1:2:3:4:5:6:7:8", "1:::2", "::ffff:1.2.3.4.5", " ::1",
    ])
    func `what is no IPv6 literal`(text: String) {
        #expect(IPv6Address(text) == nil)
    }

    @Test(arguments: [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.168.1.1", "198.18.0.1",
        "198.19.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1",
        "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
        "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "100::1", "fc00::1", "fd12:3456::1", "fe80::1",
        "febf::1", "fec0::1", "ff02::1",
    ])
    func `addresses that must not be reached from outside`(text: String) throws {
        #expect(try #require(IPAddress(text)).isPrivate)
    }

    @Test(arguments: [
        "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.0", "169.253.0.1", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255",
        "192.169.0.0", "198.17.0.1", "198.20.0.0", "223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
        "2002:808:808::", "2001:4860::8888", "2606:4700::1111", "fbff::1",
    ])
    func `addresses of the public Internet`(text: String) throws {
        #expect(try !#require(IPAddress(text)).isPrivate)
    }

    @Test func `a v4-mapped address is its v4 address`() {
        #expect(IPAddress("::ffff:1.2.3.4")?.unmapped == IPAddress("1.2.3.4"))
        #expect(IPAddress("::1")?.unmapped == IPAddress("::1"))
    }

    @Test(arguments: [
        ("10.1.0.0/16", "10.1.255.255", true), ("10.1.0.0/16", "10.2.0.0", false),
        ("10.1.0.0/16", "::ffff:10.1.0.1", false), ("0.0.0.0/0", "255.1.2.3", true),
        ("0.0.0.0/0", "::", false),
        ("::/0", "ffff::1", true), ("::/0", "1.2.3.4", false),
        ("2001:db8:0:0:8000::/65", "2001:db8::8000:0:0:1", true),
        ("2001:db8:0:0:8000::/65", "2001:db8::1", false),
        ("2001:db8::1", "2001:db8::1", true), ("2001:db8::1", "2001:db8::2", false),
        ("1.2.3.4/32", "1.2.3.4", true), ("1.2.3.4/32", "1.2.3.5", false),
    ])
    func `networks contain their addresses and nothing else`(
        network: String, address: String, contains: Bool
    ) throws {
        let block = try #require(IPNetwork(network))
        #expect(block.contains(try #require(IPAddress(address))) == contains)
        #expect(IPNetwork(block.description) == block)
    }

    @Test(arguments: [
        "10.1.0.1/16", "10.0.0.0/33", "::1/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "/8",
        "10.0.0.0/0008", "10.0.0.0/+8", "x/8", "::1/64",
    ])
    func `what is no network`(text: String) {
        #expect(IPNetwork(text) == nil)
    }

    @Test func `socket addresses`() {
        #expect(SocketAddress("127.0.0.1:0")?.port == 0)
        #expect(SocketAddress("[::1]:443")?.description == "[::1]:443")
        for text in [
            "::1:443", "[127.0.0.1]:1", "127.0.0.1", "127.0.0.1:65536", "host:1", "[::1]", "[::1]443",
        ] {
            #expect(SocketAddress(text) == nil, "\(text)")
        }
    }

    @Test func `targets are names, IPv4 and bracketed IPv6 with a port above 0`() {
        #expect(Target("example.com:443")?.host == .name("example.com"))
        #expect(Target("a_b.example:1")?.description == "a_b.example:1")
        #expect(Target("[2001:db8::1]:80")?.description == "[2001:db8::1]:80")
        #expect(Target("1.2.3.4:65535")?.host == .address(.v4(IPv4Address(0x0102_0304))))
        let long = String(repeating: "a", count: 255)
        #expect(Target("\(long):1") != nil && Target("a\(long):1") == nil)
        for text in [
            "example.com", "example.com:0", "example.com:", ":80", "2001:db8::1:80", "[1.2.3.4]:80",
            "[example.com]:80", "exa mple:80", "a/b:80", "a@b:80", "[::1]:65536", "[::1", "host:080000",
            "host:+80", "hôst:80", "\u{0}:80",
        ] {
            #expect(Target(text) == nil, "\(text)")
        }
    }

    @Test func `splitting host and port takes the last colon or the brackets`() throws {
        let name = try #require(splitHostPort("a:b:80"))
        #expect(name.host == "a:b" && name.port == 80)
        let literal = try #require(splitHostPort("[::1]:0"))
        #expect(literal.host == "::1" && literal.port == 0)
        for text in ["", ":", "a", "a:", ":1", "[]:1", "[a]", "[a]1", "a:99999", "a:123456", "a:1x"] {
            #expect(splitHostPort(text) == nil, "\(text)")
        }
    }
}
