import Foundation
import Glibc
import Testing

/// What clients of a real node are told when they can't have what they ask for (contract section 4), in both
/// protocols; for HTTP with Proxy-Status (RFC 9209).
@Suite(.serialized) struct RefusalTests {
    /// One thing that goes wrong, and its name in each protocol.
    private struct Refusal {
        let reply: UInt8
        let status: Int
        let proxyError: String
        let code: String
    }

    private static let denied = Refusal(
        reply: 2, status: 403, proxyError: "destination_ip_prohibited", code: "target_denied")

    private func expect(
        _ refusal: Refusal, _ fixture: Fixture, _ host: String, _ port: UInt16,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        #expect(throws: SOCKSClient.Refused(reply: refusal.reply), sourceLocation: sourceLocation) {
            try SOCKSClient.connect(fixture.ingressPort, to: port, host: host)
        }
        let answer = try ConnectAnswer(fixture, "CONNECT \(host):\(port) HTTP/1.1\r\nHost: \(host)\r\n")
        #expect(answer.status == refusal.status, sourceLocation: sourceLocation)
        #expect(
            answer.field("Proxy-Status")
                == "pop-node; error=\(refusal.proxyError); details=\"\(refusal.code)\"",
            sourceLocation: sourceLocation)
        #expect(
            answer.field("Content-Type") == "application/problem+json", sourceLocation: sourceLocation)
        #expect(answer.problem["code"] as? String == refusal.code, sourceLocation: sourceLocation)
        #expect(answer.problem["status"] as? Int == refusal.status, sourceLocation: sourceLocation)
    }

    @Test func whatTheDeviceMeetsIsTold() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1", arguments: ["--allow-target", "255.255.255.255/32"])
        try expect(
            Refusal(
                reply: 5, status: 502, proxyError: "connection_refused", code: "connection_refused"),
            fixture, "127.0.0.1", unusedPort())
        // No TCP connection leads to all hosts of a network.
        try expect(
            Refusal(
                reply: 3, status: 502, proxyError: "destination_ip_unroutable",
                code: "network_unreachable"),
            fixture, "255.255.255.255", 80)
    }

    @Test func aTargetThatIsSilentIsTold() throws {
        let fixture = try Fixture(settings: ["ingress": ["connect_timeout_seconds": 1]])
        try fixture.startDevice("d1")
        let silent = try SilentServer()
        try expect(
            Refusal(
                reply: 6, status: 504, proxyError: "connection_timeout", code: "connect_timeout"),
            fixture, "127.0.0.1", silent.port)
    }

    @Test func aNameThatIsNobodysIsTold() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        try expect(
            Refusal(reply: 4, status: 502, proxyError: "dns_error", code: "dns_failure"), fixture,
            "nobody.invalid", 80)
    }

    @Test(.enabled(if: TwoLinks.areAvailable)) func aHostWithoutAWayToItIsTold() throws {
        let links = try TwoLinks()
        try links.closeOff("203.0.113.0/24")
        try links.inside(links.nodeNamespace) {
            let fixture = try Fixture(settings: ["device": ["bind": "0.0.0.0"]])
            try fixture.startDevice(
                "d1", host: TwoLinks.nodeAddress, arguments: ["--allow-target", "203.0.113.0/24"],
                namespace: links.deviceNamespace)
            try expect(
                Refusal(
                    reply: 4, status: 502, proxyError: "destination_ip_unroutable",
                    code: "host_unreachable"),
                fixture, "203.0.113.7", 80)
            try expect(
                Refusal(
                    reply: 3, status: 502, proxyError: "destination_ip_unroutable",
                    code: "network_unreachable"),
                fixture, "198.51.100.7", 80)
        }
    }

    @Test func whatTheNodesPolicyForbidsNoDeviceIsAskedFor() throws {
        let fixture = try Fixture(settings: ["ingress": ["allow_private_targets": false]])
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        for host in ["127.0.0.1", "10.1.2.3", "169.254.169.254"] {
            try expect(Self.denied, fixture, host, echo.port)
        }
        #expect(
            throws: SOCKSClient.Refused(reply: 2), "the address in another family is the same address"
        ) {
            try SOCKSClient.connect(fixture.ingressPort, to: echo.port, host: "::ffff:127.0.0.1")
        }
        #expect(try fixture.get("/v1/stats").object["conns_placed"] as? Int == 0)
    }

    @Test func whatTheDevicesPolicyForbidsIsTold() throws {
        let fixture = try Fixture()
        let (open, closed) = (try TestServer.echo(), try TestServer.echo())
        try fixture.startDevice("d1", arguments: ["--deny-target", "127.0.0.1:\(closed.port)"])
        try expect(Self.denied, fixture, "127.0.0.1", closed.port)
        try expect(Self.denied, fixture, "10.213.9.9", 80)
        let conn = try fixture.connect(to: open.port)
        try conn.write("hello")
        #expect(try conn.read(exactly: 5) == Array("hello".utf8))
        #expect(try fixture.get("/v1/stats").object["conns_placed"] as? Int == 5)
    }

    /// A device that can open no more sockets says CAPACITY, whatever it has told of itself.
    @Test func aDeviceWithoutRoomHandsOverToAnother() throws {
        let fixture = try Fixture(settings: ["ingress": ["strategy": "round_robin"]])
        for name in ["d1", "d2"] { try fixture.startDevice(name) }
        let echo = try TestServer.echo()
        try starve(#require(fixture.devices["d1"]))
        for _ in 0..<4 {
            let answer = try ConnectAnswer(
                fixture, "CONNECT 127.0.0.1:\(echo.port) HTTP/1.1\r\nHost: x\r\n")
            #expect(answer.status == 200)
            #expect(answer.field("Pop-Conn-Id") != nil)
            let conn = try fixture.connect(to: echo.port)
            try conn.write("hello")
            #expect(try conn.read(exactly: 5) == Array("hello".utf8))
        }
        let metrics = String(decoding: try fixture.get("/metrics").body, as: UTF8.self)
        let moved = try #require(
            metrics.split(separator: "\n").first { $0.hasPrefix("pop_conns_moved_total ") })
        #expect(!moved.hasSuffix(" 0"))
        try starve(#require(fixture.devices["d2"]))
        try expect(
            Refusal(
                reply: 1, status: 503, proxyError: "connection_limit_reached", code: "capacity"),
            fixture, "127.0.0.1", echo.port)
        // Both are whole all the same, and have been asked for nothing that they can't do.
        for name in ["d1", "d2"] { try fixture.waitUntilWhole(name) }
    }

    @Test func withoutADeviceThereIsNoConn() throws {
        let fixture = try Fixture()
        try expect(
            Refusal(
                reply: 1, status: 503, proxyError: "destination_unavailable", code: "no_device"),
            fixture, "127.0.0.1", 80)
    }

    @Test func whatIsNoConnectIsRefused() throws {
        let fixture = try Fixture()
        let bind = try TestSocket(port: fixture.ingressPort)
        try bind.write([5, 1, 0, 5, 2, 0, 1, 127, 0, 0, 1, 0, 80])
        #expect(try bind.read(exactly: 12) == [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0])
        let plain = try ConnectAnswer(fixture, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n")
        #expect(plain.status == 405)
        #expect(plain.field("Allow") == "CONNECT")
        #expect(
            plain.field("Proxy-Status")
                == #"pop-node; error=http_request_error; details="method_not_allowed""#)
        for target in ["example.com", "example.com:0", "example.com:99999", "http://example.com/"] {
            let answer = try ConnectAnswer(fixture, "CONNECT \(target) HTTP/1.1\r\nHost: example.com\r\n")
            #expect(answer.status == 400)
            #expect(answer.problem["code"] as? String == "bad_target")
            #expect(
                answer.field("Proxy-Status")
                    == #"pop-node; error=http_request_error; details="bad_target""#)
        }
    }

    @Test func whoShowsNoPasswordIsAskedForOne() throws {
        let fixture = try Fixture(settings: ["ingress": ["auth": "password"]])
        let answer = try ConnectAnswer(fixture, "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n")
        #expect(answer.status == 407)
        #expect(answer.field("Proxy-Authenticate") == #"Basic realm="pop", charset="UTF-8""#)
        #expect(
            answer.field("Proxy-Status")
                == #"pop-node; error=http_request_denied; details="credentials_required""#)
        let none = try TestSocket(port: fixture.ingressPort)
        try none.write([5, 1, 0])
        #expect(try none.read(exactly: 2) == [5, 0xff])
    }

    /// Lets a program open no further descriptor.
    private func starve(_ program: RunningProgram) throws {
        guard limitDescriptors(program.identifier, 3) else {
            throw TestSocket.Failure(call: "prlimit", number: errno)
        }
    }
}

/// prlimit(2), which Glibc's module doesn't show.
private func limitDescriptors(_ process: Int32, _ count: UInt64) -> Bool {
    typealias SetLimit =
        @convention(c) (Int32, Int32, UnsafePointer<rlimit>?, UnsafeMutablePointer<rlimit>?) -> Int32
    let openFiles: Int32 = 7
    guard let symbol = dlsym(nil, "prlimit") else { return false }
    var limit = rlimit(rlim_cur: rlim_t(count), rlim_max: rlim_t(count))
    return unsafeBitCast(symbol, to: SetLimit.self)(process, openFiles, &limit, nil) == 0
}

/// The node's answer to one request, read to its end.
private struct ConnectAnswer {
    let status: Int
    private let lines: [Substring]
    let problem: [String: Any]

    /// - Parameter head: the request without the empty line.
    init(_ fixture: Fixture, _ head: String) throws {
        let socket = try TestSocket(port: fixture.ingressPort)
        try socket.write(head + "\r\n")
        var text = ""
        while !text.hasSuffix("\r\n\r\n") {
            let byte = try socket.read(1)
            guard !byte.isEmpty else { break }
            text += String(decoding: byte, as: UTF8.self)
        }
        lines = text.split(separator: "\r\n")
        status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        let length = Self.field("Content-Length", lines).flatMap { Int($0) } ?? 0
        let body = try socket.read(exactly: length)
        problem = (try? JSONSerialization.jsonObject(with: Data(body))) as? [String: Any] ?? [:]
    }

    func field(_ name: String) -> String? { Self.field(name, lines) }

    private static func field(_ name: String, _ lines: [Substring]) -> String? {
        let start = name.lowercased() + ": "
        return lines.first { $0.lowercased().hasPrefix(start) }.map { String($0.dropFirst(start.count)) }
    }
}

/// A port of loopback whose queue is full, so that it answers no SYN.
private final class SilentServer {
    let port: UInt16
    private let descriptor: Int32
    private var waiting: [Int32] = []

    init() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.descriptor = descriptor
        guard withSocketAddress("127.0.0.1", 0, { Glibc.bind(descriptor, $0, $1) }) == 0,
            Glibc.listen(descriptor, 0) == 0
        else { throw TestSocket.Failure(call: "bind", number: errno) }
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        port = UInt16(bigEndian: address.sin_port)
        let full = port
        for _ in 0..<4 {
            let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            _ = withSocketAddress("127.0.0.1", full) { Glibc.connect(client, $0, $1) }
            waiting.append(client)
        }
    }

    deinit {
        for client in waiting + [descriptor] { Glibc.close(client) }
    }
}
