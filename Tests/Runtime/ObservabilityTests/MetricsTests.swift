import Observability
import Testing

struct MetricsTests {
    private func text(_ registry: MetricRegistry) -> String {
        String(decoding: registry.exposition(), as: UTF8.self)
    }

    @Test func familiesStandSortedWithHelpTypeAndSamples() {
        let registry = MetricRegistry()
        registry.gauge("pop_devices_online", "Devices online.").set(3)
        registry.counter("pop_bytes_total", "Bytes.", labels: ["direction": "up"]).add(5)
        registry.counter("pop_bytes_total", "Bytes.", labels: ["direction": "down"]).add()
        #expect(
            text(registry) == """
                # HELP pop_bytes_total Bytes.
                # TYPE pop_bytes_total counter
                pop_bytes_total{direction="up"} 5
                pop_bytes_total{direction="down"} 1
                # HELP pop_devices_online Devices online.
                # TYPE pop_devices_online gauge
                pop_devices_online 3

                """)
    }

    @Test func sameNameAndLabelsAreTheSameMetric() {
        let registry = MetricRegistry()
        let first = registry.counter("pop_a_total", "A.", labels: ["k": "v"])
        #expect(registry.counter("pop_a_total", "A.", labels: ["k": "v"]) === first)
        #expect(registry.counter("pop_a_total", "A.", labels: ["k": "w"]) !== first)
    }

    @Test func labelValuesAreEscaped() {
        let registry = MetricRegistry()
        registry.gauge("pop_a", "A.", labels: ["k": "a\\b\"c\nd"]).set(0.5)
        #expect(text(registry).contains(#"pop_a{k="a\\b\"c\nd"} 0.5"#))
    }

    @Test func histogramBucketsAccumulate() {
        let registry = MetricRegistry()
        let histogram = registry.histogram("pop_wait_seconds", "Wait.", labels: ["k": "v"], bounds: [0.1, 1])
        for value in [0.05, 0.1, 0.5, 7] { histogram.observe(value) }
        #expect(
            text(registry).hasSuffix(
                """
                pop_wait_seconds_bucket{k="v",le="0.1"} 2
                pop_wait_seconds_bucket{k="v",le="1"} 3
                pop_wait_seconds_bucket{k="v",le="+Inf"} 4
                pop_wait_seconds_sum{k="v"} 7.65
                pop_wait_seconds_count{k="v"} 4

                """))
    }

    @Test func collectorsRunBeforeEachExposition() {
        let registry = MetricRegistry()
        let gauge = registry.gauge("pop_now", "Now.")
        var value = 0
        registry.beforeExposition {
            value += 1
            gauge.set(value)
        }
        #expect(text(registry).contains("pop_now 1\n"))
        #expect(text(registry).contains("pop_now 2\n"))
    }

    @Test func threadsAddToOneCounterAndGauge() async {
        let counter = Counter()
        let gauge = Gauge()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<1_000 {
                        counter.add()
                        gauge.add(1)
                    }
                }
            }
        }
        #expect(counter.value == 4_000)
        #expect(gauge.value == 4_000)
    }
}
