import Foundation
import Testing

/// A fleet is moved while clients use it: real nodes, real devices, transfers whose every byte is compared.
@Suite(.serialized) struct DrainFleetTests {
    /// A crowd of devices in one process, told apart from `pop-device` by their ids.
    private func crowd(_ count: Int, at node: Fixture, _ folder: URL) throws -> RunningProgram {
        let program = try RunningProgram(
            "pop-bench",
            [
                "devices", "--pop", "wss://127.0.0.1:\(node.wssPort)", "--count", "\(count)", "--prefix",
                "crowd-", "--rate", "100",
            ], folder: folder)
        return program
    }

    private func waitForDevices(_ count: Int, at node: Fixture) throws {
        var devices: [[String: Any]] = []
        do {
            try node.wait("\(count) devices are whole") {
                devices = try node.get("/v1/devices?status=online&node_id=self&limit=1000").items
                return devices.count { $0["health"] as? String == "whole" } >= count
            }
        } catch {
            let seen = devices.map { "\($0["device_id"] ?? "") \($0["health"] ?? "")" }
            Issue.record("of \(count) devices: \(seen.joined(separator: ", "))")
            throw error
        }
    }

    private func waitForTakers(_ count: Int, at node: Fixture) throws {
        try node.wait("\(count) nodes are known to take devices") {
            let page = String(decoding: try node.get("/metrics").body, as: UTF8.self)
            return page.contains("pop_nodes_taking_devices \(count)\n")
        }
    }

    private func drain(_ node: Fixture) throws -> [String: Any] {
        try node.get("/v1/nodes/self/drain").object
    }

    private func waitUntil(_ state: String, _ node: Fixture) throws {
        try node.wait("the drain is \(state)") {
            try drain(node)["state"] as? String == state
        }
    }

