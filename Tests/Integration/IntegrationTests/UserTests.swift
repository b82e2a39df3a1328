import Foundation
import TemporaryPostgres
import Testing

/// Ingress users over real nodes: who gets in, what they get, and what stops them, in both protocols.
@Suite(.serialized) struct UserTests {
    private static var settings: [String: [String: Any]] { ["ingress": ["auth": "password"]] }

    private func make(_ fixture: Fixture, _ name: String, _ members: [String: Any] = [:]) throws {
        let answer = try fixture.call(
            "POST", "/v1/users", members.merging(["name": name, "password": "pw:\(name)"]) { $1 })
        #expect(answer.status == 201)
        #expect(!String(decoding: answer.body, as: UTF8.self).contains("pw:"))
    }

    @Test func aUserComesInByBothProtocolsAndAStrangerByNone() throws {
        let fixture = try Fixture(settings: Self.settings)
        try fixture.startDevice("dev-7", arguments: ["--location", "eu-west", "--tag", "mobile"])
        try make(fixture, "alice")
        let echo = try TestServer.echo()
        var open: [TestSocket] = []
        for login in ["alice", "alice-location-eu_west-tag-mobile", "alice-device-dev_7"] {
            let socks = try SOCKSLogin.connect(fixture, login, "pw:alice", to: echo.port)
            try socks.write("hello")
            #expect(try socks.read(exactly: 5) == Array("hello".utf8))
            let (head, tunnel) = try ConnectLogin.connect(fixture, login, "pw:alice", to: echo.port)
            #expect(head.hasPrefix("HTTP/1.1 200 "))
            #expect(head.contains("Pop-Device: dev-7\r\n"))
            try tunnel.write("hello")
            #expect(try tunnel.read(exactly: 5) == Array("hello".utf8))
            open += [socks, tunnel]
        }
        let conns = try fixture.conns()
        #expect(Set(conns.compactMap { $0["protocol"] as? String }) == ["socks5", "http"])
        #expect(Set(conns.compactMap { $0["user"] as? String }) == ["alice"])
        #expect(conns.count == open.count)
        for (login, password) in [
            ("alice", "wrong"), ("bob", "pw:alice"), ("alice-colour-red", "pw:alice"), ("", ""),
            ("alice-tag-", "pw:alice"),
        ] {
            #expect(throws: SOCKSLogin.Refused(status: 1, reply: nil)) {
                try SOCKSLogin.connect(fixture, login, password, to: echo.port)
            }
            #expect(try ConnectLogin.status(fixture, login, password, to: echo.port) == 407)
        }
        for login in ["alice-location-mars", "alice-device-other"] {
            #expect(throws: SOCKSLogin.Refused(status: 0, reply: 1)) {
                try SOCKSLogin.connect(fixture, login, "pw:alice", to: echo.port)
            }
            #expect(try ConnectLogin.status(fixture, login, "pw:alice", to: echo.port) == 503)
        }
        let closed = try unusedPort()
        #expect(throws: SOCKSLogin.Refused(status: 0, reply: 5)) {
            try SOCKSLogin.connect(fixture, "alice", "pw:alice", to: closed)
        }
        #expect(try ConnectLogin.status(fixture, "alice", "pw:alice", to: closed) == 502)
        #expect(fixture.node?.logText.contains("pw:alice") == false)
    }

    /// The clients that people use, as they are told to in the README.
    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/curl")))
    func curlGetsThrough() throws {
        let fixture = try Fixture(settings: Self.settings)
        try fixture.startDevice("d1")
        try make(fixture, "alice")
        let web = try TestServer { socket in
            _ = try socket.read()
            try socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            socket.finishWriting()
        }
        let url = "http://127.0.0.1:\(web.port)/"
        let port = fixture.ingressPort
        #expect(
            try curl(["-p", "-x", "http://alice:pw%3Aalice@127.0.0.1:\(port)", url]) == "hello")
        #expect(
            try curl(["--proxy-anyauth", "-p", "-x", "http://127.0.0.1:\(port)", "-U", "alice:pw:alice", url])
                == "hello", "it asks without credentials first, and again on the same connection")
        #expect(
            try curl(["--socks5-hostname", "127.0.0.1:\(port)", "-U", "alice-tag-x:pw:alice", url]) == nil)
        #expect(
            try curl(["--socks5-hostname", "127.0.0.1:\(port)", "-U", "alice:pw:alice", url]) == "hello")
    }

    @Test func limitsHoldAndEndConns() throws {
        let fixture = try Fixture(settings: Self.settings)
        try fixture.startDevice("d1", arguments: ["--location", "eu"])
        try make(fixture, "few", ["max_conns": 1])
        try make(fixture, "far", ["allowed_locations": ["us"]])
        try make(fixture, "small", ["bytes_quota": 120_000])
        let echo = try TestServer.echo()
        let only = try SOCKSLogin.connect(fixture, "few", "pw:few", to: echo.port)
        #expect(throws: SOCKSLogin.Refused(status: 0, reply: 2)) {
            try SOCKSLogin.connect(fixture, "few", "pw:few", to: echo.port)
        }
        #expect(try ConnectLogin.status(fixture, "few", "pw:few", to: echo.port) == 429)
        #expect(throws: SOCKSLogin.Refused(status: 0, reply: 1)) {
            try SOCKSLogin.connect(fixture, "far", "pw:far", to: echo.port)
        }
        // What it may use this month ends its conns and lets no others begin, also after a restart. It is all that
        // is sent and comes back: whenever the node counts, nothing is cut before.
        let small = try SOCKSLogin.connect(fixture, "small", "pw:small", to: echo.port)
        try small.write([UInt8](repeating: 1, count: 60_000))
        _ = try small.read(exactly: 60_000)
        #expect(throws: TestSocket.Failure.self) { _ = try small.readToEnd() }
        #expect(try ConnectLogin.status(fixture, "small", "pw:small", to: echo.port) == 429)
        try fixture.wait("the use is on record") {
            try fixture.get("/v1/users/small").object["bytes_used"] as? Int == 120_000
        }
        _ = only
        #expect(fixture.node?.stop() == 0)
        try fixture.startNode()
        try fixture.waitUntilWhole("d1")
        #expect(throws: SOCKSLogin.Refused(status: 0, reply: 2)) {
            try SOCKSLogin.connect(fixture, "small", "pw:small", to: echo.port)
        }
        #expect(try fixture.call("PATCH", "/v1/users/small", ["bytes_quota": NSNull()]).status == 200)
        try fixture.wait("it may go on") {
            try ConnectLogin.status(fixture, "small", "pw:small", to: echo.port) == 200
        }
    }

    @Test func limitsHoldForDatagramsAndADeletedUserSendsNoMore() throws {
        let fixture = try Fixture(settings: Self.settings)
        try fixture.startDevice("d1")
        try make(fixture, "few", ["max_conns": 1])
        let (first, second) = (try EchoDatagrams(), try EchoDatagrams())
        let association = try UDPAssociation(fixture.ingressPort, login: ("few", "pw:few"))
        try association.send("x", to: first.port)
        #expect(try association.text(from: first.port) == "x")
        try association.send("no", to: second.port)
        try association.send("y", to: first.port)
        #expect(try association.text(from: first.port) == "y")
        #expect(try fixture.conns().count == 1)
        #expect(try fixture.call("DELETE", "/v1/users/few").status == 204)
        // The client learns of it: its connection is cut.
        #expect(throws: TestSocket.Failure.self) { _ = try association.control.readToEnd() }
        try fixture.wait("its conns are gone") { try fixture.conns().isEmpty }
    }

    /// A byte a second: a burst of 4 KiB passes and then as good as nothing, whatever way and however many conns.
    @Test func aRateHoldsForAllConnsOfAUserAndEndsWithIt() throws {
        let fixture = try Fixture(settings: Self.settings)
        try fixture.startDevice("d1")
        try make(fixture, "slow", ["rate_bytes_per_second": 1])
        let start = Date()
        let echo = try TestServer.echo()
        let conns = try (0..<2).map { _ in
            try SOCKSLogin.connect(fixture, "slow", "pw:slow", to: echo.port)
        }
        let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        for conn in conns { try conn.write(bytes) }
        func carried() throws -> Int {
            try fixture.conns().reduce(0) {
                $0 + ($1["bytes_sent"] as? Int ?? 0) + ($1["bytes_received"] as? Int ?? 0)
            }
        }
        try fixture.wait("a burst has passed") { try carried() >= 4_096 }
        #expect(try carried() <= 4_096 + Int(Date().timeIntervalSince(start)) + 1)
        // Datagrams have their part of it: of more than there is left none passes, and each is counted.
        let datagrams = try EchoDatagrams()
        let association = try UDPAssociation(fixture.ingressPort, login: ("slow", "pw:slow"))
        try association.send(String(repeating: "x", count: 1_000), to: datagrams.port)
        try fixture.wait("the datagram is dropped") {
            let page = String(decoding: try fixture.get("/metrics").body, as: UTF8.self)
            return page.contains(#"pop_udp_datagrams_dropped_total{cause="rate_limit"} 1"#)
        }
        #expect(
            try fixture.call("PATCH", "/v1/users/slow", ["rate_bytes_per_second": NSNull()]).status == 200)
        for conn in conns { #expect(try conn.read(exactly: bytes.count) == bytes) }
        try association.send("y", to: datagrams.port)
        #expect(try association.text(from: datagrams.port) == "y")
    }

    @Test func changesHoldAtEveryNode() throws {
        let cluster = try Cluster(["a", "b"], settings: Self.settings)
        let one = cluster.nodes[0]
        let two = cluster.nodes[1]
        try two.startDevice("d2")
        let echo = try TestServer.echo()
        try make(one, "alice")
        #expect(
            try ConnectLogin.status(two, "alice", "pw:alice", to: echo.port) == 200,
            "a user is asked for when it comes")
        let open = try SOCKSLogin.connect(two, "alice", "pw:alice", to: echo.port)
        #expect(try one.call("PATCH", "/v1/users/alice", ["password": "other"]).status == 200)
        try two.wait("the old password is no good any more") {
            try ConnectLogin.status(two, "alice", "pw:alice", to: echo.port) == 407
        }
        #expect(try ConnectLogin.status(two, "alice", "other", to: echo.port) == 200)
        try open.write("still")
        #expect(try open.read(exactly: 5) == Array("still".utf8))
        #expect(try one.call("DELETE", "/v1/users/alice").status == 204)
        #expect(throws: TestSocket.Failure.self, "its conns end") { _ = try open.readToEnd() }
        #expect(try ConnectLogin.status(two, "alice", "other", to: echo.port) == 407)
        #expect(try one.call("DELETE", "/v1/users/alice").status == 404)
    }

    @Test func knownUsersComeInWithoutTheDatabase() throws {
        let cluster = try Cluster(["a"], settings: Self.settings)
        let node = cluster.nodes[0]
        try node.startDevice("d1")
        let echo = try TestServer.echo()
        try make(node, "alice")
        try make(node, "never")
        #expect(try ConnectLogin.status(node, "alice", "pw:alice", to: echo.port) == 200)
        cluster.database.stop()
        try node.wait("the node knows that its database is away") {
            try String(decoding: node.get("/readyz?verbose").body, as: UTF8.self).contains("database")
        }
        #expect(try ConnectLogin.status(node, "alice", "pw:alice", to: echo.port) == 200)
        try node.wait("who is not known is told to come again") {
            try ConnectLogin.status(node, "never", "pw:never", to: echo.port) == 503
        }
        #expect(throws: SOCKSLogin.Refused(status: 0, reply: 1)) {
            try SOCKSLogin.connect(node, "never", "pw:never", to: echo.port)
        }
        #expect(node.node?.stop(SIGKILL) != nil)
        try node.startNode()
        try node.waitUntilWhole("d1")
        #expect(try ConnectLogin.status(node, "alice", "pw:alice", to: echo.port) == 200, "kept on disk")
        #expect(try ConnectLogin.status(node, "alice", "wrong", to: echo.port) == 407)
    }

    @Test func aPasswordChangedWhileANodeWasDownIsNoGoodThereWithoutTheDatabase() throws {
        let cluster = try Cluster(["a", "b"], settings: Self.settings)
        let (one, two) = (cluster.nodes[0], cluster.nodes[1])
        try one.startDevice("d1")
        let echo = try TestServer.echo()
        for name in ["alice", "bob", "carol"] {
            try make(one, name)
            #expect(try ConnectLogin.status(one, name, "pw:\(name)", to: echo.port) == 200)
        }
        #expect(one.node?.stop(SIGKILL) != nil)
        #expect(try two.call("PATCH", "/v1/users/alice", ["password": "other"]).status == 200)
        #expect(try two.call("DELETE", "/v1/users/bob").status == 204)
        // Nobody comes in before the database is away again.
        try one.startNode()
        try one.waitUntilWhole("d1")
        try one.wait("the node has gone through what changed while it was down") {
            let page = try String(decoding: one.get("/metrics").body, as: UTF8.self)
            return page.split(separator: "\n").contains {
                $0.hasPrefix(#"pop_store_query_seconds_count{kind="user_changes"}"#) && !$0.hasSuffix(" 0")
            }
        }
        cluster.database.stop()
        try one.wait("the node knows that its database is away") {
            try ConnectLogin.status(one, "carol", "pw:carol", to: echo.port) == 200
                && String(decoding: one.get("/readyz?verbose").body, as: UTF8.self).contains("database")
        }
        for name in ["alice", "bob"] {
            #expect(try ConnectLogin.status(one, name, "pw:\(name)", to: echo.port) == 503)
        }
    }

    @Test func aSessionKeepsItsDevice() throws {
        let cluster = try Cluster(["a", "b"], settings: Self.settings)
        let one = cluster.nodes[0]
        let two = cluster.nodes[1]
        for name in ["d1", "d2", "d3"] { try one.startDevice(name) }
        try two.startDevice("e1")
        try make(one, "alice")
        let echo = try TestServer.echo()
        func device(_ node: Fixture, _ login: String) throws -> String? {
            let (head, _) = try ConnectLogin.connect(node, login, "pw:alice", to: echo.port)
            return head.split(separator: "\r\n").first { $0.hasPrefix("Pop-Device: ") }
                .map { String($0.dropFirst(12)) }
        }
        let chosen = try #require(try device(one, "alice-session-s1"))
        for _ in 0..<5 { #expect(try device(one, "alice-session-s1") == chosen) }
        #expect(
            try ConnectLogin.status(two, "alice-session-s1", "pw:alice", to: echo.port) == 503,
            "its device is at the other node")
        #expect(one.node?.stop() == 0)
        try one.startNode()
        for name in ["d1", "d2", "d3"] { try one.waitUntilWhole(name) }
        #expect(try device(one, "alice-session-s1") == chosen, "also after a restart")
        #expect(one.devices[chosen]?.stop() == 0)
        try one.wait("a session whose device has left gets another") {
            try device(one, "alice-session-s1").map { $0 != chosen } ?? false
        }
    }

    @Test func aUserNameIsExplained() throws {
        let fixture = try Fixture(settings: Self.settings)
        try fixture.startDevice("d1", arguments: ["--location", "eu"])
        try fixture.startDevice("d2", arguments: ["--location", "us"])
        try make(fixture, "alice")
        let answer = try fixture.call(
            "POST", "/v1/route/explain", ["username": "alice-location-us"])
        #expect(answer.status == 200)
        #expect(answer.object["chosen"] as? String == "d2")
        #expect(answer.object["candidates"] as? [String] == ["d2"])
        #expect(
            answer.object["excluded"] as? [[String: String]] == [["device_id": "d1", "rule": "location"]])
        #expect(try fixture.call("POST", "/v1/route/explain", ["username": "nobody"]).status == 404)
        #expect(try fixture.call("POST", "/v1/route/explain", ["username": "alice-x-y"]).status == 422)
    }

    /// What curl prints; nil when it fails.
    private func curl(_ arguments: [String]) throws -> String? {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/curl")
        process.arguments = ["-sS", "--max-time", "20", "--noproxy", ""] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return process.terminationStatus == 0 ? String(decoding: bytes, as: UTF8.self) : nil
    }
}

