import Domain
import Testing

@Suite struct TimeTests {
    @Test(arguments: [
        (Int64(0), "1970-01-01T00:00:00.000Z"), (1_769_850_300_120, "2026-01-31T09:05:00.120Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"), (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ])
    func `RFC 3339 both ways`(milliseconds: Int64, text: String) {
        #expect(WallTime(milliseconds: milliseconds).rfc3339 == text)
        #expect(WallTime(rfc3339: text)?.milliseconds == milliseconds)
    }

    @Test func `fractions, offsets and small letters`() {
        #expect(WallTime(rfc3339: "1970-01-01t01:00:00.5+01:00")?.microseconds == 500_000)
        #expect(WallTime(rfc3339: "1969-12-31T23:30:00-00:30")?.microseconds == 0)
        #expect(WallTime(rfc3339: "1970-01-01T00:00:00.1234567z")?.microseconds == 123_456)
        #expect(WallTime(rfc3339: "2016-12-31T23:59:60Z") == WallTime(rfc3339: "2017-01-01T00:00:00Z"))
    }

    @Test(arguments: [
        "", "2026-01-31", "2026-01-31 09:05:00Z", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00Z ",
        "+2026-01-01T00:00:00Z", "2026-01-01T00:00:00+24:00",
    ])
    func `what is no RFC 3339 time`(text: String) {
        #expect(WallTime(rfc3339: text) == nil)
    }

    @Test(arguments: [
        ("1970-01-01 00:00:00+00", Int64(0)), ("2026-01-31 09:05:00.12+00", 1_769_850_300_120_000),
        ("2026-01-31 09:05:00.120345+00", 1_769_850_300_120_345),
    ])
    func `times of SQL in UTC`(text: String, microseconds: Int64) {
        #expect(WallTime(sqlUTC: text)?.microseconds == microseconds)
    }

    @Test(arguments: [
        "", "infinity", "-infinity", "2026-01-31 09:05:00", "2026-01-31 09:05:00+01",
        "2026-01-31T09:05:00+00",
        "2026-01-31 09:05:00+00 BC", "2026-02-30 09:05:00+00", "2026-01-31 09:05:00+00:00",
        "12026-01-31 09:05:00+00",
    ])
    func `what is no time of SQL in UTC`(text: String) {
        #expect(WallTime(sqlUTC: text) == nil)
    }

    @Test func `the date of HTTP`() {
        #expect(WallTime(milliseconds: 784_111_777_000).imfFixdate == "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(WallTime(milliseconds: 0).imfFixdate == "Thu, 01 Jan 1970 00:00:00 GMT")
        #expect(WallTime(milliseconds: -1).imfFixdate == "Wed, 31 Dec 1969 23:59:59 GMT")
    }

    @Test func `times at the ends of their range have a text`() {
        for time in [
            WallTime(milliseconds: .min), WallTime(milliseconds: .max), WallTime(microseconds: .min),
        ] {
            #expect(!time.rfc3339.isEmpty && !time.imfFixdate.isEmpty)
            #expect(abs(time.milliseconds) >= 9_223_372_036_854_775)
        }
    }

    @Test func `instants saturate at both ends`() {
        let instant = Instant(nanoseconds: 1_000)
        #expect(instant + .seconds(1) == Instant(nanoseconds: 1_000_001_000))
        #expect(instant + .seconds(-1) == Instant(nanoseconds: 0))
        #expect(Instant(nanoseconds: .max - 1) + .seconds(1) == .distantFuture)
        #expect(instant - Instant(nanoseconds: 3_000) == .nanoseconds(-2_000))
        #expect((Instant.distantFuture - instant).nanoseconds == .max)
        #expect((instant - Instant.distantFuture).nanoseconds == -.max)
        #expect(Duration.seconds(Int64.max / 2).nanoseconds == .max)
        #expect(Duration.seconds(-Int64.max / 2).nanoseconds == .min)
        #expect(Duration.microseconds(-1_500).milliseconds == -1)
    }
}