    private func time(_ value: Any?) throws -> Date {
        let format = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        return try format.parse(try #require(value as? String))
    }

    /// The first device may come at once and each other one a turn after the one before: sooner is too fast for
    /// those who take them. A busy machine makes them late, which says nothing. How close the rate comes to what
    /// was ordered, `scripts/measure-drain` measures.
    private func expectArrivals(
        _ count: Int, at node: Fixture, since start: Date, perSecond: Double
    ) throws {
        let sessions = "/v1/sessions?node_id=self&limit=1000"
        try node.wait("the arrivals are on record") { try node.get(sessions).items.count == count }
        let arrivals = try node.get(sessions).items.map { try time($0["started_at"]) }.sorted()
        for (index, arrival) in arrivals.enumerated() {
            let earliest = Double(index - 1) / perSecond
            let arrived = arrival.timeIntervalSince(start)
            #expect(arrived >= earliest, "device \(index) came after \(arrived) s")
        }
    }

    @Test func aFleetMovesAtItsRateAndNoTransferBreaks() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        for name in ["real-1", "real-2", "real-3"] { try a.startDevice(name) }
        let crowd = try crowd(57, at: a, a.folder)
        try waitForDevices(60, at: a)
        try waitForTakers(1, at: a)

        let server = try SlowServer()
        let transfers = try (0..<40).map { try Transfer($0, through: a, of: server) }
        try a.wait("all transfers are under way") { try a.conns().count == 40 }

        let order = try a.call(
            "POST", "/v1/nodes/self/drain", ["deadline_seconds": 120, "devices_per_second": 10])
        #expect(order.status == 202)
        #expect(try a.get("/readyz").status == 503)
        #expect(throws: SOCKSClient.Refused.self) { try a.connect(to: server.port) }
        // Devices serve new clients where they are by now.
        try waitForDevices(1, at: b)
        repeat {
            let client = try b.connect(to: server.port)
            try client.write("quick\n")
            #expect(try client.readToEnd() == SlowServer.quickAnswer)
        } while try drain(a)["devices_waiting"] as? Int ?? 0 > 0

        try waitForDevices(60, at: b)
        try expectArrivals(60, at: b, since: try time(drain(a)["started_at"]), perSecond: 10)
        #expect(try drain(a)["state"] as? String == "settling")
        let waiting = try drain(a)
        let blockers = try #require(waiting["blockers"] as? [[String: Any]])
        #expect(!blockers.isEmpty && blockers.count <= 20)
        #expect(blockers[0]["device_id"] is String && blockers[0]["age_seconds"] is Int)
        server.finish()
        for transfer in transfers { #expect(transfer.wait() == .whole) }
        try waitUntil("drained", a)
        try a.wait("the arrivals are counted") {
            let targets = try drain(a)["targets"] as? [[String: Any]] ?? []
            return targets.first?["arrived"] as? Int == 60
        }
        let over = try drain(a)
        #expect(over["devices_total"] as? Int == 60)
        #expect(over["devices_moved"] as? Int == 60)
        #expect(over["devices_remaining"] as? Int == 0 && over["devices_lost"] as? Int == 0)
        #expect(over["conns_cut"] as? Int == 0)
        let ended = "/v1/sessions?node_id=a&open=false&limit=1000"
        try a.wait("the ends are on record") { try a.get(ended).items.count == 60 }
        let sessions = try a.get(ended).items
        #expect(sessions.allSatisfy { $0["end_reason"] as? String == "drained" })
        _ = crowd.stop()
    }

    @Test func whatADeadlineCutsIsCountedAndVisibleAtBothEnds() throws {
        let cluster = try Cluster(["a", "b"])
        let a = cluster.nodes[0]
        for name in ["real-1", "real-2"] { try a.startDevice(name) }
        let server = try SlowServer()
        let transfers = try (0..<12).map { try Transfer($0, through: a, of: server) }
        try a.wait("all transfers are under way") { try a.conns().count == 12 }
        _ = try a.call("POST", "/v1/nodes/self/drain", ["deadline_seconds": 600])
        try a.wait("both devices have moved") { try drain(a)["devices_moved"] as? Int == 2 }
        _ = try a.call("POST", "/v1/nodes/self/drain", ["deadline_seconds": 1])
        try waitUntil("drained", a)
        for transfer in transfers { #expect(transfer.wait() == .reset) }
        let over = try drain(a)
        #expect(over["conns_cut"] as? Int == 12)
        #expect(over["devices_moved"] as? Int == 2)
        try a.wait("the targets saw resets") { server.resets == 12 }
        #expect(server.completed == 0)
        try a.wait("that is on record") {
            try a.get("/v1/drains").items.first?["conns_cut"] as? Int == 12
        }
    }

    @Test func aNodeKilledInItsDrainComesBackDrained() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        let crowd = try crowd(20, at: a, a.folder)
        try waitForDevices(20, at: a)
        _ = try a.call(
            "POST", "/v1/nodes/self/drain",
            ["deadline_seconds": 600, "devices_per_second": 2, "reason": "disk"])
        try a.wait("some have moved, and that is kept") {
            try drain(a)["devices_moved"] as? Int ?? 0 >= 4
                && (try b.get("/v1/drains").items.first?["devices_moved"] as? Int ?? 0) >= 2
        }
        let id = try #require(try drain(a)["drain_id"] as? String)
        _ = a.node?.stop(SIGKILL)
        try a.startNode(isReady: false)
        // From its first moment: whoever comes is sent on, and everybody finds a place.
        try waitForDevices(20, at: b)
        let over = try drain(a)
        #expect(over["drain_id"] as? String == id)
        #expect(over["state"] as? String == "drained" && over["reason"] as? String == "disk")
        #expect(over["devices_total"] as? Int == 20)
        let moved = try #require(over["devices_moved"] as? Int)
        #expect(moved >= 2 && over["devices_lost"] as? Int == 20 - moved)
        #expect(try a.get("/readyz").status == 503)
        #expect(try a.get("/v1/devices?status=online&node_id=self").items.isEmpty)
        try b.wait("its end is on record") {
            let row = try b.get("/v1/drains").items.first { $0["drain_id"] as? String == id }
            return row?["state"] as? String == "drained" && row?["ended_at"] is String
        }
        // Until an operator says otherwise.
        #expect(try b.call("DELETE", "/v1/nodes/a/drain").status == 200)
        try a.wait("a is ready") { try a.get("/readyz").status == 200 }
        _ = crowd.stop()
    }

    /// Were all devices sent to one node, the next drain of a rolling upgrade would leave new clients without any
    /// until the first of them had moved.
    @Test func aNodeThatCameBackAMomentAgoGetsItsShare() throws {
        let cluster = try Cluster()
        let (a, b, c) = (cluster.nodes[0], cluster.nodes[1], cluster.nodes[2])
        for number in 0..<4 { try b.startDevice("real-\(number)") }
        _ = try a.call("POST", "/v1/nodes/self/drain")
        try waitUntil("drained", a)
        // As b knows it by now.
        try waitForTakers(1, at: b)
        #expect(try a.call("DELETE", "/v1/nodes/self/drain").status == 200)
        try b.wait("a is active on record") {
            try b.get("/v1/nodes/a").object["state"] as? String == "active"
        }
        _ = try b.call("POST", "/v1/nodes/self/drain")
        try waitUntil("drained", b)
        try waitForDevices(2, at: a)
        try waitForDevices(2, at: c)
    }

    @Test func aTakerThatFallsBehindIsSentFewerUntilItKeepsUpAgain() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        let crowd = try crowd(300, at: a, a.folder)
        try waitForDevices(300, at: a)
        try waitForTakers(1, at: a)
        _ = try a.call(
            "POST", "/v1/nodes/self/drain", ["deadline_seconds": 600, "devices_per_second": 10])
        func pace() throws -> (state: String?, perSecond: Double) {
            let drain = try drain(a)
            let target = (drain["targets"] as? [[String: Any]])?.first
            return (
                target?["state"] as? String,
                (drain["current_devices_per_second"] as? NSNumber)?.doubleValue ?? 0
            )
        }
        try a.wait("b is sent devices at the full pace") { try pace() == ("open", 10) }
        // What b says of itself stands in its row for two seconds, and a looks as often.
        try a.wait("b is sent fewer") {
            try stall(b, milliseconds: 800)
            let (state, perSecond) = try pace()
            return state == "busy" && perSecond <= 5
        }
        try a.wait("b is sent more again") {
            let (state, perSecond) = try pace()
            return state == "open" && perSecond > 5
        }
        _ = crowd.stop()
    }

