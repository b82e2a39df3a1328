import Domain
import Membership
import Testing

@Suite final class LeaseKeeperTests {
    private var keeper = LeaseKeeper()
    private var now = Instant(nanoseconds: 1_000_000_000_000)
    private var term: Int64 = 1
    private var isLost = false
    /// By how much the database's clock is ahead of this one.
    private var lead = Duration.seconds(1_000)

    /// Lets the time pass, with a database that answers at once; what was ordered, and the news.
    private func pass(_ seconds: Int) -> (orders: [LeaseKeeper.Order], news: [LeaseNews]) {
        let end = now + .seconds(seconds)
        var orders: [LeaseKeeper.Order] = []
        var news: [LeaseNews] = []
        while keeper.nextDeadline <= end {
            now = max(now, keeper.nextDeadline)
            for order in keeper.expire(at: now) {
                orders.append(order)
                switch order {
                case .renew: if let told = renew() { news.append(told) }
                case .look: keeper.looked(hasMore: false, at: now)
                }
            }
        }
        now = end
        return (orders, news)
    }

    private func expire() -> [LeaseKeeper.Order] { keeper.expire(at: now) }

    private func renew() -> LeaseNews? {
        let time = WallTime(microseconds: Int64((now + lead).nanoseconds / 1_000))
        return keeper.renewed(LeaseAnswer(time: time, term: term, isLost: isLost), sentAt: now, at: now)
    }

    @Test func itRenewsEveryTwoSecondsAndLooksAfterAWholeLease() {
        keeper.opened(at: now)
        let (orders, news) = pass(9)
        #expect(orders == Array(repeating: .renew, count: 5))
        #expect(news == [.connected])
        #expect(pass(11).orders.filter { $0 == .look }.count == 4)
    }

    @Test func nothingIsOrderedWithoutAConnection() {
        keeper.opened(at: now)
        _ = pass(20)
        keeper.closed()
        #expect(!keeper.isHeld)
        #expect(pass(60).orders.isEmpty)
    }

    @Test func afterAReconnectOthersHaveAWholeLeaseToComeBack() {
        keeper.opened(at: now)
        _ = pass(30)
        keeper.closed()
        _ = pass(60)
        keeper.opened(at: now)
        let (orders, news) = pass(9)
        #expect(!orders.contains(.look))
        #expect(news == [.connected])
        #expect(pass(2).orders.contains(.look))
    }

    @Test func aPausedProcessDoesNotJudgeBeforeItHasRenewedForAWholeLease() {
        keeper.opened(at: now)
        _ = pass(30)
        now = now + .seconds(60)
        #expect(!expire().contains(.look))
        _ = renew()
        #expect(!pass(9).orders.contains(.look))
        #expect(pass(2).orders.contains(.look))
    }

    @Test func afterTheDatabasesClockWasSetOthersHaveAWholeLease() {
        keeper.opened(at: now)
        _ = pass(30)
        lead = .seconds(1_060)
        #expect(pass(2).orders.filter { $0 == .look }.count <= 1)
        #expect(!pass(7).orders.contains(.look))
        #expect(pass(4).orders.contains(.look))
    }

    @Test func aLossIsToldOnceATermAndAgainAfterAReconnect() {
        keeper.opened(at: now)
        _ = pass(4)
        (isLost, term) = (true, 2)
        #expect(pass(6).news == [.lost(term: 2)])
        term = 3
        #expect(pass(6).news == [.lost(term: 3)])
        keeper.closed()
        keeper.opened(at: now)
        #expect(pass(6).news == [.lost(term: 3)])
        isLost = false
        #expect(pass(6).news.isEmpty)
        isLost = true
        #expect(pass(6).news == [.lost(term: 3)])
    }

    @Test func aNodeWithMoreToCloseIsLookedAtAtOnce() {
        keeper.opened(at: now)
        _ = pass(30)
        keeper.looked(hasMore: true, at: now)
        #expect(keeper.nextDeadline == now)
        #expect(expire() == [.look])
        // Not again before there is an answer, or it is too late for one.
        #expect(keeper.nextDeadline > now)
    }
}
