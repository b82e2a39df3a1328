import Foundation
import Testing

/// A device, a node, or one of the two planes goes away: the others notice, clean up and come back.
@Suite(.serialized) struct LossTests {
    @Test func aKilledDeviceEndsItsSessionAndComesBackAsANewOne() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        let first = try fixture.session("d1")
        _ = fixture.devices["d1"]?.stop(SIGKILL)
        #expect(throws: TestSocket.Failure.self) { try client.readToEnd() }
        try fixture.startDevice("d1", waiting: false)
        try fixture.waitUntilWhole("d1", sessionOtherThan: first)
        try fixture.wait("the first session has ended") {
            try fixture.endReason(device: "d1", session: first) != nil
        }
        let again = try fixture.connect(to: echo.port)
        try again.write("still here")
        #expect(try again.read(exactly: 10) == Array("still here".utf8))
    }

    @Test func aKilledNodeIsFoundAgainAndItsSessionsAreClosedAsNodeLost() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let first = try fixture.session("d1")
        _ = fixture.node?.stop(SIGKILL)
        try fixture.startNode()
        try fixture.waitUntilWhole("d1", sessionOtherThan: first)
        try fixture.wait("the first session has ended with its node") {
            try fixture.endReason(device: "d1", session: first) == "node_lost"
        }
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        try client.write("back")
        #expect(try client.read(exactly: 4) == Array("back".utf8))
    }

    @Test func losingTheControlPlaneAloneKeepsTheConnsAndTheSession() throws {
        let fixture = try Fixture()
        let relay = try TCPRelay(to: fixture.wssPort)
        try fixture.startDevice("d1", port: relay.port)
        let session = try fixture.session("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        relay.cut()
        try client.write("over QUIC still")
        #expect(try client.read(exactly: 15) == Array("over QUIC still".utf8))
        try fixture.waitUntilWhole("d1")
        #expect(try fixture.session("d1") == session)
        try fixture.wait("the resume is counted") {
            let row = try fixture.get("/v1/devices/d1/sessions").items.first
            return (row?["resumes"] as? Int ?? 0) >= 1
        }
        try client.write("and after")
        #expect(try client.read(exactly: 9) == Array("and after".utf8))
    }

    @Test func losingTheDataPlaneAloneEndsTheConnsAndRepairsTheSession() throws {
        let host = "127.0.0.2"
        let fixture = try Fixture(
            advertiseHost: host,
            settings: ["device": ["heartbeat_interval_seconds": 1, "heartbeat_timeout_seconds": 3]])
        let relay = try UDPRelay(host: host, port: fixture.quicPort)
        try fixture.startDevice("d1")
        let session = try fixture.session("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        relay.drops = true
        #expect(throws: TestSocket.Failure.self) { try client.readToEnd() }
        relay.drops = false
        try fixture.waitUntilWhole("d1")
        #expect(try fixture.session("d1") == session)
        let again = try fixture.connect(to: echo.port)
        try again.write("repaired")
        #expect(try again.read(exactly: 8) == Array("repaired".utf8))
    }

    @Test func theDevicesAddressChangesAndItsConnsGoOn() throws {
        let host = "127.0.0.3"
        let fixture = try Fixture(advertiseHost: host)
        let relay = try UDPRelay(host: host, port: fixture.quicPort)
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        try client.write("before")
        #expect(try client.read(exactly: 6) == Array("before".utf8))
        relay.changeSourcePort()
        try client.write("after the NAT has forgotten us")
        #expect(
            try client.read(exactly: 30) == Array("after the NAT has forgotten us".utf8))
        try fixture.wait("the migration is counted") {
            let row = try fixture.get("/v1/devices/d1/sessions").items.first
            return (row?["migrations"] as? Int ?? 0) >= 1
        }
    }
}
