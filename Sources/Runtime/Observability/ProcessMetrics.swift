internal import CLinux
package import Domain
package import EventLoop

/// What `/proc/PID/status` says of a process.
package struct ProcessStatus: Sendable, Hashable {
    package let residentBytes: UInt64
    package let threads: UInt64

    /// - Parameter process: its id, or this one's; nil when there is no such process.
    package init?(of process: Int32? = nil) {
        let path = "/proc/\(process.map { "\($0)" } ?? "self")/status"
        guard let bytes = try? Files.read(path) else { return nil }
        self.init(parsing: String(decoding: bytes, as: UTF8.self))
    }

    /// Reads the lines `VmRSS:` and `Threads:` (proc_pid_status(5)).
    package init?(parsing text: String) {
        var figures: [Substring: UInt64] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count >= 2, let figure = UInt64(words[1]), figure < 1 << 50 else { continue }
            figures[words[0]] = figure
        }
        guard let resident = figures["VmRSS:"], let threads = figures["Threads:"] else { return nil }
        residentBytes = resident * 1_024
        self.threads = threads
    }
}

/// The figures of the process itself: what it is and what it takes of the machine.
package final class ProcessMetrics: MetricSource {
    private let versions: MetricPage.Labels
    private let startedAt: WallTime
    private let hasQuickCount: Bool
    private let counts: Mailbox<UInt64>
    private var counter: LoopThread?
    private var openFiles: UInt64 = 0
    private var counted: (() -> Void)?

    /// - Parameters:
    ///   - versions: of the program and of what it runs with, as labels of `pop_build_info`.
    ///   - hasQuickCount: whether the kernel tells the number of open descriptors without listing them; nil
    ///     asks it.
    package init(
        on loop: EventLoop, versions: MetricPage.Labels, startedAt: WallTime,
        hasQuickCount: Bool? = nil
    ) throws(SystemError) {
        self.versions = versions
        self.startedAt = startedAt
        self.hasQuickCount = hasQuickCount ?? (cl_open_files() > 0)
        counts = try Mailbox()
        try loop.attach(counts) { [weak self] count in self?.filesCounted(count) }
    }

    /// Listing some 10,000 descriptors takes many milliseconds: a thread of its own does it.
    package func refresh(_ done: @escaping () -> Void) {
        if hasQuickCount {
            openFiles = cl_open_files()
            return done()
        }
        counted = done
        guard counter == nil else { return }
        counter = try? LoopThread(name: "count-files") { [counts] in counts.send(cl_count_open_files()) }
        if counter == nil { filesCounted(openFiles) }
    }

    private func filesCounted(_ count: UInt64) {
        counter?.join()
        counter = nil
        openFiles = count
        counted?()
        counted = nil
    }

    package func write(on page: inout MetricPage) {
        page.gauge("pop_build_info", "The program's version and what it runs with; always 1", 1, versions)
        page.gauge(
            "pop_process_start_time_seconds", "When the program started, since the Unix epoch",
            Double(startedAt.microseconds) / 1e6)
        page.counter(
            "pop_process_cpu_seconds_total", "Time on processors, user and system",
            nanoseconds: cl_processor_nanoseconds())
        page.gauge("pop_process_open_fds", "Open descriptors", openFiles)
        page.gauge("pop_process_max_fds", "Most descriptors that may be open", cl_file_limit())
        let status = ProcessStatus()
        page.gauge("pop_process_resident_memory_bytes", "Resident memory", status?.residentBytes ?? 0)
        page.gauge("pop_process_threads", "Threads", status?.threads ?? 0)
    }
}
