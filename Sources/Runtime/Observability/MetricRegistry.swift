internal import Domain
package import EventLoop

/// Everybody on one loop who keeps figures, and those on other threads who must be asked for theirs.
///
/// Figures are plain numbers of whoever counts; nothing is shared while nobody looks. A scrape asks the other
/// threads, waits for their answers within a bound, and then has everybody write on one ``MetricPage``: what
/// it costs the loop is the writing.
package final class MetricRegistry {
    private let loop: EventLoop
    private var collectors: [(inout MetricPage) -> Void] = []
    private var sources: [any MetricSource] = []

    private var timer: LoopTimer?
    private var waiting: [([UInt8]) -> Void] = []
    /// Sources that the scrape under way has not heard from.
    private var unanswered: Set<Int> = []
    private var scrapes: UInt64 = 0
    private var lateAnswers: UInt64 = 0

    /// How long a scrape waits for other threads. What is busy for longer shows the figures it had before;
    /// a scrape must not be as late as what it is to tell of.
    private static let patience = Duration.milliseconds(500)

    package init(on loop: EventLoop) {
        self.loop = loop
        timer = loop.makeTimer { [weak self] in self?.giveUp() }
        collect { [weak self] page in
            page.counter("pop_metrics_scrapes_total", "Scrapes of the metrics", self?.scrapes ?? 0)
            page.counter(
                "pop_metrics_late_answers_total",
                "Threads that did not answer a scrape in time, so that it shows older figures of theirs",
                self?.lateAnswers ?? 0)
        }
    }

    deinit {
        timer?.cancel()
    }

    /// Has `write` called for each scrape, on the registry's loop.
    package func collect(_ write: @escaping (inout MetricPage) -> Void) {
        collectors.append(write)
    }

    /// Asks `source` before each scrape.
    package func add(_ source: any MetricSource) {
        sources.append(source)
        collect { source.write(on: &$0) }
    }

    /// Answers with all figures, within half a second. Calls while one is under way share its answer.
    package func scrape(_ answer: @escaping ([UInt8]) -> Void) {
        waiting.append(answer)
        guard waiting.count == 1 else { return }
        scrapes += 1
        let number = scrapes
        unanswered = Set(sources.indices)
        timer?.arm(at: loop.now + Self.patience)
        for (index, source) in sources.enumerated() {
            source.refresh { [weak self] in self?.answered(index, scrape: number) }
        }
        finishIfComplete()
    }

    private func answered(_ source: Int, scrape: UInt64) {
        guard scrape == scrapes, unanswered.remove(source) != nil else { return }
        finishIfComplete()
    }

    private func giveUp() {
        lateAnswers &+= UInt64(unanswered.count)
        unanswered = []
        finishIfComplete()
    }

    private func finishIfComplete() {
        guard unanswered.isEmpty, !waiting.isEmpty else { return }
        timer?.cancel()
        var page = MetricPage()
        for write in collectors { write(&page) }
        let text = page.text
        let answers = waiting
        waiting = []
        for answer in answers { answer(text) }
    }
}

/// Figures that another thread keeps.
package protocol MetricSource: AnyObject {
    /// Asks the thread. `done` is called on the registry's loop when its figures have come, at once or later,
    /// at most once.
    func refresh(_ done: @escaping () -> Void)
    /// Writes the figures that came last.
    func write(on page: inout MetricPage)
}

extension MetricPage {
    /// The figures of one event loop.
    package mutating func eventLoop(_ name: String, _ statistics: LoopStatistics) {
        histogram(
            "pop_loop_turn_seconds", "How long the loop handled a batch of events, while others waited",
            statistics.turns, ["loop": name])
        histogram(
            "pop_loop_lag_seconds", "How late the first timer of a batch was", statistics.lag,
            ["loop": name])
        counter(
            "pop_loop_busy_poll_seconds_total", "Time that the loop waited awake",
            nanoseconds: UInt64(clamping: statistics.busyPolling.nanoseconds), ["loop": name])
        gauge("pop_loop_timers", "Armed timers", statistics.armedTimers, ["loop": name])
        gauge("pop_loop_descriptors", "Descriptors watched", statistics.descriptors, ["loop": name])
    }
}
