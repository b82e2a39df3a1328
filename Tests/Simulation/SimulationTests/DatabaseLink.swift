import ClusterModel
import Domain

/// One connection of a node to the database: answers come in the order of the questions, later, or not at all. What
/// was on its way when the connection broke may be done all the same, later than the node has given it up.
final class DatabaseLink {
    private unowned let world: World
    private unowned let node: SimulatedNode
    private(set) var isOpen = false
    private var generation = 0
    private var lastArrival: Int64 = 0
    private var waiting: [Int: () -> Void] = [:]
    private var lastQuestion = 0
    private let opened: () -> Void
    private let lost: () -> Void

    init(
        _ world: World, _ node: SimulatedNode, opened: @escaping () -> Void, lost: @escaping () -> Void
    ) {
        self.world = world
        self.node = node
        self.opened = opened
        self.lost = lost
    }

    /// Tries until there is a way.
    func connect() {
        world.after(world.random(50...2_500) * millisecond) { [self] in
            node.run { [self] in
                guard !isOpen else { return }
                guard world.isReachable(node) else { return connect() }
                isOpen = true
                generation += 1
                lastArrival = world.now
                opened()
            }
        }
    }

    /// The way is gone; the node notices later, and connects again.
    func breakDown() {
        guard isOpen else { return }
        let broken = generation
        generation += 1
        world.after(world.random(0...1_500) * millisecond) { [self] in
            node.run { [self] in
                guard isOpen, generation == broken + 1 else { return }
                close()
                lost()
                connect()
            }
        }
    }

    /// With the process.
    func close() {
        isOpen = false
        let unanswered = waiting.sorted { $0.key < $1.key }.map(\.value)
        waiting = [:]
        for answer in unanswered { answer() }
    }

    func ask<Value>(
        _ question: @escaping (inout ModelDatabase, Int64) -> Value, _ answer: @escaping (Value?) -> Void
    ) {
        guard isOpen else { return answer(nil) }
        lastQuestion += 1
        let (number, asked) = (lastQuestion, generation)
        waiting[number] = { answer(nil) }
        lastArrival = max(lastArrival + 1, world.now + world.latency())
        world.at(lastArrival) { [self] in
            guard generation == asked, world.isReachable(node) else {
                // Half of what was on its way is done yet, by a server that has not noticed.
                if !world.isDatabaseDown, world.chance(50) {
                    world.after(world.random(0...2_000) * millisecond) { [self] in
                        if !world.isDatabaseDown { _ = world.transact(question) }
                    }
                }
                return
            }
            let value = world.transact(question)
            world.after(world.latency()) { [self] in
                node.run { [self] in
                    guard isOpen, generation == asked, waiting.removeValue(forKey: number) != nil else {
                        return
                    }
                    answer(value)
                }
            }
        }
    }
}
