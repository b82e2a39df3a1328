import Foundation
import Testing

/// Datagrams from a SOCKS5 client through node and device to real UDP servers, and back.
@Suite(.serialized) struct UDPTests {
    @Test func datagramsGoToSeveralTargetsAndBack() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1", arguments: ["--allow-target", "::1"])
        let association = try UDPAssociation(fixture.ingressPort)
        let first = try EchoDatagrams(prefix: Array("1:".utf8))
        let second = try EchoDatagrams(prefix: Array("2:".utf8))
        // All of them are sent before the device has opened anything: none is lost.
        for number in 0..<20 { try association.send("q\(number)", to: first.port) }
        for number in 0..<20 { #expect(try association.text(from: first.port) == "1:q\(number)") }
        try association.send("a", to: second.port)
        #expect(try association.text(from: second.port) == "2:a")
        try association.send("b", to: first.port)
        #expect(try association.text(from: first.port) == "1:b")
        try association.send([], UDPAssociation.header(first.port))
        #expect(try association.text(from: first.port) == "1:")

        var conns: [[String: Any]] = []
        try fixture.wait("two flows are open") {
            conns = try fixture.conns()
            return conns.count == 2 && conns.allSatisfy { $0["state"] as? String == "open" }
        }
        #expect(conns.allSatisfy { $0["protocol"] as? String == "udp" })
        #expect(
            Set(conns.compactMap { $0["target"] as? String }) == [
                "127.0.0.1:\(first.port)", "127.0.0.1:\(second.port)",
            ])
        try fixture.wait("the bytes are counted") {
            try fixture.conns().contains {
                $0["target"] as? String == "127.0.0.1:\(first.port)" && $0["bytes_sent"] as? Int == 51
                    && $0["bytes_received"] as? Int == 95
            }
        }
        association.control.shutdownBoth()
        try fixture.wait("the flows end with their association") { try fixture.conns().isEmpty }
        try fixture.wait("none is counted any more") {
            try metric(fixture, "pop_udp_associations ") == 0 && metric(fixture, "pop_udp_flows ") == 0
        }
    }

    @Test func namesAreResolvedAtTheDeviceAndIPv6Works() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1", arguments: ["--allow-target", "::1"])
        let association = try UDPAssociation(fixture.ingressPort, statingPort: true)
        let six = try EchoDatagrams(host: "::1")
        try association.send(Array("six".utf8), UDPAssociation.headerIPv6Loopback(six.port))
        #expect(try association.receive() == UDPAssociation.headerIPv6Loopback(six.port) + Array("six".utf8))

        // Which of its addresses the name leads to first is the device's affair: both answer.
        let four = try EchoDatagrams()
        _ = try? EchoDatagrams(host: "::1", port: four.port)
        try association.send(Array("name".utf8), UDPAssociation.header(name: "localhost", four.port))
        let answer = try association.receive()
        #expect(answer.suffix(4) == Array("name".utf8)[...])
        // The sender is told by its address.
        #expect(answer[3] == 1 || answer[3] == 4)
    }

    @Test func whatIsNotForTheAssociationIsDropped() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let association = try UDPAssociation(fixture.ingressPort)
        let echo = try EchoDatagrams()
        try association.send("mine", to: echo.port)
        #expect(try association.text(from: echo.port) == "mine")
        // Another port of the same host, a fragment, and bytes that are no header.
        let thief = try TestDatagrams()
        try thief.send(UDPAssociation.header(echo.port) + Array("theft".utf8), to: association.relayPort)
        try association.send(Array("part".utf8), UDPAssociation.header(echo.port, fragment: 1))
        try association.datagrams.send([0, 0], to: association.relayPort)
        try association.datagrams.send([0, 0, 0, 9, 1, 2, 3, 4, 5, 6], to: association.relayPort)
        try association.send("end", to: echo.port)
        #expect(try association.text(from: echo.port) == "end")
        #expect(!thief.hasOne(withinMilliseconds: 0))
        #expect(try dropped(fixture, "foreign_source") == 1)
        #expect(try dropped(fixture, "fragment") == 1)
        #expect(try dropped(fixture, "malformed") == 2)
    }

    @Test func aClosedPortEndsTheFlowWithERROR() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let closedConns = try ClosedConns(fixture)
        let association = try UDPAssociation(fixture.ingressPort)
        let closed = try unusedPort()
        try association.send("anybody?", to: closed)
        try fixture.wait("the flow has ended with error") { closedConns.reasons(closed) == ["error"] }
        // The association lives on.
        let echo = try EchoDatagrams()
        try association.send("x", to: echo.port)
        #expect(try association.text(from: echo.port) == "x")
    }

    @Test func aSilentFlowEndsIdleAndTheNextDatagramOpensAnother() throws {
        let fixture = try Fixture(settings: ["ingress": ["udp_idle_timeout_seconds": 1]])
        try fixture.startDevice("d1")
        let closedConns = try ClosedConns(fixture)
        let association = try UDPAssociation(fixture.ingressPort)
        let echo = try EchoDatagrams()
        try association.send("x", to: echo.port)
        #expect(try association.text(from: echo.port) == "x")
        try fixture.wait("the flow has ended idle") { closedConns.reasons(echo.port) == ["idle"] }
        try association.send("y", to: echo.port)
        #expect(try association.text(from: echo.port) == "y")
    }

    @Test func anOperatorMayCloseAFlowAndADeniedTargetGetsNone() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1", arguments: ["--deny-target", "127.0.0.9"])
        let closedConns = try ClosedConns(fixture)
        let association = try UDPAssociation(fixture.ingressPort)
        let echo = try EchoDatagrams()
        try association.send("x", to: echo.port)
        #expect(try association.text(from: echo.port) == "x")
        let connID = try #require(try fixture.conns().first?["conn_id"] as? String)
        #expect(try fixture.call("DELETE", "/v1/conns/\(connID)").status == 204)
        try fixture.wait("the flow is closed") { closedConns.reasons(echo.port) == ["admin"] }
        try association.send(Array("no".utf8), [0, 0, 0, 1, 127, 0, 0, 9, 0, 9])
        try fixture.wait("the denied flow has ended") {
            closedConns.reasons(9, host: "127.0.0.9") == ["error"]
        }
    }

    @Test func largeDatagramsPassAndTooLargeOnesAreCounted() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let association = try UDPAssociation(fixture.ingressPort)
        let echo = try EchoDatagrams()
        let payload = [UInt8](repeating: 7, count: 1_000)
        try association.send(payload, UDPAssociation.header(echo.port))
        #expect(try association.receive() == UDPAssociation.header(echo.port) + payload)
        try association.send([UInt8](repeating: 7, count: 20_000), UDPAssociation.header(echo.port))
        try fixture.wait("the drop is counted") { try dropped(fixture, "too_large") == 1 }
        try association.send(payload, UDPAssociation.header(echo.port))
        #expect(try association.receive() == UDPAssociation.header(echo.port) + payload)
    }

    @Test func withoutADeviceAnAssociationIsRefused() throws {
        let fixture = try Fixture()
        #expect(throws: SOCKSClient.Refused(reply: 1)) { _ = try UDPAssociation(fixture.ingressPort) }
    }

    @Test func theLossOfTheDeviceEndsTheAssociation() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let association = try UDPAssociation(fixture.ingressPort)
        let echo = try EchoDatagrams()
        try association.send("x", to: echo.port)
        #expect(try association.text(from: echo.port) == "x")
        _ = fixture.devices["d1"]?.stop()
        #expect(throws: TestSocket.Failure.self) { _ = try association.control.readToEnd() }
    }

    // MARK: Figures

    private func metric(_ fixture: Fixture, _ start: String) throws -> Int? {
        let page = String(decoding: try fixture.get("/metrics").body, as: UTF8.self)
        let line = page.split(separator: "\n").first { $0.hasPrefix(start) }
        return line.flatMap { $0.split(separator: " ").last }.flatMap { Int($0) }
    }

    private func dropped(_ fixture: Fixture, _ cause: String) throws -> Int? {
        try metric(fixture, "pop_udp_datagrams_dropped_total{cause=\"\(cause)\"} ")
    }
}

