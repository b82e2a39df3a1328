import Domain
import EventLoop
import JSON
import TestKit
import Testing

@testable import Store

@Suite struct EventCodecTests {
    @Test func everyEventComesBackAsItWas() throws {
        var events = RandomEvents(SeededRandom.ofEnvironment())
        for _ in 0..<3_000 {
            let event = try events.next()
            let bytes = try #require(EventCodec.encode(event), "seed \(events.seed)")
            #expect(try EventCodec.decode(bytes) == event, "seed \(events.seed)")
        }
        #expect(EventCodec.encode(.nodeState(.active)) == nil)
    }

    @Test func whatIsCutShortOrLongerIsNoEvent() throws {
        var events = RandomEvents(SeededRandom.ofEnvironment())
        for _ in 0..<100 {
            let bytes = try #require(EventCodec.encode(try events.next()))
            for length in 0..<bytes.count {
                #expect(throws: UnreadableEvent.self, "seed \(events.seed)") {
                    try EventCodec.decode(Array(bytes[..<length]))
                }
            }
            #expect(throws: UnreadableEvent.self) { try EventCodec.decode(bytes + [0]) }
        }
    }

    @Test func anyBytesAreReadOrRefusedButNeverTrap() throws {
        var events = RandomEvents(SeededRandom.ofEnvironment())
        for _ in 0..<5_000 {
            var bytes = try #require(EventCodec.encode(try events.next()))
            for _ in 0..<Int.random(in: 1...4, using: &events.random) {
                let place = Int.random(in: 0..<bytes.count, using: &events.random)
                bytes[place] = UInt8.random(in: 0...255, using: &events.random)
            }
            if let event = try? EventCodec.decode(bytes) { #expect(EventCodec.encode(event) != nil) }
        }
    }

    @Test func aKindOfALaterVersionIsNamed() {
        #expect(throws: UnreadableEvent.unknownKind(200)) { try EventCodec.decode([200, 1, 2, 3]) }
        #expect(throws: UnreadableEvent.truncated) { try EventCodec.decode([]) }
    }

    /// What earlier versions have put on disks must be read for ever.
    @Test(arguments: EventImages.all) func whatIsOnDisksIsStillRead(_ image: EventImages) throws {
        let bytes = try #require(Hexadecimal.decode(image.hexadecimal))
        let event = try EventCodec.decode(bytes)
        #expect("\(event)".contains(image.holds))
        #expect((EventCodec.encode(event) == bytes) == image.isStillWritten)
    }

    @Test func aLifeComesBackAsItWas() throws {
        var random = SystemRandom()
        let life = NodeLife(id: try named("node-1.eu:a"), incarnation: SessionID(using: &random))
        #expect(NodeLife(bytes: life.bytes) == life)
        #expect(NodeLife(bytes: Array(life.bytes.prefix(16))) == nil)
        #expect(NodeLife(bytes: []) == nil)
    }
}

/// Events of all kinds with values at their ends and in between.
struct RandomEvents {
    var random: SeededRandom
    var seed: UInt64 { random.seed }

    init(_ random: SeededRandom) {
        self.random = random
    }

