internal import Domain
package import Fleet
internal import HTTP1
internal import JSON
package import Store

/// Ingress users, and what a client with a user name would get.
///
/// The database is changed first and this node right behind it; the others notice within two seconds.
extension AdminAPI {
    var userRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/users", .admin, parameters: ["limit", "cursor"]) {
                [unowned self] call throws(AdminProblem) in try listUsers(call)
            },
            AdminRoute(.post, "/v1/users", .admin, body: .required) {
                [unowned self] call throws(AdminProblem) in try createUser(call)
            },
            AdminRoute(.get, "/v1/users/{name}", .admin) { [unowned self] call throws(AdminProblem) in
                try showUser(call)
            },
            AdminRoute(.patch, "/v1/users/{name}", .admin, body: .required) {
                [unowned self] call throws(AdminProblem) in try changeUser(call)
            },
            AdminRoute(.delete, "/v1/users/{name}", .admin) { [unowned self] call throws(AdminProblem) in
                try deleteUser(call)
            },
            AdminRoute(.post, "/v1/route/explain", .operate, body: .required) {
                [unowned self] call throws(AdminProblem) in try explainRoute(call)
            },
        ]
    }

    // MARK: Users

    private func listUsers(_ call: AdminCall) throws(AdminProblem) {
        let limit = call.query.limit()
        let cursor = call.query.parsed("cursor", expects: "a cursor of this list") { ListCursor($0) }
        try call.validate()
        ask(.users(limit: limit, cursor: cursor), call) { [unowned self] answer throws(AdminProblem) in
            guard case .users(let page) = answer else { throw self.unexpectedAnswer }
            call.answer { writer in
                writer.list(page.items, next: page.next?.text) { $0.write(to: &$1) }
            }
        }
    }

    private func showUser(_ call: AdminCall) throws(AdminProblem) {
        ask(.user(try call.userName()), call) { [unowned self] answer throws(AdminProblem) in
            guard case .user(let row) = answer else { throw self.unexpectedAnswer }
            guard let row else { throw .userNotFound }
            call.answer { row.write(to: &$0) }
        }
    }

    private static let members: Set<String> = [
        "password", "max_conns", "bytes_quota", "rate_bytes_per_second", "allowed_locations", "reason",
    ]
    /// SOCKS5 holds a password to 255 bytes (RFC 1929).
    private static let longestPassword = 255
    private static let mostLocations = 64
    private static let mostConns = 1_000_000
    /// What JSON's readers can hold without loss.
    private static let mostBytes = 1 << 53

    private func createUser(_ call: AdminCall) throws(AdminProblem) {
        let body = call.body
        body.requireOnly(Self.members.union(["name"]))
        body.require("name", "password")
        let name = body.parsed("name", expects: "1 to 64 of A-Z a-z 0-9 . _ @ +") { UserName($0) }
        let change = readChange(body)
        let password = readPassword(body)
        try call.validate()
        guard let name, let password else { throw unexpectedAnswer }
        hash(password, call) { [unowned self] hash in
            let user = NewUser(
                name: name, passwordHash: hash,
                limits: UserLimits(
                    maxConns: change.maxConns.value ?? nil, bytesQuota: change.bytesQuota.value ?? nil,
                    rateBytesPerSecond: change.rateBytesPerSecond.value ?? nil,
                    allowedLocations: change.allowedLocations.value ?? []))
            self.ask(.createUser(user), call) { answer throws(AdminProblem) in
                guard case .user(let row) = answer else { throw self.unexpectedAnswer }
                guard let row else { throw .userExists }
                self.backend.userChanged(name)
                call.answer(.created, ["Location": "/v1/users/\(name)"]) { row.write(to: &$0) }
            }
        }
    }

    private func changeUser(_ call: AdminCall) throws(AdminProblem) {
        let name = try call.userName()
        let body = call.body
        body.requireOnly(Self.members)
        let change = readChange(body)
        let password = readPassword(body)
        try call.validate()
        guard let password else { return apply(change, to: name, call) }
        hash(password, call) { [unowned self] hash in
            var change = change
            change.passwordHash = hash
            self.apply(change, to: name, call)
        }
    }

    private func apply(_ change: UserChange, to name: UserName, _ call: AdminCall) {
        ask(.changeUser(name, change), call) { [unowned self] answer throws(AdminProblem) in
            guard case .user(let row) = answer else { throw self.unexpectedAnswer }
            guard let row else { throw .userNotFound }
            self.backend.userChanged(name)
            call.answer { row.write(to: &$0) }
        }
    }

    private func deleteUser(_ call: AdminCall) throws(AdminProblem) {
        let name = try call.userName()
        ask(.deleteUser(name), call) { [unowned self] answer throws(AdminProblem) in
            guard case .changed(let isChanged) = answer else { throw self.unexpectedAnswer }
            self.backend.userChanged(name)
            guard isChanged else { throw .userNotFound }
            call.answerNothing()
        }
    }

    private func readPassword(_ body: AdminBody) -> [UInt8]? {
        body.parsed("password", expects: "1 to \(Self.longestPassword) bytes") { text in
            (1...Self.longestPassword).contains(text.utf8.count) ? Array(text.utf8) : nil
        }
    }

    private func readChange(_ body: AdminBody) -> UserChange {
        var change = UserChange()
        func number(_ name: String, _ range: ClosedRange<Int>) -> MemberChange<UInt64?> {
            guard let value = body.integerOrNull(name, in: range) else { return .keep }
            return .set(value.map { UInt64(clamping: $0) })
        }
        change.maxConns = number("max_conns", 0...Self.mostConns)
        change.bytesQuota = number("bytes_quota", 0...Self.mostBytes)
        change.rateBytesPerSecond = number("rate_bytes_per_second", 1...Self.mostBytes)
        let locations = body.names(
            "allowed_locations", maximumCount: Self.mostLocations, maximumLength: FleetLimits.locationBytes)
        if let locations { change.allowedLocations = .set(locations) }
        return change
    }

    /// A password is hashed beside the control loop; the call waits.
    private func hash(_ password: [UInt8], _ call: AdminCall, _ use: @escaping (String) -> Void) {
        backend.hashPassword(password) { hash in
            guard let hash else { return call.fail(.tooManyPasswords) }
            use(hash)
        }
    }

    // MARK: Explaining

    /// Devices of each list; the counts tell of all.
    private static let explainedDevices = 100

    private func explainRoute(_ call: AdminCall) throws(AdminProblem) {
        call.body.requireOnly(["username", "reason"])
        call.body.require("username")
        let username = call.body.string("username", maximumLength: ClientLogin.maximumBytes) ?? ""
        try call.validate()
        backend.explainRoute(username, limit: Self.explainedDevices) { verdict in
            switch verdict {
            case .malformed:
                call.fail(.invalid("username", "must be a user's name and parameters as clients write them"))
            case .noUser: call.fail(.userNotFound)
            case .unavailable(let failure): call.fail(AdminProblem(failure))
            case .explained(let explanation, let refusal):
                call.answer { explanation.write(to: &$0, refusal: refusal) }
            }
        }
    }
}

