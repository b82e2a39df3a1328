package import Domain
internal import EventLoop

/// What `/proc/stat` says of the processors since the boot, in clock ticks.
package struct ProcessorTimes: Sendable, Hashable {
    package let idle: UInt64
    package let total: UInt64

    /// Reads the first line, `cpu user nice system idle iowait irq softirq steal ...` (proc_stat(5)).
    package init?(parsing text: String) {
        guard let line = text.split(separator: "\n").first else { return nil }
        let words = line.split(separator: " ")
        guard words.first == "cpu", words.count >= 5 else { return nil }
        // Guest time, after the eighth, is part of user time already.
        let ticks = words.dropFirst().prefix(8).compactMap { UInt64($0) }
        guard ticks.count == min(words.count - 1, 8) else { return nil }
        let waiting = ticks.count > 4 ? ticks[4] : 0
        idle = ticks[3] &+ waiting
        total = ticks.reduce(0, &+)
    }

    /// The share of the time since `earlier` in which the processors worked, 0 to 1.
    package func utilization(since earlier: ProcessorTimes) -> Double {
        guard total > earlier.total else { return 0 }
        let all = total - earlier.total
        let resting = idle > earlier.idle ? min(idle - earlier.idle, all) : 0
        return Double(all - resting) / Double(all)
    }
}

/// What `/proc/meminfo` says.
package struct MemoryFigures: Sendable, Hashable {
    package let usedBytes: UInt64
    package let totalBytes: UInt64

    /// Used is what is neither free nor to be had at once (`MemTotal` less `MemAvailable`, proc_meminfo(5)).
    package init?(parsing text: String) {
        var figures: [Substring: UInt64] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count >= 2, let kibibytes = UInt64(words[1]), kibibytes < 1 << 50 else { continue }
            figures[words[0]] = kibibytes * 1_024
        }
        guard let total = figures["MemTotal:"], let available = figures["MemAvailable:"] else { return nil }
        totalBytes = total
        usedBytes = total > available ? total - available : 0
    }
}

/// The machine's load from `/proc`, which is read without waiting for any device.
///
/// Many agents may share one: what was read is good for a second.
package final class MachineLoad {
    package struct Sample: Sendable, Hashable {
        /// 0 to 1 of the whole machine, since the sample before.
        package let cpuUtilization: Double
        package let memory: MemoryFigures?
    }

    private static let shelfLife = Duration.seconds(1)

    private var times: ProcessorTimes?
    private var last: (at: Instant, sample: Sample)?

    package init() {
        times = Self.read("/proc/stat").flatMap { ProcessorTimes(parsing: $0) }
    }

    package func sample(now: Instant) -> Sample {
        if let last, now - last.at < Self.shelfLife { return last.sample }
        let current = Self.read("/proc/stat").flatMap { ProcessorTimes(parsing: $0) }
        var utilization = 0.0
        if let current, let times { utilization = current.utilization(since: times) }
        times = current ?? times
        let sample = Sample(
            cpuUtilization: utilization,
            memory: Self.read("/proc/meminfo").flatMap { MemoryFigures(parsing: $0) })
        last = (now, sample)
        return sample
    }

    private static func read(_ path: String) -> String? {
        guard let bytes = try? Files.read(path) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
}
