import Domain
import Membership
import Testing

/// Expectations can't call what changes a value.
private final class Claims {
    private var claims = SessionClaims()
    var isIdle: Bool { claims.isIdle }
    var nextDeadline: Instant { claims.nextDeadline }
    func begin(_ news: LeaseNews, live: [SessionID]) { claims.begin(news, live: live) }
    func add(_ sessions: [SessionID]) { claims.add(sessions) }
    func next(at now: Instant) -> SessionClaims.Order? { claims.next(at: now) }
    func succeeded() { claims.succeeded() }
    func failed(at now: Instant) { claims.failed(at: now) }
}

@Suite struct SessionClaimsTests {
    private let now = Instant(nanoseconds: 1_000_000_000_000)

    private func sessions(_ count: Int) -> [SessionID] {
        (0..<count).map { SessionID(high: 1, low: UInt64($0)) }
    }

    @Test func allThatLivesIsClaimedInStepsAndThenTheLeaseIsRegained() {
        let claims = Claims()
        let live = sessions(2_500)
        claims.begin(.lost(term: 7), live: live)
        var claimed: [SessionID] = []
        while let order = claims.next(at: now) {
            // One thing at a time.
            #expect(claims.next(at: now) == nil)
            switch order {
            case .claim(let some):
                #expect(some.count <= SessionClaims.claimsAtOnce)
                claimed += some
            case .regain(let term):
                #expect(term == 7)
                #expect(claimed == live)
            }
            claims.succeeded()
        }
        #expect(claimed == live)
        #expect(claims.isIdle)
    }

    @Test func afterAShortBreakNoLeaseIsRegained() {
        let claims = Claims()
        claims.begin(.connected, live: sessions(1))
        #expect(claims.next(at: now) == .claim(sessions(1)))
        claims.succeeded()
        #expect(claims.next(at: now) == nil)
        #expect(claims.isIdle)
    }

    @Test func whatFailedIsClaimedAnewAfterAPause() {
        let claims = Claims()
        claims.begin(.lost(term: 1), live: sessions(3))
        _ = claims.next(at: now)
        claims.failed(at: now)
        #expect(claims.next(at: now) == nil)
        let later = claims.nextDeadline
        #expect(later == now + SessionClaims.retryPause)
        #expect(claims.next(at: later) == .claim(sessions(3)))
        claims.succeeded()
        #expect(claims.next(at: later) == .regain(term: 1))
        claims.failed(at: later)
        #expect(claims.next(at: later + SessionClaims.retryPause) == .regain(term: 1))
    }

    @Test func lostOnceMoreItBeginsAgain() {
        let claims = Claims()
        claims.begin(.lost(term: 1), live: sessions(2))
        _ = claims.next(at: now)
        claims.succeeded()
        #expect(claims.next(at: now) == .regain(term: 1))
        claims.begin(.lost(term: 2), live: sessions(3))
        claims.succeeded()
        #expect(claims.next(at: now) == .claim(sessions(3)))
        claims.succeeded()
        #expect(claims.next(at: now) == .regain(term: 2))
    }

    @Test func sessionsThatBeganUnseenAreClaimed() {
        let claims = Claims()
        claims.add(sessions(2))
        #expect(claims.next(at: now) == .claim(sessions(2)))
        claims.succeeded()
        #expect(claims.next(at: now) == nil)
    }
}