    mutating func next() throws -> StoreEvent {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: .sessionStarted(try session(), acknowledgement: nil)
        case 1: .sessionUpdated(SessionUpdate(sessionID: id(), at: time(), counters: counters()))
        case 2:
            .sessionEnded(
                SessionEnd(
                    sessionID: id(), endedAt: time(), reason: pick(SessionEndReason.allCases),
                    counters: counters()))
        case 3:
            .deviceState(
                DeviceState(
                    deviceID: try device(), sessionID: id(), at: time(), health: pick(SessionHealth.allCases),
                    lastHeartbeatAt: flip() ? time() : nil, roundTripMilliseconds: flip() ? 1.5 : nil,
                    quicRemoteAddress: flip() ? address() : nil, activeConns: number(), bytesSent: number(),
                    bytesReceived: number()))
        case 4:
            .loadReport(
                LoadSample(
                    deviceID: try device(), sessionID: id(), sampledAt: time(), receivedAt: time(),
                    activeConns: number(), bytesSent: number(), bytesReceived: number(),
                    cpuUtilization: flip() ? .infinity : -0.25, memoryUsedBytes: number(),
                    memoryTotalBytes: number(), roundTripMilliseconds: flip() ? .pi : nil))
        case 5: .connEnded(try conn())
        case 6: .audited(audit())
        case 7: .adminTokensUsed([AdminTokenUse(tokenID: id(), at: time())])
        case 8: .drainChanged(drain())
        default:
            .nodeSample(
                NodeSample(
                    sampledAt: time(), devicesOnline: number(), connsActive: number(), bytesSent: number(),
                    bytesReceived: number(), cpuUtilization: 1, memoryUsedBytes: number()))
        }
    }

    private mutating func session() throws -> SessionRecord {
        SessionRecord(
            sessionID: id(), deviceID: try device(), sessionEpoch: number(), startedAt: time(),
            remoteAddress: address(), location: text(), tags: (0..<pick([0, 1, 32])).map { _ in text() },
            capacity: UInt32(clamping: number()), agentVersion: text())
    }

    private mutating func conn() throws -> ConnRecord {
        ConnRecord(
            connID: id(), deviceID: try device(), sessionID: id(), userName: text(),
            clientProtocol: pick(ConnRecord.ClientProtocol.allCases), clientAddress: address(),
            target: text(), resolvedAddress: flip() ? text() : nil, openedAt: time(), endedAt: time(),
            bytesSent: number(), bytesReceived: number(), endReason: pick(CloseReason.allCases))
    }

    private mutating func audit() -> AuditRecord {
        AuditRecord(
            auditID: id(), at: time(), actor: text(), tokenID: flip() ? id() : nil, remoteAddress: text(),
            requestID: text(), method: text(), path: text(), status: pick([0, 200, -1]), reason: text())
    }

    private mutating func drain() -> DrainRecord {
        DrainRecord(
            drainID: id(), state: text(), version: pick([0, .max, .min]), startedAt: time(),
            deadlineAt: time(), endedAt: flip() ? time() : nil, deadlineSeconds: count(),
            devicesPerSecond: count(), redirectTo: [text(), text()], onDeadline: text(), reason: text(),
            actor: text(), etaSeconds: count(), devicesTotal: count(), devicesMoved: count(),
            devicesRemaining: count(), connsRemaining: count(), connsCut: count(), devicesLost: count(),
            blockers: [text()], targets: [],
            details: ["a": ["\"ü\n", .integer(7)], "b": nil], updatedAt: time())
    }

    private mutating func count() -> Int { pick([0, 1, -1, .max, .min]) }

    private mutating func counters() -> SessionCounters {
        SessionCounters(
            bytesSent: number(), bytesReceived: number(), connsTotal: number(), resumes: number(),
            migrations: number())
    }

    private mutating func flip() -> Bool { Bool.random(using: &random) }
    private mutating func id<ID: UUIDIdentifier>() -> ID { ID(using: &random) }
    private mutating func number() -> UInt64 { pick([0, 1, 127, 128, .max, .random(in: 0...(.max))]) }

    private mutating func time() -> WallTime {
        WallTime(microseconds: pick([0, -1, .min, .max, 1_700_000_000_000_000]))
    }

    private mutating func text() -> String {
        pick(["", "eu-west", "ü\0\"\\,{}", String(repeating: "x", count: 300)])
    }
    private mutating func device() throws -> DeviceID {
        guard let device = DeviceID(pick(["d", "a.b_c:d-e", String(repeating: "9", count: 128)])) else {
            throw StoreFailure.failed("not a device's name")
        }
        return device
    }

    private mutating func address() -> SocketAddress {
        let ip: IPAddress = flip() ? .v4(IPv4Address(0x7f00_0001)) : .v6(IPv6Address(high: 0x2001, low: 7))
        return SocketAddress(ip: ip, port: pick([0, 443, .max]))
    }

    private mutating func pick<Value>(_ values: [Value]) -> Value {
        values[Int.random(in: 0..<values.count, using: &random)]
    }
}
