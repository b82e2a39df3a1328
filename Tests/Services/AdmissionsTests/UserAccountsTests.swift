import DataPath
import Domain
import Store
import TestKit
import Testing

@testable import Admissions

struct UserAccountsTests {
    private func account(_ number: Int) throws -> UserAccounts.Account {
        let name = try #require(UserName("user\(number)"))
        return UserAccounts.Account(
            key: UserKey(name: name, passwordHash: "", limits: UserLimits()),
            rate: UserRate(bytesPerSecond: nil, at: Instant(nanoseconds: 0)))
    }

    @Test func whoWasNotHeardOfForLongestGoesFirst() throws {
        var accounts = UserAccounts(maximum: 3)
        let all = try (0..<5).map(account)
        for account in all.prefix(3) { accounts.set(account) { _ in false } }
        // The hand goes round once and finds all of them used; from now on use counts.
        accounts.set(all[3]) { _ in false }
        let kept = try #require(accounts.names.first { $0 != all[3].key.name })
        accounts.use(kept)
        accounts.set(all[4]) { _ in false }
        #expect(accounts.count == 3)
        #expect(accounts.find(kept) != nil)
        #expect(accounts.find(all[4].key.name) != nil)
    }

    @Test func whoHasConnsIsKeptWhateverTheNumber() throws {
        var accounts = UserAccounts(maximum: 2)
        let all = try (0..<6).map(account)
        let served = Set(all.prefix(3).map(\.key.name))
        for account in all { accounts.set(account) { served.contains($0) } }
        #expect(served.allSatisfy { accounts.find($0) != nil })
        #expect(accounts.count <= 4)
    }

    /// Names and accounts stay the same, and their number is bounded.
    @Test func anyOrderOfCallsKeepsNamesAndAccountsTogether() throws {
        var random = SeededRandom.ofEnvironment()
        var accounts = UserAccounts(maximum: 10)
        for step in 0..<5_000 {
            let account = try account(Int.random(in: 0..<30, using: &random))
            switch Int.random(in: 0..<4, using: &random) {
            case 0: accounts.remove(account.key.name)
            case 1: accounts.use(account.key.name)
            default: accounts.set(account) { _ in Bool.random(using: &random) }
            }
            let place = "POP_TEST_SEED=\(random.seed), step \(step)"
            #expect(Set(accounts.names).count == accounts.count, "\(place)")
            #expect(accounts.names.allSatisfy { accounts.find($0)?.key.name == $0 }, "\(place)")
            #expect(accounts.count <= 30, "\(place)")
        }
    }
}
