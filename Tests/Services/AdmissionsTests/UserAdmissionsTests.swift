import Admissions
import DataPlane
import DevicePlane
import DevicePlaneKit
import Domain
import EventLoop
import Fleet
import Ingress
import Store
import TLS
import TestKit
import Testing

/// Who may come in, and what is known of users while they change.
final class UserAdmissionsTests {
    private let harness: PlaneHarness
    private let store = StandInStore()
    private let passwords: PasswordWorker

    init() throws {
        harness = try PlaneHarness { $0.countsUsers = true }
        passwords = try PasswordWorker(on: harness.loop)
    }

    deinit {
        passwords.stop()
    }

    private static let hashes: [String: String] = Dictionary(
        uniqueKeysWithValues: ["right", "new"].map { password in
            let salt = [UInt8](repeating: 7, count: PasswordHash.saltLength)
            return (password, PasswordHash(of: Array(password.utf8), salt: salt)?.text ?? "")
        })

    private func name(_ text: String) throws -> UserName { try #require(UserName(text)) }

    private func key(_ user: String, password: String = "right", _ limits: UserLimits = UserLimits()) throws
        -> UserKey
    {
        UserKey(
            name: try name(user), passwordHash: try #require(Self.hashes[password]), limits: limits)
    }

    private func admissions(maximumAccounts: Int = 100, usersPerQuestion: Int = 100) -> UserAdmissions {
        UserAdmissions(
            on: harness.loop, store: store, plane: harness.plane, passwords: passwords,
            maximumAccounts: maximumAccounts, usersPerQuestion: usersPerQuestion)
    }

    private func logIn(
        _ admissions: UserAdmissions, _ user: String, _ password: String = "right",
        meanwhile: () -> Void = {}
    ) throws -> IngressAdmission {
        var answer: IngressAdmission?
        let credential = IngressCredential(
            username: user, password: Array(password.utf8),
            clientAddress: SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 1))
        admissions.authenticate(credential) { answer = $0 }
        meanwhile()
        harness.loop.run { answer != nil }
        // A grant holds the user's rate, which is like no other.
        guard case .admitted(let grant)? = answer else { return try #require(answer) }
        return admitted(grant.user ?? "")
    }

    private func admitted(_ user: String) -> IngressAdmission { .admitted(IngressGrant(user: user)) }

    // MARK: Passwords

    @Test func aPasswordThatIsChangedWhileItIsCheckedLetsNobodyIn() throws {
        store.change(try name("alice"), try key("alice"))
        let admissions = admissions()
        admissions.noticed(store.revision)
        let alice = try name("alice")
        let changed = try key("alice", password: "new")
        let answer = try logIn(admissions, "alice") {
            // The check is under way, and its answer has not been heard.
            store.change(alice, changed)
            admissions.noticed(store.revision)
        }
        #expect(answer == .refused)
        #expect(try logIn(admissions, "alice", "new") == admitted("alice"))
    }

    @Test func anotherUsersChangeKeepsNobodyOut() throws {
        store.change(try name("alice"), try key("alice"))
        let admissions = admissions()
        admissions.noticed(store.revision)
        let bob = try name("bob")
        let answer = try logIn(admissions, "alice") {
            store.change(bob, nil)
            admissions.noticed(store.revision)
        }
        #expect(answer == admitted("alice"))
    }

    @Test func aChangeOfThisNodeCountsBeforeTheDatabaseTellsOfIt() throws {
        store.change(try name("alice"), try key("alice"))
        let admissions = admissions()
        admissions.noticed(store.revision)
        #expect(try logIn(admissions, "alice") == admitted("alice"))
        store.change(try name("alice"), try key("alice", password: "new"))
        store.isAway = true
        admissions.changed(try name("alice"))
        store.isAway = false
        #expect(try logIn(admissions, "alice") == .refused, "the fast way in is closed at once")
    }

    // MARK: Changes

    @Test func whatIsNotAnsweredAtTheStartIsAskedAgain() throws {
        let alice = try name("alice")
        store.change(alice, try key("alice"))
        store.remember(try key("alice"))
        store.isAway = true
        let admissions = admissions()
        #expect(try logIn(admissions, "alice") == admitted("alice"), "known before the start")
        store.change(alice, try key("alice", password: "new"))
        // The revision was read, and the next question fails.
        admissions.noticed(store.revision)
        store.isAway = false
        admissions.noticed(store.revision)
        #expect(try logIn(admissions, "alice") == .refused)
        #expect(store.remembered[alice] == nil)
    }

    @Test func whatChangedWhileTheNodeWasDownIsForgottenOnItsDisk() throws {
        for user in ["alice", "bob", "carol"] {
            store.change(try name(user), try key(user))
            store.remember(try key(user))
        }
        store.followed = store.revision
        store.change(try name("alice"), try key("alice", password: "new"))
        store.change(try name("bob"), nil)
        store.change(try name("carol"), try key("carol", UserLimits(maxConns: 1)))
        admissions().noticed(store.revision)
        #expect(Set(store.remembered.keys) == [try name("carol")])
        #expect(store.remembered[try name("carol")]?.limits.maxConns == 1)
        #expect(store.followed == store.revision)
        #expect(store.forgetsAll == 0)
    }

    @Test(arguments: [nil, 99] as [Int64?])
    func nothingOnDiskIsGoodWhenNobodyCanTellWhatHasChanged(followed: Int64?) throws {
        store.change(try name("alice"), try key("alice"))
        store.remember(try key("alice"))
        store.followed = followed
        admissions().noticed(store.revision)
        #expect(store.remembered.isEmpty)
        #expect(store.followed == store.revision)
    }

    @Test func whoIsInWhenAllIsForgottenIsRememberedAgain() throws {
        store.change(try name("alice"), try key("alice"))
        let admissions = admissions()
        #expect(try logIn(admissions, "alice") == admitted("alice"))
        admissions.noticed(store.revision)
        #expect(store.forgetsAll == 1)
        #expect(try logIn(admissions, "alice") == admitted("alice"))
        #expect(Set(store.remembered.keys) == [try name("alice")])
    }

    // MARK: Limits

    @Test func nobodysLimitsAreLiftedByTheNumberOfUsers() throws {
        let users = (0..<6).map { "user\($0)" }
        for user in users { store.change(try name(user), try key(user, UserLimits(maxConns: 0))) }
        let admissions = admissions(maximumAccounts: 2)
        for user in users {
            #expect(try logIn(admissions, user) == admitted(user))
            for other in users { #expect(admissions.refusal(of: other) != nil) }
            #expect(admissions.refusal(of: user) == .tooManyConns)
        }
        #expect(admissions.refusal(of: nil) == nil)
    }

    @Test func otherNodesAreAskedAboutAllWhoCarrySomething() throws {
        let device = StandInDevice(harness.plane)
        _ = try #require(device.join("d", dataLoop: harness.dataLoops[0]))
        harness.settle()
        let users = (0..<5).map { "user\($0)" }
        let admissions = admissions(usersPerQuestion: 2)
        for user in users {
            store.change(try name(user), try key(user, UserLimits(bytesQuota: 1 << 40)))
            #expect(try logIn(admissions, user) == admitted(user))
            let conn = try open(for: user)
            harness.plane.receive(
                .progress([ConnProgress(connID: conn, bytesSent: 5, bytesReceived: 6)]))
        }
        var asked: Set<UserName> = []
        harness.loop.run {
            asked = []
            for case .userUsage(let names) in store.questions { asked.formUnion(names) }
            return asked.count == users.count
        }
        #expect(asked == Set(try users.map(name)))
    }

    private func open(for user: String) throws -> ConnID {
        let (client, descriptor) = try Sockets.pair()
        Sockets.close(client)
        let opening = ConnOpening(
            request: ConnRequest(
                user: user, clientProtocol: .socks5,
                clientAddress: SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 1),
                target: try #require(Target("example.com:80")), connectTimeout: .seconds(10)),
            earlyBytes: [], idleTimeout: nil, successReply: { _ in [] }, failureReply: { _ in [] })
        guard case .placed(let placement) = harness.plane.openConn(opening, handOver: { descriptor }) else {
            throw NoConn()
        }
        return placement.connID
    }

    private struct NoConn: Error {}
}
