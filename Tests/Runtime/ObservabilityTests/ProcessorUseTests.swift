import Observability
import Testing

struct ProcessorUseTests {
    @Test func `a process's times are found behind whatever name it has`() {
        let line = "42 (a) b (c) 7) S 17 42 42 0 -1 4194560 1 2 3 4 50 6 700 80 20 0 1 0 99 1 1"
        let ticks = ProcessTicks(parsing: line)
        #expect(ticks?.parent == 17)
        #expect(ticks?.own == 56)
        #expect(ticks?.ofEndedChildren == 780)
        for text in ["", "42 (x", "42 (x) S 1", "42 (x) S 1 2 3 4 5 6 7 8 9 10 a b c d e"] {
            #expect(ProcessTicks(parsing: text) == nil)
        }
    }
}
