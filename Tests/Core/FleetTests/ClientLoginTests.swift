import Domain
import Fleet
import TestKit
import Testing

@Suite struct ClientLoginTests {
    @Test func aWholeUserName() throws {
        let login = try #require(
            ClientLogin("alice-location-eu_west-tag-mobile-session-a1b2-device-dev7-tag-fast-lifetime-30"))
        #expect(login.user == "alice")
        #expect(login.wish.location == "eu_west")
        #expect(login.wish.tags == ["mobile", "fast"])
        #expect(login.wish.sticky == StickyWish(session: "a1b2", lifetime: .seconds(1_800)))
        #expect(login.wish.device == DeviceID("dev7"))
    }

    @Test func aPlainUserName() throws {
        #expect(ClientLogin("alice") == ClientLogin(user: "alice"))
        #expect(ClientLogin("") == ClientLogin(user: ""))
        #expect(try #require(ClientLogin("a-session-x")).wish.sticky?.lifetime == .seconds(600))
    }

    @Test(arguments: [
        "alice-", "alice-location", "alice-location-", "alice-location--tag-x", "alice-color-red",
        "alice-Location-eu", "alice-location-eu-location-us", "alice-device-a-device-a", "-location-eu",
        "alice-session-a-session-a", "alice-lifetime-0", "alice-lifetime-x", "alice-lifetime-43201",
        "alice-lifetime-+5", "alice-lifetime-5-lifetime-5", "alice-device-a b", "alice-device-\u{e9}",
        "alice-location-eu-", "--", "-", "alice-tag", "alice-lifetime-99999999999999999999",
        "alice-tag-" + String(repeating: "x", count: 65),
        "alice-location-" + String(repeating: "x", count: 129),
        "alice" + (0..<33).map { "-tag-t\($0)" }.joined(),
    ])
    func whatIsNotReadWholeIsNotReadAtAll(_ username: String) {
        #expect(ClientLogin(username) == nil)
    }

    /// What is written from parts is read as those parts, in any order of the keys.
    @Test func anyPartsInAnyOrder() {
        var random = SeededRandom.ofEnvironment()
        let letters = Array("abcXYZ0189._:@+ é")
        for _ in 0..<2_000 {
            func text(_ count: ClosedRange<Int>, _ letters: [Character]) -> String {
                String(
                    (0..<Int.random(in: count, using: &random)).map { _ in
                        letters.randomElement(using: &random) ?? "a"
                    })
            }
            let user = text(1...10, letters)
            var wish = DeviceWish()
            var parts: [String] = []
            if Bool.random(using: &random) {
                let location = text(1...20, letters)
                wish.location = location
                parts.append("location-\(location)")
            }
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let tag = text(1...10, letters)
                wish.tags.insert(tag)
                parts.append("tag-\(tag)")
            }
            if Bool.random(using: &random) {
                let device = text(1...20, Array("abZ09._:"))
                wish.device = DeviceID(device)
                parts.append("device-\(device)")
            }
            if Bool.random(using: &random) {
                let minutes = Int.random(in: StickyWish.lifetimeMinutes, using: &random)
                let session = text(1...20, letters)
                wish.sticky = StickyWish(session: session, lifetime: .seconds(60 * minutes))
                parts += ["session-\(session)", "lifetime-\(minutes)"]
            }
            parts.shuffle(using: &random)
            let username = ([user] + parts).joined(separator: "-")
            #expect(
                ClientLogin(username) == ClientLogin(user: user, wish: wish),
                "POP_TEST_SEED=\(random.seed) \(username)")
        }
    }

    /// Anything at all is read or refused, and what is read has no "-" left in it.
    @Test func anythingAtAll() {
        var random = SeededRandom.ofEnvironment()
        let words = ["alice", "location", "tag", "session", "lifetime", "device", "", "x", "7", "é", "-"]
        for _ in 0..<5_000 {
            let parts = (0..<Int.random(in: 0...9, using: &random)).map { _ in
                words.randomElement(using: &random) ?? ""
            }
            guard let login = ClientLogin(parts.joined(separator: "-")) else { continue }
            let values = [login.user, login.wish.location ?? "", login.wish.sticky?.session ?? ""]
            #expect(
                (values + login.wish.tags).allSatisfy { !$0.contains("-") }, "POP_TEST_SEED=\(random.seed)")
        }
    }
}
