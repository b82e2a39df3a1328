package import Domain

/// Sees to it that what lives on this node is on record as what it is.
///
/// Sessions are claimed, so many at a time: all of them when the database was away or the node was declared lost,
/// and those that began while nobody could put them on record in time. The database opens their rows, gives them
/// their devices, or says who has come later. A claim is of the moment: who makes it looks which of the sessions
/// still live, and what could not be claimed is claimed anew, never repeated.
///
/// A node that was lost is `down` until the last of its claims is done; then it takes its lease again, unless it
/// was lost once more (another term), when all begins again.
package struct SessionClaims: Sendable {
    package enum Order: Sendable, Hashable {
        /// Claim those of these that live.
        case claim([SessionID])
        /// All has been claimed since this term began.
        case regain(term: Int64)
    }

    /// So many are a few milliseconds for the database.
    package static let claimsAtOnce = 1_000
    package static let retryPause = Duration.seconds(1)

    private var waiting: [SessionID] = []
    private var lostTerm: Int64?
    private var order: Order?
    private var retryAt: Instant?

    package init() {}

    /// Whether nothing is to be claimed.
    package var isIdle: Bool { waiting.isEmpty && lostTerm == nil && order == nil }

    /// - Parameter live: all sessions that live here.
    package mutating func begin(_ news: LeaseNews, live: [SessionID]) {
        waiting = live
        retryAt = nil
        if case .lost(let term) = news { lostTerm = term } else { lostTerm = nil }
    }

    /// These began and were not put on record in time.
    package mutating func add(_ sessions: [SessionID]) {
        waiting += sessions
    }

    /// What to do now; nil while something is being done, or nothing is to be.
    package mutating func next(at now: Instant) -> Order? {
        guard order == nil, retryAt.map({ $0 <= now }) ?? true else { return nil }
        retryAt = nil
        if !waiting.isEmpty {
            order = .claim(Array(waiting.prefix(Self.claimsAtOnce)))
            waiting.removeFirst(min(Self.claimsAtOnce, waiting.count))
        } else if let lostTerm {
            order = .regain(term: lostTerm)
        }
        return order
    }

    /// When ``next(at:)`` is to be asked again without anything else having happened.
    package var nextDeadline: Instant { order == nil ? retryAt ?? .distantFuture : .distantFuture }

    package mutating func succeeded() {
        if case .regain(let term) = order, term == lostTerm { lostTerm = nil }
        order = nil
    }

    package mutating func failed(at now: Instant) {
        if case .claim(let sessions) = order { waiting = sessions + waiting }
        order = nil
        retryAt = now + Self.retryPause
    }
}
