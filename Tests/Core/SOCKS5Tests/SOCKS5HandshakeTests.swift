import Domain
import SOCKS5
import TestKit
import Testing

/// One conversation: what the client sends, and what the machine does about it.
struct Conversation: Sendable, CustomTestStringConvertible {
    var situation: String
    var requiresPassword = false
    var accepts = true
    var input: [UInt8]
    var actions: [SOCKS5Action]

    var testDescription: String { situation }
}

private let greetingNone: [UInt8] = [5, 1, 0]
private let greetingBoth: [UInt8] = [5, 2, 0, 2]
private let login: [UInt8] = [1, 5] + Array("alice".utf8) + [3] + Array("pw!".utf8)
private let credentials = SOCKS5Credentials(username: "alice", password: Array("pw!".utf8))
private let connectV4: [UInt8] = [5, 1, 0, 1, 192, 0, 2, 7, 0x1f, 0x90]
private let targetV4 = Target(host: .address(.v4(IPv4Address(0xc000_0207))), port: 8080)

private func domain(_ name: String, port: UInt16 = 443, command: UInt8 = 1) -> [UInt8] {
    [5, command, 0, 3, UInt8(name.utf8.count)] + Array(name.utf8)
        + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
}

private func failure(_ code: UInt8) -> [UInt8] { [5, code, 0, 1, 0, 0, 0, 0, 0, 0] }

private func connect(_ target: Target) -> SOCKS5Action {
    .request(SOCKS5Request(command: .connect, target: target), earlyBytes: [])
}

