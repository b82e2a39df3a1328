import Domain
import HTTP1
import HTTPConnect
import TestKit
import Testing

/// One conversation: what the client sends, and what the machine does about it.
struct Conversation: Sendable, CustomTestStringConvertible {
    var situation: String
    var accepts = true
    var input: String
    var actions: [ConnectAction]

    var testDescription: String { situation }
}

private let alice = ConnectCredentials(username: "alice", password: Array("pw:!".utf8))
private let login = "Proxy-Authorization: Basic " + Base64.encode(Array("alice:pw:!".utf8)) + "\r\n"
private let target = Target(host: .name("example.com"), port: 443)
private let plain = ResponseEncoder.Request()

private func head(_ target: String = "example.com:443", _ fields: String = "") -> String {
    "CONNECT \(target) HTTP/1.1\r\nHost: example.com\r\n\(fields)\r\n"
}

private func reject(_ fault: ConnectFault, persists: Bool = false, isHead: Bool = false) -> ConnectAction {
    .reject(
        fault,
        ConnectAnswerForm(request: ResponseEncoder.Request(isHead: isHead), persists: persists))
}

/// Readable at all, but nobody's.
private func unreadable(_ value: String) -> ConnectCredentials? {
    ConnectCredentials(["Proxy-Authorization": value])
}

