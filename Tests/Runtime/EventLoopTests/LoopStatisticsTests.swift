import Domain
import EventLoop
import TestKit
import Testing

/// What a loop tells of itself. Time that passes is spent busily: it is never shorter than the test needs.
@Suite struct LoopStatisticsTests {
    private func stayBusy(until instant: Instant) {
        while SystemClock.now < instant {}
    }

    /// Values above `bound`, which is one of the scale's.
    private func count(above bound: Duration, in distribution: Distribution) -> UInt64 {
        zip(distribution.scale.bounds + [.max], distribution.counts)
            .filter { $0.0 > UInt64(bound.nanoseconds) }.reduce(0) { $0 + $1.1 }
    }

    @Test func `a batch that takes long is told as a long turn`() throws {
        let loop = try EventLoop()
        let timer = loop.makeTimer { stayBusy(until: loop.now + .milliseconds(6)) }
        timer.arm(at: loop.now)
        loop.runOnce(waitingAtMost: .zero)
        loop.runOnce(waitingAtMost: .zero)
        #expect(count(above: .milliseconds(5), in: loop.statistics.turns) >= 1)
        #expect(loop.statistics.turns.sum >= 6_000_000)
    }

    @Test func `waiting is no part of a turn`() throws {
        let loop = try EventLoop()
        let deadline = loop.now + .milliseconds(20)
        let timer = loop.makeTimer { loop.stop() }
        timer.arm(at: deadline)
        loop.run()
        loop.runOnce(waitingAtMost: .zero)
        #expect(loop.statistics.turns.count == 1)
        #expect(loop.statistics.turns.sum <= UInt64((SystemClock.now - deadline).nanoseconds))
    }

    @Test func `a timer that the loop comes late to shows as lag`() throws {
        let loop = try EventLoop()
        let timer = loop.makeTimer {}
        timer.arm(at: loop.now + .milliseconds(1))
        stayBusy(until: loop.now + .milliseconds(12))
        loop.runOnce(waitingAtMost: .zero)
        #expect(count(above: .milliseconds(10), in: loop.statistics.lag) == 1)
    }

    @Test func `a deadline that was over when it was set is no lag`() throws {
        let loop = try EventLoop()
        let start = loop.now
        stayBusy(until: start + .milliseconds(5))
        loop.runOnce(waitingAtMost: .zero)
        let previous = loop.now
        let timer = loop.makeTimer {}
        timer.arm(at: start)
        loop.runOnce(waitingAtMost: .zero)
        #expect(loop.statistics.lag.count == 1)
        #expect(loop.statistics.lag.sum == UInt64((loop.now - previous).nanoseconds))
    }

    @Test func `what passes before a loop runs is neither a turn nor lag`() throws {
        let loop = try EventLoop()
        let timer = loop.makeTimer { loop.stop() }
        timer.arm(at: loop.now + .milliseconds(1))
        stayBusy(until: loop.now + .milliseconds(20))
        let start = SystemClock.now
        loop.run()
        #expect(loop.statistics.lag.count == 1)
        #expect(loop.statistics.lag.sum <= UInt64((loop.now - start).nanoseconds))
        #expect(loop.statistics.turns.count == 0)
    }

    @Test func `armed timers and watched descriptors are counted`() throws {
        let loop = try EventLoop()
        let timers = (1...3).map { _ in loop.makeTimer {} }
        for timer in timers { timer.arm(at: loop.now + .seconds(60)) }
        let mailbox = try Mailbox<Int>()
        let registration = try loop.attach(mailbox) { _ in }
        #expect(loop.statistics.armedTimers == 3)
        #expect(loop.statistics.descriptors == 1)
        timers[1].cancel()
        loop.deregister(registration)
        #expect(loop.statistics.armedTimers == 2)
        #expect(loop.statistics.descriptors == 0)
    }
}
