import Domain
import EventLoop
import Observability
import Testing

@Suite struct MachineLoadTests {
    @Test func utilizationIsTheShareOfTicksThatWereNotIdle() throws {
        let before = try #require(
            ProcessorTimes(parsing: "cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 2 3 4\n"))
        let after = try #require(ProcessorTimes(parsing: "cpu  150 0 125 850 75 0 0 0 90 0\n"))
        #expect(before.idle == 800)
        #expect(before.total == 1_000)
        #expect(after.utilization(since: before) == 0.375)
        #expect(before.utilization(since: after) == 0)
        #expect(after.utilization(since: after) == 0)
    }

    @Test(arguments: ["", "cpu", "cpu 1 2 3", "cpu 1 2 x 4", "intr 1 2 3 4 5", "cpu 1 2 3 -4"])
    func anythingElseIsNoProcessorLine(text: String) {
        #expect(ProcessorTimes(parsing: text) == nil)
    }

    @Test func memoryInUseIsWhatIsNotAvailable() throws {
        let figures = try #require(
            MemoryFigures(
                parsing: "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\nHugePages_Total: 0\n"))
        #expect(figures.totalBytes == 1_024_000)
        #expect(figures.usedBytes == 614_400)
        #expect(MemoryFigures(parsing: "MemTotal: 1 kB\n") == nil)
        #expect(MemoryFigures(parsing: "MemTotal: x kB\nMemAvailable: 18446744073709551615 kB") == nil)
    }

    @Test func theMachineItselfHasFigures() throws {
        let load = MachineLoad()
        let sample = load.sample(now: SystemClock.now)
        #expect((0...1).contains(sample.cpuUtilization))
        let memory = try #require(sample.memory)
        #expect(memory.totalBytes > memory.usedBytes)
    }
}
