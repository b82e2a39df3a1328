import Domain
import EventLoop
import Postgres
import TemporaryPostgres
import TestKit
import Testing

@testable import Store

/// What a node's disk tells its next life, and what it stands in for while the database is away.
@Suite struct NodeNotesTests {
    private var records = Records()
    private let directory = TemporaryDirectory()
    private let nowhere = "host=127.0.0.1 port=1 user=x dbname=x"

    @Test mutating func whatASessionHasCarriedIsOnRecordIfItsNodeEndsWithoutAWord() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let sessions = try (0..<3).map { try records.session("d\($0)") }
        do {
            let store = try StoreHarness(database, outbox: directory)
            for session in sessions { #expect(store.start(session)) }
            #expect(store.waitForWritten(3))
            for bytes: UInt64 in [5, 10] {
                store.client.count(
                    sessions.map { session in
                        SessionUpdate(
                            sessionID: session.sessionID, at: SystemClock.wall,
                            counters: SessionCounters(bytesSent: bytes, connsTotal: 1))
                    })
            }
            store.client.record(
                .sessionEnded(
                    SessionEnd(
                        sessionID: sessions[2].sessionID, endedAt: SystemClock.wall, reason: .goodbye,
                        counters: SessionCounters(bytesSent: 11, connsTotal: 2))))
            store.client.stop(within: .seconds(5))
        }
        let store = try StoreHarness(database, outbox: directory)
        #expect(store.pump { store.client.health.isConnected && store.client.health.waitingEvents == 0 })
        let rows = try BlockingConnection(database).query(
            "SELECT end_reason, bytes_sent, conns_total FROM pop.device_sessions ORDER BY device_id"
        ).rows.map { row in
            [try row.string("end_reason"), try row.string("bytes_sent"), try row.string("conns_total")]
        }
        #expect(rows == [["node_lost", "10", "1"], ["node_lost", "10", "1"], ["goodbye", "11", "2"]])
    }

    @Test mutating func epochsGrowAcrossLivesWithoutADatabase() throws {
        let now = UInt64(SystemClock.wall.microseconds)
        do {
            let store = try StoreHarness(nowhere, outbox: directory)
            #expect(store.client.lastEpoch == 0)
            for lead: UInt64 in [60_000_000, 120_000_000, 90_000_000] {
                #expect(store.start(try records.session("d", epoch: now + lead)))
            }
            // Given to one device, after one of a node whose clock is a week ahead.
            #expect(store.start(try records.session("e", epoch: now + 604_800_000_000)))
            store.client.stop(within: .seconds(5))
        }
        let store = try StoreHarness(nowhere, outbox: directory)
        #expect(store.client.lastEpoch >= now + 120_000_000)
        #expect(store.client.lastEpoch < now + 3_600_000_000)
    }

    @Test mutating func tokensThatWereCheckedAreGoodWithoutADatabase() throws {
        let database = try TemporaryPostgres.makeDatabase()
        let hashes = (1...4).map { [UInt8](repeating: $0, count: 32) }
        var devices: [DeviceID] = []
        do {
            let store = try StoreHarness(database, outbox: directory)
            devices = try (1...4).map { try store.device(named: "dev-\($0)") }
            #expect(store.start(try records.session("dev-1", epoch: 77)))
            #expect(store.waitForWritten(1))
            for (device, hash) in zip(devices, hashes) {
                _ = try store.ask(.enrollDevice(device, tokenSHA256: hash))
            }
            // The fourth one is enrolled, but never came here.
            for hash in hashes[..<3] { _ = try store.ask(.deviceOfToken(sha256: hash)) }
            store.client.forgetTokens(of: devices[1])
            _ = try store.ask(.setDeviceEnabled(devices[2], false))
            _ = try store.ask(.deviceOfToken(sha256: hashes[2]))
            store.client.stop(within: .seconds(5))
        }
        let store = try StoreHarness(nowhere, outbox: directory)
        #expect(
            try store.ask(.deviceOfToken(sha256: hashes[0]))
                == .deviceOfToken(TokenHolder(deviceID: devices[0], enabled: true, sessionEpoch: 77)))
        for hash in hashes[1...] {
            #expect(throws: StoreFailure.self) { try store.ask(.deviceOfToken(sha256: hash)) }
        }
    }

    @Test func aSlowDatabaseDoesNotKeepOutWhoIsKnown() throws {
        let store = try StoreHarness(
            TemporaryPostgres.makeDatabase(), queryTimeout: .seconds(30), outbox: directory)
        let hash = [UInt8](repeating: 9, count: 32)
        let device = try store.device(named: "dev-1")
        #expect(store.pump { store.client.health.isConnected })
        _ = try store.ask(.enrollDevice(device, tokenSHA256: hash))
        let answer = try store.ask(.deviceOfToken(sha256: hash))
        let sql = try BlockingConnection(store.databaseURL)
        try sql.run(script: "BEGIN; LOCK TABLE pop.device_tokens IN ACCESS EXCLUSIVE MODE")
        let start = SystemClock.now
        #expect(try store.ask(.deviceOfToken(sha256: hash)) == answer)
        #expect(SystemClock.now - start < .seconds(20))
        try sql.run(script: "COMMIT")
    }
}
