import Foundation
import Postgres
import TemporaryPostgres
import Testing

/// Devices and clients come and go while PostgreSQL is stopped and started three times, once by a crash, and
/// the node is killed twice, once while the database is away. Afterwards PostgreSQL has every session that a
/// device was told of, and every conn whose end a client saw, but those of the last second before a kill: once
/// each.
@Suite(.serialized) struct PersistenceFaultTests {
    @Test func nothingIsLostAndNothingIsTwiceWhateverGoesDown() throws {
        let cluster = try TemporaryCluster()
        // What was committed survives the server's crash, if not the machine's: that costs the other tests nothing.
        try BlockingConnection(cluster.connectionString).query(
            "ALTER DATABASE pop SET synchronous_commit = on")
        let fixture = try Fixture(settings: [
            "database": ["url": cluster.connectionString, "pool_size": 3],
            "device": ["auth": "token", "resume_grace_seconds": 2],
        ])
        let churn = try Churn(fixture, devices: 8, clients: 2)
        var kills: [Date] = []

        try churn.goesOn("at first", sessions: 10, conns: 40)

        cluster.stop()
        try churn.goesOn("while the database is stopped", sessions: 8, conns: 40)
        try fixture.wait("the node tells that the database is away and the disk holds what happens") {
            try fixture.check("database")["ok"] as? Bool == false
                && (fixture.get("/v1/stats").object["outbox_events"] as? Int ?? 0) > 0
        }
        try cluster.start()
        try fixture.waitUntilWritten()

        cluster.crash()
        try churn.goesOn("after the database's crash", sessions: 4, conns: 30)
        try churn.clientsGoOnAlone()
        kills.append(try fixture.killNode())
        try churn.goesOn("in a new life without a database", sessions: 8, conns: 40)
        try cluster.start()
        try fixture.waitUntilWritten()
        try churn.goesOn("with the database back", sessions: 4, conns: 30)

        try churn.clientsGoOnAlone()
        kills.append(try fixture.killNode())
        try churn.goesOn("in the third life", sessions: 8, conns: 30)
        cluster.stop()
        try churn.goesOn("while the database is stopped again", sessions: 4, conns: 30)
        try cluster.start()
        try fixture.waitUntilWritten()

        churn.end()
        #expect(fixture.node?.stop() == 0)
        try churn.compare(with: BlockingConnection(cluster.connectionString), kills: kills)
    }

    @Test func aNodeThatStartsWithoutItsDatabaseLetsInWhomItKnows() throws {
        let cluster = try TemporaryCluster()
        let fixture = try Fixture(settings: [
            "database": ["url": cluster.connectionString],
            "device": ["auth": "token", "tls": ["enabled": false]],
        ])
        func token(_ device: String) throws -> String {
            let answer = try fixture.call("POST", "/v1/devices/\(device)/token")
            return try #require(answer.object["token"] as? String)
        }
        let (known, revoked, stranger) = (try token("known"), try token("revoked"), try token("stranger"))
        for token in [known, revoked] { #expect(try fixture.askToUpgrade(token).hasPrefix("HTTP/1.1 101 ")) }
        #expect(try fixture.call("DELETE", "/v1/devices/revoked/token").status == 204)
        _ = fixture.node?.stop()
        cluster.stop()
        try fixture.startNode()
        #expect(try fixture.check("database")["ok"] as? Bool == false)
        #expect(try fixture.check("outbox")["ok"] as? Bool == true)
        #expect(try fixture.askToUpgrade(known).hasPrefix("HTTP/1.1 101 "))
        for token in [stranger, revoked, "nonsense"] {
            let answer = try fixture.askToUpgrade(token)
            #expect(answer.hasPrefix("HTTP/1.1 503 "))
            #expect(answer.contains("Retry-After: "))
        }
        try cluster.start()
        try fixture.waitUntilWritten()
        // Questions go over other connections, which come back in their own time.
        try fixture.wait("the database is asked again") {
            try fixture.askToUpgrade(stranger).hasPrefix("HTTP/1.1 101 ")
        }
        #expect(try fixture.askToUpgrade(revoked).hasPrefix("HTTP/1.1 401 "))
    }
}

extension Fixture {
    /// The head of the answer to a device that shows `token`.
    fileprivate func askToUpgrade(_ token: String) throws -> String {
        let socket = try TestSocket(port: wssPort)
        try socket.write(
            """
            GET /v1/control HTTP/1.1\r
            Host: localhost\r
            Connection: Upgrade\r
            Upgrade: websocket\r
            Sec-WebSocket-Version: 13\r
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
            Sec-WebSocket-Protocol: pop.control.v1\r
            Authorization: Bearer \(token)\r
            \r

            """)
        var head = ""
        while !head.contains("\r\n\r\n") {
            let bytes = try socket.read()
            if bytes.isEmpty { break }
            head += String(decoding: bytes, as: UTF8.self)
        }
        return head
    }

