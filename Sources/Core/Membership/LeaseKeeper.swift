package import Domain

/// What the database says when a lease is renewed.
package struct LeaseAnswer: Sendable, Hashable {
    /// By the database's clock, when it answered.
    package var time: WallTime
    /// Counts up whenever others have closed sessions of this node.
    package var term: Int64
    /// They did, and what lives here has not been opened again since.
    package var isLost: Bool

    package init(time: WallTime, term: Int64, isLost: Bool) {
        self.time = time
        self.term = term
        self.isLost = isLost
    }
}

/// When what this node has on record must be looked at, session by session.
package enum LeaseNews: Sendable, Hashable {
    /// The database is there again; others may have taken devices meanwhile.
    case connected
    /// The node was declared lost.
    case lost(term: Int64)
}

/// Keeps a node's lease, and says when to look for nodes that have lost theirs.
///
///     no connection --opened--> renewing every 2 s --10 s without a gap--> renewing, and looking every 3 s
///          ^                         |    ^                                    |
///          +--------- closed --------+    +----- a gap, or the clock was set --+
///
/// - A lease is 10 s long and is judged by the database's clock alone.
/// - While the database is away no lease is renewed, and when it is back all look old, or the clock is another
///   server's. So a node judges others only after a whole lease of renewals of its own: by then whoever lives has
///   renewed, too.
package struct LeaseKeeper: Sendable {
    package static let length = Duration.seconds(10)
    package static let renewalInterval = Duration.seconds(2)
    package static let lookInterval = Duration.seconds(3)
    /// A question without an answer is asked again after this.
    package static let patience = Duration.seconds(5)

    package enum Order: Sendable, Hashable {
        case renew
        case look
    }

    package private(set) var clock = DatabaseClock()
    /// When the lease was last renewed.
    package private(set) var renewedAt: Instant?
    private var isConnected = false
    /// Since when renewals have followed each other; nil before the first one of a connection.
    private var heldSince: Instant?
    private var toldTerm: Int64?
    private var nextRenewal = Instant.distantFuture
    private var nextLook = Instant.distantFuture

    package init() {}

    /// Whether the lease has been renewed over the present connection.
    package var isHeld: Bool { heldSince != nil }

    package mutating func opened(at now: Instant) {
        isConnected = true
        heldSince = nil
        nextRenewal = now
        nextLook = .distantFuture
    }

    package mutating func closed() {
        isConnected = false
        heldSince = nil
        nextRenewal = .distantFuture
        nextLook = .distantFuture
    }

    package var nextDeadline: Instant { min(nextRenewal, nextLook) }

    /// What is due.
    package mutating func expire(at now: Instant) -> [Order] {
        guard isConnected else { return [] }
        var orders: [Order] = []
        if nextRenewal <= now {
            nextRenewal = now + Self.renewalInterval
            orders.append(.renew)
        }
        if nextLook <= now {
            nextLook = now + Self.patience
            // After a pause of this process the look must wait for its renewals.
            if let renewedAt, now - renewedAt < Self.length { orders.append(.look) }
        }
        return orders
    }

    package mutating func renewed(_ answer: LeaseAnswer, sentAt: Instant, at now: Instant) -> LeaseNews? {
        guard isConnected else { return nil }
        let wasSet = clock.note(answer.time, sentAt: sentAt, receivedAt: now)
        let hasGap = renewedAt.map { now - $0 >= Self.length } ?? true
        renewedAt = now
        let isFirst = heldSince == nil
        if isFirst || hasGap || wasSet {
            heldSince = now
            nextLook = now + Self.length
        }
        guard answer.isLost else {
            toldTerm = nil
            return isFirst ? .connected : nil
        }
        guard isFirst || toldTerm != answer.term else { return nil }
        toldTerm = answer.term
        return .lost(term: answer.term)
    }

    /// Others have been looked at.
    package mutating func looked(hasMore: Bool, at now: Instant) {
        guard isConnected, isHeld, nextLook != .distantFuture else { return }
        nextLook = now + (hasMore ? .zero : Self.lookInterval)
    }
}
