internal import DequeModule
internal import Domain
package import EventLoop

/// Where the conns of one user on one loop wait for bytes of its rate: first come, first served, one timer for all.
package final class RateGate {
    private let loop: EventLoop
    private let rate: UserRate
    private var waiting: Deque<StreamRelay> = []
    /// Whose turn it is; it may pass those that wait, once.
    private var served: StreamRelay?
    private var timer: LoopTimer?

    package init(on loop: EventLoop, _ rate: UserRate) {
        self.loop = loop
        self.rate = rate
    }

    deinit {
        timer?.cancel()
    }

    /// How many of `wanted` bytes the relay may move now. For none, it is told by `rateAllows` when it may try
    /// again.
    func take(_ wanted: Int, for relay: StreamRelay) -> Int {
        guard rate.isLimited, wanted > 0 else { return wanted }
        var granted = 0
        if waiting.isEmpty || served === relay {
            granted = rate.takeTurn(wanted, sharing: !waiting.isEmpty, at: loop.now)
        }
        served = nil
        if granted == 0 { hold(relay) }
        return granted
    }

    /// Puts back what was granted and not moved.
    func giveBack(_ count: Int) {
        rate.giveBack(count)
    }

    private func hold(_ relay: StreamRelay) {
        guard !relay.isWaitingForRate else { return }
        relay.isWaitingForRate = true
        waiting.append(relay)
        armTimer()
    }

    private func armTimer() {
        // Unowned: the timer goes with the gate.
        let timer = timer ?? loop.makeTimer { [unowned self] in serve() }
        self.timer = timer
        guard !timer.isArmed else { return }
        timer.arm(at: rate.nextTurn(after: loop.now))
    }

    private func serve() {
        // Each of those that wait now at most once: who wants more waits behind the others.
        for _ in 0..<waiting.count {
            guard rate.nextTurn(after: loop.now) <= loop.now, let relay = waiting.popFirst() else { break }
            relay.isWaitingForRate = false
            served = relay
            relay.rateAllows()
            served = nil
        }
        if !waiting.isEmpty { armTimer() }
    }
}
