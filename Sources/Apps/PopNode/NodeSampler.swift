internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Observability
internal import Store

/// Puts a sample of the node on record every 10 seconds (contract section 6, `pop.node_load`).
final class NodeSampler {
    private static let interval = Duration.seconds(10)

    private let loop: EventLoop
    private let plane: DevicePlane
    private let store: any StorePort
    private let machine = MachineLoad()
    private var timer: LoopTimer?

    init(on loop: EventLoop, plane: DevicePlane, store: any StorePort) {
        self.loop = loop
        self.plane = plane
        self.store = store
        timer = loop.makeTimer { [weak self] in self?.sample() }
        timer?.arm(at: loop.now + Self.interval)
    }

    deinit {
        timer?.cancel()
    }

    private func sample() {
        timer?.arm(at: loop.now + Self.interval)
        let load = machine.sample(now: loop.now)
        let totals = plane.totals
        store.record(
            .nodeSample(
                NodeSample(
                    sampledAt: SystemClock.wall, devicesOnline: UInt64(plane.sessionCount),
                    connsActive: UInt64(plane.connCount), bytesSent: totals.bytesSent,
                    bytesReceived: totals.bytesReceived, cpuUtilization: load.cpuUtilization,
                    memoryUsedBytes: load.memory?.usedBytes ?? 0)))
    }
}
