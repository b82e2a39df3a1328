import Domain
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

/// Who may come in, and how other nodes learn of a change of that.
@Suite struct AdmissionTests {
    private let store: StoreHarness
    private let sql: BlockingConnection
    private var records = Records()

    init() throws {
        store = try StoreHarness()
        sql = try BlockingConnection(store.databaseURL)
        store.pump { store.client.health.isConnected }
    }

    private func hash(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }

    private func outcome(_ query: StoreQuery) throws -> AdmissionOutcome {
        guard case .admission(let outcome) = try store.ask(query) else { throw StoreFailure.failed("kind") }
        return outcome
    }

    private func changes(after revision: Int64) throws -> [Admission] {
        guard case .admissions(let changes) = try store.ask(.admissions(after: revision)) else {
            throw StoreFailure.failed("kind")
        }
        return changes
    }

    private func revision() throws -> Int64 {
        guard case .revisions(let revisions) = try store.ask(.revisions) else {
            throw StoreFailure.failed("kind")
        }
        return revisions.admissions
    }

    @Test func deviceTokensAreFoundByTheirHashUntilTheyAreRevoked() throws {
        let id = try store.device(named: "enrolled-1")
        #expect(try store.ask(.deviceOfToken(sha256: hash(1))) == .deviceOfToken(nil))
        #expect(
            try outcome(.enrollDevice(id, tokenSHA256: hash(1)))
                == .changed(Admission(deviceID: id, revision: 1, isEnabled: true, revokedRevision: 0)))
        let holder = TokenHolder(deviceID: id, enabled: true)
        #expect(try store.ask(.deviceOfToken(sha256: hash(1))) == .deviceOfToken(holder))
        #expect(try store.device("enrolled-1")?.online == false)
        #expect(
            try outcome(.enrollDevice(id, tokenSHA256: hash(2)))
                == .changed(Admission(deviceID: id, revision: 2, isEnabled: true, revokedRevision: 0)))
        #expect(try store.ask(.deviceOfToken(sha256: hash(1))) == .deviceOfToken(nil))
        #expect(
            try outcome(.setDeviceEnabled(id, false))
                == .changed(Admission(deviceID: id, revision: 3, isEnabled: false, revokedRevision: 0)))
        let disabled = TokenHolder(deviceID: id, enabled: false)
        #expect(try store.ask(.deviceOfToken(sha256: hash(2))) == .deviceOfToken(disabled))
        let revoked = Admission(deviceID: id, revision: 4, isEnabled: false, revokedRevision: 4)
        #expect(try outcome(.revokeToken(id)) == .changed(revoked))
        #expect(try outcome(.revokeToken(id)) == .unchanged(revoked))
        #expect(try store.ask(.deviceOfToken(sha256: hash(2))) == .deviceOfToken(nil))
        #expect(
            try outcome(.setDeviceEnabled(id, true))
                == .changed(Admission(deviceID: id, revision: 5, isEnabled: true, revokedRevision: 4)))
        #expect(
            try outcome(.enrollDevice(id, tokenSHA256: hash(3)))
                == .changed(Admission(deviceID: id, revision: 6, isEnabled: true, revokedRevision: 0)))
        #expect(try revision() == 6)
        let absent = try store.device(named: "absent")
        #expect(try outcome(.setDeviceEnabled(absent, true)) == .noDevice)
        #expect(try outcome(.revokeToken(absent)) == .noDevice)
    }

    @Test func changesAreToldInTheirOrderAndOnceADevice() throws {
        let names = try ["c", "a", "b"].map { try store.device(named: $0) }
        for name in names {
            _ = try outcome(
                .enrollDevice(name, tokenSHA256: Array(name.description.utf8) + hash(0).dropFirst()))
        }
        _ = try outcome(.setDeviceEnabled(names[0], false))
        #expect(try changes(after: 0).map(\.deviceID) == [names[1], names[2], names[0]])
        #expect(try changes(after: 3).map(\.deviceID) == [names[0]])
        #expect(try changes(after: 4).isEmpty)
    }

    @Test func whatIsChangedByHandIsToldToo() throws {
        try sql.query("INSERT INTO pop.devices (device_id, enabled) VALUES ('x', false), ('y', true)")
        #expect(try changes(after: 0).map(\.isEnabled) == [false])
        #expect(try store.ask(.disabledDevices(after: nil)) == .disabledDevices([store.device(named: "x")]))
        #expect(
            try store.ask(.disabledDevices(after: store.device(named: "x"))) == .disabledDevices([]))
        try sql.query("INSERT INTO pop.device_tokens VALUES ('y', decode(repeat('07', 32), 'hex'))")
        try sql.query("DELETE FROM pop.device_tokens")
        let told = try #require(try changes(after: 1).first)
        #expect(told.deviceID == (try store.device(named: "y")))
        #expect(told.revokedRevision == told.revision)
        #expect(
            try store.ask(.revokedDevices(among: [store.device(named: "x"), store.device(named: "y")]))
                == .revokedDevices([store.device(named: "y")]))
        try sql.query("DELETE FROM pop.devices WHERE device_id = 'x'")
        #expect(try changes(after: 3).map(\.isEnabled) == [true])
        // What happens to a device all the time is no change of its admission.
        let before = try revision()
        try sql.query("UPDATE pop.devices SET active_conns = 5, enabled = enabled")
        #expect(try revision() == before)
    }

    @Test mutating func aChangeForAnotherSessionIsNotMade() throws {
        let session = try records.session("dev-1", epoch: 70)
        #expect(store.start(session))
        let id = session.deviceID
        _ = try outcome(.enrollDevice(id, tokenSHA256: hash(1)))
        #expect(try outcome(.setDeviceEnabled(id, false, onlyAt: .oneOf([69, 71]))) == .stale)
        #expect(try outcome(.revokeToken(id, onlyAt: .oneOf([]))) == .stale)
        #expect(try outcome(.enrollDevice(id, tokenSHA256: hash(2), onlyAt: .oneOf([1]))) == .stale)
        // Whoever says at most 69 has not heard of the session that is there.
        #expect(try outcome(.setDeviceEnabled(id, false, onlyAt: .atMost(69))) == .stale)
        #expect(try outcome(.revokeToken(id, onlyAt: .atMost(69))) == .stale)
        #expect(try outcome(.enrollDevice(id, tokenSHA256: hash(2), onlyAt: .atMost(69))) == .stale)
        #expect(try store.device("dev-1")?.enabled == true)
        let holder = TokenHolder(deviceID: id, enabled: true, sessionEpoch: 70)
        #expect(try store.ask(.deviceOfToken(sha256: hash(1))) == .deviceOfToken(holder))
        guard
            case .changed(let admission) = try outcome(
                .setDeviceEnabled(id, false, onlyAt: .oneOf([69, 70])))
        else {
            Issue.record("not changed")
            return
        }
        #expect(!admission.isEnabled)
        // Whoever says at most 71 knows a session that is not on record yet.
        guard case .changed = try outcome(.setDeviceEnabled(id, true, onlyAt: .atMost(71))),
            case .changed = try outcome(.revokeToken(id, onlyAt: .atMost(70)))
        else {
            Issue.record("not changed")
            return
        }
        let absent = try store.device(named: "absent")
        #expect(try outcome(.enrollDevice(absent, tokenSHA256: hash(3), onlyAt: .oneOf([0]))) == .noDevice)
    }
}
