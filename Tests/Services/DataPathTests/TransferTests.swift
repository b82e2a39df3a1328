import DataPath
import Domain
import EventLoop
import QUIC
import QUICKit
import TestKit
import Testing

@Suite struct TransferTests {
    @Test func mebibytesPassBothWaysAtOnceUnchanged() throws {
        let fixture = try RelayFixture()
        let up = pattern(5 << 20)
        let down = [UInt8](pattern(3 << 20).reversed())
        fixture.socket.send(up)
        fixture.flow.send(down)
        fixture.socket.finish()
        fixture.flow.finish()
        #expect(fixture.run { !fixture.ends.isEmpty && fixture.flow.isClosed && fixture.socket.hasEnded })
        #expect(fixture.ends == [.finished])
        #expect(fixture.flow.received == up)
        #expect(fixture.socket.received == down)
        #expect(fixture.relay?.bytesFromSocket == UInt64(up.count))
        #expect(fixture.relay?.bytesToSocket == UInt64(down.count))
    }

    @Test func whatWasReadBeforeComesFirstAndThePrefaceIsNotCounted() throws {
        // More than the transmit ring holds, so that it goes in several pieces.
        let early = pattern(700_000)
        let fixture = try RelayFixture(
            { $0.transmitRingBytes = 128 << 10 }, earlyBytes: early, isAttached: false)
        fixture.socket.send([7, 8, 9])
        fixture.flow.send([3, 4])
        let preface = Array("HTTP/1.1 200 OK\r\n\r\n".utf8)
        fixture.relay?.attach(fixture.stream, preface: preface, received: [1, 2])
        #expect(fixture.run { fixture.flow.received.count == early.count + 3 })
        #expect(fixture.flow.received == early + [7, 8, 9])
        #expect(fixture.run { fixture.socket.received.count == preface.count + 4 })
        #expect(fixture.socket.received == preface + [1, 2, 3, 4])
        #expect(fixture.relay?.bytesFromSocket == UInt64(early.count + 3))
        #expect(fixture.relay?.bytesToSocket == 4)
    }

    @Test func theSocketMayFinishFirst() throws {
        let fixture = try RelayFixture()
        fixture.socket.send([1, 2])
        fixture.socket.finish()
        #expect(fixture.run { fixture.flow.isFinished })
        #expect(fixture.flow.received == [1, 2])
        #expect(!fixture.socket.hasEnded)
        fixture.flow.send([5])
        #expect(fixture.run { fixture.socket.received == [5] })
        #expect(fixture.ends.isEmpty)
        fixture.flow.finish()
        #expect(fixture.run { fixture.ends == [.finished] && fixture.socket.hasEnded })
        #expect(fixture.socket.errorNumber == nil)
    }

    @Test func theStreamMayFinishFirst() throws {
        let fixture = try RelayFixture()
        fixture.flow.send([5])
        fixture.flow.finish()
        #expect(fixture.run { fixture.socket.hasEnded })
        #expect(fixture.socket.received == [5])
        fixture.socket.send([1, 2])
        #expect(fixture.run { fixture.flow.received == [1, 2] })
        #expect(!fixture.flow.isFinished)
        #expect(fixture.ends.isEmpty)
        fixture.socket.finish()
        #expect(fixture.run { fixture.flow.isFinished && fixture.ends == [.finished] })
    }

    @Test func aClientThatFinishedBeforeTheStreamCameIsHeardInFull() throws {
        let fixture = try RelayFixture(isAttached: false)
        fixture.socket.send([1, 2, 3])
        fixture.socket.finish()
        fixture.pair.loop.run(milliseconds: 20)
        #expect(fixture.ends.isEmpty)
        fixture.relay?.attach(fixture.stream)
        #expect(fixture.run { fixture.flow.isFinished })
        #expect(fixture.flow.received == [1, 2, 3])
    }

