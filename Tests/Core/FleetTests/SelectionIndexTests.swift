import DeviceProtocol
import Domain
import TestKit
import Testing

@testable import Fleet

@Suite struct SelectionIndexTests {
    private static let places = ["eu-west", "eu_west", "us", "a-b-c"]
    private static let tags = ["x", "y-z", "w"]
    private static let limits = SelectionIndex.Limits(
        smallestView: 4, maximumViews: 3, rememberedFilters: 8, picksUntilHalved: 50)

    private static func registration(
        _ number: Int, _ location: String, _ tags: [String], _ capabilities: [String] = ["tcp"]
    ) throws -> Registration {
        try Registration(
            RegisterRequest(
                deviceID: "d-\(number)", location: location, tags: tags, capabilities: capabilities))
    }

    private static func session(_ number: Int) -> SessionID { SessionID(high: 1, low: UInt64(number)) }

    private static func rank(_ primary: UInt64, _ lastPick: UInt64) -> SelectionRank {
        SelectionRank(primary: primary, lastPick: lastPick)
    }

    /// Sessions of one place with a tag each, all of which take conns.
    private static func index(of count: Int, _ limits: SelectionIndex.Limits) throws -> SelectionIndex {
        var index = SelectionIndex(limits: limits)
        for number in 0..<count {
            index.update(
                session(number), try registration(number, "eu", ["t\(number)"]),
                rank: rank(0, UInt64(number)))
        }
        return index
    }

    /// Whatever comes and goes, and whichever filters have views, what fits is what a look at all finds.
    @Test func candidatesAgreeWithALookAtAll() throws {
        var random = SeededRandom.ofEnvironment()
        var index = SelectionIndex(limits: Self.limits)
        var model: [Int: (registration: Registration, rank: SelectionRank?)] = [:]
        var mostViews = 0
        for step in 0..<6_000 {
            let number = Int.random(in: 0..<40, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0:
                model[number] = nil
                index.remove(Self.session(number))
            case 1, 2, 3:
                let known = Bool.random(using: &random) ? model[number]?.registration : nil
                let registration =
                    try known
                    ?? Self.registration(
                        number, Self.places.randomElement(using: &random) ?? "",
                        Self.tags.filter { _ in Bool.random(using: &random) },
                        Bool.random(using: &random) ? ["tcp", "udp"] : ["tcp"])
                let rank =
                    UInt8.random(in: 0..<4, using: &random) == 0
                    ? nil : Self.rank(UInt64.random(in: 0..<3, using: &random), UInt64(step))
                model[number] = (registration, rank)
                index.update(Self.session(number), registration, rank: rank)
            default:
                let filter = Self.filter(using: &random)
                let fitting = model.filter { filter.fits(DeviceTraits($0.value.registration)) }
                    .compactMap { number, entry in entry.rank.map { (Self.session(number), $0) } }
                    .sorted { $0.1 < $1.1 }.map(\.0)
                let candidates = index.candidates(fitting: filter)
                let place = "POP_TEST_SEED=\(random.seed), step \(step), \(filter)"
                #expect(candidates.count == fitting.count, "\(place)")
                #expect(candidates.first() == fitting.first, "\(place)")
                #expect(
                    candidates.first(except: Array(fitting.prefix(2))) == fitting.dropFirst(2).first,
                    "\(place)")
                #expect(
                    Set((0..<candidates.count).map { candidates.id(at: $0) }) == Set(fitting), "\(place)")
                mostViews = max(mostViews, index.viewCount)
            }
        }
        #expect(mostViews == Self.limits.maximumViews)
    }

    private static func filter(using random: inout SeededRandom) -> DeviceFilter {
        let written = (places + ["mars"]).map(folded)
        return DeviceFilter(
            location: Bool.random(using: &random) ? written.randomElement(using: &random) : nil,
            tags: Set(tags.map(folded).filter { _ in UInt8.random(in: 0..<3, using: &random) == 0 }),
            allowedLocations: UInt8.random(in: 0..<3, using: &random) == 0
                ? Set((places + ["mars"]).filter { _ in Bool.random(using: &random) }) : [],
            needsDatagrams: UInt8.random(in: 0..<3, using: &random) == 0)
    }

    @Test func aFilterGetsAViewWhenItIsAskedForAgain() throws {
        var index = try Self.index(of: 10, Self.limits)
        let filter = DeviceFilter(location: "eu")
        _ = index.candidates(fitting: filter)
        #expect(index.viewCount == 0)
        _ = index.candidates(fitting: filter)
        #expect(index.viewCount == 1)
    }

    @Test func whatFewSessionsHaveGetsNone() throws {
        var index = try Self.index(of: 10, Self.limits)
        for _ in 0..<5 {
            let candidates = index.candidates(fitting: DeviceFilter(tags: ["t1"]))
            #expect(candidates.first() == Self.session(1))
        }
        #expect(index.viewCount == 0)
    }

    /// A client that asks for something else each time takes no view from those who ask for the same.
    @Test func aViewGivesWayOnlyToWhatIsAskedForMoreOften() throws {
        var index = SelectionIndex(limits: Self.limits)
        for number in 0..<10 {
            index.update(
                Self.session(number), try Self.registration(number, "eu", (0..<30).map { "t\($0)" }),
                rank: Self.rank(0, UInt64(number)))
        }
        let steady = (0..<3).map { DeviceFilter(tags: ["t\($0)"]) }
        for _ in 0..<8 { for filter in steady { _ = index.candidates(fitting: filter) } }
        for number in 3..<30 {
            for _ in 0..<4 { _ = index.candidates(fitting: DeviceFilter(tags: ["t\(number)"])) }
            for filter in steady { _ = index.candidates(fitting: filter) }
        }
        #expect(index.viewCount == 3)
        #expect(steady.allSatisfy(index.hasView))
    }

    @Test func datagramsAreAFilterLikeAnyOther() throws {
        var index = try Self.index(of: 10, Self.limits)
        index.update(
            Self.session(99), try Self.registration(99, "eu", [], ["tcp", "udp"]), rank: Self.rank(9, 9))
        let filter = DeviceFilter(needsDatagrams: true)
        #expect(!filter.isEmpty)
        let able = index.candidates(fitting: filter)
        #expect(able.count == 1 && able.first() == Self.session(99))
        index.update(Self.session(99), try Self.registration(99, "eu", []), rank: Self.rank(9, 9))
        let none = index.candidates(fitting: filter)
        #expect(none.count == 0)
    }
}
