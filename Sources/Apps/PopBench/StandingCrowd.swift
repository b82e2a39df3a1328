package import DeviceProtocol
internal import Domain
internal import EventLoop
internal import Logging
internal import Observability

/// Devices that stay until a signal ends them.
package struct DeviceCrowdPlan: Sendable, Equatable {
    package var pops: [PopURL]
    package var count: Int
    /// Ids are the prefix and a number.
    package var prefix: String
    /// Devices started in a second.
    package var perSecond: Int
}

/// Runs the devices of a ``DeviceCrowdPlan`` until a signal ends it, and tells how many are whole.
final class StandingCrowd {
    private let plan: DeviceCrowdPlan
    private let loop: EventLoop
    private let crowd: DeviceCrowd
    private let tell: (String) -> Void
    private var signals: SignalWatch?
    private var startTimer: LoopTimer?
    private var tellTimer: LoopTimer?
    private let began: Instant
    private var isStopping = false
    private var lastLine = ""

    private static let tellInterval = Duration.seconds(1)

    static func run(_ plan: DeviceCrowdPlan, tell: @escaping (String) -> Void) throws {
        LogSystem.bootstrap(level: .error, format: .text)
        try StandingCrowd(plan, tell: tell).run()
    }

    private init(_ plan: DeviceCrowdPlan, tell: @escaping (String) -> Void) throws {
        self.plan = plan
        self.tell = tell
        _ = ProcessSettings.prepareDaemon()
        loop = try EventLoop()
        began = loop.now
        let stop = Stop()
        signals = try SignalWatch(on: loop, [SignalWatch.terminate, SignalWatch.interrupt]) { _ in stop.now?()
        }
        crowd = try DeviceCrowd(on: loop, pops: plan.pops, prefix: plan.prefix)
        startTimer = loop.makeTimer { [weak self] in self?.startSome() }
        tellTimer = loop.makeTimer { [weak self] in self?.tellCount() }
        stop.now = { [unowned self] in self.stop() }
    }

    private final class Stop {
        var now: (() -> Void)?
    }

    private func run() {
        startTimer?.arm(at: loop.now)
        tellTimer?.arm(at: loop.now + Self.tellInterval)
        loop.run()
        signals?.close()
        crowd.close()
    }

    /// As many as are due by now.
    private func startSome() {
        guard !isStopping else { return }
        let due = (loop.now - began).milliseconds * Int64(plan.perSecond) / 1_000 + 1
        while crowd.count < min(plan.count, Int(due)) { crowd.startOne() }
        if crowd.count < plan.count { startTimer?.arm(at: loop.now + .milliseconds(20)) }
    }

    private func tellCount() {
        tellTimer?.arm(at: loop.now + Self.tellInterval)
        let line = "\(crowd.whole) of \(plan.count) devices are whole"
        guard line != lastLine else { return }
        lastLine = line
        tell(line)
    }

    /// A second signal does not wait for the farewells.
    private func stop() {
        guard !isStopping else { return loop.stop() }
        isStopping = true
        crowd.stop { [unowned self] in loop.stop() }
    }
}