    /// A target that greets and leaves at once has done both before the relay takes its socket over.
    @Test(arguments: [true, false]) func whatHadComeBeforeASocketWasTakenOverIsHeardInFull(
        isFinished: Bool
    ) throws {
        let fixture = try RelayFixture(isAttached: false)
        fixture.socket.send([1, 2, 3])
        if isFinished { fixture.socket.finish() }
        try fixture.takeOver()
        fixture.relay?.attach(fixture.stream)
        #expect(fixture.run { fixture.flow.received == [1, 2, 3] && fixture.flow.isFinished == isFinished })
        if !isFinished { fixture.socket.send([4]) }
        fixture.socket.finish()
        #expect(fixture.run { fixture.flow.isFinished })
        #expect(fixture.flow.received == [1, 2, 3] + (isFinished ? [] : [4]))
        fixture.flow.send([9])
        #expect(fixture.run { fixture.socket.received == [9] })
    }

    @Test func aSocketThatIsNotReadStallsTheSenderAndResumes() throws {
        let window = 512 << 10
        let fixture = try RelayFixture {
            $0.initialStreamWindowBytes = UInt64(window)
            $0.maxStreamWindowBytes = UInt64(window)
        }
        // Far more than the kernel's buffers of the loopback connection hold.
        let bytes = pattern(24 << 20)
        fixture.flow.send(bytes)
        var sent = -1
        var calm = 0
        let isStalled = fixture.pair.run {
            calm = fixture.flow.sentCount == sent ? calm + 1 : 0
            sent = fixture.flow.sentCount
            return calm > 200
        }
        #expect(isStalled)
        #expect(fixture.flow.sentCount < bytes.count)
        #expect(fixture.stream.unconsumedBytes > 0)
        #expect(fixture.stream.unconsumedBytes <= window)
        fixture.flow.finish()
        #expect(fixture.run { fixture.socket.hasEnded })
        #expect(fixture.socket.received == bytes)
    }

    @Test func aFarEndThatIsNotReadStallsTheSocketAndResumes() throws {
        let fixture = try RelayFixture {
            $0.initialStreamWindowBytes = 256 << 10
            $0.maxStreamWindowBytes = 256 << 10
        }
        fixture.flow.givesCredit = false
        let bytes = pattern(24 << 20)
        fixture.socket.send(bytes)
        fixture.socket.finish()
        var read: UInt64 = .max
        var calm = 0
        let isStalled = fixture.run {
            let now = fixture.relay?.bytesFromSocket ?? 0
            calm = now == read ? calm + 1 : 0
            read = now
            return calm > 200
        }
        #expect(isStalled)
        #expect(fixture.socket.unsentCount > 0)
        #expect(read <= 2 << 20)
        fixture.flow.givesCredit = true
        fixture.flow.stream.consumed(fixture.flow.received.count)
        #expect(fixture.run { fixture.flow.isFinished })
        #expect(fixture.flow.received == bytes)
    }

    @Test func aSlowSocketGetsTheLastBytesAfterTheStreamHasClosed() throws {
        // The window lets the stream be delivered in full while the socket's buffers are full.
        let fixture = try RelayFixture {
            $0.initialStreamWindowBytes = 16 << 20
            $0.initialConnectionWindowBytes = 24 << 20
        }
        let bytes = pattern(14 << 20)
        fixture.socket.finish()
        fixture.flow.send(bytes)
        fixture.flow.finish()
        #expect(fixture.pair.run { fixture.flow.isClosed && fixture.stream.isClosed })
        #expect(fixture.ends.isEmpty)
        #expect(fixture.run { fixture.socket.hasEnded })
        #expect(fixture.socket.received == bytes)
        #expect(fixture.socket.errorNumber == nil)
        #expect(fixture.ends == [.finished])
    }

    @Test func progressIsToldOnceUntilItIsTaken() throws {
        let fixture = try RelayFixture()
        fixture.socket.send([1, 2, 3])
        #expect(fixture.run { fixture.flow.received.count == 3 })
        fixture.flow.send([4])
        #expect(fixture.run { fixture.socket.received == [4] })
        #expect(fixture.moves == 1)
        let counts = fixture.relay?.takeProgress()
        #expect(counts?.fromSocket == 3)
        #expect(counts?.toSocket == 1)
        #expect(fixture.moves == 1)
        fixture.socket.send([5])
        #expect(fixture.run { fixture.flow.received.count == 4 })
        #expect(fixture.moves == 2)
    }
}
