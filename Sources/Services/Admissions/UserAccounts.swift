internal import DataPath
internal import Domain
internal import Store

/// The users that have come in here, up to a number of them: who has not been heard of for longest is forgotten
/// first, and nobody whose conns are still held to what is known of it.
///
/// A hand goes round the names; it passes over those that were used since it came by last.
struct UserAccounts {
    struct Account {
        var key: UserKey
        /// One for all conns of the user here, whenever they began.
        let rate: UserRate
        /// Of the password that was found good last; nil: it has to be found out again.
        var passwordDigest: [UInt8]?
        fileprivate var place = 0
        fileprivate var wasUsed = true

        init(key: UserKey, rate: UserRate, passwordDigest: [UInt8]? = nil) {
            self.key = key
            self.rate = rate
            self.passwordDigest = passwordDigest
        }
    }

    private var accounts: [UserName: Account] = [:]
    private var ring: [UserName] = []
    private var hand = 0
    private let maximum: Int

    /// Steps of the hand for one new user. If all of those are in use there is one more than there should be:
    /// conns have limits of their own.
    private static let mostSteps = 64

    init(maximum: Int) {
        self.maximum = maximum
    }

    var names: [UserName] { ring }
    var count: Int { ring.count }

    func find(_ name: UserName) -> Account? { accounts[name] }

    /// Keeps the user from being forgotten soon.
    mutating func use(_ name: UserName) {
        accounts[name]?.wasUsed = true
    }

    mutating func change(_ name: UserName, _ change: (inout Account) -> Void) {
        guard var account = accounts[name] else { return }
        change(&account)
        accounts[name] = account
    }

    mutating func changeAll(_ change: (inout Account) -> Void) {
        for name in ring { self.change(name, change) }
    }

    /// - Parameter isServed: whether a user has conns, or what could open some.
    mutating func set(_ account: Account, isServed: (UserName) -> Bool) {
        let name = account.key.name
        if accounts[name] == nil {
            makeRoom(isServed)
            ring.append(name)
        }
        var account = account
        account.place = accounts[name]?.place ?? ring.count - 1
        account.wasUsed = true
        accounts[name] = account
    }

    mutating func remove(_ name: UserName) {
        guard let place = accounts.removeValue(forKey: name)?.place else { return }
        ring.swapAt(place, ring.count - 1)
        ring.removeLast()
        if place < ring.count { accounts[ring[place]]?.place = place }
    }

    private mutating func makeRoom(_ isServed: (UserName) -> Bool) {
        guard ring.count >= maximum else { return }
        var spare: UserName?
        for _ in 0..<min(Self.mostSteps, 2 * ring.count) {
            hand = hand + 1 < ring.count ? hand + 1 : 0
            let name = ring[hand]
            guard !isServed(name) else { continue }
            guard accounts[name]?.wasUsed == true else { return remove(name) }
            accounts[name]?.wasUsed = false
            spare = name
        }
        if let spare { remove(spare) }
    }
}
