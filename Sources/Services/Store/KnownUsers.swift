internal import Domain
internal import EventLoop
internal import Outbox

/// Ingress users who were let in here before: while the database does not answer they are good (contract
/// section 2). What is kept, in memory and on the node's disk, is the slow hash that the database has, and the
/// limits.
final class KnownUsers {
    private let loop: EventLoop
    private let disk: DiskQueue?
    private var known: [UserName: UserKey] = [:]

    /// How long a user who is known waits for a database that is slow.
    private static let patience = Duration.seconds(1)
    /// In memory; the disk holds more.
    private static let maximumKnown = 10_000
    /// In the outbox, where other secrets are told apart from these.
    private static let secretKind: Int64 = 2
    /// Beside them: up to where changes of users have been gone through.
    private static let revisionMark = "users"

    init(on loop: EventLoop, disk: DiskQueue?) {
        self.loop = loop
        self.disk = disk
    }

    /// - Parameter ask: asks the database; nil while it is known to be away, for the reason given.
    func find(
        _ name: UserName, unavailable cause: String,
        ask: ((@escaping (Result<StoreAnswer, StoreFailure>) -> Void) -> Void)?,
        _ done: @escaping (Result<StoreAnswer, StoreFailure>) -> Void
    ) {
        guard let ask else {
            return done(remembered(name).map { .success(.userKey($0)) } ?? .failure(.unavailable(cause)))
        }
        var waiting: ((Result<StoreAnswer, StoreFailure>) -> Void)? = done
        let timer = loop.makeTimer { [weak self] in
            guard let remembered = self?.remembered(name) else { return }
            waiting?(.success(.userKey(remembered)))
            waiting = nil
        }
        timer.arm(at: loop.now + Self.patience)
        ask { [weak self] result in
            timer.cancel()
            switch result {
            case .failure(.unavailable):
                waiting?(self?.remembered(name).map { .success(.userKey($0)) } ?? result)
            case .success(.userKey(nil)):
                self?.forget(name)
                waiting?(result)
            default:
                waiting?(result)
            }
            waiting = nil
        }
    }

    func remember(_ user: UserKey) {
        if known.count >= Self.maximumKnown { known.removeAll() }
        known[user.name] = user
        let secret = OutboxSecret(
            kind: Self.secretKind, hash: EventCodec.encode(user), owner: user.name.description, value: 0,
            seenAtMicroseconds: SystemClock.wall.microseconds)
        disk?.attempt(loop.now) { outbox throws(OutboxError) in
            try outbox.forget(kind: Self.secretKind, owner: user.name.description)
            try outbox.remember([secret])
        }
    }

    func changed(_ name: UserName, _ key: UserKey?) {
        guard let key, let user = remembered(name), user.passwordHash == key.passwordHash else {
            return forget(name)
        }
        if user.limits != key.limits { remember(key) }
    }

    /// Strangers' names cost a look, not a write.
    private func forget(_ name: UserName) {
        guard remembered(name) != nil else { return }
        known[name] = nil
        disk?.attempt(loop.now) { outbox throws(OutboxError) in
            try outbox.forget(kind: Self.secretKind, owner: name.description)
        }
    }

    func forgetAll() {
        known = [:]
        disk?.attempt(loop.now) { outbox throws(OutboxError) in
            try outbox.forget(kind: Self.secretKind)
        }
    }

    // MARK: Changes

    /// Up to which change, in all lives of this node, what is remembered is as good as what the database has.
    var followedRevision: Int64? {
        let found = disk?.attempt(loop.now, isReading: true) { outbox throws(OutboxError) in
            try outbox.mark(Self.revisionMark)
        }
        return found ?? nil
    }

    func followed(to revision: Int64) {
        disk?.attempt(loop.now) { outbox throws(OutboxError) in
            try outbox.setMark(Self.revisionMark, revision)
        }
    }

    private func remembered(_ name: UserName) -> UserKey? {
        if let user = known[name] { return user }
        let found = disk?.attempt(loop.now, isReading: true) { outbox throws(OutboxError) in
            try outbox.secret(kind: Self.secretKind, owner: name.description)
        }
        guard let secret = found ?? nil, let user = try? EventCodec.decodeKey(secret.hash) else { return nil }
        known[name] = user
        return user
    }
}
