package import Domain

/// A timer of one loop: arm, re-arm and cancel at will; it fires once for each arming.
package final class LoopTimer {
    fileprivate let fire: () -> Void
    private let heap: TimerHeap
    fileprivate var deadline = Instant.distantFuture
    fileprivate var position = -1
    /// Whether it was taken out of the heap to fire in the current batch and has not fired yet.
    fileprivate var isDue = false

    init(heap: TimerHeap, fire: @escaping () -> Void) {
        self.heap = heap
        self.fire = fire
    }

    package var isArmed: Bool { position >= 0 }

    /// When the timer will fire; nil when it is not armed.
    package var armedDeadline: Instant? { isArmed ? deadline : nil }

    /// Fires at `deadline`, in the first batch at or after it; replaces an earlier arming.
    /// An armed timer is held by its loop.
    package func arm(at deadline: Instant) {
        isDue = false
        if deadline == .distantFuture {
            cancel()
        } else {
            heap.set(self, deadline)
        }
    }

    /// The timer does not fire any more, not even when its deadline has passed in this batch.
    package func cancel() {
        isDue = false
        heap.remove(self)
    }
}

/// A binary heap of armed timers, each of which knows its place.
final class TimerHeap {
    private var items: [LoopTimer] = []
    /// How late the first timer of each batch was.
    private(set) var lag = Distribution(.turns)

    var count: Int { items.count }
    var earliest: Instant? { items.first?.deadline }

    func set(_ timer: LoopTimer, _ deadline: Instant) {
        if timer.position < 0 {
            timer.deadline = deadline
            timer.position = items.count
            items.append(timer)
            siftUp(timer.position)
            return
        }
        let previous = timer.deadline
        timer.deadline = deadline
        if deadline < previous {
            siftUp(timer.position)
        } else if deadline > previous {
            siftDown(timer.position)
        }
    }

    func remove(_ timer: LoopTimer) {
        let hole = timer.position
        guard hole >= 0 else { return }
        timer.position = -1
        let last = items.removeLast()
        guard last !== timer else { return }
        items[hole] = last
        last.position = hole
        siftUp(hole)
        siftDown(last.position)
    }

    /// Fires what is due at `now`; a timer that re-arms itself for `now` or before fires in the next batch.
    ///
    /// - Parameter previous: when the batch before was taken: what was due then was armed since, too late to
    ///   be kept.
    func fireDue(at now: Instant, previous: Instant) {
        guard let first = items.first, first.deadline <= now else { return }
        lag.note(now - max(first.deadline, previous))
        var due: [LoopTimer] = []
        while let timer = items.first, timer.deadline <= now {
            remove(timer)
            timer.isDue = true
            due.append(timer)
        }
        // One that fires may cancel or re-arm another one: what it decides holds.
        for timer in due where timer.isDue {
            timer.isDue = false
            timer.fire()
        }
    }

    /// Forgets all timers: they and the heap hold each other.
    func removeAll() {
        for timer in items { timer.position = -1 }
        items = []
    }

    private func siftUp(_ start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            guard items[child].deadline < items[parent].deadline else { return }
            swap(child, parent)
            child = parent
        }
    }

    private func siftDown(_ start: Int) {
        var parent = start
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < items.count {
                if items[child].deadline < items[smallest].deadline { smallest = child }
            }
            guard smallest != parent else { return }
            swap(parent, smallest)
            parent = smallest
        }
    }

    private func swap(_ first: Int, _ second: Int) {
        items.swapAt(first, second)
        items[first].position = first
        items[second].position = second
    }
}
