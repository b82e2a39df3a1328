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

    /// The id at a place of the heap's array, for draws by lot.
    func id(at place: Int) -> ID { items[place].id }

    /// The first that is none of `excluded`, which are few: each costs a look at two more.
    func first(except excluded: [ID]) -> ID? {
        guard !excluded.isEmpty else { return first?.id }
        var open = [0]
        var best: (id: ID, key: Key)?
        while let place = open.popLast() {
            guard place < items.count else { continue }
            let item = items[place]
            if let best, !(item.key < best.key) { continue }
            if excluded.contains(item.id) {
                open += [2 * place + 1, 2 * place + 2]
            } else {
                best = item
            }
        }
        return best?.id
    }

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
