internal import Domain
internal import EventLoop
internal import HTTP1
internal import JSON
internal import Store

/// What is known of the copy of the tokens.
struct TokenCopy {
    /// Of what was loaded last.
    var revision: Int64?
    /// Grows with each change made here: what was asked for before one is out of date.
    var generation = 0
    var isLoading = false
}

/// Admin tokens, and the copy of them that requests are let in by.
extension AdminAPI {
    var tokenRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/tokens", .admin, parameters: ["limit", "cursor"]) {
                [unowned self] call throws(AdminProblem) in try listTokens(call)
            },
            AdminRoute(.post, "/v1/tokens", .admin, body: .required) {
                [unowned self] call throws(AdminProblem) in try createToken(call)
            },
            AdminRoute(.get, "/v1/tokens/{token_id}", .admin) { [unowned self] call throws(AdminProblem) in
                try showToken(call)
            },
            AdminRoute(.delete, "/v1/tokens/{token_id}", .admin) {
                [unowned self] call throws(AdminProblem) in
                try deleteToken(call)
            },
        ]
    }

    // MARK: Operations

    private func listTokens(_ call: AdminCall) throws(AdminProblem) {
        let limit = call.query.limit()
        let cursor = call.query.parsed("cursor", expects: "a cursor of this list") { ListCursor($0) }
        try call.validate()
        ask(.adminTokens(limit: limit, cursor: cursor), call) { [unowned self] answer throws(AdminProblem) in
            guard case .adminTokens(let page) = answer else { throw self.unexpectedAnswer }
            call.answer { writer in
                writer.list(page.items, next: page.next?.text) { self.current($0).write(to: &$1) }
            }
        }
    }

    private func showToken(_ call: AdminCall) throws(AdminProblem) {
        ask(.adminToken(try call.tokenID()), call) { [unowned self] answer throws(AdminProblem) in
            guard case .adminToken(let row) = answer else { throw self.unexpectedAnswer }
            guard let row else { throw .tokenNotFound }
            call.answer { self.current(row).write(to: &$0) }
        }
    }

    /// The row with the use that has not been written yet.
    private func current(_ row: AdminTokenRow) -> AdminTokenRow {
        var row = row
        row.lastUsedAt = [row.lastUsedAt, authenticator.lastUse(of: row.tokenID)].compactMap { $0 }.max()
        return row
    }

    private static let longestName = 128
    /// Tells people, and programs that look for leaked secrets, what they have before them.
    private static let tokenPrefix = "pop_admin_"
    private static let secretBytes = 32

    private func createToken(_ call: AdminCall) throws(AdminProblem) {
        let body = call.body
        body.requireOnly(["name", "scope", "expires_at", "reason"])
        body.require("name", "scope")
        let name = body.name("name", maximumLength: Self.longestName) ?? ""
        let scope = body.choice("scope", AdminScope.self) ?? .read
        let expiresAt = body.time("expires_at")
        if let expiresAt, expiresAt <= SystemClock.wall {
            call.faults.add("expires_at", "must be in the future")
        }
        try call.validate()
        let secret = Self.tokenPrefix + Hexadecimal.encode(SystemRandom.bytes(Self.secretBytes))
        let token = NewAdminToken(
            tokenID: TokenID(using: &random), name: name, scope: scope.rawValue,
            sha256: AdminAuthenticator.digest(Array(secret.utf8)), createdBy: call.actor,
            expiresAt: expiresAt)
        ask(.createAdminToken(token), call) { [unowned self] answer throws(AdminProblem) in
            guard case .adminToken(let row) = answer else { throw self.unexpectedAnswer }
            guard let row else { throw .tooManyTokens }
            self.authenticator.insert(
                AdminTokenKey(
                    tokenID: row.tokenID, name: row.name, scope: row.scope, sha256: token.sha256,
                    expiresAt: row.expiresAt))
            self.tokensChangedHere()
            call.answerSecret(.created, ["Location": "/v1/tokens/\(row.tokenID)"]) {
                row.write(to: &$0, secret: secret)
            }
        }
    }

    private func deleteToken(_ call: AdminCall) throws(AdminProblem) {
        let id = try call.tokenID()
        ask(.deleteAdminToken(id), call) { [unowned self] answer throws(AdminProblem) in
            guard case .changed(let isChanged) = answer else { throw self.unexpectedAnswer }
            self.authenticator.remove(id)
            self.events.review()
            self.tokensChangedHere()
            guard isChanged else { throw .tokenNotFound }
            call.answerNothing()
        }
    }

    // MARK: The copy

    /// The database has the tokens of this revision.
    package func noticed(tokenRevision revision: Int64) {
        guard revision != tokenCopy.revision else { return }
        loadTokens()
    }

    private func tokensChangedHere() {
        tokenCopy.generation += 1
        loadTokens()
    }

    private func loadTokens() {
        guard !tokenCopy.isLoading else { return }
        tokenCopy.isLoading = true
        let generation = tokenCopy.generation
        backend.ask(.adminTokenBook) { [weak self] result in
            guard let self else { return }
            tokenCopy.isLoading = false
            guard generation == tokenCopy.generation else { return loadTokens() }
            // A database that is away leaves the known tokens good; it is asked again with the next revision.
            guard case .success(.adminTokenBook(let book)) = result else { return }
            tokenCopy.revision = book.revision
            authenticator.load(book.keys)
            events.review()
        }
    }

    // MARK: Use

    /// `last_used_at` tells which tokens are still needed; some seconds more or less don't matter for that.
    static let useInterval = Duration.seconds(10)

    func tellUses() {
        useTimer?.arm(at: loop.now + Self.useInterval)
        let uses = authenticator.takeUses()
        if !uses.isEmpty { backend.record(.adminTokensUsed(uses)) }
    }
}

extension AdminTokenRow {
    /// - Parameter secret: shown once, to whoever made the token.
    func write(to writer: inout JSONWriter, secret: String? = nil) {
        writer.beginObject()
        writer.field("token_id", tokenID)
        if let secret { writer.field("token", secret) }
        writer.field("name", name)
        writer.field("scope", scope)
        writer.field("created_at", createdAt)
        writer.field("created_by", createdBy)
        writer.field("expires_at", expiresAt)
        writer.field("last_used_at", lastUsedAt)
        writer.endObject()
    }
}
