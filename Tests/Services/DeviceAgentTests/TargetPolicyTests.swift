import DeviceAgent
import Domain
import Testing

@Suite struct TargetPolicyTests {
    private func policy(allow: [String] = [], deny: [String] = []) -> TargetPolicy {
        TargetPolicy(
            allowed: allow.compactMap { TargetRule($0) }, denied: deny.compactMap { TargetRule($0) })
    }

    private func address(_ text: String) throws -> IPAddress {
        try #require(IPAddress(text))
    }

    @Test(arguments: [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "0.0.0.0", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ])
    func privateAddressesAreRefusedByDefault(text: String) throws {
        #expect(!policy().permits(try address(text), port: 80, name: nil))
        #expect(!policy().permits(try address(text), port: 80, name: "example.com"))
    }

    @Test(arguments: ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
    func publicAddressesAreDialledByDefault(text: String) throws {
        #expect(policy().permits(try address(text), port: 80, name: nil))
        #expect(policy(allow: ["10.0.0.0/8"]).permits(try address(text), port: 80, name: nil))
    }

    @Test(
        arguments: [
            ("127.0.0.0/8", "127.0.0.1", 80, true), ("127.0.0.1", "127.0.0.1", 80, true),
            ("127.0.0.1:80", "127.0.0.1", 80, true), ("127.0.0.1:80", "127.0.0.1", 81, false),
            ("127.0.0.1", "127.0.0.2", 80, false), ("127.0.0.0/8", "::ffff:127.0.0.1", 80, true),
            ("::1", "::1", 80, true), ("[::1]:80", "::1", 80, true), ("[::1]:80", "::1", 81, false),
            ("fd00::/8", "fd12::1", 80, true), ("0.0.0.0/0", "192.168.0.1", 80, true),
            ("0.0.0.0/0", "::1", 80, false),
        ] as [(String, String, UInt16, Bool)])
    func allowedAddressOpensWhatIsPrivate(rule: String, text: String, port: UInt16, expected: Bool) throws {
        #expect(policy(allow: [rule]).permits(try address(text), port: port, name: nil) == expected)
    }

    @Test func allowedNameOpensThePrivateAddressItResolvesTo() throws {
        let loopback = try address("127.0.0.1")
        let byName = policy(allow: ["Printer.LAN.:9100"])
        #expect(byName.permits(loopback, port: 9_100, name: "printer.lan"))
        #expect(!byName.permits(loopback, port: 80, name: "printer.lan"))
        #expect(!byName.permits(loopback, port: 9_100, name: "other.lan"))
        #expect(!byName.permits(loopback, port: 9_100, name: nil))
        #expect(policy(allow: ["printer.lan"]).permits(loopback, port: 1, name: "PRINTER.lan."))
    }

    @Test func denyAlwaysWins() throws {
        let open = try address("1.1.1.1")
        #expect(!policy(deny: ["1.1.1.0/24"]).permits(open, port: 80, name: nil))
        #expect(!policy(deny: ["1.1.1.0/24"]).permits(try address("::ffff:1.1.1.1"), port: 80, name: nil))
        #expect(!policy(allow: ["1.1.1.1"], deny: ["1.1.1.1:80"]).permits(open, port: 80, name: nil))
        #expect(policy(deny: ["1.1.1.1:80"]).permits(open, port: 81, name: nil))
        #expect(!policy(deny: ["bad.example"]).permits(open, port: 80, name: "BAD.example."))
        #expect(policy(deny: ["bad.example:25"]).refuses(name: "bad.example", port: 25))
        #expect(!policy(deny: ["bad.example:25"]).refuses(name: "bad.example", port: 80))
        let loopback = try address("127.0.0.1")
        #expect(
            !policy(allow: ["localhost"], deny: ["127.0.0.0/8"]).permits(loopback, port: 1, name: "localhost")
        )
    }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "10.0.0.1/8", "10.0.0.0/33", "300.1.1.1", "host:0", "host:70000", "a b",
        "host:", "[::1]", "::1]:80", "*.example.com", "http://x", "10.0.0.0/8:80",
    ])
    func malformedRulesAreRefused(text: String) {
        #expect(TargetRule(text) == nil)
    }
}
