import Foundation
import Testing

/// `pop-bench` against a node and a device, small enough to show that it measures and not how much.
@Suite(.serialized) struct BenchTests {
    @Test func everyLoadRunsAndTellsItsFiguresAsJSON() throws {
        let fixture = try Fixture()
        try fixture.startDevice("d1")
        let node = try #require(fixture.node?.identifier)
        let device = try #require(fixture.devices["d1"]?.identifier)
        let ingress = [
            "--ingress", "127.0.0.1:\(fixture.ingressPort)", "--node-pid", "\(node)", "--device-pid",
            "\(device)", "-o", "json",
        ]
        let pop = ["--pop", "wss://127.0.0.1:\(fixture.wssPort)", "--node-pid", "\(node)", "-o", "json"]
        let runs: [(arguments: [String], figures: [String])] = [
            (
                ["latency", "--count", "20"] + ingress,
                [
                    "round_trip_p50_us", "node_cpu_per_round_trip_us", "device_cpu_per_round_trip_us",
                ]
            ),
            (
                ["churn", "--count", "21", "--parallel", "4"] + ingress,
                ["rate_per_second", "connection_p99_us", "device_cpu_per_connection_ms"]
            ),
            (
                ["bulk", "--mebibytes", "4", "--connections", "2"] + ingress,
                ["rate_gbit_per_second", "device_cpu_per_gib_seconds"]
            ),
            (
                ["idle", "--count", "10"] + ingress,
                ["connections", "memory_per_connection_kib", "device_memory_per_connection_kib"]
            ),
            (
                ["udp", "--rate", "1000", "--seconds", "1", "--queries", "20"] + ingress,
                ["received_per_second", "lost_percent", "query_new_flow_p50_us"]
            ),
            (
                ["fleet", "--count", "5", "--seconds", "1"] + pop,
                ["devices", "node_memory_per_device_kib"]
            ),
        ]
        for (arguments, figures) in runs {
            let (code, output, errors) = try runProgram("pop-bench", arguments)
            #expect(code == 0, "\(arguments): \(errors)")
            for line in output.split(separator: "\n") {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                #expect(object?["failures"] as? Int == 0)
                for figure in figures { #expect(object?[figure] != nil, "\(figure) in \(line)") }
            }
            #expect(!output.isEmpty)
        }
    }

    @Test func connectionsThatWereNotMadeAreNotCounted() throws {
        // Without a device, each client gives up after some refusals, whatever its share is.
        let fixture = try Fixture()
        let arguments = ["--ingress", "127.0.0.1:\(fixture.ingressPort)", "-o", "json"]
        let (code, output, _) = try runProgram(
            "pop-bench", ["churn", "--count", "50", "--parallel", "4"] + arguments)
        #expect(code == 1)
        let object = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
        #expect(object?["failures"] as? Int == 50)
        #expect(object?["rate_per_second"] as? Double == 0)
    }

    @Test func whatCannotBeMeasuredIsAFailureAndWrongUsageIsTold() throws {
        let port = try unusedPort()
        #expect(try runProgram("pop-bench", ["latency", "--ingress", "127.0.0.1:\(port)"]).code == 1)
        for arguments in [
            ["latency", "--ingress", "nowhere"], ["churn", "--parallel", "0"], ["fleet"],
            ["fleet", "--pop", "http://x"], ["udp", "--rate", "0"], ["bulk", "--connections", "0"],
        ] {
            #expect(try runProgram("pop-bench", arguments).code == 64, "\(arguments)")
        }
    }
}
