internal import AllocationCount
internal import JSON
internal import Observability

/// One thing that a core does, to be done over and over.
struct CoreCase {
    let name: String
    /// What it reads or writes; nil where there is no such figure.
    let bytes: Int?
    /// Does it so many times, and answers how many times it was done as it should be.
    let run: (Int) -> Int
}

/// What the cores cost an operation: time of this thread, and calls for memory.
struct CoreBench {
    /// Milliseconds of each round; the cases are in memory and warm.
    let roundMilliseconds: Int
    let rounds: Int

    struct Result {
        let name: String
        let nanoseconds: Double
        let megabytesPerSecond: Double?
        let allocations: Double
        let allocatedBytes: Double
        let failures: Int
    }

    func run(_ cases: [CoreCase]) -> [Result] {
        cases.map(measure)
    }

    private func measure(_ core: CoreCase) -> Result {
        var failures = 0
        func timed(_ count: Int) -> UInt64 {
            let start = ProcessorUse.ofThisThread
            failures += count - core.run(count)
            return max(1, ProcessorUse.ofThisThread - start)
        }
        // Twice as many until a round is long enough to be cut to length.
        var count = 1
        var time = timed(count)
        while time < UInt64(roundMilliseconds) * 100_000, count < 1 << 30 {
            count *= 2
            time = timed(count)
        }
        count = max(1, Int(Double(count) * Double(roundMilliseconds) * 1e6 / Double(time)))
        let before = AllocationCount.ofThisThread
        _ = core.run(count)
        let after = AllocationCount.ofThisThread
        // The fastest round is the one with the least of other work beside it.
        let best = (0..<rounds).map { _ in timed(count) }.min() ?? time
        let nanoseconds = Double(best) / Double(count)
        return Result(
            name: core.name, nanoseconds: nanoseconds,
            megabytesPerSecond: core.bytes.map { Double($0) * 1_000 / nanoseconds },
            allocations: Double(after.calls - before.calls) / Double(count),
            allocatedBytes: Double(after.bytes - before.bytes) / Double(count), failures: failures)
    }
}

extension CoreBench.Result {
    var json: JSONValue {
        .object([
            JSONMember("core", .string(name)), JSONMember("ns_per_op", .double(nanoseconds)),
            JSONMember("mb_per_second", megabytesPerSecond.map { .double($0) } ?? .null),
            JSONMember("allocations_per_op", .double(allocations)),
            JSONMember("allocated_bytes_per_op", .double(allocatedBytes)),
            JSONMember("failures", .integer(Int64(failures))),
        ])
    }
}

extension [CoreBench.Result] {
    var json: JSONValue {
        .object([JSONMember("bench", .string("cores")), JSONMember("cores", .array(map(\.json)))])
    }

    var table: String {
        let head = ["core", "ns/op", "MB/s", "allocs/op", "bytes/op"]
        let rows = map { result in
            [
                result.name, Self.text(result.nanoseconds),
                result.megabytesPerSecond.map(Self.text) ?? "",
                Self.text(result.allocations), Self.text(result.allocatedBytes),
            ]
        }
        let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
        let lines = ([head] + rows).map { row in
            row.indices.map { column in
                let space = String(repeating: " ", count: widths[column] - row[column].count)
                return column == 0 ? row[column] + space : space + row[column]
            }.joined(separator: "  ")
        }
        return lines.joined(separator: "\n")
    }

    /// One place behind the point where it says something.
    private static func text(_ value: Double) -> String {
        value >= 100 ? "\(Int(value.rounded()))" : "\((value * 10).rounded() / 10)"
    }
}
