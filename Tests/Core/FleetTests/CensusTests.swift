import DeviceProtocol
import Domain
import Fleet
import Testing

@Suite struct CensusTests {
    @Test func devicesAreCountedByTheirPlanesAndLimits() throws {
        let harness = FleetHarness()
        let first = try harness.join("a", capacity: 10)
        _ = try harness.join("b")
        _ = try harness.register("c", capacity: 5)
        #expect(harness.fleet.census[.whole] == 2)
        #expect(harness.fleet.census[.controlOnly] == 1)
        #expect(harness.fleet.census.capacity == 15)
        #expect(harness.fleet.census.unlimited == 1)
        #expect(harness.fleet.availableDevices == 2)
        harness.fleet.controlClosed(first.control, at: harness.moment)
        #expect(harness.fleet.census[.whole] == 1)
        #expect(harness.fleet.census[.dataOnly] == 1)
        harness.pass(.seconds(31))
        #expect(harness.fleet.census[.dataOnly] == 0)
        #expect(harness.fleet.census.capacity == 5)
    }

    @Test func aConnWithoutADeviceIsCountedByItsCause() throws {
        let harness = FleetHarness()
        func cause() throws -> SelectionFailure? {
            let before = harness.fleet.totals.connsWithoutDevice
            #expect(try harness.open() == nil)
            return SelectionFailure.allCases.first {
                harness.fleet.totals.connsWithoutDevice[$0] > before[$0]
            }
        }
        #expect(try cause() == .noDevices)
        let (_, response) = try harness.register("d", capacity: 1)
        #expect(try cause() == .noneWhole)
        harness.hello(harness.newData(), response)
        let placement = try harness.openConn()
        #expect(try cause() == .allBusy)
        harness.connEnds(placement.connID)
        harness.fleet.setEligible(false)
        #expect(try cause() == .nodeClosed)
        #expect(harness.fleet.totals.connsWithoutDevice.total == 4)
    }

    @Test func connsAreOpeningUntilTheirStreamComes() throws {
        let harness = FleetHarness()
        _ = try harness.join("d")
        let opened = try harness.openConn()
        let waiting = try #require(try harness.open())
        #expect(harness.fleet.openingConnCount == 1)
        harness.connEnds(waiting.connID)
        #expect(harness.fleet.openingConnCount == 0)
        harness.connEnds(opened.connID)
        #expect(harness.fleet.openingConnCount == 0)
    }
}
