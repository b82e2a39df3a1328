import Domain
import Observability
import Testing

struct MetricPageTests {
    private func text(_ write: (inout MetricPage) -> Void) -> String {
        var page = MetricPage()
        write(&page)
        return String(decoding: page.text, as: UTF8.self)
    }

    @Test func familiesStandSortedWithHelpTypeAndSamples() {
        let text = text { page in
            page.gauge("pop_devices_online", "Devices online.", 3)
            page.counter("pop_bytes_total", "Bytes.", 5, ["direction": "up", "loop": "1"])
            page.counter("pop_bytes_total", "Bytes.", 1, ["direction": "down", "loop": "1"])
        }
        #expect(
            text == """
                # HELP pop_bytes_total Bytes.
                # TYPE pop_bytes_total counter
                pop_bytes_total{direction="up",loop="1"} 5
                pop_bytes_total{direction="down",loop="1"} 1
                # HELP pop_devices_online Devices online.
                # TYPE pop_devices_online gauge
                pop_devices_online 3

                """)
    }

    @Test func samplesOfAFamilyStandTogetherWhoeverWroteThemWhen() {
        let text = text { page in
            page.gauge("pop_a", "A.", 1, ["k": "first"])
            page.gauge("pop_b", "B.", 2)
            page.gauge("pop_a", "A.", 3, ["k": "second"])
        }
        #expect(text.contains("pop_a{k=\"first\"} 1\npop_a{k=\"second\"} 3\n# HELP pop_b"))
        #expect(text.components(of: "# TYPE pop_a ") == 1)
    }

    @Test func whatWouldBreakALineIsEscaped() {
        let text = text { $0.gauge("pop_a", "A\\ \"quoted\"\nhelp.", 0.5, ["k": "a\\b\"c\nd"]) }
        #expect(text.contains(#"pop_a{k="a\\b\"c\nd"} 0.5"#))
        #expect(text.contains(##"# HELP pop_a A\\ "quoted"\nhelp."##))
    }

    @Test func bucketsAccumulateInTheUnitThatIsTold() {
        var waits = Distribution(DistributionScale(bounds: [100, 1_000], valuesPerUnit: 1_000))
        for value: UInt64 in [50, 100, 500, 7_000] { waits.note(value) }
        #expect(
            text { $0.histogram("pop_wait_seconds", "Wait.", waits, ["k": "v"]) }.hasSuffix(
                """
                # TYPE pop_wait_seconds histogram
                pop_wait_seconds_bucket{k="v",le="0.1"} 2
                pop_wait_seconds_bucket{k="v",le="1"} 3
                pop_wait_seconds_bucket{k="v",le="+Inf"} 4
                pop_wait_seconds_sum{k="v"} 7.65
                pop_wait_seconds_count{k="v"} 4

                """))
    }

    @Test func boundsOfNanosecondsReadAsSeconds() {
        let text = text { $0.histogram("pop_turn_seconds", "Turn.", Distribution(.turns)) }
        let bounds = ["0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1", "+Inf"]
        for bound in bounds { #expect(text.contains("pop_turn_seconds_bucket{le=\"\(bound)\"} 0\n")) }
        #expect(text.contains("pop_turn_seconds_sum 0\npop_turn_seconds_count 0\n"))
    }

    @Test func aFamilyWithoutSamplesIsDeclared() {
        let text = text { page in
            page.counters("pop_faults_total", "Faults.", by: "code", [])
            page.histograms("pop_query_seconds", "Queries.", by: "kind", [])
        }
        #expect(
            text == """
                # HELP pop_faults_total Faults.
                # TYPE pop_faults_total counter
                # HELP pop_query_seconds Queries.
                # TYPE pop_query_seconds histogram

                """)
    }

    @Test func oneLabelMayRunThroughItsValues() {
        let text = text { page in
            page.counters("pop_ends_total", "Ends.", by: "reason", [("idle", 2), ("admin", 0)])
            page.gauges("pop_state", "State.", by: "state", [("active", 1)])
        }
        #expect(text.contains("pop_ends_total{reason=\"idle\"} 2\npop_ends_total{reason=\"admin\"} 0\n"))
        #expect(text.contains("pop_state{state=\"active\"} 1\n"))
    }

    @Test(arguments: [
        (0.0, "0"), (-2, "-2"), (1.5, "1.5"), (.infinity, "+Inf"), (-.infinity, "-Inf"), (.nan, "NaN"),
        (1_785_000_000.25, "1785000000.25"), (9e14, "900000000000000"), (1e300, "1e+300"),
    ])
    func numbersReadAsPrometheusWritesThem(_ value: Double, _ written: String) {
        #expect(text { $0.gauge("pop_a", "A.", value) }.hasSuffix("pop_a \(written)\n"))
    }

    @Test func timesOfNanosecondsAreToldInSeconds() {
        let text = text { $0.counter("pop_cpu_seconds_total", "CPU.", nanoseconds: 1_250_000_000) }
        #expect(text.hasSuffix("pop_cpu_seconds_total 1.25\n"))
    }

    @Test func countersKeepEveryDigit() {
        let text = text { $0.counter("pop_bytes_total", "Bytes.", .max) }
        #expect(text.hasSuffix("pop_bytes_total 18446744073709551615\n"))
    }
}

extension String {
    /// How often `part` stands in here.
    fileprivate func components(of part: String) -> Int {
        indices.count { self[$0...].hasPrefix(part) }
    }
}
