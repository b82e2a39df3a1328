import AdminAPI
import Domain
import Fleet
import HTTP1
import JSON
import Store
import Testing

@Suite struct UserRouteTests {
    @Test func aUserIsMadeWithoutItsPasswordBeingShown() throws {
        let bench = try AdminBench()
        bench.backend.database = { query in
            guard case .createUser(let user) = query else { return nil }
            return .user(UserRow(name: user.name, limits: user.limits, createdAt: someTime, bytesUsed: 0))
        }
        let answer = try bench.send(
            .post, "/v1/users", body: #"{"name":"alice","password":"pw","max_conns":3,"bytes_quota":null}"#)
        #expect(answer.status == 201)
        #expect(answer.fields["location"] == "/v1/users/alice")
        #expect(answer.json["max_conns"]?.integer == 3)
        #expect(answer.json["bytes_quota"] == .null)
        #expect(!String(decoding: answer.body, as: UTF8.self).contains("pw"))
        #expect(bench.backend.changedUsers.map(\.description) == ["alice"])
        bench.backend.database = { _ in .user(nil) }
        #expect(try bench.send(.post, "/v1/users", body: #"{"name":"alice","password":"pw"}"#).status == 409)
        bench.backend.passwordHash = nil
        #expect(try bench.send(.post, "/v1/users", body: #"{"name":"alice","password":"pw"}"#).status == 503)
    }

    @Test(arguments: [
        (#"{"name":"a-b","password":"x"}"#, ["name"]), (#"{"name":"a"}"#, ["password"]),
        (#"{"name":"a","password":""}"#, ["password"]),
        // 256 bytes of 128 characters.
        (#"{"name":"a","password":"\#(String(repeating: "é", count: 128))"}"#, ["password"]),
        (
            #"{"name":"a","password":"x","max_conns":-1,"rate_bytes_per_second":0}"#,
            ["max_conns", "rate_bytes_per_second"]
        ),
        (
            #"{"name":"a","password":"x","allowed_locations":[""],"colour":1}"#,
            ["colour", "allowed_locations"]
        ),
    ])
    func whatIsWrongIsTold(_ body: String, _ faults: [String]) throws {
        let bench = try AdminBench()
        let answer = try bench.send(.post, "/v1/users", body: body)
        #expect(answer.status == 422)
        #expect(Set(answer.faults) == Set(faults))
    }

    @Test func whatIsLeftOutStaysAndNullTakesALimitAway() throws {
        let bench = try AdminBench()
        bench.backend.database = { query in
            guard case .changeUser(let name, _) = query else { return nil }
            return .user(UserRow(name: name, limits: UserLimits(), createdAt: someTime, bytesUsed: 0))
        }
        #expect(try bench.send(.patch, "/v1/users/alice", body: #"{"max_conns":null}"#).status == 200)
        guard case .changeUser(_, let change)? = bench.backend.questions.last else {
            Issue.record("not asked")
            return
        }
        #expect(change.maxConns == .set(nil))
        #expect(change.bytesQuota == .keep)
        #expect(change.passwordHash == nil)
    }
}