let conversations: [Conversation] = [
    Conversation(
        situation: "without credentials", input: head(),
        actions: [.authenticate(nil), .request(target, earlyBytes: [])]),
    Conversation(
        situation: "with credentials and early bytes", input: head("example.com:443", login) + "hello",
        actions: [.authenticate(alice), .request(target, earlyBytes: Array("hello".utf8))]),
    Conversation(
        situation: "an IPv6 target", input: head("[2001:db8::1]:8443"),
        actions: [
            .authenticate(nil),
            .request(
                Target(host: .address(.v6(IPv6Address(high: 0x2001_0db8_0000_0000, low: 1))), port: 8443),
                earlyBytes: []),
        ]),
    Conversation(
        situation: "HTTP/1.0, as some libraries ask", input: "CONNECT example.com:443 HTTP/1.0\r\n\r\n",
        actions: [.authenticate(nil), .request(target, earlyBytes: [])]),
    Conversation(
        situation: "a target without a port", input: head("example.com"), actions: [reject(.badTarget)]),
    Conversation(
        situation: "port 0", input: head("example.com:0"), actions: [reject(.badTarget, persists: true)]),
    Conversation(
        situation: "a target that is a URL", input: head("http://example.com/"), actions: [reject(.badTarget)]
    ),
    Conversation(
        situation: "a plain request, and a good one behind it",
        input: "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n" + head(),
        actions: [
            reject(.otherMethod, persists: true), .authenticate(nil), .request(target, earlyBytes: []),
        ]),
    Conversation(
        situation: "HEAD has no content in its answer",
        input: "HEAD http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
        actions: [reject(.otherMethod, persists: true, isHead: true)]),
    Conversation(
        situation: "a plain request with content",
        input: "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nabcde",
        actions: [reject(.otherMethod)]),
    Conversation(
        situation: "a plain request that asks to close",
        input: "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
        actions: [reject(.otherMethod)]),
    Conversation(
        situation: "no Host", input: "CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        actions: [reject(.malformed(.malformedHost))]),
    Conversation(
        situation: "another version", input: "CONNECT example.com:443 HTTP/2.0\r\n\r\n",
        actions: [reject(.malformed(.unsupportedVersion))]),
    Conversation(
        situation: "a bare line feed", input: "CONNECT example.com:443 HTTP/1.1\nHost: example.com\n\n",
        actions: [reject(.malformed(.malformedRequestLine))]),
]

@Suite struct ConnectHandshakeTests {
    @Test(arguments: conversations) func whole(_ conversation: Conversation) {
        #expect(run(conversation, [Array(conversation.input.utf8)]) == conversation.actions)
    }

    /// Bytes behind a CONNECT are early in one piece and later bytes in two, so they are left out here.
    @Test(arguments: conversations) func splitAtEveryByte(_ conversation: Conversation) {
        let bytes = Array(conversation.input.utf8)
        for cut in bytes.indices {
            let actions = run(conversation, [Array(bytes[..<cut]), Array(bytes[cut...])])
            #expect(
                actions.map(\.withoutEarlyBytes) == conversation.actions.map(\.withoutEarlyBytes), "\(cut)")
        }
    }

    @Test func aClientTriesAgainOnTheSameConnection() {
        var handshake = ConnectHandshake()
        handshake.receive(head().utf8)
        #expect(handshake.nextAction() == .authenticate(nil))
        #expect(handshake.refuse() == ConnectAnswerForm(persists: true))
        #expect(handshake.nextAction() == .none)
        handshake.receive(head("example.com:443", login).utf8)
        #expect(handshake.nextAction() == .authenticate(alice))
        handshake.accept()
        #expect(handshake.nextAction() == .request(target, earlyBytes: []))
        #expect(handshake.refuse().persists, "a target that can't be had leaves the connection open")
        handshake.receive(head().utf8)
        #expect(handshake.nextAction() == .authenticate(nil))
    }

    /// Whoever chose the bytes for the target must not speak to the proxy with them.
    @Test func bytesForTheTargetAreNeverARequest() {
        var handshake = ConnectHandshake()
        handshake.receive((head() + head("internal.example:80")).utf8)
        #expect(handshake.nextAction() == .authenticate(nil))
        #expect(!handshake.refuse().persists)
        #expect(handshake.nextAction() == .none)
        handshake.receive(head().utf8)
        #expect(handshake.nextAction() == .none)
    }

    @Test func tooMuchAheadClosesAndSoDoTooManyTries() {
        var handshake = ConnectHandshake()
        handshake.receive(head().utf8)
        #expect(handshake.nextAction() == .authenticate(nil))
        handshake.receive([UInt8](repeating: 0x61, count: ConnectLimits.bufferedBytes + 1))
        #expect(handshake.nextAction() == .close)
        var other = ConnectHandshake()
        for number in 1...ConnectLimits.requests {
            other.receive(head().utf8)
            #expect(other.nextAction() == .authenticate(nil))
            #expect(other.refuse().persists == (number < ConnectLimits.requests))
        }
    }

    @Test(arguments: [
        ("Basic", false), ("Basic ", false), ("Bearer abc", false), ("Basic !!!!", false),
        ("Basic YWJj", false), ("basic YTpi", true), ("BASIC   YTpi", true), ("BasicYTpi", false),
        ("Basic //86YQ==", false), ("Basic YQo6Yg==", false),
    ])
    func credentials(_ value: String, _ isReadable: Bool) {
        #expect(unreadable(value)?.isReadable == isReadable)
    }

    @Test func aPasswordShowsNowhere() {
        #expect(!"\(alice)".contains("pw"))
        #expect(!String(reflecting: alice).contains("pw"))
    }

    /// Whatever comes, in whatever pieces, the machine goes on or ends, and never gives out bytes twice.
    @Test func anythingAtAll() {
        var random = SeededRandom.ofEnvironment()
        let seeds = conversations.map { Array($0.input.utf8) }
        for _ in 0..<3_000 {
            var bytes = seeds.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...4, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            let accepts = Bool.random(using: &random)
            let conversation = Conversation(situation: "", accepts: accepts, input: "", actions: [])
            var pieces: [[UInt8]] = []
            var rest = bytes[...]
            while !rest.isEmpty {
                let piece = rest.prefix(Int.random(in: 1...40, using: &random))
                pieces.append(Array(piece))
                rest = rest.dropFirst(piece.count)
            }
            let inPieces = run(conversation, pieces).map(\.withoutEarlyBytes)
            // A refusal with nothing behind it yet leaves the connection open, so only whole inputs agree.
            if accepts {
                let whole = run(conversation, [bytes]).map(\.withoutEarlyBytes)
                #expect(whole == inPieces, "POP_TEST_SEED=\(random.seed)")
            }
        }
    }

    private func run(_ conversation: Conversation, _ pieces: [[UInt8]]) -> [ConnectAction] {
        var handshake = ConnectHandshake()
        var actions: [ConnectAction] = []
        for piece in pieces {
            handshake.receive(piece)
            while true {
                let action = handshake.nextAction()
                if action == .none { break }
                actions.append(action)
                if case .authenticate = action {
                    if conversation.accepts { handshake.accept() } else { _ = handshake.refuse() }
                }
            }
        }
        return actions
    }
}

extension ConnectAction {
    /// How much is early depends on the pieces, and so does whether a rejected connection can go on.
    fileprivate var withoutEarlyBytes: ConnectAction {
        switch self {
        case .request(let target, _): .request(target, earlyBytes: [])
        case .reject(let fault, let form):
            .reject(fault, ConnectAnswerForm(request: form.request, persists: false))
        default: self
        }
    }
}