    /// A node that gets no processor for a while.
    private func stall(_ node: Fixture, milliseconds: Int) throws {
        node.node?.signal(SIGSTOP)
        _ = DispatchSemaphore(value: 0).wait(timeout: .now() + .milliseconds(milliseconds))
        node.node?.signal(SIGCONT)
        try node.wait("it answers again") { (try? node.get("/livez").status) == 200 }
    }

    @Test func aStoppedNodeMovesItsDevicesFirst() throws {
        let cluster = try Cluster(["a", "b"], settings: ["node": ["drain_on_stop_seconds": 600]])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        for name in ["real-1", "real-2"] { try a.startDevice(name) }
        let server = try SlowServer()
        let transfers = try (0..<6).map { try Transfer($0, through: a, of: server) }
        try a.wait("all transfers are under way") { try a.conns().count == 6 }
        try waitForTakers(1, at: a)
        a.node?.signal(SIGTERM)
        try waitForDevices(2, at: b)
        server.finish()
        for transfer in transfers { #expect(transfer.wait() == .whole) }
        #expect(a.node?.waitUntilExit() == 0)
        let row = try #require(try b.get("/v1/drains").items.first)
        #expect(row["state"] as? String == "drained" && row["actor"] as? String == "node")
        #expect(row["devices_moved"] as? Int == 2 && row["conns_cut"] as? Int == 0)
        // It was no operator's wish: the next start takes devices.
        try a.startNode()
    }

    @Test func aSecondSignalStopsAtOnce() throws {
        let cluster = try Cluster(["a", "b"], settings: ["node": ["drain_on_stop_seconds": 600]])
        let a = cluster.nodes[0]
        try a.startDevice("real-1")
        let server = try SlowServer()
        let transfer = try Transfer(0, through: a, of: server)
        try a.wait("the transfer is under way") { try a.conns().count == 1 }
        try waitForTakers(1, at: a)
        a.node?.signal(SIGTERM)
        try a.wait("it drains") { try drain(a)["state"] as? String == "settling" }
        a.node?.signal(SIGTERM)
        #expect(a.node?.waitUntilExit() == 0)
        #expect(transfer.wait() == .reset)
    }
}

/// Answers with a long stream that goes on until it is told to finish, or at once to `quick`.
private final class SlowServer: @unchecked Sendable {
    static let quickAnswer = Array("here\n".utf8)
    private let lock = NSLock()
    private var isFinishing = false
    private var counts = (resets: 0, completed: 0)
    private var server: TestServer?
    var port: UInt16 { server?.port ?? 0 }

