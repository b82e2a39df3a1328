import Domain
import EventLoop
import Testing

@testable import Store

@Suite struct WriteQueueTests {
    private var records = Records()
    private let start = Instant(nanoseconds: 1_000)

    private func state(_ session: SessionRecord, conns: UInt64) -> StoreEvent {
        .deviceState(
            DeviceState(
                deviceID: session.deviceID, sessionID: session.sessionID, at: session.startedAt,
                health: .whole, activeConns: conns))
    }

    @Test mutating func eventsComeOutInOrder() throws {
        var queue = WriteQueue()
        let sessions = try (0..<5).map { try records.session("d\($0)") }
        for session in sessions { queue.append(.sessionStarted(session, acknowledgement: nil), now: start) }
        #expect(queue.take(2) == sessions[..<2].map { .sessionStarted($0, acknowledgement: nil) })
        #expect(queue.take(10) == sessions[2...].map { .sessionStarted($0, acknowledgement: nil) })
        #expect(queue.isEmpty)
    }

    @Test mutating func theNewestStateTakesThePlaceOfTheWaitingOne() throws {
        var queue = WriteQueue()
        let session = try records.session("d1")
        queue.append(.sessionStarted(session, acknowledgement: nil), now: start)
        queue.append(state(session, conns: 1), now: start)
        queue.append(.loadReport(records.load(of: session)), now: start)
        queue.append(state(session, conns: 2), now: start)
        #expect(queue.count == 3)
        #expect(queue.take(2).last == state(session, conns: 2))
        queue.append(state(session, conns: 3), now: start)
        #expect(queue.take(10).last == state(session, conns: 3))
    }

    @Test mutating func aFullQueueGivesUpLoadThenConnsAndNeverSessions() throws {
        var queue = WriteQueue(capacity: 100)
        let session = try records.session("d1")
        for _ in 0..<50 { queue.append(.loadReport(records.load(of: session)), now: start) }
        for _ in 0..<50 { queue.append(.connEnded(records.conn(of: session)), now: start) }
        queue.append(.sessionStarted(session, acknowledgement: 7), now: start)
        #expect(queue.count == 90)
        #expect(queue.droppedCount == 11)
        for number in 0..<300 {
            queue.append(.sessionStarted(try records.session("d\(number)"), acknowledgement: nil), now: start)
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
        queue.append(.connEnded(records.conn(of: session)), now: start)
        for number: UInt64 in 0..<10 { queue.append(line(number, number % 2 == 0 ? "" : "ann"), now: start) }
        for number in 0..<10 {
            queue.append(.sessionStarted(try records.session("d\(number)"), acknowledgement: nil), now: start)
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
        for _ in 0..<10 { queue.append(.loadReport(records.load(of: session)), now: start) }
        queue.append(state(session, conns: 1), now: start)
        for _ in 0..<10 { queue.append(.connEnded(records.conn(of: session)), now: start) }
        queue.append(state(session, conns: 2), now: start)
        let states = queue.take(100).filter { if case .deviceState = $0 { true } else { false } }
        #expect(states == [state(session, conns: 2)])
    }

    @Test mutating func itKnowsSinceWhenTheOldestEventWaitsAndSinceWhenSomebody() throws {
        var queue = WriteQueue()
        #expect(queue.oldest == nil && queue.oldestStart == nil)
        let (first, second) = (try records.session("d1"), try records.session("d2"))
        queue.append(state(first, conns: 1), now: start)
        queue.append(.sessionStarted(first, acknowledgement: 7), now: start + .seconds(1))
        queue.append(.sessionStarted(second, acknowledgement: 8), now: start + .seconds(2))
        #expect(queue.oldest == start)
        #expect(queue.oldestStart == start + .seconds(1))
        _ = queue.take(2)
        #expect(queue.oldest == start + .seconds(2))
        #expect(queue.oldestStart == start + .seconds(2))
        #expect(queue.takeAcknowledgements() == [8])
        #expect(queue.takeAcknowledgements() == [])
        #expect(queue.oldestStart == nil)
        #expect(queue.take(9) == [.sessionStarted(second, acknowledgement: nil)])
    }
}
