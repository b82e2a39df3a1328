import Domain
import EventLoop
import Testing

@testable import Store

@Suite struct WriteQueueTests {
    private var records = Records()

    private func state(_ session: SessionRecord, conns: UInt64) -> StoreEvent {
        .deviceState(
            DeviceState(
                deviceID: session.deviceID, sessionID: session.sessionID, at: session.startedAt,
                health: .whole, activeConns: conns))
    }

    @Test mutating func eventsComeOutInOrder() throws {
        var queue = WriteQueue()
        let sessions = try (0..<5).map { try records.session("d\($0)") }
        for session in sessions { queue.append(.sessionStarted(session, acknowledgement: nil)) }
        #expect(queue.waitingStarts == 5)
        #expect(queue.take(2) == sessions[..<2].map { .sessionStarted($0, acknowledgement: nil) })
        #expect(queue.waitingStarts == 3)
        #expect(queue.take(10) == sessions[2...].map { .sessionStarted($0, acknowledgement: nil) })
        #expect(queue.isEmpty)
    }

    @Test mutating func theNewestStateTakesThePlaceOfTheWaitingOne() throws {
        var queue = WriteQueue()
        let session = try records.session("d1")
        queue.append(.sessionStarted(session, acknowledgement: nil))
        queue.append(state(session, conns: 1))
        queue.append(.loadReport(records.load(of: session)))
        queue.append(state(session, conns: 2))
        #expect(queue.count == 3)
        #expect(queue.take(2).last == state(session, conns: 2))
        queue.append(state(session, conns: 3))
        #expect(queue.take(10).last == state(session, conns: 3))
    }

    @Test mutating func aFullQueueGivesUpLoadThenConnsAndNeverSessions() throws {
        var queue = WriteQueue(capacity: 100)
        let session = try records.session("d1")
        for _ in 0..<50 { queue.append(.loadReport(records.load(of: session))) }
        for _ in 0..<50 { queue.append(.connEnded(records.conn(of: session))) }
        queue.append(.sessionStarted(session, acknowledgement: 7))
        #expect(queue.count == 90)
        #expect(queue.droppedCount == 11)
        for number in 0..<300 {
            queue.append(.sessionStarted(try records.session("d\(number)"), acknowledgement: nil))
        }
        let rest = queue.take(1_000)
        #expect(rest.count == 301)
        #expect(queue.droppedCount == 100)
        let starts = rest.filter { if case .sessionStarted = $0 { true } else { false } }
        #expect(starts.count == 301)
    }

    @Test mutating func auditLinesGoLastAndThoseOfStrangersFirst() throws {
        var queue = WriteQueue(capacity: 20)
        let session = try records.session("d1")
        func line(_ number: UInt64, _ actor: String) -> StoreEvent {
            .audited(
                AuditRecord(
                    auditID: AuditID(high: 0, low: number), at: session.startedAt, actor: actor, tokenID: nil,
                    remoteAddress: "", requestID: "", method: "POST", path: "/", status: 401, reason: ""))
        }
        queue.append(.connEnded(records.conn(of: session)))
        for number: UInt64 in 0..<10 { queue.append(line(number, number % 2 == 0 ? "" : "ann")) }
        for number in 0..<10 {
            queue.append(.sessionStarted(try records.session("d\(number)"), acknowledgement: nil))
        }
        // A tenth is freed: the conn, and two strangers' lines.
        #expect(queue.droppedCount == 3)
        let kept = [1, 3, 4, 5, 6, 7, 8].map { (number: UInt64) in line(number, number % 2 == 0 ? "" : "ann")
        }
        #expect(queue.take(7) == kept)
    }

    @Test mutating func placesHoldAfterThinning() throws {
        var queue = WriteQueue(capacity: 20)
        let session = try records.session("d1")
        for _ in 0..<10 { queue.append(.loadReport(records.load(of: session))) }
        queue.append(state(session, conns: 1))
        for _ in 0..<10 { queue.append(.connEnded(records.conn(of: session))) }
        queue.append(state(session, conns: 2))
        let states = queue.take(100).filter { if case .deviceState = $0 { true } else { false } }
        #expect(states == [state(session, conns: 2)])
    }
}
