import Foundation
import Testing

/// A device's address changes under its conns.
@Suite(.serialized) struct MigrationTests {
    @Test(.enabled(if: TwoLinks.areAvailable)) func connsOutliveTheLinkTheyBeganOn() throws {
        let links = try TwoLinks()
        // The target is the device's own loopback.
        let echo = try links.inside(links.deviceNamespace) { try TestServer.echo() }
        let outcome = try links.inside(links.nodeNamespace) { try Self.switchLinks(links, echo.port) }
        #expect(outcome.broken == [])
        #expect(outcome.migrations >= 2)
        #expect(outcome.addresses.count == 3)
        #expect(outcome.addresses[0].hasPrefix(TwoLinks.deviceAddresses[0]))
        #expect(outcome.addresses[1].hasPrefix(TwoLinks.deviceAddresses[1]))
        #expect(outcome.addresses[2].hasPrefix(TwoLinks.deviceAddresses[0]))
        #expect(outcome.sessions.count == 1)
    }

    private struct Outcome: Sendable {
        var broken: [String] = []
        var migrations = 0
        var addresses: [String] = []
        var sessions: Set<String> = []
    }

    /// Transfers run while the device goes from its first link to the second and back.
    private static func switchLinks(_ links: TwoLinks, _ port: UInt16) throws -> Outcome {
        let fixture = try Fixture(settings: [
            "device": [
                "bind": "0.0.0.0", "heartbeat_interval_seconds": 1, "heartbeat_timeout_seconds": 6,
            ]
        ])
        try fixture.startDevice("d1", host: TwoLinks.nodeAddress, namespace: links.deviceNamespace)
        var outcome = Outcome()
        let transfers = try (0..<8).map {
            try SteadyTransfer(fixture.connect(to: port), seed: UInt64($0 + 1))
        }
        func look() throws {
            let device = try fixture.device("d1")
            outcome.addresses.append(device["quic_remote_address"] as? String ?? "")
            outcome.sessions.insert(device["session_id"] as? String ?? "")
        }
        func waitUntilOn(_ address: String) throws {
            try fixture.wait("the device is on \(address), data and control") {
                let device = try fixture.device("d1")
                return (device["quic_remote_address"] as? String)?.hasPrefix(address) == true
                    && (device["remote_address"] as? String)?.hasPrefix(address) == true
                    && device["health"] as? String == "whole"
            }
        }
        try look()
        try links.cut(1)
        try waitUntilOn(TwoLinks.deviceAddresses[1])
        try look()
        let marks = transfers.map(\.verifiedBytes)
        try fixture.wait("all transfers move on the second link") {
            zip(transfers, marks).allSatisfy { $0.verifiedBytes > $1 || $0.fault != nil }
        }
        try links.mend(1)
        try links.cut(2)
        try waitUntilOn(TwoLinks.deviceAddresses[0])
        try look()
        for transfer in transfers { transfer.finish() }
        outcome.broken = transfers.compactMap(\.fault)
        try fixture.wait("the migrations are on record") {
            let row = try fixture.get("/v1/devices/d1/sessions").items.first
            outcome.migrations = row?["migrations"] as? Int ?? 0
            return outcome.migrations >= 2
        }
        return outcome
    }

    @Test func aNATThatForgetsAgainAndAgainBreaksNothing() throws {
        let host = "127.0.0.4"
        let fixture = try Fixture(advertiseHost: host)
        let relay = try UDPRelay(host: host, port: fixture.quicPort)
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let transfers = try (0..<8).map {
            try SteadyTransfer(fixture.connect(to: echo.port), seed: UInt64($0 + 1))
        }
        var addresses: Set<String> = []
        for _ in 0..<4 {
            let marks = transfers.map(\.verifiedBytes)
            let before = try fixture.device("d1")["quic_remote_address"] as? String ?? ""
            addresses.insert(before)
            relay.changeSourcePort()
            try fixture.wait("the node has the new address and the transfers move") {
                try fixture.device("d1")["quic_remote_address"] as? String != before
                    && zip(transfers, marks).allSatisfy { $0.verifiedBytes > $1 || $0.fault != nil }
            }
        }
        for transfer in transfers { transfer.finish() }
        #expect(transfers.compactMap(\.fault) == [])
        #expect(addresses.count == 4)
        try fixture.wait("the migrations are on record") {
            let row = try fixture.get("/v1/devices/d1/sessions").items.first
            return (row?["migrations"] as? Int ?? 0) >= 4
        }
    }
}

/// Sends pseudo-random blocks to an echo and checks each that comes back, until told to finish.
private final class SteadyTransfer: @unchecked Sendable {
    private let lock = NSLock()
    private var isFinishing = false
    private var verified = 0
    private var problem: String?
    private let done = DispatchSemaphore(value: 0)

    var verifiedBytes: Int { lock.withLock { verified } }
    /// What went wrong, if something did.
    var fault: String? { lock.withLock { problem } }

    init(_ socket: TestSocket, seed: UInt64) throws {
        Thread { [self] in
            do {
                var round = seed
                while !lock.withLock({ isFinishing }) {
                    let block = pseudoRandomBytes(64 << 10, seed: round)
                    try socket.write(block)
                    guard try socket.read(exactly: block.count) == block else {
                        return fail("block \(round) came back otherwise")
                    }
                    lock.withLock { verified += block.count }
                    round += 100
                }
                socket.finishWriting()
                if try !socket.readToEnd().isEmpty { return fail("bytes behind the end") }
            } catch {
                return fail("\(error)")
            }
            done.signal()
        }.start()
    }

    /// Ends in order and waits for it.
    func finish() {
        lock.withLock { isFinishing = true }
        done.wait()
    }

    private func fail(_ text: String) {
        lock.withLock { problem = text }
        done.signal()
    }
}
