import Admissions
import DevicePlane
import DevicePlaneKit
import DeviceProtocol
import Domain
import EventLoop
import Fleet
import Store
import Testing

/// Changes of who may come in, as a node goes through them.
struct DeviceAdmissionsTests {
    /// The rows that the questions are about, changed by the test as another node would.
    private final class Database: StorePort {
        var rows: [DeviceID: Admission] = [:]
        var disabled: Set<DeviceID> { Set(rows.values.filter { !$0.isEnabled }.map(\.deviceID)) }
        var isAway = false
        var questions: [StoreQuery] = []
        var forgotten: [DeviceID] = []
        let health = StoreHealth()
        private(set) var revision: Int64 = 0
        private let loop: EventLoop

        init(_ loop: EventLoop) { self.loop = loop }

        @discardableResult func change(_ device: DeviceID, enabled: Bool = true, revoked: Bool = false)
            -> Admission
        {
            revision += 1
            let row = Admission(
                deviceID: device, revision: revision, isEnabled: enabled,
                revokedRevision: revoked ? revision : rows[device]?.revokedRevision ?? 0)
            rows[device] = row
            return row
        }

        func record(_ event: StoreEvent) {}
        func startSession(_ record: SessionRecord, durable: @escaping () -> Void) { durable() }
        func count(_ updates: [SessionUpdate]) {}
        func remember(_ user: UserKey) {}
        func userChanged(_ user: UserName, _ key: UserKey?) {}
        func forgetUsers() {}
        func followed(usersTo revision: Int64) {}
        func forgetTokens(of device: DeviceID) { forgotten.append(device) }

        func ask(_ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void) {
            questions.append(query)
            let result: Result<StoreAnswer, StoreFailure> =
                isAway ? .failure(.unavailable("away")) : .success(found(query))
            loop.atEndOfBatch { answer(result) }
        }

        private func found(_ query: StoreQuery) -> StoreAnswer {
            switch query {
            case .disabledDevices(let last):
                .disabledDevices(
                    Array(disabled.filter { device in last.map { $0 < device } ?? true }.sorted().prefix(2)))
            case .revokedDevices(let devices):
                .revokedDevices(devices.filter { rows[$0]?.revokedRevision ?? 0 > 0 })
            case .admissions(let position):
                .admissions(
                    Array(
                        rows.values.filter { $0.revision > position }.sorted { $0.revision < $1.revision }
                            .prefix(2)))
            default: .changed(false)
            }
        }
    }

    private let harness: PlaneHarness
    private let database: Database
    private let admissions: DeviceAdmissions

    init() throws {
        harness = try PlaneHarness()
        database = Database(harness.loop)
        admissions = DeviceAdmissions(
            store: database, plane: harness.plane,
            tokens: TokenAuthenticator(store: database, plane: harness.plane))
    }

    private func device(_ name: String) throws -> DeviceID { try #require(DeviceID(name)) }

    private func look() {
        admissions.noticed(database.revision)
        for _ in 0..<10 { harness.loop.runOnce(waitingAtMost: .zero) }
    }

    private func join(_ name: String) -> StandInDevice {
        let device = StandInDevice(harness.plane)
        _ = device.join(name, dataLoop: harness.dataLoops[0])
        harness.settle()
        return device
    }

    @Test func whoIsKeptOutIsKnownAtTheStartAndFollowed() throws {
        let names = try (0..<5).map { try device("d\($0)") }
        for name in names { database.change(name, enabled: false) }
        look()
        #expect(harness.plane.disabledDevices == Set(names))
        for name in names.prefix(4) { database.change(name) }
        look()
        look()
        #expect(harness.plane.disabledDevices == [names[4]])
        let count = database.questions.count
        look()
        #expect(database.questions.count == count)
    }

    @Test func aChangeElsewhereCutsASessionHere() throws {
        look()
        let disabled = join("d1")
        let revoked = join("d2")
        let other = join("d3")
        database.change(try device("d1"), enabled: false)
        database.change(try device("d2"), revoked: true)
        look()
        #expect(disabled.closeCode == 4_003)
        #expect(revoked.closeCode == 4_003)
        #expect(other.closeCode == nil)
        #expect(join("d1").response?.status == .forbidden)
        #expect(Set(database.forgotten) == [try device("d1"), try device("d2")])
        // What was revoked once is not cut again by another change.
        let again = join("d2")
        database.change(try device("d2"), enabled: true)
        look()
        #expect(again.closeCode == nil)
    }

    @Test func anOwnChangeIsActedUponAtOnceAndOnce() throws {
        look()
        let first = join("d1")
        let change = database.change(try device("d1"), revoked: true)
        admissions.apply(change)
        harness.settle()
        #expect(first.closeCode == 4_003)
        let second = join("d1")
        look()
        #expect(second.closeCode == nil)
        // Told late, after the look that had it already.
        let next = database.change(try device("d1"), revoked: true)
        look()
        #expect(second.closeCode == 4_003)
        let third = join("d1")
        admissions.apply(next)
        harness.settle()
        #expect(third.closeCode == nil)
    }

    @Test func aDeviceThatCameBeforeTheFirstLookHasToHaveItsTokenStill() throws {
        database.change(try device("d1"), revoked: true)
        let early = join("d1")
        let other = join("d2")
        look()
        #expect(early.closeCode == 4_003)
        #expect(other.closeCode == nil)
    }

    @Test func aLookThatFailsIsDoneAgain() throws {
        database.change(try device("d1"), enabled: false)
        database.isAway = true
        look()
        #expect(harness.plane.disabledDevices.isEmpty)
        database.isAway = false
        look()
        #expect(harness.plane.disabledDevices.count == 1)
        database.change(try device("d2"), enabled: false)
        database.isAway = true
        look()
        database.isAway = false
        look()
        #expect(harness.plane.disabledDevices.count == 2)
    }

    @Test func anOlderCopyOfTheDatabaseIsReadAnew() throws {
        database.change(try device("d1"), enabled: false)
        database.change(try device("d2"), enabled: false)
        look()
        database.rows[try device("d1")] = nil
        admissions.noticed(1)
        for _ in 0..<10 { harness.loop.runOnce(waitingAtMost: .zero) }
        #expect(harness.plane.disabledDevices == [try device("d2")])
    }
}
