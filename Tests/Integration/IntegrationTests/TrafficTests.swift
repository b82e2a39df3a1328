import Foundation
import Testing

/// Bytes through SOCKS5, the node, QUIC and a device, and back: whole, half-closed, cut.
@Suite(.serialized) struct TrafficTests {
    @Test func bytesComeBackWholeAndHalfCloseKeepsTheAnswer() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        let count = 48 << 20
        let sent = pseudoRandomBytes(count, seed: 7)
        let writer = Thread {
            try? client.write(sent)
            client.finishWriting()
        }
        writer.start()
        let received = try client.readToEnd()
        #expect(received.count == count)
        #expect(received == sent)
    }

    @Test func anAnswerSentAfterTheClientsFINArrivesWhole() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let answer = pseudoRandomBytes(3 << 20, seed: 9)
        let server = try TestServer { socket in
            let request = try socket.readToEnd()
            guard request == Array("question".utf8) else { return }
            try socket.write(answer)
        }
        let client = try fixture.connect(to: server.port)
        try client.write("question")
        client.finishWriting()
        #expect(try client.readToEnd() == answer)
        try fixture.wait("the conn is finished") { try fixture.conns().isEmpty }
    }

    @Test func aResetOfTheTargetIsAResetOfTheClient() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let server = try TestServer { socket in
            _ = try socket.read()
            socket.resetOnClose()
        }
        let client = try fixture.connect(to: server.port)
        try client.write("x")
        #expect(throws: TestSocket.Failure.self) {
            do {
                _ = try client.readToEnd()
            } catch let failure as TestSocket.Failure {
                #expect(failure.isReset)
                throw failure
            }
        }
    }

    @Test func aResetOfTheClientIsAResetOfTheTarget() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let outcome = Outcome<Bool>()
        // The reset may overtake the byte that was sent before it, so it may come at either read.
        let server = try TestServer { socket in
            do {
                _ = try socket.readToEnd()
                outcome.set(false)
            } catch let failure as TestSocket.Failure {
                outcome.set(failure.isReset)
            }
        }
        do {
            let client = try fixture.connect(to: server.port)
            try client.write("x")
            try fixture.wait("the conn is open") { try fixture.conns().count == 1 }
            client.resetOnClose()
        }
        #expect(outcome.wait() == true)
    }

    @Test func aClosedTargetPortIsRefusedHonestly() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let port = try unusedPort()
        #expect(throws: SOCKSClient.Refused(reply: 5)) { try fixture.connect(to: port) }
    }

    @Test func withoutADeviceTheClientIsRefusedAndNothingIsDialled() throws {
        let fixture = try Fixture()
        let dialled = Outcome<Bool>()
        let server = try TestServer { _ in dialled.set(true) }
        #expect(throws: SOCKSClient.Refused(reply: 1)) { try fixture.connect(to: server.port) }
        #expect(dialled.current == nil)
    }

    @Test func aTargetTheDeviceMayNotReachIsDenied() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1", arguments: ["--deny-target", "127.0.0.0/8"])
        let echo = try TestServer.echo()
        #expect(throws: SOCKSClient.Refused(reply: 2)) { try fixture.connect(to: echo.port) }
    }

    @Test func aThousandConnsAtOnceThroughOneDevice() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        var clients: [TestSocket] = []
        for _ in 0..<1_000 { clients.append(try fixture.connect(to: echo.port)) }
        for (index, client) in clients.enumerated() { try client.write("hello \(index)") }
        for (index, client) in clients.enumerated() {
            let expected = Array("hello \(index)".utf8)
            #expect(try client.read(exactly: expected.count) == expected)
        }
        #expect(try fixture.get("/v1/conns?limit=1000").items.count == 1_000)
        clients.removeAll()
        try fixture.wait("all conns are gone") { try fixture.conns().isEmpty }
    }

    @Test func thousandsOfShortConnsAllSucceed() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let echo = try TestServer.echo()
        let failures = Outcome<String>()
        let workers = 32
        let connsEach = 60
        let done = DispatchSemaphore(value: 0)
        for worker in 0..<workers {
            let thread = Thread { [ingress = fixture.ingressPort] in
                for index in 0..<connsEach {
                    do {
                        let client = try SOCKSClient.connect(ingress, to: echo.port)
                        let message = Array("worker \(worker) conn \(index)".utf8)
                        try client.write(message)
                        guard try client.read(exactly: message.count) == message else {
                            failures.set("wrong echo")
                            continue
                        }
                    } catch {
                        failures.set("\(error)")
                    }
                }
                done.signal()
            }
            thread.start()
        }
        for _ in 0..<workers { done.wait() }
        #expect(failures.current == nil)
    }
}

/// A value that one thread sets and another waits for.
final class Outcome<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private let isSet = DispatchSemaphore(value: 0)
    private var value: Value?

    func set(_ value: Value) {
        lock.withLock { self.value = value }
        isSet.signal()
    }

    var current: Value? { lock.withLock { value } }

    /// The value, or nil after a minute.
    func wait() -> Value? {
        _ = isSet.wait(timeout: .now() + .seconds(60))
        return current
    }
}

/// The same bytes for the same seed (xorshift64).
func pseudoRandomBytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for index in 0..<count {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            buffer[index] = UInt8(truncatingIfNeeded: state >> 32)
        }
        filled = count
    }
}
