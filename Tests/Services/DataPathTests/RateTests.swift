import DataPath
import Domain
import EventLoop
import QUIC
import QUICKit
import TestKit
import Testing

/// A rate of next to nothing lets a burst through and then as good as nothing: what passes can be counted.
@Suite struct RateTests {
    private static let burst = 4_096
    private let start = SystemClock.now

    /// The most that can have passed by now at a byte a second.
    private var most: Int { Self.burst + Int((SystemClock.now - start).nanoseconds / 1_000_000_000) + 1 }

    private func slow() -> UserRate { UserRate(bytesPerSecond: 1, at: start) }

    @Test func theSocketIsReadNoFasterThanTheRate() throws {
        let rate = slow()
        let fixture = try RelayFixture(rate: rate)
        let bytes = pattern(300_000)
        fixture.socket.send(bytes)
        fixture.socket.finish()
        #expect(fixture.run { fixture.flow.received.count >= Self.burst })
        fixture.pair.loop.run(milliseconds: 50)
        #expect(fixture.flow.received.count <= most)
        #expect(!fixture.flow.isFinished)
        // Without a limit the rest follows, and nothing was lost.
        rate.change(to: nil, at: SystemClock.now)
        #expect(fixture.run { fixture.flow.isFinished })
        #expect(fixture.flow.received == bytes)
        #expect(fixture.relay?.bytesFromSocket == UInt64(bytes.count))
    }

    @Test func theSocketIsSentToNoFasterThanTheRateAndTheSenderHasToWait() throws {
        let window = 128 << 10
        let rate = slow()
        let fixture = try RelayFixture(
            {
                $0.initialStreamWindowBytes = UInt64(window)
                $0.maxStreamWindowBytes = UInt64(window)
            }, rate: rate)
        let bytes = pattern(1 << 20)
        fixture.flow.send(bytes)
        fixture.flow.finish()
        #expect(fixture.run { fixture.socket.received.count >= Self.burst })
        #expect(fixture.run { fixture.flow.sentCount >= window })
        fixture.run(milliseconds: 50)
        #expect(fixture.socket.received.count <= most)
        // No more is held here than the window, which opens only by what the socket has taken.
        #expect(fixture.stream.unconsumedBytes <= window)
        #expect(!fixture.socket.hasEnded)
        rate.change(to: nil, at: SystemClock.now)
        #expect(fixture.run { fixture.socket.hasEnded })
        #expect(fixture.socket.received == bytes)
        #expect(fixture.relay?.bytesToSocket == UInt64(bytes.count))
    }

    @Test func bothDirectionsShareTheRate() throws {
        let fixture = try RelayFixture(rate: slow())
        fixture.socket.send(pattern(100_000))
        fixture.flow.send(pattern(100_000))
        #expect(fixture.run { fixture.flow.received.count + fixture.socket.received.count >= Self.burst })
        fixture.run(milliseconds: 50)
        #expect(fixture.flow.received.count + fixture.socket.received.count <= most)
    }

    @Test func neitherDirectionStarvesTheOther() throws {
        let fixture = try RelayFixture(rate: UserRate(bytesPerSecond: 400_000, at: start))
        fixture.socket.send(pattern(2_000_000))
        fixture.flow.send(pattern(2_000_000))
        // Behind the burst, which one of them may have had alone.
        #expect(
            fixture.run {
                fixture.flow.received.count >= 130_000 && fixture.socket.received.count >= 130_000
            })
    }

    @Test func earlyBytesCountAndWhatTheNodeSaysDoesNot() throws {
        let rate = slow()
        let fixture = try RelayFixture(earlyBytes: pattern(10_000), rate: rate, isAttached: false)
        #expect(rate.admits(Self.burst, at: start))
        let preface = Array("HTTP/1.1 200 OK\r\n\r\n".utf8)
        fixture.relay?.attach(fixture.stream, preface: preface, received: [1, 2, 3, 4, 5, 6, 7, 8, 9])
        #expect(fixture.run { fixture.socket.received.starts(with: preface) })
        fixture.run(milliseconds: 50)
        let moved = fixture.socket.received.count - preface.count + fixture.flow.received.count
        #expect(moved <= most - Self.burst)
        rate.change(to: nil, at: SystemClock.now)
        #expect(fixture.run { fixture.flow.received.count == 10_000 })
        #expect(fixture.flow.received == pattern(10_000))
        #expect(fixture.run { fixture.socket.received == preface + [1, 2, 3, 4, 5, 6, 7, 8, 9] })
    }

    @Test func aRelayThatWaitsCanBeEnded() throws {
        let fixture = try RelayFixture(rate: slow())
        fixture.socket.send(pattern(100_000))
        #expect(fixture.run { fixture.flow.received.count >= Self.burst })
        fixture.relay?.close(.admin)
        #expect(fixture.run { fixture.socket.wasReset && fixture.flow.resetCode == 0x203 })
        #expect(fixture.ends == [.closed(.admin)])
        fixture.run(milliseconds: 20)
    }

    @Test func aDatagramPassesWholeOrNotAtAll() {
        let rate = UserRate(bytesPerSecond: 1_000, at: start)
        #expect(rate.admits(Self.burst, at: start))
        #expect(!rate.admits(100, at: start + .milliseconds(99)))
        #expect(rate.admits(100, at: start + .milliseconds(100)))
        rate.change(to: 1_000, at: start)
        #expect(!rate.admits(1, at: start + .milliseconds(100)))
        rate.change(to: nil, at: start)
        #expect(rate.admits(.max, at: start))
    }
}

extension RelayFixture {
    /// Runs the loop and reads the socket for a while.
    fileprivate func run(milliseconds: Int) {
        let end = SystemClock.now + .milliseconds(milliseconds)
        _ = run { SystemClock.now >= end }
    }
}
