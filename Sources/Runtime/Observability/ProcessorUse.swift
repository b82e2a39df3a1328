internal import EventLoop
internal import Glibc

/// How long threads and processes have had a processor, as the kernel counts it.
package enum ProcessorUse {
    /// Of the thread that asks, in nanoseconds.
    package static var ofThisThread: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(max(0, time.tv_sec)) * 1_000_000_000 + UInt64(max(0, time.tv_nsec))
    }

    /// Of this process's thread that goes by `name`, in nanoseconds; nil when there is none.
    package static func ofThread(named name: String) -> UInt64? {
        for thread in numbers(in: "/proc/self/task") {
            let path = "/proc/self/task/\(thread)"
            guard text(path + "/comm")?.split(separator: "\n").first.map(String.init) == name else {
                continue
            }
            return text(path + "/schedstat")?.split(separator: " ").first.flatMap { UInt64($0) }
        }
        return nil
    }

    /// Of a process, its children that have ended, and those that run, by the titles they give themselves;
    /// in clock ticks (``ticksPerSecond``). What has ended stands under the empty title.
    package static func ofFamily(_ process: Int32) -> [String: UInt64] {
        var result: [String: UInt64] = [:]
        for number in numbers(in: "/proc") {
            guard let stat = ProcessTicks(of: number), number == process || stat.parent == process
            else { continue }
            let title = text("/proc/\(number)/cmdline")?.split(separator: "\0").first.map(String.init) ?? "?"
            result[title, default: 0] += stat.own
            if number == process { result["", default: 0] += stat.ofEndedChildren }
        }
        return result
    }

    package static var ticksPerSecond: UInt64 { UInt64(max(1, sysconf(Int32(_SC_CLK_TCK)))) }

    fileprivate static func text(_ path: String) -> String? {
        (try? Files.read(path)).map { String(decoding: $0, as: UTF8.self) }
    }

    private static func numbers(in path: String) -> [Int32] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var result: [Int32] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let number = Int32(name) { result.append(number) }
        }
        return result
    }
}

/// What `/proc/PID/stat` says of a process's times, in clock ticks (proc_pid_stat(5)).
package struct ProcessTicks: Sendable, Hashable {
    package let parent: Int32
    package let own: UInt64
    package let ofEndedChildren: UInt64

    /// Nil when there is no such process.
    package init?(of process: Int32) {
        guard let text = ProcessorUse.text("/proc/\(process)/stat") else { return nil }
        self.init(parsing: text)
    }

    /// The second field is a name in parentheses that may hold anything: the rest is counted from its end.
    package init?(parsing text: String) {
        guard let end = text.lastIndex(of: ")") else { return nil }
        let words = text[text.index(after: end)...].split(separator: " ")
        guard words.count > 14, let parent = Int32(words[1]), let user = UInt64(words[11]),
            let system = UInt64(words[12]), let endedUser = UInt64(words[13]),
            let endedSystem = UInt64(words[14])
        else { return nil }
        self.parent = parent
        own = user + system
        ofEndedChildren = endedUser + endedSystem
    }
}
