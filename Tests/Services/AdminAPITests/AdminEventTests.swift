import AdminAPI
import Domain
import EventLoop
import Fleet
import HTTP1
import JSON
import Observability
import TestKit
import Testing

struct AdminEventTests {
    /// A stream whose head has come.
    private func open(
        _ bench: AdminBench, _ target: String = "/v1/events", after id: String? = nil
    ) throws -> EventStream {
        let stream = EventStream(bench, target, fields: id.map { ["Last-Event-ID": $0] } ?? [:])
        #expect(bench.run { !stream.ids.isEmpty || stream.hasEnded })
        return stream
    }

    private func start(_ bench: AdminBench, _ session: SessionSnapshot) {
        bench.api.events.sessionStarted(session) { _ in false }
    }

    @Test func theStreamEndsWithItsToken() throws {
        let bench = try AdminBench()
        let stream = try open(bench)
        bench.load([storedToken("read"), storedToken("operate")])
        bench.api.events.nodeStateChanged(.cordoned)
        #expect(bench.run { stream.events.count == 1 })
        #expect(!stream.hasEnded)
        // Revoked at another node.
        bench.load([storedToken("operate")])
        #expect(bench.run { stream.hasEnded })
        #expect(try bench.get("/v1/events").status == 401)
    }

    @Test func eventsAreToldAsTheyHappen() throws {
        let bench = try AdminBench()
        start(bench, liveSession(9, device: "before"))
        let stream = try open(bench)
        #expect(stream.head?.status == .ok)
        #expect(stream.head?.fields["content-type"] == "text/event-stream")
        #expect(stream.head?.fields["cache-control"] == "no-store")
        #expect(stream.head?.fields.contains("x-request-id") == true)
        let session = liveSession(1, device: "dev1")
        start(bench, session)
        bench.api.events.connOpened(liveConn(1, user: "alice"))
        bench.api.events.connEnded(liveConn(1, user: "alice"), reason: .clientReset, at: someTime)
        bench.api.events.sessionEnded(session, reason: .goodbye, at: someTime)
        bench.api.events.nodeStateChanged(.cordoned)
        #expect(bench.run { stream.events.count == 5 })
        #expect(
            stream.types == ["device.online", "conn.opened", "conn.closed", "device.offline", "node.state"])
        #expect(stream.events.allSatisfy { $0.data["node_id"] == "pop-1" && $0.data["at"]?.string != nil })
        #expect(
            stream.events[0].data == [
                "at": "2026-01-31T09:05:00.120Z", "node_id": "pop-1", "device_id": "dev1",
                "session_id": "00000000-0000-0001-0000-000000000001", "session_epoch": 7, "location": "us",
                "tags": ["b"], "capacity": 5, "agent_version": "2", "remote_address": "192.0.2.7:51000",
            ])
        let closed = stream.events[2].data
        #expect(closed["conn_id"]?.string == liveConn(1).connID.description)
        #expect(closed["end_reason"] == "client_reset" && closed["ended_at"] == closed["at"])
        #expect(closed["bytes_sent"] == 5 && closed["bytes_received"] == 6 && closed["user"] == "alice")
        #expect(stream.events[1].data["end_reason"] == nil)
        #expect(
            stream.events[3].data == [
                "at": "2026-01-31T09:05:00.120Z", "node_id": "pop-1", "device_id": "dev1",
                "session_id": "00000000-0000-0001-0000-000000000001", "end_reason": "goodbye",
            ])
        #expect(stream.events[4].data["state"] == "cordoned")
        #expect(Set(stream.ids).count == 6)
    }

    @Test func onlyTheTypesThatAreAskedForAreTold() throws {
        let bench = try AdminBench()
        let stream = try open(bench, "/v1/events?types=conn.closed,node.state")
        bench.api.events.connOpened(liveConn(1))
        bench.api.events.connEnded(liveConn(1), reason: .finished, at: someTime)
        start(bench, liveSession(1, device: "dev1"))
        bench.api.events.nodeStateChanged(.active)
        #expect(bench.run { stream.events.count == 2 })
        #expect(stream.types == ["conn.closed", "node.state"])
    }

    @Test(arguments: ["", "device", "conn.opened,", "conn.opened,x", "gap", "conn.opened%20"])
    func unknownTypesAre422(types: String) throws {
        let answer = try AdminBench().get("/v1/events?types=\(types)")
        #expect(answer.status == 422)
        #expect(answer.faults == ["types"])
    }

    @Test func headHasNoEvents() throws {
        let bench = try AdminBench()
        let answer = try bench.send(.head, "/v1/events", token: "read-token")
        #expect(answer.status == 200)
        #expect(answer.fields["content-type"] == "text/event-stream")
        #expect(answer.body.isEmpty)
        #expect(try bench.get("/v1/events", fields: ["Accept": "application/json"]).status == 406)
        #expect(try bench.get("/v1/events", token: nil).status == 401)
    }

    @Test func aClientOfHTTP10GetsAPlainStream() throws {
        let bench = try AdminBench()
        let recorder = StreamRecorder()
        func text() -> String { String(decoding: recorder.received, as: UTF8.self) }
        let stream = TCPStream.connect(
            on: bench.loop, to: bench.address, timeout: .seconds(5), handler: recorder)
        stream.write(Array("GET /v1/events HTTP/1.0\r\nAuthorization: Bearer read-token\r\n\r\n".utf8))
        #expect(bench.run { text().contains("retry: ") })
        bench.api.events.nodeStateChanged(.active)
        #expect(bench.run { text().hasSuffix("\"state\":\"active\"}\n\n") })
        #expect(text().contains("Connection: close\r\n"))
        #expect(!text().lowercased().contains("transfer-encoding"))
        stream.abort()
    }

    @Test func aReaderResumesWhereItWas() throws {
        let bench = try AdminBench()
        let first = try open(bench)
        for serial in 1...3 { bench.api.events.connOpened(liveConn(UInt64(serial))) }
        #expect(bench.run { first.events.count == 3 })
        first.leave()
        bench.api.events.connOpened(liveConn(4))
        // The id before any event, one in the middle, and the last one.
        for (place, expected) in [(0, [1, 2, 3, 4]), (2, [3, 4]), (3, [4])] {
            let again = try open(bench, after: first.ids[place])
            #expect(bench.run { again.events.count == expected.count })
            #expect(again.types.allSatisfy { $0 == "conn.opened" })
            #expect(
                again.events.map { $0.data["conn_id"]?.string }
                    == expected.map { liveConn(UInt64($0)).connID.description })
        }
    }

    @Test func whatIsMissingIsToldAsAGapWhateverTypesAreWanted() throws {
        let bench = try AdminBench()
        bench.api.events.connOpened(liveConn(1))
        let other = try AdminBench()
        let before = try open(other)
        let foreign = try #require(before.ids.first)
        for (id, cause) in [(foreign, "restarted"), ("x", "unknown")] {
            let stream = try open(bench, "/v1/events?types=conn.opened", after: id)
            #expect(bench.run { stream.events.count == 2 })
            #expect(stream.types == ["gap", "conn.opened"])
            #expect(stream.events[0].data["cause"]?.string == cause)
            #expect(stream.events[0].data["last_event_id"]?.string == id)
            // Who comes back after the gap has it behind it.
            let again = try open(bench, after: stream.events[0].id)
            #expect(bench.run { again.events.count == 1 })
            #expect(again.types == ["conn.opened"])
        }
    }

    @Test func aReplacedSessionIsToldBeforeTheNewOne() throws {
        let bench = try AdminBench()
        let stream = try open(bench)
        let (old, new) = (liveSession(1, device: "dev1"), liveSession(2, device: "dev1", epoch: 8))
        start(bench, old)
        start(bench, new)
        // The old one's conns are over only now.
        bench.api.events.sessionEnded(old, reason: .replaced, at: someTime)
        bench.api.events.sessionEnded(new, reason: .operator, at: someTime)
        #expect(bench.run { stream.events.count == 4 })
        #expect(stream.types == ["device.online", "device.offline", "device.online", "device.offline"])
        #expect(stream.events.map { $0.data["end_reason"] } == [nil, "replaced", nil, "operator"])
        #expect(stream.events[1].data["session_id"]?.string == old.sessionID.description)
        #expect(stream.events[3].data["session_id"]?.string == new.sessionID.description)
    }

    @Test func aDrainIsToldWhenItsStateChangesAndOnceASecondOtherwise() throws {
        let bench = try AdminBench()
        let stream = try open(bench)
        var drain = bench.backend.drain
        bench.api.events.drainChanged(drain)
        drain.state = .handover
        drain.devicesTotal = 100
        for remaining in (1...100).reversed() {
            drain.devicesRemaining = remaining
            bench.api.events.drainChanged(drain)
        }
        #expect(bench.run { stream.events.count == 2 })
        #expect(stream.types == ["drain.progress", "drain.progress"])
        #expect(stream.events.map { $0.data["devices_remaining"] } == [100, 1])
        drain.state = .drained
        bench.api.events.drainChanged(drain)
        bench.api.events.drainChanged(drain)
        bench.api.events.nodeStateChanged(.drained)
        #expect(bench.run { stream.events.count == 4 })
        #expect(stream.types.suffix(2) == ["drain.progress", "node.state"])
        #expect(stream.events[2].data["state"] == "drained")
    }

    @Test func aReaderThatDoesNotReadIsGivenUp() throws {
        let bench = try AdminBench()
        let slow = try open(bench)
        slow.pause()
        var session = liveSession(1, device: "dev1")
        session.tags = Array(repeating: String(repeating: "t", count: 64), count: 32)
        // Three times what is kept: more than the kernel takes for one that does not read.
        let count = 12_000
        for serial in 1...count {
            session.sessionID = SessionID(high: 9, low: UInt64(serial))
            bench.api.events.sessionStarted(session) { _ in true }
            if serial.isMultiple(of: 50) { bench.loop.runOnce(waitingAtMost: .zero) }
        }
        #expect(figure(bench, "pop_event_readers") == "0")
        #expect(figure(bench, "pop_event_readers_evicted_total") == "1")
        #expect(figure(bench, #"pop_events_total{type="device.online"}"#) == "\(count)")
        slow.resume()
        #expect(bench.run { slow.hasEnded })
        #expect(slow.types.last == "evicted")
        #expect(slow.events.count < count)
    }

    @Test func readersAreBounded() throws {
        let bench = try AdminBench()
        let streams = (0..<256).map { _ in EventStream(bench) }
        #expect(bench.run { streams.allSatisfy { $0.head != nil } })
        let refused = try bench.get("/v1/events")
        #expect(refused.status == 503)
        #expect(refused.code == "too_many_readers")
        #expect(refused.fields["retry-after"] == "30")
        streams[0].leave()
        #expect(bench.run { figure(bench, "pop_event_readers") == "255" })
        #expect(try open(bench).head?.status == .ok)
    }

    @Test func aNodeThatStopsSaysSoLast() throws {
        let bench = try AdminBench()
        let stream = try open(bench)
        bench.api.closeEvents()
        bench.api.events.nodeStateChanged(.active)
        #expect(bench.run { stream.hasEnded })
        #expect(stream.types == ["node.state"])
        #expect(stream.events.last?.data["state"] == "down")
        #expect(try bench.get("/v1/events").code == "too_many_readers")
    }

    private func figure(_ bench: AdminBench, _ name: String) -> String? {
        var page = MetricPage()
        bench.api.writeMetrics(on: &page)
        let line = String(decoding: page.text, as: UTF8.self).split(separator: "\n").first {
            $0.hasPrefix(name + " ")
        }
        return line.map { String($0.dropFirst(name.count + 1)) }
    }
}
