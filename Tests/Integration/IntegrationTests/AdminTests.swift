import Foundation
import Testing

/// Operators' calls on a running node: what they see and what they end.
@Suite(.serialized) struct AdminTests {
    @Test(arguments: [true, false])
    func metricsNeedATokenUnlessTheyArePublic(_ arePublic: Bool) throws {
        let fixture = try Fixture(settings: ["admin": ["metrics_public": arePublic]])
        #expect(try fixture.get("/metrics").status == 200)
        let unauthorized = try fixture.call("GET", "/metrics", isAuthorized: false)
        #expect(unauthorized.status == (arePublic ? 200 : 401))
    }

    @Test func aConnIsListedAndClosedByIdAndBothEndsSeeAReset() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let targetSaw = Outcome<Bool>()
        let server = try TestServer { socket in
            do {
                _ = try socket.readToEnd()
                targetSaw.set(false)
            } catch let failure as TestSocket.Failure {
                targetSaw.set(failure.isReset)
            }
        }
        let client = try fixture.connect(to: server.port)
        try client.write("some bytes")
        try fixture.wait("the conn is listed as open") {
            try fixture.conns().first?["state"] as? String == "open"
        }
        let conn = try #require(try fixture.conns().first)
        #expect(conn["device_id"] as? String == "d1")
        #expect(conn["target"] as? String == "127.0.0.1:\(server.port)")
        let id = try #require(conn["conn_id"] as? String)
        #expect(try fixture.call("DELETE", "/v1/conns/\(id)").status == 204)
        #expect(throws: TestSocket.Failure.self) { try client.readToEnd() }
        #expect(targetSaw.wait() == true)
        try fixture.wait("the conn is gone") { try fixture.get("/v1/conns/\(id)").status == 404 }
        #expect(try fixture.call("DELETE", "/v1/conns/\(id)").status == 404)
    }

    @Test func whatHappensIsToldAsEventsUntilTheNodeStops() throws {
        let fixture = try Fixture()
        let stream = try fixture.events()
        // The head is there, so all that follows is told.
        var text = String(decoding: try stream.read(), as: UTF8.self)
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        try client.write("12345")
        #expect(try client.read(exactly: 5) == Array("12345".utf8))
        let conn = try #require(try fixture.conns().first?["conn_id"] as? String)
        #expect(try fixture.call("DELETE", "/v1/conns/\(conn)").status == 204)
        try fixture.wait("the conn is gone") { try fixture.conns().isEmpty }
        #expect(try fixture.call("POST", "/v1/devices/d1/disconnect").status == 202)
        try fixture.wait("the node has stopped") { fixture.node?.stop() == 0 }
        text += String(decoding: try stream.readToEnd(), as: UTF8.self)
        let blocks = text.components(separatedBy: "\n\n")
        let told = blocks.compactMap { block -> (type: String, data: [String: Any])? in
            let lines = block.components(separatedBy: "\n")
            guard let type = lines.first(where: { $0.hasPrefix("event: ") })?.dropFirst(7),
                let data = lines.first(where: { $0.hasPrefix("data: ") })?.dropFirst(6),
                let object = try? JSONSerialization.jsonObject(with: Data(data.utf8)) as? [String: Any]
            else { return nil }
            return (String(type), object)
        }
        #expect(
            told.prefix(4).map(\.type) == ["device.online", "conn.opened", "conn.closed", "device.offline"])
        #expect(told.allSatisfy { $0.data["at"] is String && $0.data["node_id"] is String })
        #expect(told.count > 4)
        #expect(told[2].data["conn_id"] as? String == conn)
        #expect(told[2].data["end_reason"] as? String == "admin")
        #expect(told[2].data["bytes_received"] as? Int == 5)
        #expect(told[3].data["end_reason"] as? String == "operator")
        #expect(told.last?.type == "node.state" && told.last?.data["state"] as? String == "down")
    }

    @Test func devicesAreListedByTheConnsThatTheyHaveNow() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        try fixture.startDevice("d2")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        let busy = try #require(try fixture.conns().first?["device_id"] as? String)
        func first() throws -> [String: Any]? {
            try fixture.get("/v1/devices?sort=active_conns&order=desc&limit=1").items.first
        }
        try fixture.wait("the device with the conn is the first") {
            let device = try first()
            return device?["device_id"] as? String == busy && device?["active_conns"] as? Int == 1
        }
        client.finishWriting()
        #expect(try client.readToEnd().isEmpty)
        try fixture.wait("it has none any more") { try first()?["active_conns"] as? Int == 0 }
    }

    @Test func aDisconnectedDeviceComesBackWithANewSession() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let first = try fixture.session("d1")
        #expect(try fixture.call("POST", "/v1/devices/d1/disconnect").status == 202)
        try fixture.waitUntilWhole("d1", sessionOtherThan: first)
        try fixture.wait("the session has ended") {
            try fixture.endReason(device: "d1", session: first) == "operator"
        }
    }

    @Test func aDrainedNodeTakesNoNewConnsAndIsNotReady() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        let answer = try fixture.call("POST", "/v1/nodes/self/drain", ["deadline_seconds": 30])
        #expect(answer.status == 202)
        try fixture.wait("the node is not ready") { try fixture.get("/readyz").status == 503 }
        #expect(throws: SOCKSClient.Refused(reply: 1)) { try fixture.connect(to: echo.port) }
        try client.write("the old one lives on")
        #expect(try client.read(exactly: 20) == Array("the old one lives on".utf8))
        #expect(try fixture.call("DELETE", "/v1/nodes/self/drain").status == 200)
        try fixture.wait("the node is ready again") { try fixture.get("/readyz").status == 200 }
        try fixture.wait("new conns are taken") { (try? fixture.connect(to: echo.port)) != nil }
    }

    @Test func aDrainsDeadlineCutsWhatIsLeft() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let session = try fixture.session("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        _ = try fixture.call("POST", "/v1/nodes/self/drain", ["deadline_seconds": 1])
        #expect(throws: TestSocket.Failure.self) { try client.readToEnd() }
        try fixture.wait("the session has ended as drained") {
            try fixture.endReason(device: "d1", session: session) == "drained"
        }
        try fixture.wait("the drain is on record") {
            let drain = try fixture.get("/v1/drains").items.first
            return drain?["state"] as? String == "drained" && drain?["ended_at"] is String
                && drain?["conns_cut"] as? Int == 1 && drain?["devices_total"] as? Int == 1
        }
        let preview = try fixture.call("POST", "/v1/nodes/self/drain/preview")
        #expect(preview.object["devices_total"] as? Int == 0)
    }

    @Test func aStoppedNodeSaysSoInItsSessionsAndExitsWithZero() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let session = try fixture.session("d1")
        #expect(fixture.node?.stop() == 0)
        try fixture.startNode()
        try fixture.wait("the session has ended with its node") {
            try fixture.endReason(device: "d1", session: session) == "node_stopped"
        }
        try fixture.waitUntilWhole("d1", sessionOtherThan: session)
        #expect(fixture.devices["d1"]?.stop() == 0)
    }
}
