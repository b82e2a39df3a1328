import DeviceProtocol
import Testing

@Suite struct PopURLTests {
    @Test(arguments: [
        ("wss://host", "wss://host:443"), ("ws://host", "ws://host:80"), ("WSS://h:8443/", "wss://h:8443"),
        ("wss://10.0.0.1:1", "wss://10.0.0.1:1"), ("wss://[::1]", "wss://[::1]:443"),
        ("wss://[2001:db8::1]:8443/v1/control", "wss://[2001:db8::1]:8443"),
    ])
    func urlOfAPOPIsRead(text: String, canonical: String) {
        #expect(PopURL(text)?.description == canonical)
    }

    @Test(arguments: [
        "", "host", "https://host", "wss://", "wss:///", "wss://h:0", "wss://h:65536", "wss://h:",
        "wss://::1",
        "wss://user@h", "wss://h/path", "wss://h?x=1", "wss://h#f", "wss://[::1", "wss://a b",
        "wss://[1.2.3.4]", "wss://[::1]x:1",
    ])
    func anythingElseIsRefused(text: String) {
        #expect(PopURL(text) == nil)
    }
}