    init() throws {
        server = try TestServer { [weak self] socket in
            let request = String(decoding: try socket.read(64), as: UTF8.self)
            if request == "quick\n" {
                try socket.write(Self.quickAnswer)
                return socket.finishWriting()
            }
            let seed = UInt64(request.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
            try self?.serve(socket, seed)
        }
    }

    var resets: Int { lock.withLock { counts.resets } }
    var completed: Int { lock.withLock { counts.completed } }
    func finish() { lock.withLock { isFinishing = true } }

    private func serve(_ socket: TestSocket, _ seed: UInt64) throws {
        let pause = DispatchSemaphore(value: 0)
        var block: UInt64 = 0
        do {
            while !lock.withLock({ isFinishing }) {
                try socket.write(Transfer.block(seed, block))
                block += 1
                _ = pause.wait(timeout: .now() + .milliseconds(50))
            }
            try socket.write(Transfer.end)
            socket.finishWriting()
            guard try socket.readToEnd().isEmpty else { return }
            lock.withLock { counts.completed += 1 }
        } catch {
            lock.withLock { counts.resets += 1 }
        }
    }
}

/// A client that reads such a stream and compares every byte.
private final class Transfer: @unchecked Sendable {
    enum Outcome: Equatable {
        case whole
        case wrong
        case incomplete
        case reset
    }

    static let end = Array("end of the stream".utf8)
    private static let blockBytes = 4_096
    private let seed: UInt64
    private let done = DispatchSemaphore(value: 0)
    private var outcome = Outcome.incomplete

    static func block(_ seed: UInt64, _ number: UInt64) -> [UInt8] {
        pseudoRandomBytes(blockBytes, seed: seed &* 1_000_003 &+ number)
    }

    init(_ seed: Int, through node: Fixture, of server: SlowServer) throws {
        self.seed = UInt64(seed)
        let socket = try node.connect(to: server.port)
        try socket.write("\(seed)\n")
        let reader = Thread { [self] in
            outcome = read(socket)
            done.signal()
        }
        reader.stackSize = 256 << 10
        reader.start()
    }

    func wait() -> Outcome {
        done.wait()
        return outcome
    }

    private func read(_ socket: TestSocket) -> Outcome {
        var number: UInt64 = 0
        do {
            while true {
                let piece = try socket.read(exactly: Self.blockBytes)
                if piece == Self.end { return try socket.read().isEmpty ? .whole : .wrong }
                guard piece.count == Self.blockBytes else { return .incomplete }
                guard piece == Self.block(seed, number) else { return .wrong }
                number += 1
            }
        } catch {
            return .reset
        }
    }
}
