internal import Domain
package import EventLoop

/// Notices what was changed at other nodes, or by hand, by looking at the revisions about every second.
package final class RevisionWatch {
    /// What is changed anywhere takes effect here within two seconds (with the time that asking takes).
    private static let interval = Duration.seconds(1)
    /// Until the first look has succeeded, so that a node that starts knows who is kept out before many come.
    private static let firstInterval = Duration.milliseconds(50)

    private let loop: EventLoop
    private unowned let store: any StorePort
    private let noticed: (Revisions) -> Void
    private var timer: LoopTimer?
    private var hasSucceeded = false

    /// - Parameter noticed: called with each look that succeeds, whether or not anything has changed.
    package init(on loop: EventLoop, store: any StorePort, noticed: @escaping (Revisions) -> Void) {
        self.loop = loop
        self.store = store
        self.noticed = noticed
        timer = loop.makeTimer { [weak self] in self?.look() }
        timer?.arm(at: loop.now)
    }

    deinit {
        timer?.cancel()
    }

    private func look() {
        store.ask(.revisions) { [weak self] result in
            guard let self else { return }
            if case .success(.revisions(let revisions)) = result {
                hasSucceeded = true
                noticed(revisions)
            }
            timer?.arm(at: loop.now + (hasSucceeded ? Self.interval : Self.firstInterval))
        }
    }
}