/// The client side of SOCKS5 with a password (RFC 1929), as plain as it gets.
enum SOCKSLogin {
    struct Refused: Error, Equatable {
        /// Of the login.
        let status: UInt8
        /// Of the request, if it came to that.
        let reply: UInt8?
    }

    static func connect(
        _ fixture: Fixture, _ username: String, _ password: String, to port: UInt16
    ) throws -> TestSocket {
        let socket = try TestSocket(port: fixture.ingressPort)
        try socket.write([5, 1, 2])
        guard try socket.read(exactly: 2) == [5, 2] else { throw Refused(status: 0xff, reply: nil) }
        let (name, secret) = (Array(username.utf8), Array(password.utf8))
        try socket.write([1, UInt8(name.count)] + name + [UInt8(secret.count)] + secret)
        let login = try socket.read(exactly: 2)
        guard login == [1, 0] else { throw Refused(status: login.last ?? 0xff, reply: nil) }
        try socket.write([5, 1, 0, 1, 127, 0, 0, 1, UInt8(port >> 8), UInt8(truncatingIfNeeded: port)])
        let reply = try socket.read(exactly: 10)
        guard reply.count == 10, reply[1] == 0 else {
            throw Refused(status: 0, reply: reply.count > 1 ? reply[1] : nil)
        }
        return socket
    }
}

/// The client side of HTTP CONNECT.
enum ConnectLogin {
    static func connect(
        _ fixture: Fixture, _ username: String, _ password: String, to port: UInt16
    ) throws -> (head: String, socket: TestSocket) {
        let socket = try TestSocket(port: fixture.ingressPort)
        let credentials = Data("\(username):\(password)".utf8).base64EncodedString()
        try socket.write(
            "CONNECT 127.0.0.1:\(port) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n"
                + "Proxy-Authorization: Basic \(credentials)\r\n\r\n")
        var head = ""
        while !head.hasSuffix("\r\n\r\n") {
            let byte = try socket.read(1)
            guard !byte.isEmpty else { break }
            head += String(decoding: byte, as: UTF8.self)
        }
        return (head, socket)
    }

    static func status(
        _ fixture: Fixture, _ username: String, _ password: String, to port: UInt16
    ) throws -> Int? {
        try connect(fixture, username, password, to: port).head.split(separator: " ").dropFirst().first
            .flatMap { Int($0) }
    }
}
