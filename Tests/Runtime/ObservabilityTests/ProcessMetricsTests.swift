import Domain
import EventLoop
import Observability
import TestKit
import Testing

@Suite struct ProcessMetricsTests {
    @Test func statusIsReadAsTheKernelWritesIt() throws {
        let status = try #require(
            ProcessStatus(parsing: "Name:\tpop-node\nVmRSS:\t   12345 kB\nThreads:\t7\nSigQ:\t0/1\n"))
        #expect(status.residentBytes == 12_345 * 1_024)
        #expect(status.threads == 7)
    }

    @Test(arguments: ["", "VmRSS: 1 kB", "Threads: 1", "VmRSS: x kB\nThreads: 1", "VmRSS:\nThreads:"])
    func anythingElseIsNoStatus(_ text: String) {
        #expect(ProcessStatus(parsing: text) == nil)
    }

    @Test(arguments: [nil, false])
    func theProcessHasFigures(_ hasQuickCount: Bool?) throws {
        let loop = try EventLoop()
        let metrics = try ProcessMetrics(
            on: loop, versions: ["version": "1.2.3"], startedAt: WallTime(microseconds: 1_500_000),
            hasQuickCount: hasQuickCount)
        var isReady = false
        metrics.refresh { isReady = true }
        #expect(loop.run { isReady })
        var page = MetricPage()
        metrics.write(on: &page)
        let text = String(decoding: page.text, as: UTF8.self)
        #expect(text.contains("pop_build_info{version=\"1.2.3\"} 1\n"))
        #expect(text.contains("pop_process_start_time_seconds 1.5\n"))
        let figures = [
            "pop_process_cpu_seconds_total", "pop_process_open_fds", "pop_process_max_fds",
            "pop_process_resident_memory_bytes", "pop_process_threads",
        ]
        for name in figures {
            let line = text.split(separator: "\n").first { $0.hasPrefix("\(name) ") }
            let value = try #require(line?.split(separator: " ").last.flatMap { Double($0) })
            #expect(value > 0, "\(name)")
        }
    }
}
