internal import Domain

/// The conns that wait for their device, by when it must have answered: a binary heap in which each conn knows its
/// place.
struct OpenDeadlines {
    private var items: [Conn] = []

    /// The one whose time is up first.
    var first: Conn? { items.first }

    mutating func add(_ conn: Conn) {
        conn.placeInQueue = items.count
        items.append(conn)
        siftUp(conn.placeInQueue)
    }

    /// Does nothing when it is not there.
    mutating func remove(_ conn: Conn) {
        let hole = conn.placeInQueue
        guard hole >= 0 else { return }
        conn.placeInQueue = -1
        let last = items.removeLast()
        guard last !== conn else { return }
        items[hole] = last
        last.placeInQueue = hole
        siftUp(hole)
        siftDown(last.placeInQueue)
    }

    private mutating func siftUp(_ start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            guard items[child].deadline < items[parent].deadline else { return }
            exchange(child, parent)
            child = parent
        }
    }

    private mutating func siftDown(_ start: Int) {
        var parent = start
        while true {
            var smallest = parent
            for child in 2 * parent + 1...2 * parent + 2 where child < items.count {
                if items[child].deadline < items[smallest].deadline { smallest = child }
            }
            guard smallest != parent else { return }
            exchange(parent, smallest)
            parent = smallest
        }
    }

    private mutating func exchange(_ first: Int, _ second: Int) {
        items.swapAt(first, second)
        items[first].placeInQueue = first
        items[second].placeInQueue = second
    }
}
