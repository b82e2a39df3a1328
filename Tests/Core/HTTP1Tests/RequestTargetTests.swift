import HTTP1
import Testing

@Suite struct RequestTargetTests {
    @Test(arguments: [
        ("/", [""]), ("/v1/devices", ["v1", "devices"]), ("/a/", ["a", ""]), ("//", ["", ""]),
        ("/a%2Fb/c%20d", ["a/b", "c d"]), ("/caf%C3%A9", ["café"]), ("/../a", ["..", "a"]),
        ("http://x", [""]), ("http://x/p/q?r", ["p", "q"]), ("/a?b/c", ["a"]), ("/a+b", ["a+b"]),
    ])
    func aPathIsDecodedSegmentBySegment(_ text: String, _ segments: [String]) {
        #expect(RequestTarget(text)?.pathSegments == segments)
    }

    @Test(arguments: ["/%00", "/%0a", "/%7f", "/%ff", "/%C0%AF", "/a/%ed%a0%80"])
    func aSegmentThatIsNoTextHasNoDecoding(_ text: String) throws {
        let target = try #require(RequestTarget(text))
        #expect(target.pathSegments == nil)
    }

    @Test func aQueryIsDecodedPairByPair() throws {
        let target = try #require(RequestTarget("/p?a=1&b&c=&=d&a=x%26y+z&&e=f=g"))
        let pairs = try #require(target.queryPairs).map { "\($0.name)|\($0.value)" }
        #expect(pairs == ["a|1", "b|", "c|", "|d", "a|x&y z", "e|f=g"])
        #expect(target.path == "/p")
        #expect(target.query == "a=1&b&c=&=d&a=x%26y+z&&e=f=g")
        #expect(RequestTarget("/p?a=%ff")?.queryPairs == nil)
        #expect(RequestTarget("/p?a=%0d%0a")?.queryPairs == nil)
        #expect(RequestTarget("/p")?.query == nil)
        #expect(RequestTarget("/p?")?.query == "")
        #expect(RequestTarget("/p?")?.queryPairs?.isEmpty == true)
    }

    @Test func theFormsHaveTheirParts() {
        let absolute = RequestTarget("http://h.example:8080?q")
        #expect(absolute?.form == .absolute)
        #expect(absolute?.authority == "h.example:8080")
        #expect(absolute?.path == "/")
        #expect(absolute?.query == "q")
        let authority = RequestTarget("[::1]:443", method: .connect)
        #expect(authority?.form == .authority)
        #expect(authority?.authority == "[::1]:443")
        #expect(authority?.pathSegments == nil)
        let asterisk = RequestTarget("*", method: .options)
        #expect(asterisk?.form == .asterisk)
        #expect(asterisk?.pathSegments == nil)
        #expect(RequestTarget("") == nil)
        #expect(RequestTarget("/a b") == nil)
        #expect(RequestTarget("/é") == nil)
    }
}