    fileprivate func check(_ name: String) throws -> [String: Any] {
        let checks = try get("/readyz?verbose").object["checks"] as? [[String: Any]] ?? []
        return checks.first { $0["name"] as? String == name } ?? [:]
    }

    fileprivate func waitUntilWritten() throws {
        try wait("the database has what waited for it") {
            let stats = try get("/v1/stats").object
            return stats["database_connected"] as? Bool == true && stats["outbox_events"] as? Int == 0
        }
    }

    /// - Returns: when it was alive for sure for the last time.
    fileprivate func killNode() throws -> Date {
        let last = Date()
        _ = node?.stop(SIGKILL)
        try startNode()
        return last
    }
}

/// Devices that are killed, disconnected and started again, and clients that send something through them; and
/// what both were told.
private final class Churn: @unchecked Sendable {
    private let fixture: Fixture
    private let echo: TestServer
    private var tokens: [String: String] = [:]
    private var logs: [URL] = []
    private var nextDevice = 0
    private let lock = NSLock()
    private var isEnding = false
    private var lastSource = 0
    /// The addresses of clients, each used once, whose conns ended as they should, and when.
    private var ended: [(source: String, at: Date)] = []
    private let clientsDone = DispatchGroup()

    init(_ fixture: Fixture, devices: Int, clients: Int) throws {
        self.fixture = fixture
        echo = try TestServer.echo()
        for number in 0..<devices {
            let answer = try fixture.call("POST", "/v1/devices/dev-\(number)/token")
            tokens["dev-\(number)"] = try #require(answer.object["token"] as? String)
            try start("dev-\(number)")
        }
        for number in 0..<devices { try fixture.waitUntilWhole("dev-\(number)") }
        let (ingress, target) = (fixture.ingressPort, echo.port)
        for _ in 0..<clients {
            let thread = Thread { [self] in
                defer { clientsDone.leave() }
                while let source = nextSource() { converse(from: source, ingress, target) }
            }
            clientsDone.enter()
            thread.start()
        }
    }

    private func start(_ device: String) throws {
        let token = try #require(tokens[device])
        try fixture.startDevice(device, arguments: ["--token", token], waiting: false)
        if let log = fixture.devices[device]?.log { logs.append(log) }
    }

    // MARK: Clients

    private func nextSource() -> String? {
        lock.withLock {
            lastSource += 1
            let (group, member) = lastSource.quotientAndRemainder(dividingBy: 250)
            return isEnding ? nil : "127.\(77 + group / 250).\(group % 250).\(member + 1)"
        }
    }

    private func converse(from source: String, _ ingress: UInt16, _ target: UInt16) {
        do {
            let socket = try SOCKSClient.connect(ingress, to: target, from: source)
            let text = String(repeating: "\(source) ", count: 50)
            try socket.write(text)
            socket.finishWriting()
            guard try socket.readToEnd() == Array(text.utf8) else { return }
            lock.withLock { ended.append((source, Date())) }
        } catch {
            // Its node was killed, or its device; the pause only bounds the load.
            _ = DispatchSemaphore(value: 0).wait(timeout: .now() + .milliseconds(20))
        }
    }

    // MARK: Progress

    /// The sessions that devices were told of; a resumed one was told before.
    private func toldSessions() -> Set<String> {
        var told: Set<String> = []
        for log in logs {
            let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
            for line in text.split(separator: "\n") where line.contains(" registered ") {
                for word in line.split(separator: " ") where word.hasPrefix("session_id=") {
                    told.insert(String(word.dropFirst("session_id=".count)))
                }
            }
        }
        return told
    }

