import EventLoop
import TestKit
import Testing

@Suite struct LookupQueueTests {
    private func entry(_ number: UInt64, _ name: String) -> LookupQueue.Entry {
        LookupQueue.Entry(number: number, name: name)
    }

    /// A queue that can be used within expectations.
    private final class Queue {
        private var queue: LookupQueue

        init(threads: Int) {
            queue = LookupQueue(threads: threads)
        }

        var running: Int { queue.running }
        func add(_ entry: LookupQueue.Entry) -> Bool { queue.add(entry) }
        func cancel(_ number: UInt64) { queue.cancel(number) }
        func next() -> LookupQueue.Entry? { queue.next() }
        func ended(_ number: UInt64, isPrompt: Bool) { queue.ended(number, isPrompt: isPrompt) }

        func takeAll() -> [UInt64] {
            var numbers: [UInt64] = []
            while let entry = queue.next() { numbers.append(entry.number) }
            return numbers
        }
    }

    @Test(arguments: [
        ("example.com", "example.com"), ("a.b.Example.COM.", "example.com"), ("localhost", "localhost"),
        ("..", ""), ("", ""),
    ])
    func aZoneIsTheLastTwoLabels(name: String, zone: String) {
        #expect(LookupQueue.zone(name) == zone)
    }

    @Test func aZoneHasHalfOfTheThreadsAtMost() {
        let queue = Queue(threads: 8)
        for number in 1...20 { #expect(queue.add(entry(UInt64(number), "n\(number).slow.test"))) }
        #expect(queue.takeAll() == [1, 2, 3, 4])
        #expect(queue.add(entry(21, "other.test")))
        #expect(queue.next()?.number == 21)
        queue.ended(1, isPrompt: false)
        #expect(queue.takeAll() == [5])
    }

    @Test func zonesTakeTurns() {
        let queue = Queue(threads: 8)
        for number in 1...3 { #expect(queue.add(entry(UInt64(number), "n\(number).one.test"))) }
        #expect(queue.add(entry(4, "two.test")))
        #expect(queue.add(entry(5, "three.test")))
        #expect(queue.takeAll() == [1, 4, 5, 2, 3])
    }

    @Test func slowZonesLeaveThreadsToThoseThatAnswer() {
        let queue = Queue(threads: 8)
        #expect(queue.add(entry(1, "www.good.test")))
        #expect(queue.takeAll() == [1])
        queue.ended(1, isPrompt: true)
        for number in 2...40 { #expect(queue.add(entry(UInt64(number), "slow\(number).test"))) }
        #expect(queue.takeAll() == [2, 3, 4, 5, 6, 7])
        #expect(queue.add(entry(41, "api.good.test")))
        #expect(queue.next()?.number == 41)
        #expect(queue.running == 7)
        // A zone that has become slow is like the others.
        queue.ended(41, isPrompt: false)
        #expect(queue.add(entry(42, "good.test")))
        #expect(queue.next() == nil)
    }

    @Test func whatIsCancelledLeavesItsPlace() {
        let queue = Queue(threads: 1)
        for number in 0..<LookupQueue.zoneLimit {
            #expect(queue.add(entry(UInt64(number), "n\(number).slow.test")))
        }
        #expect(!queue.add(entry(1_000, "more.slow.test")))
        #expect(queue.add(entry(1_001, "other.test")))
        queue.cancel(7)
        #expect(queue.add(entry(1_002, "more.slow.test")))
        for number in 0..<LookupQueue.zoneLimit { queue.cancel(UInt64(number)) }
        queue.cancel(1_002)
        #expect(queue.takeAll() == [1_001])
        queue.cancel(1_001)
        queue.ended(1_001, isPrompt: true)
        #expect(queue.running == 0)
    }

    @Test func thereIsAnEndToWhatWaits() {
        let queue = Queue(threads: 1)
        for number in 0..<LookupQueue.waitingLimit {
            #expect(queue.add(entry(UInt64(number), "zone\(number).test")))
        }
        #expect(!queue.add(entry(.max, "one.too.many.test")))
        #expect(queue.next() != nil)
        #expect(queue.add(entry(.max, "one.too.many.test")))
    }

    /// Any order of calls leaves the counts right: all that was added and not cancelled is looked up once.
    @Test func everyNameHasItsTurn() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<200 {
            let queue = Queue(threads: Int.random(in: 1...9, using: &random))
            var waiting: Set<UInt64> = []
            var running: Set<UInt64> = []
            var number: UInt64 = 0
            for _ in 0..<300 {
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    number += 1
                    #expect(queue.add(entry(number, "n.zone\(number % 7).test")))
                    waiting.insert(number)
                case 1:
                    if let entry = queue.next() {
                        #expect(waiting.remove(entry.number) != nil)
                        running.insert(entry.number)
                    }
                case 2:
                    if let ended = running.randomElement(using: &random) {
                        running.remove(ended)
                        queue.ended(ended, isPrompt: Bool.random(using: &random))
                    }
                default:
                    let one = UInt64.random(in: 0...number, using: &random)
                    queue.cancel(one)
                    waiting.remove(one)
                }
                #expect(queue.running == running.count, "seed \(random.seed)")
            }
            while !waiting.isEmpty || !running.isEmpty {
                let before = waiting.count + running.count
                while let entry = queue.next() {
                    #expect(waiting.remove(entry.number) != nil)
                    running.insert(entry.number)
                }
                if let ended = running.popFirst() { queue.ended(ended, isPrompt: false) }
                guard waiting.count + running.count < before else {
                    Issue.record("nothing moves")
                    return
                }
            }
            #expect(queue.next() == nil)
        }
    }
}
