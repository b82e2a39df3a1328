import Domain
import Fleet
import HTTP1
import TestKit
import Testing

@testable import AdminAPI

struct EventLogTests {
    private static let life: UInt64 = 0x6b1f_0c5e_8d2a_4b97

    private func log(_ count: Int, limits: EventLog.Limits = EventLog.Limits()) -> EventLog {
        var log = EventLog(life: Self.life, limits: limits)
        for number in 1...count { log.append(.nodeState, data: Array("{\(number)}".utf8)) }
        return log
    }

    /// The data of all that a reader is sent that resumes after `id`.
    private func sent(_ log: EventLog, after id: String?) -> [String] {
        var position = log.resume(after: id, .all).position
        let text = String(decoding: log.frames(from: &position, .all, upTo: .max), as: UTF8.self)
        #expect(position == log.end)
        return text.split(separator: "\n").filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
    }

    @Test func aFrameIsAnEventOfAnEventStream() {
        var position: UInt64 = 1
        let text = String(decoding: log(1).frames(from: &position, .all, upTo: .max), as: UTF8.self)
        #expect(text == "id: 6b1f0c5e8d2a4b97-1\nevent: node.state\ndata: {1}\n\n")
        let opening = String(decoding: log(7).opening(at: 8, retryMilliseconds: 5), as: UTF8.self)
        #expect(opening == "retry: 5\nid: 6b1f0c5e8d2a4b97-7\n\n")
    }

    @Test func aReaderWithoutAnIdStartsWithTheNextEvent() {
        #expect(sent(log(3), after: nil).isEmpty)
        #expect(log(3).resume(after: nil, .all) == EventLog.Resumption(position: 4))
    }

