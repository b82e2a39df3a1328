import Domain
import EventLoop
import Store

/// The database as admissions ask it, changed by the tests as another node would.
final class StandInStore: StorePort {
    var users: [UserName: UserKey] = [:]
    private(set) var notices: [UserNotice] = []
    private(set) var revision: Int64 = 0
    var isAway = false
    /// What this node's disk has: up to which change of users it was followed.
    var followed: Int64?
    var sticky: (StickyClaim) -> StickyHolding = {
        StickyHolding(device: $0.device, expiresAt: $0.expiresAt, node: nil)
    }

    private(set) var questions: [StoreQuery] = []
    private(set) var remembered: [UserName: UserKey] = [:]
    private(set) var forgetsAll = 0
    let health = StoreHealth()

    /// Nil deletes the user.
    func change(_ name: UserName, _ key: UserKey?) {
        revision += 1
        users[name] = key
        notices.append(UserNotice(name: name, revision: revision, key: key))
    }

    func record(_ event: StoreEvent) {}
    func startSession(_ record: SessionRecord, durable: @escaping () -> Void) { durable() }
    func count(_ updates: [SessionUpdate]) {}
    func forgetTokens(of device: DeviceID) {}
    func remember(_ user: UserKey) { remembered[user.name] = user }
    func followed(usersTo revision: Int64) { followed = revision }

    func userChanged(_ user: UserName, _ key: UserKey?) {
        guard let known = remembered[user] else { return }
        remembered[user] = key.flatMap { $0.passwordHash == known.passwordHash ? $0 : nil }
    }

    func forgetUsers() {
        remembered = [:]
        forgetsAll += 1
    }

    /// Answers at once, so that tests choose what comes before what.
    func ask(_ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void) {
        questions.append(query)
        answer(found(query))
    }

    private func found(_ query: StoreQuery) -> Result<StoreAnswer, StoreFailure> {
        if case .followedUsers = query { return .success(.followedUsers(followed)) }
        if isAway {
            if case .userKey(let name) = query, let key = remembered[name] { return .success(.userKey(key)) }
            return .failure(.unavailable("away"))
        }
        switch query {
        case .userKey(let name): return .success(.userKey(users[name]))
        case .userKeys(let names):
            return .success(.userKeys(users.filter { names.contains($0.key) }))
        case .userChanges(let position):
            return .success(.userChanges(notices.filter { $0.revision > position }))
        case .userUsage(let names):
            return .success(.userUsage(Dictionary(uniqueKeysWithValues: names.map { ($0, 0) })))
        case .claimSticky(let claim): return .success(.sticky(sticky(claim)))
        default: return .failure(.failed("nobody asks this"))
        }
    }
}
