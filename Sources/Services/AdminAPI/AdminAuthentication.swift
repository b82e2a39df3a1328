package import Domain
internal import HTTP1
internal import Store
internal import TLS

/// What a token may do; each scope includes those before it.
package enum AdminScope: String, Sendable, Hashable, CaseIterable, Comparable {
    case read
    case operate
    case admin

    private var rank: Int {
        switch self {
        case .read: 0
        case .operate: 1
        case .admin: 2
        }
    }

    package static func < (lhs: AdminScope, rhs: AdminScope) -> Bool { lhs.rank < rhs.rank }
}

/// Who asks.
package struct AdminPrincipal: Sendable, Hashable {
    /// Nil for the bootstrap token, which is no row of the database.
    package let tokenID: TokenID?
    /// The token's name, in logs, drains and the audit trail.
    package let name: String
    package let scope: AdminScope

    package init(tokenID: TokenID? = nil, name: String, scope: AdminScope) {
        self.tokenID = tokenID
        self.name = name
        self.scope = scope
    }

    /// Whose Idempotency-Keys its calls' keys are.
    var keyOwner: String { tokenID?.description ?? "bootstrap" }
}

/// Knows the tokens: the bootstrap token, and a copy of the database's, so that a request is let in without
/// a question to anybody, with the database away, too.
///
/// A token is found by its SHA-256, which is all that is kept of it, and then compared in constant time.
package final class AdminAuthenticator {
    package enum Verdict: Sendable, Hashable {
        case principal(AdminPrincipal)
        /// No such token, or one that has expired.
        case unknown
        /// There were too many wrong ones from this address.
        case heldUp(Duration)
    }

    private struct Token {
        let sha256: [UInt8]
        let principal: AdminPrincipal
        let expiresAt: WallTime?

        init(sha256: [UInt8], principal: AdminPrincipal, expiresAt: WallTime?) {
            self.sha256 = sha256
            self.principal = principal
            self.expiresAt = expiresAt
        }

        /// Nil for a scope that this version does not know: nobody may do what nobody knows.
        init?(_ key: AdminTokenKey) {
            guard let scope = AdminScope(rawValue: key.scope) else { return nil }
            self.init(
                sha256: key.sha256,
                principal: AdminPrincipal(tokenID: key.tokenID, name: key.name, scope: scope),
                expiresAt: key.expiresAt)
        }

        func hasExpired(at wall: WallTime) -> Bool { expiresAt.map { $0 <= wall } ?? false }
    }

    /// Operators have a few machines; more addresses than that are remembered in turn.
    private static let rememberedHomes = 64

    /// A bootstrap token that is shorter, which people have thought of, may be found by guessing.
    private static let shortestSafeToken = 16

    private let bootstrap: [UInt8]
    private let canBootstrapBeGuessed: Bool
    /// From where the bootstrap token was shown with success, the last few.
    private var homes: [NetworkOrigin] = []
    private var tokens: [[UInt8]: Token] = [:]
    private var hashes: [TokenID: [UInt8]] = [:]
    private var uses: [TokenID: WallTime] = [:]
    private var limiter: FailureLimiter

    /// - Parameter bootstrapToken: has the scope admin and never expires.
    package init(bootstrapToken: String, limiter: FailureLimiter = FailureLimiter()) {
        bootstrap = Self.digest(Array(bootstrapToken.utf8))
        canBootstrapBeGuessed = bootstrapToken.utf8.count < Self.shortestSafeToken
        self.limiter = limiter
        tokens[bootstrap] = Token(
            sha256: bootstrap, principal: AdminPrincipal(name: "bootstrap", scope: .admin), expiresAt: nil)
    }

    static func digest(_ token: [UInt8]) -> [UInt8] { SHA256.digest(token) }

    /// Who shows `value`.
    ///
    /// Wrong tokens hold their address up, but not those who share it and are right: what is random and long
    /// is not found by guessing. Only a short bootstrap token is, so from an address that is held up it is
    /// taken only if it was shown from there before.
    func authenticate(
        _ value: [UInt8], from address: IPAddress, now: Instant, wall: WallTime
    ) -> Verdict {
        let origin = NetworkOrigin(address)
        let (verdict, isTrusted) = judge(value, origin, now: now, wall: wall)
        switch verdict {
        case .unknown: limiter.failed(origin, at: now)
        case .heldUp: break
        case .principal(let principal):
            if let id = principal.tokenID {
                uses[id] = wall
            } else if !isTrusted {
                homes = homes.suffix(Self.rememberedHomes - 1) + [origin]
            }
        }
        return verdict
    }

    /// Who ``authenticate(_:from:now:wall:)`` will find, which is still to be asked: this counts for nothing.
    func foresee(_ value: [UInt8], from address: IPAddress, now: Instant, wall: WallTime) -> AdminPrincipal? {
        let (verdict, _) = judge(value, NetworkOrigin(address), now: now, wall: wall)
        guard case .principal(let principal) = verdict else { return nil }
        return principal
    }

    private func judge(
        _ value: [UInt8], _ origin: NetworkOrigin, now: Instant, wall: WallTime
    ) -> (Verdict, isTrusted: Bool) {
        let sha256 = Self.digest(value)
        let token = tokens[sha256].flatMap { token in
            equalInConstantTime(token.sha256, sha256) && !token.hasExpired(at: wall) ? token : nil
        }
        let isTrusted = token.map { isSafe($0, at: origin) } ?? false
        if !isTrusted, let wait = limiter.wait(for: origin, at: now) { return (.heldUp(wait), isTrusted) }
        return (token.map { .principal($0.principal) } ?? .unknown, isTrusted)
    }

    private func isSafe(_ token: Token, at origin: NetworkOrigin) -> Bool {
        token.principal.tokenID != nil || !canBootstrapBeGuessed || homes.contains(origin)
    }

    // MARK: The copy

    /// Replaces the copy by what the database has.
    func load(_ keys: [AdminTokenKey]) {
        tokens = tokens.filter { $0.key == bootstrap }
        hashes = [:]
        for key in keys { insert(key) }
    }

    func insert(_ key: AdminTokenKey) {
        guard key.sha256 != bootstrap, let token = Token(key) else { return }
        tokens[key.sha256] = token
        hashes[key.tokenID] = key.sha256
    }

    func remove(_ id: TokenID) {
        if let sha256 = hashes.removeValue(forKey: id) { tokens[sha256] = nil }
        uses[id] = nil
    }

    /// Whether a token that was shown before would still let its holder in.
    func isGood(_ id: TokenID, at wall: WallTime) -> Bool {
        guard let token = hashes[id].flatMap({ tokens[$0] }) else { return false }
        return !token.hasExpired(at: wall)
    }

    // MARK: Use

    /// When tokens were last shown since this was last asked.
    func takeUses() -> [AdminTokenUse] {
        defer { uses = [:] }
        return uses.map { AdminTokenUse(tokenID: $0.key, at: $0.value) }
    }

    /// When the token was last shown, as far as that has not been taken yet.
    func lastUse(of id: TokenID) -> WallTime? { uses[id] }

    /// The token of `Authorization: Bearer TOKEN`; nil for none or another scheme.
    static func bearerToken(_ authorization: ArraySlice<UInt8>?) -> [UInt8]? {
        guard let authorization else { return nil }
        let scheme = authorization.prefix { $0 != 0x20 }
        // Letters without case: no scheme has characters that differ from another's in this bit alone.
        guard scheme.count < authorization.count, scheme.elementsEqual("bearer".utf8, by: { $0 | 0x20 == $1 })
        else { return nil }
        let token = authorization[scheme.endIndex...].drop { $0 == 0x20 }
        return token.isEmpty ? nil : Array(token)
    }
}
