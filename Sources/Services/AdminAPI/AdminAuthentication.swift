internal import Domain
internal import HTTP1

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
    /// The name in logs and drains.
    package let name: String
    package let scope: AdminScope

    package init(name: String, scope: AdminScope) {
        self.name = name
        self.scope = scope
    }
}

/// A token that the API takes.
package struct AdminToken: Sendable {
    package let value: String
    package let principal: AdminPrincipal

    package init(value: String, principal: AdminPrincipal) {
        self.value = value
        self.principal = principal
    }
}

/// Knows the tokens.
package struct AdminAuthenticator: Sendable {
    private let tokens: [AdminToken]

    package init(tokens: [AdminToken]) {
        self.tokens = tokens
    }

    /// Who presents `value`; nil for nobody. Takes the same time whichever token it is nearly right for.
    package func principal(presenting value: [UInt8]) -> AdminPrincipal? {
        var found: AdminPrincipal?
        for token in tokens where equalInConstantTime(Array(token.value.utf8), value) {
            found = token.principal
        }
        return found
    }

    /// The token of `Authorization: Bearer TOKEN`; nil for none or another scheme.
    static func bearerToken(_ authorization: String?) -> [UInt8]? {
        guard let authorization else { return nil }
        let parts = authorization.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        let token = parts[1].utf8.drop { $0 == 0x20 }
        return token.isEmpty ? nil : Array(token)
    }
}
