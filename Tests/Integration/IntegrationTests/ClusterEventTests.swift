import Foundation
import Testing

/// Every node tells what happens at all of them.
@Suite(.serialized) struct ClusterEventTests {
    @Test func whatHappensAtANodeIsToldByEveryOther() throws {
        let cluster = try Cluster()
        let (a, b, c) = (cluster.nodes[0], cluster.nodes[1], cluster.nodes[2])
        let streams = try cluster.nodes.map { try EventReader($0) }
        // The heads are there, so all that follows is told.
        try b.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try b.connect(to: echo.port)
        try client.write("12345")
        _ = try client.read(exactly: 5)
        let conn = try #require(try c.conns().first?["conn_id"] as? String)
        #expect(try a.call("DELETE", "/v1/conns/\(conn)").status == 204)
        #expect(try a.call("PUT", "/v1/nodes/c/eligibility", ["eligible": false]).status == 200)
        for stream in streams {
            try stream.wait { $0.type == "conn.closed" }
            try stream.wait { $0.type == "node.state" && $0.node == "c" }
            let ofB = stream.events.filter { $0.node == "b" }
            #expect(ofB.map(\.type) == ["device.online", "conn.opened", "conn.closed"])
            #expect(ofB.last?.data["conn_id"] as? String == conn)
            #expect(ofB.last?.data["end_reason"] as? String == "admin")
            #expect(ofB.last?.data["bytes_received"] as? Int == 5)
            #expect(stream.events.allSatisfy { $0.type != "gap" })
        }
        // A reader that comes back soon misses nothing of any node.
        let last = try #require(streams[0].events.last { $0.node == "b" }?.id)
        streams[0].leave()
        #expect(try a.call("POST", "/v1/devices/d1/disconnect").status == 202)
        try streams[2].wait { $0.type == "device.offline" }
        let again = try EventReader(a, fields: "Last-Event-ID: \(last)\r\n")
        try again.wait { $0.type == "device.offline" && $0.data["end_reason"] as? String == "operator" }
        #expect(again.events.allSatisfy { $0.type != "gap" })
        // Of kinds that were not asked for nothing comes.
        let states = try EventReader(b, "?types=node.state")
        #expect(try a.call("PUT", "/v1/nodes/c/eligibility", ["eligible": true]).status == 200)
        try states.wait { $0.data["state"] as? String == "active" }
        #expect(states.events.allSatisfy { $0.type == "node.state" && $0.node == "c" })
    }

    @Test func theEndOfANodeIsToldByTheOthers() throws {
        let cluster = try Cluster()
        let (a, b, c) = (cluster.nodes[0], cluster.nodes[1], cluster.nodes[2])
        let stream = try EventReader(a)
        #expect(c.node?.stop() == 0)
        try stream.wait { $0.type == "node.state" && $0.node == "c" && $0.data["state"] as? String == "down" }
        #expect(b.node?.stop(SIGKILL) == 128 + SIGKILL)
        // When its lease is over.
        try stream.wait { $0.type == "node.state" && $0.node == "b" && $0.data["state"] as? String == "down" }
        #expect(stream.events.contains { $0.type == "gap" && $0.node == "b" })
        try b.startNode()
        try stream.wait {
            $0.type == "node.state" && $0.node == "b" && $0.data["state"] as? String == "active"
        }
        try waitUntilHeard(b, by: stream)
        // Told once, whoever told it.
        #expect(stream.events.count { $0.node == "c" && $0.type == "node.state" } == 1)
    }

    @Test func aNodeThatStandsStillIsAGapAndHoldsNoStreamUp() throws {
        let cluster = try Cluster(["a", "b"])
        let (a, b) = (cluster.nodes[0], cluster.nodes[1])
        b.node?.signal(SIGSTOP)
        let stream = try EventReader(a)
        try stream.wait { $0.type == "gap" && $0.node == "b" }
        b.node?.signal(SIGCONT)
        try waitUntilHeard(b, by: stream)
    }

    /// Has the node b change its state until that is told.
    private func waitUntilHeard(_ b: Fixture, by stream: EventReader) throws {
        var isEligible = true
        try b.wait("the node is heard again") {
            isEligible.toggle()
            _ = try b.call("PUT", "/v1/nodes/b/eligibility", ["eligible": isEligible])
            return stream.has { $0.node == "b" && $0.data["state"] as? String == "cordoned" }
        }
    }
}

/// A reader of `/v1/events` on a thread of its own.
private final class EventReader: Sendable {
    struct Event {
        let id: String
        let type: String
        let data: [String: Any]
        var node: String { data["node_id"] as? String ?? "" }
    }

    private let socket: TestSocket
    private let text = Text()

    private final class Text: @unchecked Sendable {
        private let lock = NSLock()
        private var value = ""
        func append(_ bytes: [UInt8]) { lock.withLock { value += String(decoding: bytes, as: UTF8.self) } }
        var current: String { lock.withLock { value } }
    }

    /// Comes back when the stream has begun.
    init(_ node: Fixture, _ query: String = "", fields: String = "") throws {
        socket = try TestSocket(port: node.adminPort)
        try socket.write(
            "GET /v1/events\(query) HTTP/1.0\r\nAuthorization: Bearer \(Fixture.token)\r\n\(fields)\r\n")
        text.append(try socket.read())
        #expect(text.current.hasPrefix("HTTP/1.1 200 "))
        Thread.detachNewThread { [socket, text] in
            while let bytes = try? socket.read(), !bytes.isEmpty { text.append(bytes) }
        }
    }

    deinit { leave() }

    func leave() { socket.shutdownBoth() }

    var events: [Event] {
        // The last piece may not be whole yet.
        text.current.components(separatedBy: "\n\n").dropLast().compactMap { block in
            var values: [String: String] = [:]
            for line in block.components(separatedBy: "\n") {
                guard let colon = line.firstRange(of: ": ") else { continue }
                values[String(line[..<colon.lowerBound])] = String(line[colon.upperBound...])
            }
            guard let type = values["event"], let data = values["data"],
                let object = try? JSONSerialization.jsonObject(with: Data(data.utf8)) as? [String: Any]
            else { return nil }
            return Event(id: values["id"] ?? "", type: type, data: object)
        }
    }

    func has(_ isWanted: (Event) -> Bool) -> Bool { events.contains(where: isWanted) }

    /// Waits until an event is there.
    func wait(_ isWanted: (Event) -> Bool) throws {
        let pause = DispatchSemaphore(value: 0)
        let limit = Date(timeIntervalSinceNow: 60)
        while !has(isWanted) {
            guard Date() < limit else {
                throw Fixture.TimedOut(what: "an event is told", logs: text.current)
            }
            _ = pause.wait(timeout: .now() + .milliseconds(20))
        }
    }
}