    @Test func everyIdThatIsKeptResumesWithoutAGap() {
        let log = log(10, limits: EventLog.Limits(events: 4))
        // 7 is forgotten itself, but nothing behind it is.
        #expect(sent(log, after: log.id(6)) == ["{7}", "{8}", "{9}", "{10}"])
        for number in UInt64(6)...10 {
            #expect(log.resume(after: log.id(number), .all) == EventLog.Resumption(position: number + 1))
        }
        for number in UInt64(0)...5 {
            #expect(
                log.resume(after: log.id(number), .all) == EventLog.Resumption(position: 7, gap: .forgotten))
        }
    }

    @Test func theIdBeforeTheFirstEventResumesToo() {
        #expect(log(2).resume(after: log(2).id(0), .all) == EventLog.Resumption(position: 1))
        #expect(
            EventLog(life: 1).resume(after: EventLog(life: 1).id(0), .all) == EventLog.Resumption(position: 1)
        )
    }

    @Test func idsOfAnotherLifeAreAGap() {
        let other = EventLog(life: Self.life + 1).id(2)
        #expect(log(3).resume(after: other, .all) == EventLog.Resumption(position: 1, gap: .restarted))
        // This life has not given it either.
        #expect(
            log(3).resume(after: log(3).id(4), .all) == EventLog.Resumption(position: 1, gap: .restarted))
    }

    @Test(arguments: [
        "", "7", "-", "-7", "6b1f0c5e8d2a4b97", "6b1f0c5e8d2a4b97-", "6b1f0c5e8d2a4b97-x",
        "6b1f0c5e8d2a4b97--1", "6b1f0c5e8d2a4b97-+1", "+b1f0c5e8d2a4b97-1", "b1f0c5e8d2a4b97-1",
        "6b1f0c5e8d2a4b97-1-1", "6b1f0c5e8d2a4b97-99999999999999999999", "6b1f0c5e8d2a4b97-1 ", "é",
    ])
    func whatIsNoIdIsAGap(id: String) {
        #expect(log(3).resume(after: id, .all) == EventLog.Resumption(position: 1, gap: .unknown))
    }

    @Test func kindsThatAreNotWantedArePassedOver() {
        var log = EventLog(life: 1)
        for kind in AdminEventKind.allCases { log.append(kind, data: Array(kind.rawValue.utf8)) }
        for kind in AdminEventKind.allCases {
            var position = log.start
            let text = String(
                decoding: log.frames(from: &position, AdminEventKinds([kind]), upTo: .max), as: UTF8.self)
            #expect(position == log.end)
            #expect(text.contains("data: \(kind.rawValue)\n\n"))
            #expect(text.split(separator: "\n").count == 3)
        }
    }

    @Test func framesEndAtTheFirstEventAboveTheBytesWanted() {
        let log = log(3)
        var position: UInt64 = 1
        let one = log.frames(from: &position, .all, upTo: 1)
        #expect(position == 2 && !one.isEmpty)
        _ = log.frames(from: &position, .all, upTo: one.count + 1)
        #expect(position == 4)
        #expect(log.frames(from: &position, .all, upTo: 1).isEmpty)
    }

    @Test func aReaderHasNotMissedWhatItDoesNotWant() {
        var log = EventLog(life: 1, limits: EventLog.Limits(events: 3))
        log.append(.nodeState, data: Array("{1}".utf8))
        for _ in 2...9 { log.append(.connOpened, data: Array("{}".utf8)) }
        #expect(log.start == 7)
        let (states, conns) = (AdminEventKinds([.nodeState]), AdminEventKinds([.connOpened]))
        #expect(log.resume(after: log.id(0), states) == EventLog.Resumption(position: 7, gap: .forgotten))
        for number in UInt64(1)...5 {
            #expect(log.resume(after: log.id(number), states) == EventLog.Resumption(position: 7))
            #expect(
                log.resume(after: log.id(number), conns)
                    == EventLog.Resumption(position: 7, gap: .forgotten))
        }
        // What is for everybody is missed by everybody.
        log.append(toAll: "gap", data: Array("{}".utf8))
        for _ in 0..<3 { log.append(.connOpened, data: Array("{}".utf8)) }
        #expect(log.resume(after: log.id(9), states).gap == .forgotten)
        #expect(log.resume(after: log.id(10), states).gap == nil)
    }

    @Test func aHeartbeatIsNoEventAndHasTheIdToComeBackWith() throws {
        var parser = EventStreamParser()
        let log = log(7)
        #expect(try parser.receive(log.opening(at: 3, retryMilliseconds: 5)).isEmpty)
        #expect(parser.lastEventID == log.id(2))
        #expect(try parser.receive(log.heartbeat(at: 8)).isEmpty)
        #expect(parser.lastEventID == log.id(7))
    }

    private func connEvent(_ conn: ConnSnapshot, _ reason: CloseReason?) throws -> ConnEvent {
        ConnEvent(
            conn: conn, node: try #require(NodeID("pop-1")), at: someTime,
            now: conn.lastActiveAt + .seconds(7),
            reason: reason)
    }

    @Test(arguments: [nil, CloseReason.targetReset])
    func anEventOfAConnReadsAsIfItHadBeenWrittenWhenItHappened(reason: CloseReason?) throws {
        let event = try connEvent(liveConn(3, user: "al\"ice"), reason)
        var written = EventLog(life: 1)
        written.append(event.kind, data: event.data)
        written.append(.nodeState, data: Array("{}".utf8))
        var unwritten = EventLog(life: 1)
        unwritten.append(event)
        unwritten.append(.nodeState, data: Array("{}".utf8))
        for kinds in [.all, AdminEventKinds([event.kind]), AdminEventKinds([.nodeState])] {
            var (first, second) = (written.start, unwritten.start)
            let expected = written.frames(from: &first, kinds, upTo: .max)
            #expect(unwritten.frames(from: &second, kinds, upTo: .max) == expected)
            #expect(first == second)
        }
        let text = String(decoding: event.data, as: UTF8.self)
        // As idle as it was then, whenever it is read.
        #expect(text.contains(#""idle_seconds":7"#))
        #expect(text.contains(#""end_reason":"target_reset""#) == (reason != nil))
    }

    @Test func longNamesInEventsOfConnsCountAsTheMemoryTheyAre() throws {
        var conn = liveConn(1, user: String(repeating: "u", count: 1_000))
        conn.target = Target(host: .name(String(repeating: "n", count: 200)), port: 1)
        conn.resolvedAddress = String(repeating: "r", count: 1_000)
        var log = EventLog(life: 1, limits: EventLog.Limits(bytes: 50_000))
        for _ in 0..<100 { log.append(try connEvent(conn, nil)) }
        #expect(log.byteCount <= 50_000)
        #expect((10...22).contains(log.count))
        for _ in 0..<100 { log.append(.nodeState, data: []) }
        #expect(log.count > 100)
    }

    /// Against a plain list of all events ever, with readers that fall behind and come back.
    @Test func readersMissNothingThatIsKeptAndAreToldOfTheRest() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<50 {
            let limits = EventLog.Limits(
                events: .random(in: 1...40, using: &random), bytes: .random(in: 80...4_000, using: &random))
            var log = EventLog(life: random.next(), limits: limits)
            var all: [String] = []
            for _ in 0..<Int.random(in: 1...200, using: &random) {
                let text =
                    "{\(all.count)" + String(repeating: "x", count: .random(in: 0...90, using: &random)) + "}"
                all.append(text)
                log.append(.connOpened, data: Array(text.utf8))
                #expect(log.count <= limits.events && log.byteCount <= limits.bytes, "seed \(random.seed)")
                #expect(log.end == UInt64(all.count) + 1)
                let seen = UInt64.random(in: 0...UInt64(all.count), using: &random)
                let resumption = log.resume(after: log.id(seen), .all)
                let isWhole = seen + 1 >= log.start
                #expect((resumption.gap == nil) == isWhole, "seed \(random.seed)")
                let first = isWhole ? seen : log.start - 1
                #expect(sent(log, after: log.id(seen)) == Array(all[Int(first)...]), "seed \(random.seed)")
            }
        }
    }
}