/// Reads the events of conns that end, on a thread of its own.
private final class ClosedConns: @unchecked Sendable {
    private let lock = NSLock()
    private var text = ""
    private let stream: TestSocket

    init(_ fixture: Fixture) throws {
        let stream = try fixture.events("?types=conn.closed")
        self.stream = stream
        // The head of the answer: from here on nothing is missed.
        var head: [UInt8] = []
        while !String(decoding: head, as: UTF8.self).contains("\r\n\r\n") { head += try stream.read() }
        Thread { [weak self] in
            while let bytes = try? stream.read(), !bytes.isEmpty, let self {
                lock.withLock { text += String(decoding: bytes, as: UTF8.self) }
            }
        }.start()
    }

    deinit {
        stream.shutdownBoth()
    }

    /// How the conns to `host:port` have ended.
    func reasons(_ port: UInt16, host: String = "127.0.0.1") -> [String] {
        let lines = lock.withLock { text }.split(separator: "\n")
        return lines.compactMap { line in
            guard line.hasPrefix("data: "),
                let object = try? JSONSerialization.jsonObject(with: Data(line.dropFirst(6).utf8))
                    as? [String: Any],
                object["target"] as? String == "\(host):\(port)"
            else { return nil }
            return object["end_reason"] as? String
        }
    }
}