    /// Makes devices leave and come, in three ways, until so many sessions more were given and conns ended.
    func goesOn(_ when: String, sessions: Int, conns: Int) throws {
        let sessionsBefore = toldSessions().count
        let connsBefore = lock.withLock { ended.count }
        var steps = 0
        try fixture.wait("devices and clients go on \(when)") {
            steps += 1
            if steps % 10 == 1 { try disturb() }
            return toldSessions().count - sessionsBefore >= sessions
                && lock.withLock { ended.count } - connsBefore >= conns
        }
    }

    /// Lets conns end for two seconds without a session that starts: nobody waits for the disk then.
    func clientsGoOnAlone() throws {
        let start = Date()
        try fixture.wait("clients go on alone") {
            lock.withLock { ended.last.map { $0.at > start.addingTimeInterval(2) } } ?? false
        }
    }

    private func disturb() throws {
        nextDevice += 1
        let names = tokens.keys.sorted()
        let name = names[nextDevice % names.count]
        switch nextDevice % 3 {
        case 0:
            _ = fixture.devices[name]?.stop(SIGKILL)
            try start(name)
        case 1:
            _ = fixture.devices[name]?.stop(SIGTERM)
            try start(name)
        default:
            _ = try? fixture.call("POST", "/v1/devices/\(name)/disconnect")
        }
    }

    func end() {
        lock.withLock { isEnding = true }
        clientsDone.wait()
        for device in fixture.devices.values { _ = device.stop() }
    }

    // MARK: What must be on record

    func compare(with sql: BlockingConnection, kills: [Date]) throws {
        let told = toldSessions()
        let rows = try sql.query("SELECT session_id::text AS id FROM pop.device_sessions").rows
        let known = try rows.map { try $0.string("id") }
        #expect(told.subtracting(known).isEmpty, "sessions lost: \(told.subtracting(known))")
        #expect(Set(known).count == known.count)
        let open = try sql.scalar("SELECT count(*) FROM pop.device_sessions WHERE ended_at IS NULL")
        #expect(open == "0")

        var counts: [String: Int] = [:]
        for row in try sql.query("SELECT client_address AS address FROM pop.conns").rows {
            let address = try row.string("address")
            counts[String(address.prefix { $0 != ":" }), default: 0] += 1
        }
        let certain = ended.filter { conn in
            !kills.contains { conn.at > $0.addingTimeInterval(-1) && conn.at < $0.addingTimeInterval(0.5) }
        }
        let lost = certain.filter { counts[$0.source] == nil }
        #expect(lost.isEmpty, "\(lost.count) conns lost, kills at \(kills): \(lost.prefix(5))")
        let doubled = counts.filter { $0.value > 1 }
        #expect(doubled.isEmpty, "conns doubled: \(doubled.prefix(5))")
        #expect(certain.count * 10 > ended.count * 8, "too few conns to tell anything")

        try compareBytes(sql, kills)
        print(
            "\(told.count) sessions told, \(known.count) on record; \(ended.count) conns seen, "
                + "\(certain.count) of them outside the last second before a kill, \(counts.count) on record")
    }

    /// A session has the bytes of its conns, but for those of the last second before a kill.
    private func compareBytes(_ sql: BlockingConnection, _ kills: [Date]) throws {
        let spared = kills.map { kill in
            let time = String(format: "%.3f", kill.timeIntervalSince1970)
            return
                """
                AND c.ended_at NOT BETWEEN to_timestamp(\(time)) - interval '1 second' AND to_timestamp(\(time))
                """
        }
        let short = try sql.scalar(
            """
            SELECT string_agg(s.session_id || ' has ' || s.bytes_sent || ' of ' || t.bytes, ', ')
            FROM pop.device_sessions s JOIN (
                SELECT c.session_id, sum(c.bytes_sent) AS bytes FROM pop.conns c
                WHERE true \(spared.joined(separator: " ")) GROUP BY 1
            ) t USING (session_id) WHERE s.bytes_sent < t.bytes
            """)
        #expect(short == nil)
    }
}
