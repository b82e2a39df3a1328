/// What will happen, in its order: virtual time in nanoseconds.
struct Timeline {
    private struct Item {
        let time: Int64
        let serial: Int
        let run: () -> Void

        static func < (lhs: Item, rhs: Item) -> Bool {
            lhs.time != rhs.time ? lhs.time < rhs.time : lhs.serial < rhs.serial
        }
    }

    private var heap: [Item] = []
    private var serial = 0
    private(set) var now: Int64 = 0

    mutating func at(_ time: Int64, _ run: @escaping () -> Void) {
        serial += 1
        heap.append(Item(time: max(time, now), serial: serial, run: run))
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// The next thing to happen until then; moves the time to it.
    mutating func next(until end: Int64) -> (() -> Void)? {
        guard let first = heap.first, first.time <= end else {
            now = max(now, end)
            return nil
        }
        now = first.time
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2]
                where child < heap.count && heap[child] < heap[least] {
                    least = child
                }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        return first.run
    }
}

let second: Int64 = 1_000_000_000
let millisecond: Int64 = 1_000_000
