import Domain
import Membership
import Testing

/// Expectations can't call what changes a value.
private final class Clock {
    private var clock = DatabaseClock()
    func time(at instant: Instant) -> WallTime? { clock.time(at: instant) }
    func note(_ time: WallTime, sentAt: Instant, receivedAt: Instant) -> Bool {
        clock.note(time, sentAt: sentAt, receivedAt: receivedAt)
    }
}

@Suite struct DatabaseClockTests {
    private func at(_ milliseconds: Int64) -> Instant {
        Instant(nanoseconds: UInt64(1_000_000_000_000 + milliseconds * 1_000_000))
    }

    private func time(_ milliseconds: Int64) -> WallTime {
        WallTime(milliseconds: 1_700_000_000_000 + milliseconds)
    }

    @Test func itTellsNothingBeforeItHasHeard() {
        #expect(DatabaseClock().time(at: at(0)) == nil)
    }

    @Test func theTightestAnswerCounts() {
        let clock = Clock()
        // True: both at 0. Late answers are off by up to half of their round trip.
        #expect(!clock.note(time(90), sentAt: at(0), receivedAt: at(100)))
        #expect(clock.time(at: at(1_000)) == time(1_040))
        #expect(!clock.note(time(201), sentAt: at(200), receivedAt: at(202)))
        #expect(clock.time(at: at(1_000)) == time(1_000))
        #expect(!clock.note(time(490), sentAt: at(400), receivedAt: at(500)))
        #expect(clock.time(at: at(1_000)) == time(1_000))
    }

    @Test func anAgedBoundGivesWay() {
        let clock = Clock()
        _ = clock.note(time(1), sentAt: at(0), receivedAt: at(2))
        // The database's clock runs 40 ms fast in 1,000 s: 10 ms of slack are less than what may have gathered.
        let hour = Int64(1_000_000)
        #expect(!clock.note(time(hour + 50), sentAt: at(hour), receivedAt: at(hour + 20)))
        #expect(clock.time(at: at(hour)) == time(hour + 40))
    }

    @Test func aClockThatWasSetIsNoticed() {
        let clock = Clock()
        _ = clock.note(time(1), sentAt: at(0), receivedAt: at(2))
        #expect(clock.note(time(60_001), sentAt: at(2_000), receivedAt: at(2_002)))
        #expect(clock.time(at: at(2_001)) == time(60_001))
        #expect(!clock.note(time(62_001), sentAt: at(4_000), receivedAt: at(4_002)))
        #expect(clock.note(time(1_001), sentAt: at(6_000), receivedAt: at(6_002)))
        #expect(clock.time(at: at(6_001)) == time(1_001))
    }
}
