/// A binary heap of ids ordered by a key, which finds any id in constant time: changing a key and removing
/// an id take O(log n).
struct IndexedHeap<ID: Hashable, Key: Comparable> {
    private var items: [(id: ID, key: Key)] = []
    private var positions: [ID: Int] = [:]

    var first: (id: ID, key: Key)? { items.first }
    var count: Int { items.count }
    var isEmpty: Bool { items.isEmpty }
    /// All ids, in no order.
    var ids: [ID] { items.map(\.id) }

    func key(of id: ID) -> Key? {
        positions[id].map { items[$0].key }
    }

    /// Adds `id`, or gives it another key.
    mutating func set(_ id: ID, _ key: Key) {
        guard let position = positions[id] else {
            items.append((id, key))
            positions[id] = items.count - 1
            siftUp(items.count - 1)
            return
        }
        let previous = items[position].key
        items[position].key = key
        if key < previous {
            siftUp(position)
        } else {
            siftDown(position)
        }
    }

    mutating func remove(_ id: ID) {
        guard let hole = positions.removeValue(forKey: id) else { return }
        let last = items.removeLast()
        guard hole < items.count else { return }
        items[hole] = last
        positions[last.id] = hole
        siftUp(hole)
        siftDown(positions[last.id] ?? hole)
    }

    private mutating func siftUp(_ start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            guard items[child].key < items[parent].key else { return }
            exchange(child, parent)
            child = parent
        }
    }

    private mutating func siftDown(_ start: Int) {
        var parent = start
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < items.count {
                if items[child].key < items[smallest].key { smallest = child }
            }
            guard smallest != parent else { return }
            exchange(smallest, parent)
            parent = smallest
        }
    }

    private mutating func exchange(_ first: Int, _ second: Int) {
        items.swapAt(first, second)
        positions[items[first].id] = first
        positions[items[second].id] = second
    }
}
