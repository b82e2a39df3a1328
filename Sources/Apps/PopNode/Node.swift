extension NodeActions {
    /// The node as it runs in production.
    package static var live: NodeActions {
        NodeActions(
            serve: { _ in throw NodeError.notComposed }, migrate: { _, _ in throw NodeError.notComposed })
    }
}

/// Why a node can't run.
package enum NodeError: Error {
    case notComposed
}