let conversations: [Conversation] = [
    Conversation(
        situation: "no authentication, IPv4", input: greetingNone + connectV4,
        actions: [.send([5, 0]), connect(targetV4)]),
    Conversation(
        situation: "no authentication, IPv6",
        input: greetingNone + [5, 1, 0, 4, 0x20, 1, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [1]
            + [1, 0xbb],
        actions: [
            .send([5, 0]),
            connect(
                Target(host: .address(.v6(IPv6Address(high: 0x2001_0db8_0000_0000, low: 1))), port: 443)),
        ]),
    Conversation(
        situation: "a domain name", input: greetingNone + domain("example.com"),
        actions: [.send([5, 0]), connect(Target(host: .name("example.com"), port: 443))]),
    Conversation(
        situation: "a domain name that is an IPv4 literal", input: greetingNone + domain("10.0.0.1"),
        actions: [
            .send([5, 0]), connect(Target(host: .address(.v4(IPv4Address(0x0a00_0001))), port: 443)),
        ]),
    Conversation(
        situation: "a domain name that is an IPv6 literal", input: greetingNone + domain("::1"),
        actions: [
            .send([5, 0]), connect(Target(host: .address(.v6(IPv6Address(high: 0, low: 1))), port: 443)),
        ]),
    Conversation(
        situation: "the password method is chosen when it is offered",
        input: greetingBoth + login + connectV4,
        actions: [.send([5, 2]), .authenticate(credentials), .send([1, 0]), connect(targetV4)]),
    Conversation(
        situation: "a refused login", accepts: false, input: greetingBoth + login + connectV4,
        actions: [
            .send([5, 2]), .authenticate(credentials), .reject(.authenticationFailed, reply: [1, 1]),
        ]),
    Conversation(
        situation: "an empty password", input: [5, 1, 2, 1, 1, 0x61, 0] + connectV4,
        actions: [
            .send([5, 2]), .authenticate(SOCKS5Credentials(username: "a", password: [])), .send([1, 0]),
            connect(targetV4),
        ]),
    Conversation(
        situation: "a user name that is not UTF-8", input: [5, 1, 2, 1, 2, 0xc3, 0x28, 0],
        actions: [.send([5, 2]), .reject(.authenticationFailed, reply: [1, 1])]),
    Conversation(
        situation: "a user name with a line feed", input: [5, 1, 2, 1, 2, 0x61, 0x0a, 0],
        actions: [.send([5, 2]), .reject(.authenticationFailed, reply: [1, 1])]),
    Conversation(
        situation: "a sub-negotiation of another version", input: [5, 1, 2, 5, 1, 0],
        actions: [.send([5, 2]), .reject(.authenticationVersion(5), reply: [1, 1])]),
    Conversation(
        situation: "a password is required and not offered", requiresPassword: true, input: greetingNone,
        actions: [.reject(.noAcceptableMethod, reply: [5, 0xff])]),
    Conversation(
        situation: "only GSSAPI is offered", input: [5, 1, 1],
        actions: [.reject(.noAcceptableMethod, reply: [5, 0xff])]),
    Conversation(
        situation: "no method at all", input: [5, 0],
        actions: [.reject(.noAcceptableMethod, reply: [5, 0xff])]),
    Conversation(
        situation: "SOCKS4", input: [4, 1, 0, 80, 192, 0, 2, 7, 0],
        actions: [.reject(.notSOCKS5(4), reply: [])]),
    Conversation(
        situation: "HTTP", input: Array("GET / HTTP/1.1\r\n\r\n".utf8),
        actions: [.reject(.notSOCKS5(0x47), reply: [])]),
    Conversation(
        situation: "a request of another version", input: greetingNone + [4, 1],
        actions: [.send([5, 0]), .reject(.requestVersion(4), reply: failure(1))]),
    Conversation(
        situation: "an unknown command", input: greetingNone + [5, 9],
        actions: [.send([5, 0]), .reject(.unsupportedCommand(9), reply: failure(7))]),
    Conversation(
        situation: "an unknown address type", input: greetingNone + [5, 1, 0, 2],
        actions: [.send([5, 0]), .reject(.unsupportedAddressType(2), reply: failure(8))]),
    Conversation(
        situation: "an empty domain name", input: greetingNone + domain(""),
        actions: [.send([5, 0]), .reject(.invalidHostName, reply: failure(4))]),
    Conversation(
        situation: "a domain name with a delimiter", input: greetingNone + domain("exa mple:80"),
        actions: [.send([5, 0]), .reject(.invalidHostName, reply: failure(4))]),
    Conversation(
        situation: "a domain name with a zero byte", input: greetingNone + domain("a\0.example"),
        actions: [.send([5, 0]), .reject(.invalidHostName, reply: failure(4))]),
    Conversation(
        situation: "port 0", input: greetingNone + domain("example.com", port: 0),
        actions: [.send([5, 0]), .reject(.invalidPort, reply: failure(1))]),
    Conversation(
        situation: "BIND", input: greetingNone + domain("example.com", command: 2),
        actions: [
            .send([5, 0]),
            .request(
                SOCKS5Request(command: .bind, target: Target(host: .name("example.com"), port: 443)),
                earlyBytes: []),
        ]),
    Conversation(
        situation: "BIND to a name that is none", input: greetingNone + domain("exa mple", command: 2),
        actions: [.send([5, 0]), .reject(.invalidHostName, reply: failure(7))]),
    Conversation(
        situation: "BIND without a port", input: greetingNone + [5, 2, 0, 1, 0, 0, 0, 0, 0, 0],
        actions: [
            .send([5, 0]),
            .request(
                SOCKS5Request(command: .bind, target: Target(host: .address(.v4(IPv4Address(0))), port: 0)),
                earlyBytes: []),
        ]),
    Conversation(
        situation: "UDP ASSOCIATE without a port", input: greetingNone + [5, 3, 0, 1, 0, 0, 0, 0, 0, 0],
        actions: [
            .send([5, 0]),
            .request(
                SOCKS5Request(
                    command: .udpAssociate, target: Target(host: .address(.v4(IPv4Address(0))), port: 0)),
                earlyBytes: []),
        ]),
]

@Suite struct SOCKS5HandshakeTests {
    @Test(arguments: conversations) func wholeAtOnce(_ conversation: Conversation) {
        #expect(run(conversation, pieces: [conversation.input]) == conversation.actions)
    }

    @Test(arguments: conversations) func splitAtEveryByte(_ conversation: Conversation) {
        for cut in 0...conversation.input.count {
            let pieces = [Array(conversation.input[..<cut]), Array(conversation.input[cut...])]
            #expect(run(conversation, pieces: pieces) == conversation.actions, "cut at \(cut)")
        }
    }

    @Test(arguments: conversations) func byteByByte(_ conversation: Conversation) {
        #expect(run(conversation, pieces: conversation.input.map { [$0] }) == conversation.actions)
    }

    @Test(arguments: conversations) func withATail(_ conversation: Conversation) {
        let tail = Array("and then some".utf8)
        var expected = conversation.actions
        if case .request(let request, _)? = expected.last {
            expected[expected.count - 1] = .request(request, earlyBytes: tail)
        }
        #expect(run(conversation, pieces: [conversation.input + tail]) == expected)
    }

    @Test(arguments: conversations) func cutShortNothingIsDecided(_ conversation: Conversation) {
        guard case .request? = conversation.actions.last else { return }
        let seen = run(conversation, pieces: [Array(conversation.input.dropLast())])
        #expect(seen == Array(conversation.actions.dropLast()))
    }

    @Test func bytesFarAheadOfAVerdictAreRefused() {
        var machine = SOCKS5Handshake(requiresPassword: true)
        machine.receive([5, 1, 2] + login)
        #expect(machine.nextAction() == .send([5, 2]))
        #expect(machine.nextAction() == .authenticate(credentials))
        let wantsBytes = machine.wantsBytes
        #expect(!wantsBytes)
        machine.receive([UInt8](repeating: 0, count: SOCKS5Limits.bufferedBytes))
        machine.receive([0])
        #expect(machine.nextAction() == .reject(.tooMuchAhead, reply: []))
        machine.acceptCredentials()
        #expect(machine.nextAction() == .none)
    }

    @Test func aVerdictNobodyWaitsForChangesNothing() {
        var machine = SOCKS5Handshake(requiresPassword: false)
        machine.acceptCredentials()
        machine.refuseCredentials()
        machine.receive(greetingNone)
        #expect(machine.nextAction() == .send([5, 0]))
    }

    @Test func mutatedConversationsAlwaysEndOrWait() {
        var random = SeededRandom.ofEnvironment()
        let seed = random.seed
        for _ in 0..<5_000 {
            guard var input = conversations.randomElement(using: &random)?.input else { return }
            for _ in 0..<Int.random(in: 0...4, using: &random) where !input.isEmpty {
                let index = Int.random(in: 0..<input.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: input[index] = UInt8.random(in: 0...255, using: &random)
                case 1: input.remove(at: index)
                default: input.insert(UInt8.random(in: 0...255, using: &random), at: index)
                }
            }
            let conversation = Conversation(
                situation: "mutated", requiresPassword: Bool.random(using: &random),
                accepts: Bool.random(using: &random), input: input, actions: [])
            let whole = run(conversation, pieces: [input])
            let bytewise = run(conversation, pieces: input.map { [$0] })
            // Early bytes are what arrived with the request; the rest is the relay's.
            #expect(
                whole.map(withoutEarlyBytes) == bytewise.map(withoutEarlyBytes), "seed \(seed): \(input)")
            #expect(whole.count <= 4, "seed \(seed): \(input)")
        }
    }
}

