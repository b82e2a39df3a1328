internal import ArgumentParser
internal import HTTP1
internal import JSON

// MARK: Tokens

struct TokensCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "tokens", abstract: "Admin tokens, by which programs and people use the API.",
        subcommands: [ListTokens.self, CreateToken.self, RevokeToken.self])
    @OptionGroup var options: ServerOptions
}

struct ListTokens: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "tokens list", abstract: "List admin tokens; their values are not known any more.")
    @OptionGroup var list: ListOptions
    @OptionGroup var options: ServerOptions

    private static let columns: [Column] = [
        .key("TOKEN", "token_id"), .text("NAME", "name", rank: 0), .word("SCOPE", "scope", rank: 0),
        .age("EXPIRES", "expires_at", rank: 1), .age("USED", "last_used_at", rank: 3),
        .age("CREATED", "created_at", rank: 2), .text("BY", "created_by", rank: 4),
    ]

    func perform(_ session: ControlSession) throws {
        try session.list(["v1", "tokens"], [], list, Self.columns)
    }
}

struct CreateToken: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "tokens create", arguments: "<name> --scope <scope>",
        abstract: "Make an admin token, and print its value alone, this once.",
        discussion: """
            The scopes: read sees everything but users, tokens and the audit trail; operate also drains, \
            disconnects and closes; admin may do all.

            EXAMPLES:
              popctl tokens create grafana --scope read > grafana.token
              popctl tokens create night-shift --scope operate --expires 12h
            """)
    @Argument(help: "What it is for.") var name: String
    @Option(help: "What it allows.") var scope: AdminScope

    @Option(
        help: ArgumentHelp("Valid for so long (12h, 30d), or until a time of RFC 3339.", valueName: "time"))
    var expires: PointInTime?

    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.call(
            .post, ["v1", "tokens"], reason.parameters,
            body: [
                ("name", .string(name)), ("scope", .string(scope.rawValue)),
                ("expires_at", expires.map { .string($0.after(session.now)) }),
            ])
        try session.printSecret("token", of: answer)
        session.note("token \(Cell.text(answer["token_id"])): keep its value, it is not shown again")
    }
}

struct RevokeToken: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "tokens revoke", arguments: "<token>", abstract: "Make an admin token void.")
    @Argument(help: "The token's id.", completion: .custom(Candidates.tokens)) var token: String
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.call(.delete, ["v1", "tokens", token], reason.parameters)
        session.report(answer, "token \(token) is void")
    }
}

// MARK: Users

struct UsersCommand: ControlNoun {
    static let configuration = CommandConfiguration(
        noun: "users", abstract: "Ingress users and their limits.",
        subcommands: [
            ListUsers.self, ShowUser.self, CreateUser.self, UpdateUser.self, DeleteUser.self,
        ])
    @OptionGroup var options: ServerOptions
}

struct ListUsers: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "users list", abstract: "List ingress users.")
    @OptionGroup var list: ListOptions
    @OptionGroup var options: ServerOptions

    private static let columns: [Column] = [
        .key("USER", "name"), .number("MAX CONNS", "max_conns", rank: 1),
        .number("USED", "bytes_used", rank: 1, Cell.bytes),
        .number("QUOTA", "bytes_quota", rank: 1, Cell.bytes),
        .number("RATE/S", "rate_bytes_per_second", rank: 2, Cell.bytes),
        .text("LOCATIONS", "allowed_locations", rank: 3), .age("CREATED", "created_at", rank: 4),
    ]

    func perform(_ session: ControlSession) throws {
        try session.list(["v1", "users"], [], list, Self.columns)
    }
}

/// The argument that names an ingress user.
struct UserArgument: ParsableArguments {
    @Argument(help: "The user's name.", completion: .custom(Candidates.users)) var name: String
}

struct ShowUser: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "users show", arguments: "<name>", abstract: "Show one ingress user.")
    @OptionGroup var target: UserArgument
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        session.show(try session.get(["v1", "users", target.name]))
    }
}

/// What an ingress user may use.
struct UserLimitOptions: ParsableArguments {
    @Option(name: .customLong("max-conns"), help: ArgumentHelp("Most conns at once.", valueName: "count"))
    var maxConns: Int?

    @Option(
        name: .customLong("bytes-quota"),
        help: ArgumentHelp("Most bytes in a calendar month, both ways (500MiB, 10GiB).", valueName: "bytes"))
    var bytesQuota: ByteCount?

    @Option(
        name: .customLong("rate"),
        help: ArgumentHelp(
            "Most bytes in a second of all conns together, at each node (64KiB, 2MiB).",
            valueName: "bytes"))
    var rate: ByteCount?

    @Option(
        name: .customLong("allow-location"),
        help: ArgumentHelp("Only devices of this location; may be repeated.", valueName: "location"))
    var locations: [String] = []

    mutating func validate() throws {
        guard maxConns ?? 0 >= 0 else { throw ValidationError("--max-conns must not be negative") }
    }

    var members: [(String, JSONValue?)] {
        [
            ("max_conns", maxConns.map { .integer(Int64($0)) }),
            ("bytes_quota", bytesQuota.map { .integer($0.bytes) }),
            ("rate_bytes_per_second", rate.map { .integer($0.bytes) }),
            ("allowed_locations", locations.isEmpty ? nil : .array(locations.map { .string($0) })),
        ]
    }
}

struct CreateUser: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "users create", arguments: "<name>", abstract: "Make an ingress user.",
        discussion: """
            The password is asked for, or read from a file or standard input; it is never an argument, \
            which other users of the machine could see.

            EXAMPLES:
              popctl users create alice --max-conns 100 --bytes-quota 50GiB
              pwgen -s 24 1 | tee alice.password | popctl users create alice --password-stdin
            """)
    @OptionGroup var target: UserArgument
    @OptionGroup var password: PasswordOptions
    @OptionGroup var limits: UserLimitOptions
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let secret = try password.read(session)
        let user = try session.call(
            .post, ["v1", "users"], reason.parameters,
            body: [("name", .string(target.name)), ("password", .string(secret))] + limits.members)
        session.report(user, "user \(target.name) made")
    }
}

struct UpdateUser: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "users update", arguments: "<name>", abstract: "Change an ingress user's limits or password.",
        discussion: "What is not given stays as it is.")
    @OptionGroup var target: UserArgument
    @Flag(name: .customLong("password"), help: "Ask for a new password.") var asksPassword = false
    @OptionGroup var password: PasswordOptions
    @OptionGroup var limits: UserLimitOptions
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    mutating func validate() throws {
        guard changesPassword || limits.members.contains(where: { $0.1 != nil }) else {
            throw ValidationError("nothing is to be changed")
        }
    }

    private var changesPassword: Bool { asksPassword || password.isGiven }

    func perform(_ session: ControlSession) throws {
        let secret = changesPassword ? try password.read(session) : nil
        let user = try session.call(
            .patch, ["v1", "users", target.name], reason.parameters,
            body: [("password", secret.map { .string($0) })] + limits.members)
        session.report(user, "user \(target.name) changed")
    }
}

struct DeleteUser: ControlVerb {
    static let configuration = CommandConfiguration(
        verb: "users delete", arguments: "<name>", abstract: "Delete an ingress user.")
    @OptionGroup var target: UserArgument
    @OptionGroup var reason: ReasonOption
    @OptionGroup var options: ServerOptions

    func perform(_ session: ControlSession) throws {
        let answer = try session.call(.delete, ["v1", "users", target.name], reason.parameters)
        session.report(answer, "user \(target.name) deleted")
    }
}
