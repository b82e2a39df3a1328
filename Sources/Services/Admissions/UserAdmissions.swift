package import AdminAPI
internal import DataPath
package import DevicePlane
package import Domain
package import EventLoop
internal import Fleet
package import Ingress
package import Store
internal import TLS

/// `ingress.auth: password`: which users may come in here, and what they may still use.
///
/// The database knows the users; this node keeps those who have come in, and follows what changes anywhere by the
/// revisions that it looks at every second. A password is hashed slowly once: who shows it again is known by a fast
/// hash that is keyed with a secret of this process and never leaves it.
///
/// What users carry is counted by each node and written every second; a user's quota is held against the node's own
/// count and the last that is known of the others'.
package final class UserAdmissions: IngressAuthenticator {
    package let requiresPassword = true

    private typealias Account = UserAccounts.Account

    private let loop: EventLoop
    private let store: any StorePort
    private let plane: DevicePlane
    private let passwords: PasswordWorker
    private let secret = SystemRandom.bytes(32)
    private var accounts: UserAccounts
    private var limiter = FailureLimiter()
    /// What this life has counted of each user in `month`.
    private var carried: [UserName: UserUsage] = [:]
    private var month = CalendarMonth(SystemClock.wall)
    /// Changes that have been gone through: a password that was right meanwhile may be so no more.
    private var changes: UInt64 = 0
    /// Up to where changes have been gone through; nil before the first look.
    private var position: Int64?
    private var isReading = false
    /// Users who may have changed, who are asked for until the database has answered.
    private var unsettled: Set<UserName> = []
    private var isSettling = false
    private var isAskingForOthers = false
    private var timer: LoopTimer?

    private static let countInterval = Duration.seconds(1)
    /// As many as a node can tell apart for some tens of megabytes; who was forgotten is asked for again.
    package static let standardMaximum = 100_000
    package static let standardQuestion = 1_000
    private let usersPerQuestion: Int

    /// - Parameters:
    ///   - maximumAccounts: how many users are known at once.
    ///   - usersPerQuestion: how many the database is asked for at once.
    package init(
        on loop: EventLoop, store: any StorePort, plane: DevicePlane, passwords: PasswordWorker,
        maximumAccounts: Int = UserAdmissions.standardMaximum,
        usersPerQuestion: Int = UserAdmissions.standardQuestion
    ) {
        self.usersPerQuestion = usersPerQuestion
        accounts = UserAccounts(maximum: maximumAccounts)
        self.loop = loop
        self.store = store
        self.plane = plane
        self.passwords = passwords
        timer = loop.makeTimer { [weak self] in self?.count() }
        timer?.arm(at: loop.now + Self.countInterval)
    }

    deinit {
        timer?.cancel()
    }

    // MARK: Logins

    package func authenticate(
        _ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void
    ) {
        let origin = NetworkOrigin(credential.clientAddress.ip)
        if let wait = limiter.wait(for: origin, at: loop.now) {
            return answer(.turnedAway(.heldUp(wait)))
        }
        guard let login = ClientLogin(credential.username) else { return answer(.refused) }
        let name = UserName(login.user)
        let digest = digest(name, credential.password)
        if let name, let account = accounts.find(name), let known = account.passwordDigest,
            equalInConstantTime(known, digest)
        {
            accounts.use(name)
            return answer(.admitted(grant(account.key, login.wish)))
        }
        guard let name else { return check(nil, credential, origin, login.wish, digest, answer) }
        store.ask(.userKey(name)) { [weak self] result in
            guard let self else { return answer(.turnedAway(.unavailable)) }
            guard case .success(.userKey(let key)) = result else {
                return answer(.turnedAway(.unavailable))
            }
            check(key, credential, origin, login.wish, digest, answer)
        }
    }

    /// A user that there is not costs as much as one whose password is wrong.
    private func check(
        _ key: UserKey?, _ credential: IngressCredential, _ origin: NetworkOrigin,
        _ wish: DeviceWish, _ digest: [UInt8], _ answer: @escaping (IngressAdmission) -> Void
    ) {
        let before = changes
        passwords.check(credential.password, key?.passwordHash) { [weak self] isRight in
            guard let self, let isRight else { return answer(.turnedAway(.unavailable)) }
            guard isRight, let key else {
                limiter.failed(origin, at: loop.now)
                return answer(.refused)
            }
            admit(key, wish, digest, ifNoneSince: before, answer)
        }
    }

    /// Lets the user in whose password was right, unless it has been changed while that was found out.
    private func admit(
        _ key: UserKey, _ wish: DeviceWish, _ digest: [UInt8], ifNoneSince before: UInt64,
        _ answer: @escaping (IngressAdmission) -> Void
    ) {
        if changes == before {
            learn(key, digest)
            return answer(.admitted(grant(key, wish)))
        }
        let now = changes
        store.ask(.userKey(key.name)) { [weak self] result in
            guard let self, case .success(.userKey(let found)) = result else {
                return answer(.turnedAway(.unavailable))
            }
            guard let found, found.passwordHash == key.passwordHash else { return answer(.refused) }
            admit(found, wish, digest, ifNoneSince: now, answer)
        }
    }

    private func learn(_ key: UserKey, _ digest: [UInt8]) {
        accounts.set(account(key, passwordDigest: digest)) { [plane] in plane.isServing($0.description) }
        store.remember(key)
    }

    private func grant(_ key: UserKey, _ wish: DeviceWish) -> IngressGrant {
        var wish = wish
        wish.allowedLocations = Set(key.limits.allowedLocations)
        return IngressGrant(user: key.name.description, wish: wish, rate: accounts.find(key.name)?.rate)
    }

    /// What is known of the user from now on; conns that it has are limited by it too.
    private func account(_ key: UserKey, passwordDigest: [UInt8]? = nil) -> Account {
        let limit = key.limits.rateBytesPerSecond
        let rate = accounts.find(key.name)?.rate ?? UserRate(bytesPerSecond: limit, at: loop.now)
        rate.change(to: limit, at: loop.now)
        return Account(key: key, rate: rate, passwordDigest: passwordDigest)
    }

    private func digest(_ name: UserName?, _ password: [UInt8]) -> [UInt8] {
        let name = Array((name?.description ?? "").utf8)
        return SHA256.digest(secret + [UInt8(truncatingIfNeeded: name.count)] + name + password)
    }

    // MARK: Limits

    /// A user who is no more, or was forgotten since it came in, gets nothing until it comes in again.
    package func refusal(of user: String?) -> IngressRefusal? {
        guard let user else { return nil }
        guard let name = UserName(user), let account = accounts.find(name) else { return .unavailable }
        return refusal(of: account)
    }

    private func refusal(of account: Account) -> IngressRefusal? {
        let user = account.key.name.description
        if let most = account.key.limits.maxConns, UInt64(plane.connCount(of: user)) >= most {
            return .tooManyConns
        }
        return hasUsedUp(account) ? .quotaUsedUp : nil
    }

    private func hasUsedUp(_ account: Account) -> Bool {
        guard let quota = account.key.limits.bytesQuota else { return false }
        let own = carried[account.key.name].map { $0.bytesSent &+ $0.bytesReceived } ?? 0
        return own &+ account.key.bytesElsewhere >= quota
    }

    /// Takes down what users have carried, and ends the conns of those who have used up what they have.
    private func count() {
        timer?.arm(at: loop.now + Self.countInterval)
        let present = CalendarMonth(SystemClock.wall)
        if present != month {
            month = present
            carried = [:]
            accounts.changeAll { $0.key.bytesElsewhere = 0 }
        }
        var limited: [UserName] = []
        for bytes in plane.takeUserBytes() {
            guard let name = UserName(bytes.user) else { continue }
            var usage =
                carried[name] ?? UserUsage(name: name, month: month, bytesSent: 0, bytesReceived: 0)
            usage.bytesSent &+= bytes.sent
            usage.bytesReceived &+= bytes.received
            carried[name] = usage
            store.record(.usersUsed(usage))
            accounts.use(name)
            guard let account = accounts.find(name), account.key.limits.bytesQuota != nil else { continue }
            if hasUsedUp(account) { plane.closeConns(of: bytes.user, .quota) }
            limited.append(name)
        }
        // Who carries something while the last ones are asked for is asked for with the next count.
        guard !isAskingForOthers else { return }
        askForOthers(limited[...])
    }

    /// What other nodes have counted of users that carry something here.
    private func askForOthers(_ names: ArraySlice<UserName>) {
        isAskingForOthers = !names.isEmpty
        guard isAskingForOthers else { return }
        let some = names.prefix(usersPerQuestion)
        store.ask(.userUsage(Array(some))) { [weak self] result in
            guard let self else { return }
            if case .success(.userUsage(let usage)) = result { carriedElsewhere(usage) }
            askForOthers(names.dropFirst(some.count))
        }
    }

    private func carriedElsewhere(_ usage: [UserName: UInt64]) {
        for (name, bytes) in usage {
            accounts.change(name) { $0.key.bytesElsewhere = bytes }
            if let account = accounts.find(name), hasUsedUp(account) {
                plane.closeConns(of: name.description, .quota)
            }
        }
    }

    // MARK: Explaining

    /// What a client with this user name would get here, whatever its password.
    package func explain(
        _ username: String, limit: Int, answer: @escaping (RouteVerdict) -> Void
    ) {
        guard let login = ClientLogin(username) else { return answer(.malformed) }
        guard let name = UserName(login.user) else { return answer(.noUser) }
        store.ask(.userKey(name)) { [weak self] result in
            guard let self else { return answer(.noUser) }
            switch result {
            case .success(.userKey(let key?)):
                let account = accounts.find(name) ?? self.account(key)
                answer(
                    .explained(
                        plane.explain(grant(key, login.wish).wish, limit: limit),
                        refusal: refusal(of: account)?.code))
            case .failure(let failure): answer(.unavailable(failure))
            default: answer(.noUser)
            }
        }
    }

    // MARK: Changes

    /// The last change of users in the database has this number.
    package func noticed(_ revision: Int64) {
        settle()
        guard !isReading, revision != position else { return }
        guard let position else { return findPosition(revision) }
        guard position < revision else { return startOver(at: revision) }
        isReading = true
        store.ask(.userChanges(after: position)) { [weak self] result in
            guard let self else { return }
            isReading = false
            guard case .success(.userChanges(let notices)) = result, let last = notices.last else { return }
            for notice in notices { apply(notice.key, of: notice.name) }
            follow(to: last.revision)
        }
    }

    /// An earlier life of this node may have left users on its disk, who may have changed while it was down.
    private func findPosition(_ revision: Int64) {
        isReading = true
        store.ask(.followedUsers) { [weak self] result in
            guard let self else { return }
            isReading = false
            guard case .success(.followedUsers(let followed)) = result else { return }
            guard let followed, followed <= revision else { return startOver(at: revision) }
            position = followed
            noticed(revision)
        }
    }

    /// Nothing says what has changed: no life has noted it, or the database was replaced by an older copy.
    private func startOver(at revision: Int64) {
        changes &+= 1
        store.forgetUsers()
        follow(to: revision)
        // Whoever shows a password again is remembered again.
        accounts.changeAll { $0.passwordDigest = nil }
        unsettled.formUnion(accounts.names)
        settle()
    }

    private func follow(to revision: Int64) {
        position = revision
        store.followed(usersTo: revision)
    }

    /// This node has changed a user.
    package func changed(_ name: UserName) {
        changes &+= 1
        accounts.change(name) { $0.passwordDigest = nil }
        unsettled.insert(name)
        settle()
    }

    private func settle() {
        guard !isSettling, !unsettled.isEmpty else { return }
        isSettling = true
        let names = Array(unsettled.prefix(usersPerQuestion))
        unsettled.subtract(names)
        store.ask(.userKeys(names)) { [weak self] result in
            guard let self else { return }
            isSettling = false
            guard case .success(.userKeys(let keys)) = result else { return unsettled.formUnion(names) }
            for name in names { apply(keys[name], of: name) }
            settle()
        }
    }

    /// A user who is no more has no conns any more; one with another password keeps them.
    private func apply(_ key: UserKey?, of name: UserName) {
        changes &+= 1
        store.userChanged(name, key)
        guard let key else {
            accounts.remove(name)
            return plane.closeConns(of: name.description, .admin)
        }
        let now = loop.now
        accounts.change(name) { account in
            if account.key.passwordHash != key.passwordHash { account.passwordDigest = nil }
            account.key = key
            account.rate.change(to: key.limits.rateBytesPerSecond, at: now)
        }
    }
}
