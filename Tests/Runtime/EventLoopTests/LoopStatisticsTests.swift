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

    /// Runs a batch for each of `waits`, each of which moves `bytes`; what the loop waited awake.
    private func timeAwake(_ window: Duration, waits: [Duration], bytes: Int = 0) throws -> Duration {
        let loop = try EventLoop(busyPoll: window)
        let timer = loop.makeTimer { loop.moved(bytes) }
        for wait in waits {
            timer.arm(at: SystemClock.now + wait)
            loop.run { !timer.isArmed }
        }
        return loop.statistics.busyPolling
    }

    private let quick = [Duration](repeating: .milliseconds(2), count: 20)

    @Test func `a loop whose events come in quick succession waits awake`() throws {
        #expect(try timeAwake(.seconds(10), waits: quick) > .milliseconds(2))
    }

    @Test func `a loop with no window, or with events that come seldom, sleeps`() throws {
        #expect(try timeAwake(.zero, waits: quick) == .zero)
        #expect(try timeAwake(.microseconds(1), waits: quick) == .zero)
    }

    @Test func `a loop that moves bulk data sleeps`() throws {
        let loop = try EventLoop(busyPoll: .seconds(10))
        let timer = loop.makeTimer { loop.moved(1 << 20) }
        func fire(_ times: Int) {
            for _ in 0..<times {
                timer.arm(at: SystemClock.now + .milliseconds(2))
                loop.run { !timer.isArmed }
            }
        }
        fire(10)
        let before = loop.statistics.busyPolling
        fire(10)
        #expect(loop.statistics.busyPolling == before)
    }

    @Test func `a loop that waits awake takes messages of other threads`() throws {
        let loop = try EventLoop(busyPoll: .seconds(10))
        let mailbox = try Mailbox<Int>()
        var received: [Int] = []
        try loop.attach(mailbox) { received.append($0) }
        mailbox.send(0)
        #expect(loop.run { received == [0] })
        let polled = loop.statistics.busyPolling
        let thread = try LoopThread(name: "sender") { mailbox.send(1) }
        #expect(loop.run { received == [0, 1] })
        thread.join()
        #expect(loop.statistics.busyPolling >= polled)
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
