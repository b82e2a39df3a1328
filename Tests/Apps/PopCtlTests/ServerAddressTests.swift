import PopCtl
import Testing

struct ServerAddressTests {
    @Test(arguments: [
        ("http://h", false, "h", 80, "h"), ("https://h/", true, "h", 443, "h"),
        ("http://h:9080", false, "h", 9_080, "h:9080"), ("https://[::1]:1", true, "::1", 1, "[::1]:1"),
        ("https://[::1]", true, "::1", 443, "[::1]"),
    ])
    func wellFormedAddressesAreRead(
        text: String, isSecure: Bool, host: String, port: UInt16, authority: String
    ) throws {
        let address = try #require(ServerAddress(text))
        #expect(address.isSecure == isSecure)
        #expect(address.host == host)
        #expect(address.port == port)
        #expect(address.authority == authority)
    }

    @Test(arguments: [
        "", "h", "h:1", "http://", "http://u:p@h", "http://h/x", "http://h?x", "http://h:0", "http://h:99999",
    ])
    func othersAreNot(text: String) {
        #expect(ServerAddress(text) == nil)
    }
}
