import Domain
import EventLoop
import Observability
import TestKit
import Testing

@Suite struct MetricRegistryTests {
    /// Figures of a thread that answers when the test says so.
    private final class Source: MetricSource {
        var questions: [() -> Void] = []
        var value = 0

        func refresh(_ done: @escaping () -> Void) { questions.append(done) }

        func write(on page: inout MetricPage) { page.gauge("pop_source", "Source.", value) }
    }

    @Test func collectorsWriteAtEachScrape() throws {
        let registry = MetricRegistry(on: try EventLoop())
        var value = 0
        registry.collect { page in
            value += 1
            page.gauge("pop_now", "Now.", value)
        }
        var pages: [String] = []
        for _ in 0..<2 { registry.scrape { pages.append(String(decoding: $0, as: UTF8.self)) } }
        #expect(pages.count == 2)
        #expect(pages.first?.contains("pop_now 1\n") == true)
        #expect(pages.last?.contains("pop_now 2\n") == true)
        #expect(pages.last?.contains("pop_metrics_scrapes_total 2\n") == true)
    }

    @Test func aScrapeWaitsForTheFiguresOfOtherThreads() throws {
        let registry = MetricRegistry(on: try EventLoop())
        let sources = [Source(), Source()]
        registry.add(sources[0])
        var pages: [String] = []
        registry.scrape { pages.append(String(decoding: $0, as: UTF8.self)) }
        #expect(pages.isEmpty)
        sources[0].value = 7
        sources[0].questions[0]()
        #expect(pages.count == 1)
        #expect(pages[0].contains("pop_source 7\n"))
        // A second word on the same question changes nothing.
        sources[0].questions[0]()
        #expect(pages.count == 1)
    }

    @Test func scrapesAtTheSameTimeShareTheAnswers() throws {
        let registry = MetricRegistry(on: try EventLoop())
        let source = Source()
        registry.add(source)
        var answers = 0
        for _ in 0..<3 { registry.scrape { _ in answers += 1 } }
        #expect(source.questions.count == 1)
        source.questions[0]()
        #expect(answers == 3)
    }

    @Test func aThreadThatDoesNotAnswerIsShownAsItWasAndCounted() throws {
        let loop = try EventLoop()
        let registry = MetricRegistry(on: loop)
        let source = Source()
        registry.add(source)
        source.value = 1
        var pages: [String] = []
        registry.scrape { pages.append(String(decoding: $0, as: UTF8.self)) }
        #expect(loop.run { !pages.isEmpty })
        #expect(pages[0].contains("pop_source 1\n"))
        #expect(pages[0].contains("pop_metrics_late_answers_total 1\n"))
        // Its late word is not taken for an answer to the next scrape.
        registry.scrape { pages.append(String(decoding: $0, as: UTF8.self)) }
        source.questions[0]()
        #expect(pages.count == 1)
        source.questions[1]()
        #expect(pages.count == 2)
    }
}
