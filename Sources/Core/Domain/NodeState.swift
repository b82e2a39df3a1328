/// What a node takes on; raw values are the words in SQL and JSON.
package enum NodeState: String, Sendable, Hashable, CaseIterable {
    /// Takes devices and conns.
    case active
    /// Takes nothing new, by an operator's wish; what it holds is not touched.
    case cordoned
    /// Its devices are being moved to other nodes.
    case draining
    /// Drained: it holds nothing and takes nothing.
    case drained
    /// Stopped, or its lease has run out.
    case down
}
