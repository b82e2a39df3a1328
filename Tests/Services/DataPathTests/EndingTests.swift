import DataPath
import Domain
import EventLoop
import QUIC
import QUICKit
import TestKit
import Testing

@Suite struct EndingTests {
    @Test func aResetOfTheSocketCutsTheStream() throws {
        let fixture = try RelayFixture()
        fixture.socket.send([1])
        #expect(fixture.run { fixture.flow.received == [1] })
        fixture.socket.reset()
        #expect(fixture.run { fixture.flow.resetCode == 0x201 && fixture.flow.stopCode == 0x201 })
        #expect(fixture.ends == [.socketReset])
        #expect(!fixture.flow.isFinished)
    }

    @Test func aResetAfterTheSocketHasFinishedIsNoOrderlyEnd() throws {
        let fixture = try RelayFixture()
        fixture.socket.finish()
        #expect(fixture.run { fixture.flow.isFinished })
        fixture.socket.reset()
        #expect(fixture.run { fixture.ends == [.socketReset] })
        #expect(fixture.run { fixture.flow.stopCode == 0x201 })
    }

    @Test func aResetOfAClientThatStillWaitsForItsStreamIsTold() throws {
        let fixture = try RelayFixture(isAttached: false)
        fixture.socket.reset()
        #expect(fixture.run { fixture.ends == [.socketReset] })
        // A stream that comes too late is left alone.
        fixture.relay?.attach(fixture.stream)
        #expect(fixture.ends == [.socketReset])
    }

    @Test(arguments: [true, false]) func aCutStreamResetsTheSocket(byReset: Bool) throws {
        let fixture = try RelayFixture()
        fixture.flow.send([1, 2])
        #expect(fixture.run { fixture.socket.received == [1, 2] })
        if byReset {
            fixture.flow.stream.reset(code: 0x201)
        } else {
            fixture.flow.stream.stopReading(code: 0x201)
        }
        #expect(fixture.run { fixture.socket.wasReset })
        #expect(fixture.ends == [.streamReset(code: 0x201)])
        #expect(!fixture.socket.hasEnded)
        #expect(fixture.run { fixture.flow.isClosed })
    }

    @Test(arguments: [
        (CloseReason.admin, UInt64(0x203)), (.idle, 0x200), (.sessionLost, 0x200),
    ])
    func closingCutsBothSides(reason: CloseReason, code: UInt64) throws {
        let fixture = try RelayFixture()
        fixture.relay?.close(reason)
        #expect(fixture.run { fixture.flow.resetCode == code && fixture.flow.stopCode == code })
        #expect(fixture.run { fixture.socket.wasReset })
        #expect(fixture.ends == [.closed(reason)])
        fixture.relay?.close(.error)
        #expect(fixture.ends.count == 1)
    }

    @Test func silenceEndsTheRelay() throws {
        let fixture = try RelayFixture(idleTimeout: .milliseconds(150))
        fixture.socket.send([1])
        #expect(fixture.run { fixture.flow.received == [1] })
        #expect(fixture.ends.isEmpty)
        let last = SystemClock.now
        #expect(fixture.run { !fixture.ends.isEmpty })
        #expect(fixture.ends == [.idle])
        #expect(SystemClock.now >= last + .milliseconds(100))
        #expect(fixture.run { fixture.flow.resetCode == 0x200 && fixture.socket.wasReset })
    }

    @Test func bytesKeepTheRelayFromBeingIdle() throws {
        let fixture = try RelayFixture(idleTimeout: .milliseconds(200))
        let begin = SystemClock.now
        var (last, longestPause) = (begin, Duration.zero)
        while last < begin + .milliseconds(600) {
            fixture.flow.send([1])
            fixture.pair.loop.run(milliseconds: 20)
            longestPause = max(longestPause, SystemClock.now - last)
            last = SystemClock.now
        }
        // A machine that stood still for so long was silent itself.
        #expect(fixture.ends.isEmpty || longestPause >= .milliseconds(150))
    }

    @Test func theWaitForTheStreamIsNoSilence() throws {
        let fixture = try RelayFixture(idleTimeout: .milliseconds(400), isAttached: false)
        fixture.pair.loop.run(milliseconds: 450)
        let begin = SystemClock.now
        fixture.relay?.attach(fixture.stream)
        #expect(fixture.run { fixture.ends == [.idle] })
        #expect(SystemClock.now >= begin + .milliseconds(350))
    }

    @Test func theLossOfTheConnectionResetsTheSocket() throws {
        let fixture = try RelayFixture()
        fixture.flow.send([1])
        #expect(fixture.run { fixture.socket.received == [1] })
        fixture.pair.client.connection?.close(code: 0x100)
        #expect(fixture.run { fixture.socket.wasReset })
        #expect(fixture.ends == [.connectionLost])
        #expect(!fixture.socket.hasEnded)
    }

    @Test func anUploadThatTheLossOfTheConnectionHasCutIsNotCalledFinished() throws {
        let fixture = try RelayFixture {
            $0.initialStreamWindowBytes = 64 << 10
            $0.maxStreamWindowBytes = 64 << 10
        }
        // The far end has said all it has to say but does not read; the relay holds the rest of the upload.
        fixture.flow.givesCredit = false
        fixture.flow.finish()
        fixture.socket.send(pattern(400_000))
        fixture.socket.finish()
        #expect(fixture.run { fixture.relay?.bytesFromSocket == 400_000 && fixture.socket.hasEnded })
        fixture.pair.loop.run(milliseconds: 20)
        #expect(fixture.ends.isEmpty)
        fixture.pair.client.connection?.close(code: 0x100)
        #expect(fixture.run { !fixture.ends.isEmpty })
        #expect(fixture.ends == [.connectionLost])
    }

    @Test func aLastReplyReachesAClientWhoseBytesWereNotRead() throws {
        let fixture = try RelayFixture(isAttached: false)
        fixture.socket.send(pattern(200_000))
        fixture.pair.loop.run(milliseconds: 10)
        let reply = Array("HTTP/1.1 502 Bad Gateway\r\n\r\n".utf8)
        fixture.relay?.finish(with: reply, .error)
        #expect(fixture.ends == [.closed(.error)])
        #expect(fixture.run { fixture.socket.hasEnded })
        #expect(fixture.socket.received == reply)
        #expect(fixture.socket.errorNumber == nil)
    }

    @Test func aReleasedSocketCanBeRelayedAnew() throws {
        let fixture = try RelayFixture(isAttached: false)
        let relay = try #require(fixture.relay)
        fixture.socket.send([1, 2])
        fixture.pair.loop.run(milliseconds: 10)
        relay.release()
        relay.close(.error)
        #expect(fixture.ends.isEmpty)
        fixture.adoptSocket()
        fixture.relay?.attach(fixture.stream)
        #expect(fixture.run { fixture.flow.received == [1, 2] })
        fixture.flow.send([3])
        #expect(fixture.run { fixture.socket.received == [3] })
        #expect(fixture.ends.isEmpty)
    }
}