/// What is known of the devices that a user name would get.
package enum RouteVerdict: Sendable, Hashable {
    /// The name's parameters can't be read.
    case malformed
    case noUser
    case unavailable(StoreFailure)
    /// - refusal: the code of what keeps the user from any device; nil: nothing does.
    case explained(RouteExplanation, refusal: String?)
}

extension AdminProblem {
    static let userNotFound = AdminProblem(.notFound, "user_not_found", "There is no such user.")
    static let userExists = AdminProblem(.conflict, "user_exists", "There is a user of this name.")
    static let tooManyPasswords = AdminProblem(
        .serviceUnavailable, "too_many_passwords", "As many passwords as this node hashes at once."
    ).adding("Retry-After", "5")
}

extension AdminCall {
    func userName() throws(AdminProblem) -> UserName {
        guard let name = UserName(pathParameters["name"] ?? "") else { throw .userNotFound }
        return name
    }
}

extension AdminBody {
    func parsed<Value>(_ name: String, expects expected: String, _ parse: (String) -> Value?) -> Value? {
        member(name, expected) { $0.string.flatMap(parse) }
    }

    /// Nil when it is left out; null is a value.
    func integerOrNull(_ name: String, in range: ClosedRange<Int>) -> Int?? {
        if isNull(name) { return .some(nil) }
        return integer(name, in: range).map { .some($0) }
    }

    /// Names for people: none empty, each on one line.
    func names(_ name: String, maximumCount: Int, maximumLength: Int) -> [String]? {
        member(name, "an array of at most \(maximumCount) strings of 1 to \(maximumLength) characters") {
            value in
            guard let elements = value.array, elements.count <= maximumCount else { return nil }
            let names = elements.compactMap(\.string).filter { text in
                (1...maximumLength).contains(text.unicodeScalars.count)
                    && text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f }
            }
            return names.count == elements.count ? names : nil
        }
    }
}

extension UserRow {
    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.field("name", name.description)
        writer.field("max_conns", limits.maxConns)
        writer.field("bytes_quota", limits.bytesQuota)
        writer.field("rate_bytes_per_second", limits.rateBytesPerSecond)
        writer.field("allowed_locations", limits.allowedLocations)
        writer.field("bytes_used", bytesUsed)
        writer.field("created_at", createdAt)
        writer.endObject()
    }
}

extension RouteExplanation {
    func write(to writer: inout JSONWriter, refusal: String?) {
        writer.beginObject()
        writer.field("chosen", refusal == nil ? chosen?.description : nil)
        writer.field("refusal", refusal)
        writer.field("candidates", candidates.map(\.description))
        writer.field("candidates_total", candidateCount)
        writer.name("excluded")
        writer.beginArray()
        for exclusion in excluded {
            writer.beginObject()
            writer.field("device_id", exclusion.device.description)
            writer.field("rule", exclusion.rule.rawValue)
            writer.endObject()
        }
        writer.endArray()
        writer.field("excluded_total", excludedCount)
        writer.endObject()
    }
}