@Suite struct SOCKS5ReplyTests {
    @Test func ipv4() {
        let reply = SOCKS5Reply(.succeeded, bound: SocketAddress(ip: .v4(IPv4Address(0x0102_0304)), port: 80))
        #expect(reply.encoded == [5, 0, 0, 1, 1, 2, 3, 4, 0, 80])
    }

    @Test func ipv6() {
        let reply = SOCKS5Reply(
            .hostUnreachable, bound: SocketAddress(ip: .v6(IPv6Address(high: 0, low: 1)), port: 0x1234))
        #expect(reply.encoded == [5, 4, 0, 4] + [UInt8](repeating: 0, count: 15) + [1, 0x12, 0x34])
    }

    @Test func everyAnswerOfADeviceHasItsCode() {
        let codes = OpenError.allCases.map { SOCKS5ReplyCode($0).rawValue }
        #expect(codes == [1, 4, 5, 4, 3, 6, 2, 1, 7, 1])
    }

    @Test func aPasswordNeverShows() {
        #expect(!"\(credentials)".contains("pw!"))
        #expect(!String(reflecting: credentials).contains("pw!"))
    }
}

/// All actions of a machine that is given `pieces` one after another, verdicts included.
private func run(_ conversation: Conversation, pieces: [[UInt8]]) -> [SOCKS5Action] {
    var machine = SOCKS5Handshake(requiresPassword: conversation.requiresPassword)
    var actions: [SOCKS5Action] = []
    for piece in pieces {
        machine.receive(piece)
        while true {
            let action = machine.nextAction()
            if action == .none { break }
            actions.append(action)
            if case .authenticate = action {
                if conversation.accepts {
                    machine.acceptCredentials()
                } else {
                    machine.refuseCredentials()
                }
            }
        }
    }
    return actions
}

private func withoutEarlyBytes(_ action: SOCKS5Action) -> SOCKS5Action {
    guard case .request(let request, _) = action else { return action }
    return .request(request, earlyBytes: [])
}
